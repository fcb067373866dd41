//! A thread that runs until it is told to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::connection::RedisError;

#[derive(Debug)]
pub(crate) struct Background {
    thread: JoinHandle<()>,
    is_over: Arc<AtomicBool>,
}

impl Background {
    /// Starts it; it looks at the flag, and may be parked meanwhile.
    pub(crate) fn start(
        name: &str,
        run: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> Result<Background, RedisError> {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::Builder::new().name(name.to_string()).spawn(move || run(&ends));
        Ok(Background { thread: thread.map_err(RedisError::Thread)?, is_over })
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}
