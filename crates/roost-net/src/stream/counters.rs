//! What has happened to connections, and how many there are.

use std::sync::atomic::{AtomicU64, Ordering};

use roost_core::Transport;

macro_rules! counters {
    ($($field:ident $name:literal,)*) => {
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $field: Count,)*
        }

        impl Counters {
            /// Names (`group:name`) and values.
            pub(super) fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field.get()),)*]
            }
        }
    };
}

counters! {
    connections "net:tcp_connections",
    accepted "net:tcp_accepted",
    connected "net:tcp_connected",
    connect_failed "net:tcp_connect_failed",
    refused "net:tcp_refused",
    refused_source "net:tcp_refused_per_source",
    evicted "net:tcp_evicted",
    closed_idle "net:tcp_closed_idle",
    closed_unfinished "net:tcp_closed_unfinished",
    closed_garbage "net:tcp_closed_garbage",
    closed_stuck "net:tcp_closed_stuck",
    closed_silent "net:tcp_closed_silent",
    tls_connections "net:tls_connections",
    tls_failed "net:tls_handshakes_failed",
    unproxied "net:tcp_without_proxy_header",
    handshakes "net:handshakes",
    handshakes_refused "net:handshakes_refused",
    websockets "net:websocket_connections",
    memory_full "net:tcp_memory_full",
    inbox_full "net:tcp_inbox_full",
    unsent "net:tcp_unsent",
}

impl Counters {
    /// Counts a connection.
    pub(super) fn opened(&self, transport: Transport) {
        self.of(transport).for_each(Count::increment);
    }

    /// Counts that one is gone.
    pub(super) fn closed(&self, transport: Transport) {
        self.of(transport).for_each(Count::decrement);
    }

    fn of(&self, transport: Transport) -> impl Iterator<Item = &Count> {
        let is_websocket = matches!(transport, Transport::Ws | Transport::Wss);
        let tls = Some(&self.tls_connections).filter(|_| transport.is_secure());
        let websocket = Some(&self.websockets).filter(|_| is_websocket);
        [&self.connections].into_iter().chain(tls).chain(websocket)
    }
}

/// A number that several threads change.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, more: usize) {
        if more > 0 {
            self.0.fetch_add(more as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn increment(&self) {
        self.add(1);
    }

    pub(super) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
