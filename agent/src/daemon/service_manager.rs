//! What the service manager is told (`sd_notify(3)`): that the daemon is up, that it lives, that it ends. Without a service
//! manager nobody is told anything.

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// The socket for clients is there, and the tunnel is bound.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The daemon closes its streams and ends.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Says at half the time the manager waits that all is well. On the daemon's own thread: when that is stuck, the manager
/// hears nothing and starts the daemon anew.
pub async fn stay_alive() {
    let Some(patience) = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero()) else {
        return;
    };
    let mut beats = interval(patience / 2);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        tell(NotifyState::Watchdog);
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
