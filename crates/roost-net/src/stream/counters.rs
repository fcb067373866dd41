//! What has happened to connections, and how many there are.

use std::sync::atomic::{AtomicU64, Ordering};

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
    memory_full "net:tcp_memory_full",
    inbox_full "net:tcp_inbox_full",
    unsent "net:tcp_unsent",
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
