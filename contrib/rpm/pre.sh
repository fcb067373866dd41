# Before the files are there: the user that the service runs as.
getent group roost >/dev/null || groupadd --system roost
getent passwd roost >/dev/null || useradd --system --gid roost --home-dir /var/lib/roost --no-create-home --shell /sbin/nologin roost
