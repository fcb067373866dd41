//! Backpressure of one connection: how many of its messages the workers have not handled yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Messages of one connection that the workers have not handled; it is not read while there are more.
const MAX_UNDER_WAY: usize = 16;

/// The count, and what wakes the connection's task.
#[derive(Debug, Default)]
pub(crate) struct Backpressure {
    under_way: AtomicUsize,
    /// Something waits to be written, the connection must end, or it may be read again.
    pub(crate) wake: Notify,
}

/// A message on its way to a worker; dropped when it is handled.
#[derive(Debug)]
pub struct Permit(Arc<Backpressure>);

impl Backpressure {
    /// Whether another message may be read.
    pub(crate) fn is_open(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) < MAX_UNDER_WAY
    }
}

impl Permit {
    pub(crate) fn new(backpressure: &Arc<Backpressure>) -> Permit {
        backpressure.under_way.fetch_add(1, Ordering::Relaxed);
        Permit(Arc::clone(backpressure))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::Relaxed) == MAX_UNDER_WAY {
            self.0.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_not_read_while_too_much_is_under_way() {
        let backpressure = Arc::new(Backpressure::default());
        let mut permits: Vec<_> = (0..MAX_UNDER_WAY).map(|_| Permit::new(&backpressure)).collect();
        assert!(!backpressure.is_open());
        permits.pop();
        assert!(backpressure.is_open());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(backpressure.wake.notified());
    }
}
