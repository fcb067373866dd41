//! The machine: descriptors, socket buffers, clock, disk.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;

use crate::commands::doctor::Finding;
use crate::settings::Settings;

/// Descriptors for all but connections.
const OTHERS: u64 = 1_024;
/// What a burst of 10,000 REGISTERs takes.
const BUFFER: u64 = 4 << 20;
const GIGABYTE: u64 = 1 << 30;
/// When this was written: no clock that is right is before it.
const WRITTEN_S: u64 = 1_795_000_000;

pub(super) fn look(settings: &Settings) -> Vec<Finding> {
    [descriptors(settings), buffers(), Some(clock()), disk(settings)].into_iter().flatten().collect()
}

fn descriptors(settings: &Settings) -> Option<Finding> {
    let has_streams = settings.core.policy.listeners.iter().any(|listener| listener.transport.is_reliable());
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok().filter(|_| has_streams)?;
    let wanted = settings.streams.max_connections as u64 + OTHERS;
    let text = format!("{hard} may be open; {wanted} are wanted for `tcp_max_connections`");
    Some(match hard >= wanted {
        true => Finding::ok("descriptors", text),
        false => Finding::warning(
            "descriptors",
            text,
            format!("LimitNOFILE={wanted} in the service's unit, or ulimit -n {wanted}"),
        ),
    })
}

fn buffers() -> Option<Finding> {
    let text = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok()?;
    let most: u64 = text.trim().parse().ok()?;
    let said = format!("a UDP socket may hold {} kB", most / 1024);
    Some(match most >= BUFFER {
        true => Finding::ok("socket buffers", said),
        false => Finding::warning(
            "socket buffers",
            format!("{said}: bursts of registrations are lost beyond it"),
            format!("sysctl -w net.core.rmem_max={BUFFER}, and in /etc/sysctl.d"),
        ),
    })
}

fn clock() -> Finding {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if now_s < WRITTEN_S {
        return Finding::error(
            "clock",
            "it is in the past",
            "set the clock: certificates and records of calls depend on it",
        );
    }
    let marks = [
        "/run/systemd/timesync/synchronized",
        "/var/lib/chrony/drift",
        "/var/lib/ntp/ntp.drift",
        "/var/lib/ntpsec/ntp.drift",
    ];
    match marks.iter().any(|path| std::path::Path::new(path).exists()) {
        true => Finding::ok("clock", "something keeps it right"),
        false => Finding::warning(
            "clock",
            "nothing is seen that keeps it right",
            "install systemd-timesyncd or chrony",
        ),
    }
}

fn disk(settings: &Settings) -> Option<Finding> {
    let folder = Some(settings.folder()).filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| ".".into());
    let found = statvfs(&folder).ok()?;
    let (free, all) =
        (found.blocks_available() * found.fragment_size(), (found.blocks() * found.fragment_size()).max(1));
    let text = format!("{} of {} GB are free in {}", free / GIGABYTE, all / GIGABYTE, folder.display());
    Some(match free {
        free if free < GIGABYTE / 10 => {
            Finding::error("disk", text, "make room: without it no registration can be stored")
        }
        free if free < GIGABYTE => Finding::warning("disk", text, "make room"),
        _ => Finding::ok("disk", text),
    })
}
