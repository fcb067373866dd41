//! The connections of one thread, by number and by peer.

use std::collections::HashMap;
use std::rc::Rc;

use crate::stream::connection::Connection;
use crate::stream::peer::Peer;

#[derive(Debug, Default)]
pub(super) struct Connections {
    by_number: HashMap<u64, Rc<Connection>>,
    /// The newest connection to a peer.
    by_peer: HashMap<Peer, u64>,
}

impl Connections {
    pub(super) fn insert(&mut self, connection: &Rc<Connection>) {
        self.by_number.insert(connection.flow.connection, Rc::clone(connection));
        self.by_peer.insert(connection.peer, connection.flow.connection);
    }

    /// Takes a connection out; false when it is out already.
    pub(super) fn remove(&mut self, connection: &Connection) -> bool {
        let number = connection.flow.connection;
        let peer = connection.peer;
        if self.by_peer.get(&peer) == Some(&number) {
            self.by_peer.remove(&peer);
        }
        self.by_number.remove(&number).is_some()
    }

    pub(super) fn get(&self, number: u64) -> Option<Rc<Connection>> {
        self.by_number.get(&number).cloned()
    }

    /// The newest connection to a peer.
    pub(super) fn to(&self, peer: Peer) -> Option<Rc<Connection>> {
        self.get(*self.by_peer.get(&peer)?)
    }

    /// The connection that has been silent longest among those that no binding was made over.
    pub(super) fn most_silent(&self, now_ms: u64) -> Option<Rc<Connection>> {
        let unused = self.iter().filter(|connection| connection.keep_until_ms.get() <= now_ms);
        unused.min_by_key(|connection| connection.active_ms.get()).cloned()
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = Rc<Connection>> {
        self.by_number.into_values()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.by_number.values()
    }
}
