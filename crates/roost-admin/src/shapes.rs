//! What bindings look like to operators' tools (fields and order of OpenSIPS's `ul_dump`).

use roost_core::{AorRecord, ContactRecord, ShownExpires};
use serde_json::{Map, Value, json};

/// The one location table's name.
pub const TABLE: &str = "location";
/// What tools expect beside the table's name; roost's tables grow by themselves.
pub(crate) const HASH_SIZE: u32 = 65_536;

pub(crate) fn aor(record: &AorRecord) -> Value {
    let contacts: Vec<_> = record.contacts.iter().map(contact).collect();
    json!({ "AOR": text(&record.aor), "Contacts": contacts })
}

pub(crate) fn brief_aor(record: &AorRecord) -> Value {
    json!({ "AOR": text(&record.aor) })
}

fn contact(contact: &ContactRecord) -> Value {
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| map.insert(name.to_string(), value);
    put("Contact", text(&contact.contact));
    put("ContactID", json!(contact.contact_id.to_string()));
    put(
        "Expires",
        match contact.expires {
            ShownExpires::Seconds(seconds) => json!(seconds),
            ShownExpires::Permanent => json!("permanent"),
            ShownExpires::Expired => json!("expired"),
        },
    );
    put("Q", json!(q(contact.q)));
    put("Callid", text(&contact.callid));
    put("Cseq", json!(contact.cseq));
    put("User-agent", text(&contact.user_agent));
    if let Some(received) = &contact.received {
        put("Received", json!(received));
    }
    if !contact.path.is_empty() {
        put("Path", text(&contact.path));
    }
    if contact.is_stranded {
        put("Flow", json!("lost"));
    }
    put("State", json!(if contact.is_synced { "CS_SYNC" } else { "CS_NEW" }));
    put("Flags", json!(0));
    put("Cflags", json!(""));
    if let Some(socket) = &contact.socket {
        put("Socket", json!(socket));
    }
    put("Methods", json!(contact.methods));
    if !contact.sip_instance.is_empty() {
        put("SIP_instance", text(&contact.sip_instance));
    }
    if let Some(pings) = contact.pings {
        if let Some(latency_ms) = pings.latency_ms {
            put("Ping-Latency", json!(latency_ms * 1000));
        }
        put("Pings-Lost", json!(pings.lost));
    }
    Value::Object(map)
}

/// 1, 0.5, 0.123; empty where the phone gave none.
fn q(q: Option<u16>) -> String {
    match q {
        None => String::new(),
        Some(q) => format!("{}", f64::from(q) / 1000.0),
    }
}

pub(crate) fn text(bytes: &[u8]) -> Value {
    json!(String::from_utf8_lossy(bytes))
}
