//! How long a NAT on the way keeps a mapping that nobody uses, as far as discovers can tell: a mapped endpoint that is
//! another than at the last discover, though nothing has changed here, means that the mapping did not live so long.

use std::time::Duration;

use crate::Time;

/// What a NAT is trusted with until it proves otherwise (RFC 4787, REQ-5, asks for two minutes; many give 30 s).
pub const KEEPALIVE_MAX: Duration = Duration::from_secs(25);
/// Never more often.
pub const KEEPALIVE_MIN: Duration = Duration::from_secs(5);
/// A shorter interval that has held so long is doubled: a router's restart looks like a short mapping too.
pub const LENGTHEN_AFTER: Duration = Duration::from_mins(30);

/// The interval, and what it was learnt from.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    interval: Duration,
    /// Intervals of this length were too long twice: never again.
    ceiling: Duration,
    /// The longest interval that was too long once.
    suspect: Option<Duration>,
    /// Since when the mapping holds.
    since: Time,
}

impl Keepalive {
    /// Nothing is known.
    pub const fn new(now: Time) -> Self {
        Self { interval: KEEPALIVE_MAX, ceiling: KEEPALIVE_MAX, suspect: None, since: now }
    }

    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// A relay that was not in use before has answered: there is nothing to compare with.
    pub const fn handle_first_reply(&mut self, now: Time) {
        self.since = now;
    }

    /// The relay in use has answered, `idle` after it did so before. A mapping that changes sooner than keepalives could
    /// tell has another cause.
    pub fn handle_reply(&mut self, now: Time, idle: Duration, mapping_changed: bool) {
        if mapping_changed {
            if idle >= self.interval / 2 {
                self.shorten();
            }
            self.since = now;
        } else if now.since(self.since) >= LENGTHEN_AFTER && self.interval < self.ceiling {
            self.interval = (self.interval * 2).min(self.ceiling);
            self.since = now;
        }
    }

    fn shorten(&mut self) {
        let shorter = (self.interval / 2).max(KEEPALIVE_MIN);
        if self.suspect.is_some_and(|suspect| suspect <= self.interval) {
            self.ceiling = shorter;
        }
        self.suspect = Some(self.interval);
        self.interval = shorter;
    }
}
