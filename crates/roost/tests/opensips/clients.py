"""What opensips's Python library asks, over the transport and address that the arguments name; an answer on each line."""
import json
import sys

from opensips.mi import OpenSIPSMI

transport, where = sys.argv[1], sys.argv[2]
if transport == "http":
    mi = OpenSIPSMI("http", url=where)
elif transport == "fifo":
    mi = OpenSIPSMI("fifo", fifo_file=where, fifo_reply_dir=sys.argv[3])
else:
    host, port = where.rsplit(":", 1)
    mi = OpenSIPSMI("datagram", datagram_ip=host, datagram_port=int(port), datagram_timeout=5)
for command, params in (
    ("ul_add", ["location", "9010", "sip:9010@127.0.0.1:5090", 0, "", 0, "", 0]),
    ("ul_show_contact", {"table_name": "location", "aor": "9010"}),
    ("ul_dump", {}),
    ("get_statistics", [["usrloc:", "load:"]]),
    ("list_statistics", {}),
    ("ps", {}),
    ("ul_rm", {"table_name": "location", "aor": "9010"}),
    ("which", {}),
):
    print(json.dumps(mi.execute(command, params)))
