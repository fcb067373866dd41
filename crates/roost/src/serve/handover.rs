//! `roost upgrade`: the process becomes another binary and keeps its sockets, its number, and what is under way. Sockets are taken over in
//! the same way from systemd (socket activation, `LISTEN_FDS`).

use std::collections::HashSet;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use roost_core::{Listener, Moved, Transport};
use roost_net::{MovedConnection, MovedStreams};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::serve::inherited::Inherited;
use crate::serve::listening::Kept;
use crate::serve::random;

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
pub(super) fn become_binary(
    binary: &Path,
    kept: &Kept,
    streams: &MovedStreams,
    handed: &Handed,
) -> anyhow::Error {
    let attempt = || -> Result<anyhow::Error> {
        let listening = kept.datagrams.len() + kept.connections.len();
        let under_way = streams.connections.len() + streams.held.len();
        raise_limit();
        let (first, has_streams) = match free_range(listening + under_way + 1) {
            Ok(first) => (first, true),
            Err(_) => (free_range(listening + 1)?, false),
        };
        if !has_streams {
            tracing::warn!(
                connections = under_way,
                "too few descriptors to hand connections over: they are closed"
            );
        }
        let datagrams = kept.datagrams.iter().map(|(_, socket)| socket.as_fd());
        let sockets = datagrams.chain(kept.connections.iter().map(|(_, socket)| socket.as_fd()));
        let connections = streams.connections.iter().map(|(_, socket)| socket.as_fd());
        let connections = connections.chain(streams.held.iter().map(|socket| socket.as_fd()));
        let connections = connections.filter(|_| has_streams);
        let mut next = first;
        for socket in sockets.chain(connections) {
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

/// As many descriptors as the system gives without further rights: connections have two for a moment.
fn raise_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Where so many descriptors find room one behind the other.
fn free_range(count: usize) -> Result<RawFd> {
    use nix::sys::resource::{Resource, getrlimit};
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let names = std::fs::read_dir("/proc/self/fd").context("which descriptors are in use is not known")?;
    let mut used: Vec<u64> =
        names.flatten().filter_map(|name| name.file_name().to_str()?.parse().ok()).collect();
    used.sort_unstable();
    // Those of the standard streams, and what is opened meanwhile, have room below.
    let mut first = 64;
    for fd in used {
        if fd >= first + count as u64 {
            break;
        }
        first = first.max(fd + 1);
    }
    ensure!(
        first + (count as u64) < soft,
        "the process may have {soft} open files: too few to hand its sockets over (ulimit -n, LimitNOFILE= in systemd)"
    );
    Ok(first as RawFd)
}

/// What the next process is given beside its sockets and connections.
#[derive(Debug)]
pub(super) struct Rest {
    /// Which shard an extension belongs to hangs on it.
    pub(super) hash_seed: u64,
    /// What is under way, by shard.
    pub(super) moved: Vec<Moved>,
}

/// All of it as it is written: of descriptors only their order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    hash_seed: u64,
    moved: Vec<Moved>,
    /// So many descriptors are listened on.
    listening: usize,
    stream_threads: usize,
    stream_seed: u64,
    /// They are behind those; then there are connections that cannot go on.
    connections: Vec<MovedConnection>,
}

impl Handed {
    pub(super) fn new(rest: Rest, kept: &Kept, streams: &MovedStreams) -> Handed {
        Handed {
            hash_seed: rest.hash_seed,
            moved: rest.moved,
            listening: kept.datagrams.len() + kept.connections.len(),
            stream_threads: streams.threads,
            stream_seed: streams.hash_seed,
            connections: streams.connections.iter().map(|(moved, _)| moved.clone()).collect(),
        }
    }
}

/// What the process has at its start.
#[derive(Debug)]
pub(super) struct Heritage {
    pub(super) inherited: Inherited,
    pub(super) streams: MovedStreams,
    pub(super) rest: Option<Rest>,
}

impl Heritage {
    pub(super) fn take() -> Result<Heritage> {
        let Some(handed) = handed() else {
            let (inherited, _) = Inherited::take(usize::MAX);
            return Ok(Heritage {
                inherited,
                streams: MovedStreams { hash_seed: random()?, ..MovedStreams::default() },
                rest: None,
            });
        };
        let (inherited, mut sockets) = Inherited::take(handed.listening);
        let held = sockets.split_off(handed.connections.len().min(sockets.len()));
        let streams = MovedStreams {
            threads: handed.stream_threads,
            hash_seed: handed.stream_seed,
            connections: handed.connections.into_iter().zip(sockets).collect(),
            held,
        };
        let rest = Some(Rest { hash_seed: handed.hash_seed, moved: handed.moved });
        Ok(Heritage { inherited, streams, rest })
    }

    /// Connections go on where their bindings are read from the table that this process writes, and where their listener is one yet; the
    /// others are closed.
    pub(super) fn settle(&mut self, listeners: &[Listener], goes_on: bool) {
        let is_listened_on = |local: SocketAddr| {
            listeners.iter().any(|one| one.transport == Transport::Tcp && one.covers(local))
        };
        let all = std::mem::take(&mut self.streams.connections);
        for (moved, socket) in all {
            match goes_on && is_listened_on(moved.local) {
                true => self.streams.connections.push((moved, socket)),
                false => self.streams.held.push(socket),
            }
        }
        let numbers: HashSet<u64> = self.streams.connections.iter().map(|(moved, _)| moved.number).collect();
        for moved in self.rest.iter_mut().flat_map(|rest| &mut rest.moved) {
            moved.keep_flows(|number| numbers.contains(&number));
        }
    }
}

/// What the process before has left; nothing where there was none.
fn handed() -> Option<Handed> {
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
