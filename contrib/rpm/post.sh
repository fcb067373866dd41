# The configuration may hold passwords: it is root's and roost's alone.
chown root:roost /etc/roost/roost.toml
chmod 640 /etc/roost/roost.toml
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    # 1: installed, 2: upgraded.
    if [ "$1" = 1 ]; then systemctl enable --now roost.service; else systemctl try-restart roost.service; fi
fi
