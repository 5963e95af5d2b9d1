//! When the directory is asked whether it holds requests or answers for us.

use std::time::Duration;

use crate::Time;

/// Between two polls, as between heartbeats.
const INTERVAL: Duration = Duration::from_secs(60);
/// Between two polls after a request of ours …
const HURRIED_INTERVAL: Duration = Duration::from_secs(2);
/// … for so long.
const HURRIED_FOR: Duration = Duration::from_secs(120);
/// Notices of the relay do not make us poll more often than this.
const NOTIFIED_INTERVAL: Duration = Duration::from_secs(1);
/// A poll that has no answer after this is taken for lost.
const LOST_AFTER: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Schedule {
    next: Option<Time>,
    last: Option<Time>,
    hurried_until: Time,
    is_asked: bool,
    is_notified: bool,
}

impl Schedule {
    /// The node is registered.
    pub(super) fn start(&mut self, now: Time) {
        self.next = Some(now);
        self.is_asked = false;
    }

    /// A request of ours is under way.
    pub(super) fn hurry(&mut self, now: Time) {
        self.hurried_until = now + HURRIED_FOR;
        self.bring_forward(now + HURRIED_INTERVAL);
    }

    /// The directory holds something.
    pub(super) fn hurry_once(&mut self, now: Time) {
        // What comes in while a poll is under way may have missed it.
        self.is_notified = self.is_asked;
        self.bring_forward(self.last.map_or(now, |last| (last + NOTIFIED_INTERVAL).max(now)));
    }

    pub(super) fn handle_answered(&mut self, now: Time) {
        self.is_asked = false;
        let interval = if now < self.hurried_until { HURRIED_INTERVAL } else { INTERVAL };
        self.next = Some(now + interval);
        if std::mem::take(&mut self.is_notified) {
            self.hurry_once(now);
        }
    }

    /// Whether to poll now.
    pub(super) fn handle_timeout(&mut self, now: Time) -> bool {
        if self.next.is_none_or(|next| now < next) {
            return false;
        }
        self.is_asked = true;
        self.last = Some(now);
        self.next = Some(now + LOST_AFTER);
        true
    }

    pub(super) const fn poll_timeout(&self) -> Option<Time> {
        self.next
    }

    fn bring_forward(&mut self, to: Time) {
        if !self.is_asked {
            self.next = self.next.map(|next| next.min(to));
        }
    }
}
