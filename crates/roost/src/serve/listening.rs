//! Listeners that come and go while the server runs, and copies of all sockets for the process after this one.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use roost_core::{Listener, Transport};
use roost_net::{Inbox, InboxItem, Resolver, Streams};

use crate::serve::inherited::Inherited;
use crate::serve::sockets::{datagram_sockets, stream_sockets};

/// A copy of each socket, which stays open when the threads have ended.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) datagrams: Vec<(SocketAddr, UdpSocket)>,
    pub(super) connections: Vec<(SocketAddr, TcpListener)>,
}

impl Kept {
    /// Copies of the sockets that the server starts with.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(super) fn of(connections: &[(Transport, TcpListener)], datagrams: &[Vec<UdpSocket>]) -> Result<Kept> {
        let mut kept = Kept::default();
        kept.add(connections, datagrams)?;
        Ok(kept)
    }

    /// # Errors
    /// The process has no descriptor left.
    fn add(&mut self, connections: &[(Transport, TcpListener)], datagrams: &[Vec<UdpSocket>]) -> Result<()> {
        for socket in datagrams.iter().flatten() {
            self.datagrams.push((socket.local_addr()?, socket.try_clone()?));
        }
        for (_, socket) in connections {
            self.connections.push((socket.local_addr()?, socket.try_clone()?));
        }
        Ok(())
    }

    fn remove(&mut self, listener: &Listener) {
        match listener.transport.is_reliable() {
            false => self.datagrams.retain(|(address, _)| *address != listener.address),
            true => self.connections.retain(|(address, _)| *address != listener.address),
        }
    }
}

/// Those who listen. Clones are one.
#[derive(Debug, Clone)]
pub(super) struct Listening {
    inboxes: Arc<Vec<Inbox>>,
    streams: Option<Streams>,
    resolver: Resolver,
    has_tls: bool,
    kept: Arc<Mutex<Kept>>,
}

/// Listeners that are about to come, with their sockets, and those about to go.
#[derive(Debug)]
pub(super) struct Change {
    connections: Vec<(Transport, TcpListener)>,
    /// By worker.
    datagrams: Vec<Vec<UdpSocket>>,
    gone: Vec<Listener>,
    all: Vec<Listener>,
}

impl Listening {
    pub(super) fn new(
        inboxes: &Arc<Vec<Inbox>>,
        streams: Option<Streams>,
        resolver: Resolver,
        has_tls: bool,
        kept: Kept,
    ) -> Listening {
        let kept = Arc::new(Mutex::new(kept));
        Listening { inboxes: Arc::clone(inboxes), streams, resolver, has_tls, kept }
    }

    /// Opens what is new. `None`: these others need a restart, because the threads or the certificates that they need are
    /// made at the start only, or other nodes know of them.
    ///
    /// # Errors
    /// An address that cannot be listened on; nothing has changed.
    pub(super) fn open(
        &self,
        before: &[Listener],
        after: &[Listener],
        is_node: bool,
    ) -> Result<Option<Change>> {
        let not_in = |all: &[Listener], one: &Listener| !all.iter().any(|other| other.is_at(one));
        let come: Vec<Listener> = after.iter().filter(|one| not_in(before, one)).copied().collect();
        let gone: Vec<Listener> = before.iter().filter(|one| not_in(after, one)).copied().collect();
        let needs_restart = |one: &Listener| {
            is_node
                || one.is_floating
                || (one.transport.is_reliable() && self.streams.is_none())
                || (one.transport.is_secure() && !self.has_tls)
        };
        let was = |one: &Listener| before.iter().find(|other| other.is_at(one));
        let floats_otherwise =
            |one: &Listener| was(one).is_some_and(|old| old.is_floating != one.is_floating);
        if come.iter().chain(&gone).any(needs_restart) || after.iter().any(floats_otherwise) {
            return Ok(None);
        }
        for listener in &come {
            // One of ours that will go may be in the way of the question, but is none of the answer.
            if !before.iter().any(|own| roost_net::overlap(own, listener)) {
                roost_net::probe(listener)?;
            }
        }
        let nothing = &mut Inherited::default();
        let connections = stream_sockets(&come, nothing)?;
        let datagrams = datagram_sockets(&come, self.inboxes.len(), nothing)?;
        Ok(Some(Change { connections, datagrams, gone, all: after.to_vec() }))
    }

    /// Has the threads take it.
    pub(super) fn take(&self, change: Change) {
        let Change { connections, datagrams, gone, all } = change;
        {
            let mut kept = self.kept();
            gone.iter().for_each(|listener| kept.remove(listener));
            if let Err(error) = kept.add(&connections, &datagrams) {
                tracing::warn!("an upgrade will open a socket anew: {error:#}");
            }
        }
        for (inbox, sockets) in self.inboxes.iter().zip(datagrams) {
            inbox.post(sockets.into_iter().map(InboxItem::Listen));
            let gone = gone.iter().filter(|listener| !listener.transport.is_reliable());
            inbox.post(gone.map(|listener| InboxItem::Unlisten(listener.address)));
        }
        if let Some(streams) = &self.streams {
            let gone = gone.iter().filter(|listener| listener.transport.is_reliable());
            gone.for_each(|listener| streams.unlisten(listener.transport, listener.address));
            connections.into_iter().for_each(|(transport, socket)| streams.listen(transport, socket));
        }
        self.resolver.listeners_changed(&all);
    }

    /// All sockets, once the threads have ended.
    pub(super) fn into_kept(self) -> Kept {
        std::mem::take(&mut *self.kept())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
