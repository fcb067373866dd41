# 0: removed, 1: upgraded. The extensions in /var/lib/roost stay.
if [ "$1" = 0 ] && [ -d /run/systemd/system ]; then systemctl disable --now roost.service || true; fi
