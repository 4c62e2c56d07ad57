//! What the service manager is told (sd_notify(3)): ready, stopping, alive.
//!
//! Without `NOTIFY_SOCKET` in the environment every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Every listener is open and serving.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The service is stopping and may take up to `grace` to let transfers finish.
pub fn stopping(grace: Duration) {
    // The manager's own timeout starts at the stop request: without this, a grace period longer
    // than it would end in SIGKILL.
    let extend = u32::try_from(grace.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(extend),
    ]);
}

/// A line shown by `systemctl status`.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// Tells the manager at half its watchdog period that the runtime still turns; returns at once when
/// no watchdog is set, and never otherwise.
pub async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval((period / 2).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told about the state");
    }
}
