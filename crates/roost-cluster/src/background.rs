//! A thread that runs until it is told to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};

/// A thread that looks at a flag.
#[derive(Debug)]
pub struct Background {
    thread: JoinHandle<()>,
    is_over: Arc<AtomicBool>,
}

impl Background {
    /// Starts it; it looks at the flag, and may be parked meanwhile.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(name: &str, run: impl FnOnce(&AtomicBool) + Send + 'static) -> std::io::Result<Background> {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::Builder::new().name(name.to_string()).spawn(move || run(&ends))?;
        Ok(Background { thread, is_over })
    }

    /// What wakes it where it is parked.
    pub fn waker(&self) -> Thread {
        self.thread.thread().clone()
    }

    /// Tells it to end, and waits until it has.
    pub fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}
