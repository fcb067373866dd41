//! What systemd is told (`Type=notify`), where it runs the server: that it is ready, that it ends, that it lives.

use roost_admin::Mi;
use sd_notify::NotifyState;

fn tell(state: &[NotifyState<'_>]) {
    // Nobody waits for it: it may not be there.
    let _ = sd_notify::notify(state);
}

pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells that the server lives (`WatchdogSec=`) as long as every worker answers; for ever.
pub(super) async fn watchdog(mi: Mi) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        tokio::time::sleep(patience / 3).await;
        let answers = tokio::time::timeout(patience / 3, roost_admin::workers_answer(&mi));
        if answers.await.unwrap_or(false) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// Tells that a reload is under way, and that it is over.
pub(super) async fn reloading<T>(reload: impl Future<Output = T>) -> T {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
    let outcome = reload.await;
    ready();
    outcome
}
