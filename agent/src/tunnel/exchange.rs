//! The pace of key exchanges with one peer: when to ask, to ask again, to give up, and when an answer is due.

use std::time::Duration;

use crate::Time;

/// Waits for an answer: after each but the last our key is sent again. Real daemons wait 4 s each time; but a relay that has
/// not seen a restarted node move yet drops the first, and nobody should wait for that.
const WAITS: [Duration; 8] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(4),
    Duration::from_secs(4),
    Duration::from_secs(4),
    Duration::from_secs(4),
];
/// The retransmission from which on a key request goes along. A peer that has installed our key and whose only answer
/// was lost does not answer the same key again; a key request it does.
const KEY_REQUEST_FROM: u8 = 2;
/// Rest after an exchange without answer, and between two that a doubted session asks for.
pub const COOL_DOWN: Duration = Duration::from_secs(5);
/// Never more than one answer in this time.
const ANSWER_INTERVAL: Duration = Duration::from_secs(1);
/// A peer that has proven its session gets our key again only when the last one is this old. Longer than any round
/// trip, or two answers would call forth each other for ever.
const REPEAT_INTERVAL: Duration = Duration::from_secs(6);

/// Where an exchange that we began stands; the states are named for what they await.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exchange {
    /// Nothing: the next one may begin.
    #[default]
    Occasion,
    /// The peer's answer.
    Answer {
        /// Retransmissions so far.
        retransmits: u8,
        /// When to act again.
        next: Time,
    },
    /// The end of the rest.
    Rest {
        /// When that is.
        until: Time,
    },
}

/// What falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the signed key again.
    Ask {
        /// And a key request with it.
        key_request: bool,
    },
    /// The peer does not answer.
    GiveUp,
    /// Another exchange may begin.
    Rested,
}

impl Exchange {
    /// Begins if nothing is under way and no rest is due; whether it did, so that the signed key is to be sent.
    #[must_use]
    pub fn begin(&mut self, now: Time) -> bool {
        let begins = *self == Self::Occasion;
        if begins {
            *self = Self::Answer { retransmits: 0, next: now + WAITS[0] };
        }
        begins
    }

    /// The peer's key has come.
    pub fn answered(&mut self) {
        *self = Self::Occasion;
    }

    /// When [`Exchange::step`] has something to say.
    #[must_use]
    pub const fn deadline(&self) -> Option<Time> {
        match *self {
            Self::Occasion => None,
            Self::Answer { next, .. } => Some(next),
            Self::Rest { until } => Some(until),
        }
    }

    /// What falls due at `now`, if anything.
    #[must_use]
    pub fn step(&mut self, now: Time) -> Option<Step> {
        if self.deadline().is_none_or(|due| now < due) {
            return None;
        }
        Some(match *self {
            Self::Answer { retransmits, .. } => match WAITS.get(usize::from(retransmits) + 1) {
                Some(wait) => {
                    let retransmits = retransmits + 1;
                    *self = Self::Answer { retransmits, next: now + *wait };
                    Step::Ask { key_request: retransmits >= KEY_REQUEST_FROM }
                }
                None => {
                    *self = Self::Rest { until: now + COOL_DOWN };
                    Step::GiveUp
                }
            },
            Self::Rest { .. } | Self::Occasion => {
                *self = Self::Occasion;
                Step::Rested
            }
        })
    }
}

/// Why our key is sent to a peer that sent its own, or a sign that it lacks ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A key that is new, that of a peer not yet heard from, or a frame sealed for a session we lack: it needs ours.
    Needed,
    /// It asks outright.
    Requested,
    /// The key it always had, though its session works.
    Repeated,
}

/// When our key last went to one peer, and whether it should go again. `V` is the way of the answer.
#[derive(Clone, Copy, Debug)]
pub struct Answers<V> {
    sent_at: Option<Time>,
    owed: Option<V>,
}

impl<V: Copy> Answers<V> {
    /// Nothing sent, nothing owed.
    #[must_use]
    pub const fn new() -> Self {
        Self { sent_at: None, owed: None }
    }

    /// Our key has been sent, as an answer or not.
    pub fn sent(&mut self, now: Time) {
        *self = Self { sent_at: Some(now), owed: None };
    }

    /// Whether to answer now. An answer that is needed but too soon stays owed.
    #[must_use]
    pub fn is_due(&mut self, now: Time, cause: Cause, via: V) -> bool {
        let interval = if cause == Cause::Repeated { REPEAT_INTERVAL } else { ANSWER_INTERVAL };
        let due = self.sent_at.is_none_or(|sent_at| now.since(sent_at) >= interval);
        if !due && cause == Cause::Needed {
            self.owed = Some(via);
        }
        due
    }

    /// The peer has proven that it has our key.
    pub fn settle(&mut self) {
        self.owed = None;
    }

    /// When the answer owed may go.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.owed.and(self.sent_at).map(|sent_at| sent_at + ANSWER_INTERVAL)
    }

    /// The way of the answer owed, if it may go at `now`.
    #[must_use]
    pub fn take_owed(&mut self, now: Time) -> Option<V> {
        self.owed.take_if(|_| self.sent_at.is_none_or(|sent_at| now.since(sent_at) >= ANSWER_INTERVAL))
    }
}
