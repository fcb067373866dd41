//! `roost upgrade`: the process becomes another binary and keeps its sockets, its number, and what is under way. Sockets are taken over in
//! the same way from systemd (socket activation, `LISTEN_FDS`).

use std::io::{Read as _, Seek as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use roost_core::{Listener, Moved};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::serve::listening::Kept;

/// Where descriptors stand that the next binary inherits: above those that are in use.
const FIRST_FD: RawFd = 20_000;
/// The same where the process may have fewer.
const FIRST_OF_FEW: RawFd = 900;
/// Names the descriptor of what is under way.
const MOVED: &str = "ROOST_MOVED_FD";

/// What the process is to become. Clones are one.
#[derive(Debug, Clone)]
pub(super) struct Upgrade(watch::Sender<Option<PathBuf>>);

impl Default for Upgrade {
    fn default() -> Upgrade {
        Upgrade(watch::Sender::new(None))
    }
}

impl Upgrade {
    /// Has a binary looked at, and the process become it. Without one it is the file that this process was started from.
    ///
    /// # Errors
    /// It does not run, or does not take the configuration.
    pub(super) fn begin(&self, binary: Option<&Path>, config: Option<&Path>) -> Result<PathBuf> {
        let binary = binary.map_or_else(own_file, |path| Ok(path.to_path_buf()))?;
        check_owner(&binary)?;
        let mut check = Command::new(&binary);
        if let Some(config) = config {
            check.arg("--config").arg(config);
        }
        check.args(["config", "check"]).env_remove("LISTEN_FDS").env_remove("NOTIFY_SOCKET");
        let output = check.output().with_context(|| format!("{} does not run", binary.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{} does not take the configuration: {}",
            binary.display(),
            said.trim()
        );
        self.0.send_replace(Some(binary.clone()));
        Ok(binary)
    }

    /// Resolves when there is one.
    pub(super) async fn asked(&self) -> PathBuf {
        let mut told = self.0.subscribe();
        loop {
            if let Some(binary) = told.borrow_and_update().clone() {
                return binary;
            }
            if told.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Who may command the server is not for that reason let run any program in its name.
fn check_owner(binary: &Path) -> Result<()> {
    let cannot = || format!("there is no file {}", binary.display());
    let metadata = std::fs::metadata(binary).with_context(cannot)?;
    let is_ours = [0, nix::unistd::geteuid().as_raw()].contains(&metadata.uid());
    ensure!(
        is_ours && metadata.mode() & 0o022 == 0,
        "{} must be root's or the server's own, and writable by nobody else",
        binary.display()
    );
    Ok(())
}

/// The file that this process runs, also where another one has taken its place.
fn own_file() -> Result<PathBuf> {
    let path = std::env::current_exe().context("which file this process runs is not known")?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map(PathBuf::from).unwrap_or(path))
}

/// Becomes the binary; comes back only where that fails.
pub(super) fn become_binary(binary: &Path, kept: &Kept, handed: &Handed) -> anyhow::Error {
    let attempt = || -> Result<anyhow::Error> {
        let first = first_fd(kept.datagrams.len() + kept.connections.len())?;
        let mut next = first;
        let datagrams = kept.datagrams.iter().map(|(_, socket)| socket.as_fd());
        let sockets = datagrams.chain(kept.connections.iter().map(|(_, socket)| socket.as_fd()));
        for socket in sockets {
            // Without close-on-exec, and one behind the other.
            let fd = fcntl(socket, FcntlArg::F_DUPFD(next))?;
            ensure!(fd == next, "descriptor {next} is in use");
            next += 1;
        }
        let mut file = std::fs::File::from(memfd_create(c"roost-moved", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&postcard::to_allocvec(handed).context("what is under way cannot be written")?)?;
        file.rewind()?;
        let kept_moved = fcntl(&file, FcntlArg::F_DUPFD(next))?;
        let mut args = std::env::args_os();
        let name = args.next();
        let mut command = Command::new(binary);
        if let Some(name) = name {
            command.arg0(name);
        }
        command
            .args(args)
            .env("LISTEN_FDS", (next - first).to_string())
            .env("LISTEN_FDS_FIRST_FD", first.to_string())
            .env("LISTEN_PID", std::process::id().to_string())
            .env(MOVED, kept_moved.to_string());
        Ok(command.exec().into())
    };
    attempt().unwrap_or_else(|error| error)
}

/// Where so many descriptors find room.
fn first_fd(count: usize) -> Result<RawFd> {
    use nix::sys::resource::{Resource, getrlimit};
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    for first in [FIRST_FD, FIRST_OF_FEW] {
        if (first as u64) + (count as u64) + 8 < soft {
            return Ok(first);
        }
    }
    bail!(
        "the process may have {soft} open files: too few to hand its sockets over (ulimit -n, LimitNOFILE= in systemd)"
    )
}

/// The sockets that the process was started with.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    datagrams: Vec<(SocketAddr, UdpSocket)>,
    connections: Vec<(SocketAddr, TcpListener)>,
}

impl Inherited {
    /// From `LISTEN_FDS`, of systemd or of the process before; nothing where that is for another process.
    pub(super) fn take() -> Inherited {
        let mut inherited = Inherited::default();
        let mut all = listenfd::ListenFd::from_env();
        for index in 0..all.len() {
            if let Ok(Some(socket)) = all.take_udp_socket(index)
                && let Ok(address) = socket.local_addr()
            {
                inherited.datagrams.push((address, socket));
            } else if let Ok(Some(socket)) = all.take_tcp_listener(index)
                && let Ok(address) = socket.local_addr()
            {
                inherited.connections.push((address, socket));
            }
        }
        inherited
    }

    /// Whether there is one of this address.
    pub(super) fn has_datagrams(&self, address: SocketAddr) -> bool {
        self.datagrams.iter().any(|(own, _)| *own == address)
    }

    /// Those of an address, so many at most.
    pub(super) fn take_datagrams(&mut self, address: SocketAddr, most: usize) -> Vec<UdpSocket> {
        let mut taken = Vec::new();
        while let Some(at) =
            self.datagrams.iter().position(|(own, _)| *own == address).filter(|_| taken.len() < most)
        {
            taken.push(self.datagrams.remove(at).1);
        }
        taken
    }

    /// The one of an address.
    pub(super) fn take_connections(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.connections.iter().position(|(own, _)| *own == address)?;
        Some(self.connections.remove(at).1)
    }

    /// Closes those that the configuration does not name, and says so: they may be in the way of those that it does.
    pub(super) fn close_others(&mut self, listeners: &[Listener]) {
        let is_named = |address: SocketAddr, is_reliable: bool| {
            listeners.iter().any(|one| one.address == address && one.transport.is_reliable() == is_reliable)
        };
        let warn = |transport: &str, address: SocketAddr| {
            tracing::warn!(
                "{transport}:{address} was inherited, and `listen` does not name it: it is closed"
            );
        };
        self.datagrams.retain(|(address, _)| {
            let stays = is_named(*address, false);
            if !stays {
                warn("udp", *address);
            }
            stays
        });
        self.connections.retain(|(address, _)| {
            let stays = is_named(*address, true);
            if !stays {
                warn("tcp", *address);
            }
            stays
        });
    }
}

/// What the next process is given beside its sockets.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    /// Which shard an extension belongs to hangs on it.
    pub(super) hash_seed: u64,
    /// What is under way, by shard.
    pub(super) moved: Vec<Moved>,
}

/// What the process before has left; nothing where there was none.
pub(super) fn handed() -> Option<Handed> {
    let fd = std::env::var(MOVED).ok().and_then(|text| text.parse::<RawFd>().ok())?;
    let read = || -> Result<Handed> {
        let mut bytes = Vec::new();
        std::fs::File::open(format!("/proc/self/fd/{fd}"))?.read_to_end(&mut bytes)?;
        postcard::from_bytes(&bytes).map_err(|error| anyhow!("{error}"))
    };
    let handed = read();
    let _ = nix::unistd::close(fd);
    handed
        .inspect_err(|error| {
            tracing::warn!("what the process before had under way is not understood, and is lost: {error}");
        })
        .ok()
}
