//! The signals that the server answers to.

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// From their making on these signals are waited for, not died of.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: [Signal; 2],
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM, SIGINT.
    End,
    /// SIGHUP.
    Reload,
}

impl Signals {
    /// # Errors
    /// When the system refuses.
    pub(super) fn new() -> Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    /// The next one that asks for something; the others are logged and passed over.
    pub(super) async fn next(&mut self) -> Asked {
        let [first, second] = &mut self.user;
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => return Asked::End,
                _ = self.interrupt.recv() => return Asked::End,
                _ = self.hangup.recv() => return Asked::Reload,
                _ = first.recv() => "SIGUSR1",
                _ = second.recv() => "SIGUSR2",
            };
            tracing::info!(
                "{name} means nothing here: SIGHUP reads the configuration anew, SIGTERM ends the server"
            );
        }
    }
}
