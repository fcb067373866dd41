#!/bin/bash
# Runs inside the fresh Debian: installs the package, registers a phone, reloads, upgrades and removes. Each step says how it went.
exec >/root/said 2>&1
check() { if eval "$2"; then echo "CHECK ok: $1"; else echo "CHECK FAILED: $1"; fi; }
as_roost() { su -s /bin/sh roost -c "roost --config /etc/roost/roost.toml $1"; }

dpkg -i /root/roost.deb
for _ in $(seq 50); do [ "$(systemctl is-active roost)" = active ] && break; sleep 0.2; done
check "the service is active, and says so itself" '[ "$(systemctl show roost -p ActiveState --value)" = active ] && [ "$(systemctl show roost -p Type --value)" = notify ]'
check "it runs as its own user" '[ "$(stat -c %U /proc/$(systemctl show roost -p MainPID --value))" = roost ]'
check "its configuration is root's and roost's alone" '[ "$(stat -c "%U:%G %a" /etc/roost/roost.toml)" = "root:roost 640" ]'
as_roost "user add 9001 9001"
check "a phone registers" '/root/roost-bench register --no-echo --server 127.0.0.1:5060 --domain 127.0.0.1 --first 9001 --users 1 --expires 300'
check "it is shown" 'roost --config /etc/roost/roost.toml ul show | grep -q "AOR:: 9001"'
sed -i 's/^#max_expires = .*/max_expires = 77/' /etc/roost/roost.toml
check "it reloads" 'systemctl reload roost && roost --config /etc/roost/roost.toml config show --running --changed | grep -q "registrar.max_expires  *77"'
check "a broken file is refused, and it goes on" 'echo "[x]" >>/etc/roost/roost.toml; ! systemctl reload roost; systemctl is-active roost'
sed -i '$d' /etc/roost/roost.toml
dpkg -i --force-confold /root/roost.deb
for _ in $(seq 50); do roost --config /etc/roost/roost.toml ul show >/dev/null 2>&1 && break; sleep 0.2; done
check "after an upgrade the phone is there, and the configuration as it was changed" 'roost --config /etc/roost/roost.toml ul show | grep -q "AOR:: 9001" && grep -q "^max_expires = 77" /etc/roost/roost.toml'
systemd-analyze security roost | tail -1 | sed 's/^/SECURITY /'
dpkg -r roost
check "removed, nothing runs" '[ "$(systemctl is-active roost)" != active ] && ! pgrep -x roost'
check "and what it knew is there" '[ -s /var/lib/roost/roost.db ] && [ -s /etc/roost/roost.toml ]'
dpkg -P roost
check "purged, its extensions are still there" '[ -s /var/lib/roost/roost.db ] && [ ! -e /etc/roost/roost.toml ]'
echo END
systemctl poweroff
