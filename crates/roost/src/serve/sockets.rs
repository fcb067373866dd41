//! The sockets of a server: opened before anything else starts, so that what is in the way is said at once.

use std::net::{TcpListener, UdpSocket};

use anyhow::{Context as _, Result};
use roost_core::{Listener, Transport};
use roost_net::StreamSettings;

use crate::serve::inherited::Inherited;
use crate::settings::Settings;

/// The management interface's.
///
/// # Errors
/// The address is taken, and the remedy.
pub(super) fn bind_mi(settings: &Settings) -> Result<Option<TcpListener>> {
    let Some(address) = settings.mi_address else { return Ok(None) };
    let listener = TcpListener::bind(address).with_context(|| {
        format!(
            "cannot listen on {address} for the management interface; another roost may run there: stop it, or set \
             `listen` in [mi] to another port"
        )
    })?;
    listener.set_nonblocking(true)?;
    Ok(Some(listener))
}

/// The sockets that connections come to.
pub(super) fn stream_sockets(
    listeners: &[Listener],
    inherited: &mut Inherited,
) -> Result<Vec<(Transport, TcpListener)>> {
    let is_stream = |listener: &&Listener| listener.transport.is_reliable();
    let open = |listener: &Listener| {
        let socket = match inherited.take_connections(listener.address) {
            Some(socket) => {
                socket.set_nonblocking(true)?;
                socket
            }
            None => roost_net::stream_socket(listener)?,
        };
        Ok((listener.transport, socket))
    };
    listeners.iter().filter(is_stream).map(open).collect()
}

/// Descriptors for all but connections.
const DESCRIPTORS: u64 = 1_024;

/// What is set, with as many connections as the process may have: each takes a descriptor, and one that cannot be accepted
/// would keep others waiting. Asks the system for as many descriptors as it gives without further rights.
pub(super) fn stream_settings(settings: &Settings) -> StreamSettings {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = settings.streams.max_connections as u64 + DESCRIPTORS;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return settings.streams };
    // root may go beyond the hard limit.
    if soft >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok() {
        return settings.streams;
    }
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    let most = hard.saturating_sub(DESCRIPTORS).max(hard / 2);
    tracing::debug!(
        connections = most,
        "fewer than tcp_max_connections: the system allows {hard} open files (ulimit -n, LimitNOFILE= in systemd)"
    );
    StreamSettings { max_connections: most as usize, ..settings.streams }
}

/// One socket of every UDP listener for each worker: those that were inherited first.
pub(super) fn datagram_sockets(
    listeners: &[Listener],
    workers: usize,
    inherited: &mut Inherited,
) -> Result<Vec<Vec<UdpSocket>>> {
    let mut by_worker: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for listener in listeners.iter().filter(|listener| !listener.transport.is_reliable()) {
        let mut sockets = inherited.take_datagrams(listener.address, workers);
        sockets.iter().try_for_each(|socket| roost_net::adopt(socket, listener))?;
        match sockets.first() {
            None => sockets = roost_net::sockets(listener, workers)?,
            // One that nobody else may share is read by all.
            Some(first) if sockets.len() < workers => {
                let missing = workers - sockets.len();
                let more = match roost_net::sockets(listener, missing) {
                    Ok(more) => more,
                    Err(_) => (0..missing).map(|_| first.try_clone()).collect::<std::io::Result<_>>()?,
                };
                sockets.extend(more);
            }
            Some(_) => {}
        }
        for (own, socket) in by_worker.iter_mut().zip(sockets) {
            own.push(socket);
        }
    }
    Ok(by_worker)
}
