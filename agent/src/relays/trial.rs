//! Whether the best relay is back: asked now and then while another is in use, and believed only after several replies
//! in a row. The more often it was lost, the longer it has to wait.

use std::net::SocketAddr;
use std::time::Duration;

use super::{REPLY_WAITS, REPLY_WINDOW, is_same};
use crate::Time;

/// The first trial comes so long after another relay was taken in use; the interval doubles with each loss of the best
pub const TRIAL_INTERVAL_MIN: Duration = Duration::from_mins(5);
/// up to this.
pub const TRIAL_INTERVAL_MAX: Duration = Duration::from_hours(1);
/// Replies in a row that a trial takes.
pub const TRIAL_ANSWERS: u32 = 3;
/// Time between them.
const ANSWER_INTERVAL: Duration = Duration::from_secs(1);

/// The trial of one relay.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// How often the best relay was lost.
    losses: u32,
    due: Time,
    asked: Option<(SocketAddr, Time)>,
    answers: u32,
}

impl Trial {
    pub fn new(now: Time) -> Self {
        Self { losses: 0, due: now + TRIAL_INTERVAL_MIN, asked: None, answers: 0 }
    }

    /// Begins to wait for the next trial.
    pub fn start(&mut self, now: Time) {
        let doublings = self.losses.saturating_sub(1).min(8);
        let interval = TRIAL_INTERVAL_MIN.saturating_mul(1 << doublings).min(TRIAL_INTERVAL_MAX);
        *self = Self { due: now + interval, asked: None, answers: 0, ..*self };
    }

    /// The best relay was lost.
    pub fn handle_lost(&mut self, now: Time) {
        self.losses = self.losses.saturating_add(1);
        self.start(now);
    }

    pub const fn due(&self) -> Time {
        self.due
    }

    /// Whether the relay is to be asked now, and then whether its reply will decide.
    pub fn poll(&mut self, now: Time, relay: SocketAddr) -> Option<bool> {
        if self.asked.is_some() || self.due > now {
            return None;
        }
        self.asked = Some((relay, now));
        self.due = now + REPLY_WAITS[REPLY_WAITS.len() - 1];
        Some(self.answers + 1 >= TRIAL_ANSWERS)
    }

    pub fn is_awaited(&self, now: Time, from: SocketAddr) -> bool {
        self.asked.is_some_and(|(relay, sent)| is_same(relay, from) && now.since(sent) <= REPLY_WINDOW)
    }

    /// Takes a reply that is awaited; the relay, if it is to be used again.
    pub fn handle_reply(&mut self, now: Time) -> Option<SocketAddr> {
        let (relay, _) = self.asked.take()?;
        self.answers += 1;
        self.due = now + ANSWER_INTERVAL;
        (self.answers >= TRIAL_ANSWERS).then_some(relay)
    }

    /// One discover without reply ends the trial.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.asked.is_some() && self.due <= now {
            self.start(now);
        }
    }
}
