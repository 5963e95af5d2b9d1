//! Where the negotiation of ephemeral keys with one peer stands: what was asked, what was answered, when to repeat it.
//!
//! ```text
//!   initiator                                   responder
//!   Idle ── hello ─────────────────────────────► makes keys, keeps them pending, seals as before
//!   Asked                        ◄── accept ────
//!   makes keys, seals with them
//!   Confirming ── first frame ─────────────────► the pending keys are in use from here on
//!   Idle                         ◄── a frame ───
//! ```
//!
//! The responder can open what the initiator seals before the initiator knows how, so no frame is lost on the way.

use std::time::Duration;

use wire::extension::{About, Capabilities, LEN};

use super::keys::ExchangeKey;
use super::session::Session;
use crate::Time;

/// Waits behind each transmission of a hello, and of the first frame under new keys; then they are given up.
const WAITS: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// Keys that are pending keep us from asking for others for so long. Longer than an initiator waits for an accept.
const PENDING: Duration = Duration::from_mins(1);
/// New keys are made for one peer at most this often, whatever it asks.
const ANSWER_INTERVAL: Duration = Duration::from_millis(250);

/// A hello of ours that awaits its accept.
pub struct Asked {
    /// The session it went out in.
    pub session: u32,
    /// Its handshake id.
    pub handshake: u64,
    /// Wiped with this record.
    pub ephemeral: ExchangeKey,
    /// The prefix it announces.
    pub prefix: [u8; 4],
    /// The payload.
    pub hello: [u8; LEN],
}

/// Keys we have answered with, until the peer uses them.
pub struct Pending {
    /// The session the hello came in.
    pub within: u32,
    /// The payload of the answer.
    pub accept: [u8; LEN],
    /// What takes over with the first frame it opens.
    pub session: Box<Session>,
}

/// The states of an initiator, named for what they await.
enum Stage {
    Idle,
    Accept(Box<Asked>, Pace),
    FirstFrame(Pace),
}

/// Repetitions of one message.
#[derive(Clone, Copy)]
struct Pace {
    sent: usize,
    next: Time,
}

/// What falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the hello again.
    Hello,
    /// Nobody has answered the hello that went out in this session.
    GiveUp(u32),
    /// Send a frame under the new keys again.
    FirstFrame,
}

/// Everything about one peer that has to do with ephemeral keys. Peers that know none do without.
pub struct Negotiation {
    stage: Stage,
    /// Keys the peer has not used yet.
    pub pending: Option<Pending>,
    /// What the peer has said about itself.
    pub about: Option<About>,
    /// What the peer can do.
    pub capabilities: Capabilities,
    answered: Option<(u64, Time)>,
    switched: Option<Time>,
    switches: u32,
}

impl Negotiation {
    /// Nothing asked, nothing answered.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            stage: Stage::Idle,
            pending: None,
            about: None,
            capabilities: Capabilities(0),
            answered: None,
            switched: None,
            switches: 0,
        }
    }

    /// Whether a hello may be sent: none is under way, and no keys are about to be used.
    #[must_use]
    pub fn may_ask(&self, now: Time) -> bool {
        let is_pending = self.pending.is_some() && self.answered.is_some_and(|(_, at)| now.since(at) < PENDING);
        matches!(self.stage, Stage::Idle) && !is_pending
    }

    /// The same for this session: what is under way in another does not count.
    #[must_use]
    pub fn may_ask_within(&self, now: Time, session: u32) -> bool {
        let is_elsewhere = self.hello().is_none_or(|asked| asked.session != session);
        let is_pending = self.pending.as_ref().is_some_and(|pending| pending.within == session);
        is_elsewhere && !(is_pending && self.answered.is_some_and(|(_, at)| now.since(at) < PENDING))
    }

    /// Gives up what is under way, unless it is a hello in this session: that is given back.
    pub fn turn_to(&mut self, session: u32) -> Option<&Asked> {
        if self.hello().is_none_or(|asked| asked.session != session) {
            self.stage = Stage::Idle;
        }
        self.hello()
    }

    /// A hello has been sent.
    pub fn asked(&mut self, now: Time, asked: Asked) {
        self.stage = Stage::Accept(Box::new(asked), Pace::new(now));
    }

    /// The hello that awaits its accept.
    #[must_use]
    pub fn hello(&self) -> Option<&Asked> {
        match &self.stage {
            Stage::Accept(asked, _) => Some(asked),
            Stage::Idle | Stage::FirstFrame(_) => None,
        }
    }

    /// The hello that awaits its accept is answered, or of no use any more; with the record its secret goes.
    pub fn take_hello(&mut self) -> Option<Box<Asked>> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Accept(asked, _) => Some(asked),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// Whether new keys may be made for a hello now.
    #[must_use]
    pub fn may_answer(&self, now: Time, handshake: u64) -> bool {
        self.answered.is_none_or(|(last, at)| last != handshake && now.since(at) >= ANSWER_INTERVAL)
    }

    /// The answer to a hello that has been answered before, and the session it goes out in.
    #[must_use]
    pub fn answer_again(&self, handshake: u64) -> Option<(u32, [u8; LEN])> {
        let pending = self.pending.as_ref()?;
        let is_same = self.answered.is_some_and(|(last, _)| last == handshake);
        is_same.then_some((pending.within, pending.accept))
    }

    /// A hello has been answered; gives back the keys that had been pending.
    pub fn answered(&mut self, now: Time, handshake: u64, pending: Pending) -> Option<Box<Session>> {
        self.answered = Some((handshake, now));
        self.pending.replace(pending).map(|superseded| superseded.session)
    }

    /// New keys are in use. The side that has to tell the other awaits its first frame.
    pub fn switched(&mut self, now: Time, awaits_frame: bool) {
        self.switched = Some(now);
        self.switches += 1;
        if awaits_frame {
            self.stage = Stage::FirstFrame(Pace::new(now));
        }
    }

    /// A frame has opened under the keys in use.
    pub fn confirmed(&mut self) {
        if matches!(self.stage, Stage::FirstFrame(_)) {
            self.stage = Stage::Idle;
        }
    }

    /// When keys were last negotiated, and how often they were.
    #[must_use]
    pub const fn rekeyed(&self) -> Option<(Time, u32)> {
        match self.switched {
            Some(at) => Some((at, self.switches)),
            None => None,
        }
    }

    /// When [`Negotiation::step`] has something to say.
    #[must_use]
    pub const fn deadline(&self) -> Option<Time> {
        match &self.stage {
            Stage::Idle => None,
            Stage::Accept(_, pace) | Stage::FirstFrame(pace) => Some(pace.next),
        }
    }

    /// What falls due at `now`, if anything.
    #[must_use]
    pub fn step(&mut self, now: Time) -> Option<Step> {
        let (step, goes_on) = match &mut self.stage {
            Stage::Accept(asked, pace) if pace.next <= now => {
                let goes_on = pace.step(now);
                (if goes_on { Step::Hello } else { Step::GiveUp(asked.session) }, goes_on)
            }
            Stage::FirstFrame(pace) if pace.next <= now => (Step::FirstFrame, pace.step(now)),
            _ => return None,
        };
        if !goes_on {
            self.stage = Stage::Idle;
        }
        (goes_on || step != Step::FirstFrame).then_some(step)
    }
}

impl Pace {
    fn new(now: Time) -> Self {
        Self { sent: 1, next: now + WAITS[0] }
    }

    /// Counts a repetition; `false` when there have been enough.
    fn step(&mut self, now: Time) -> bool {
        let Some(wait) = WAITS.get(self.sent) else { return false };
        self.sent += 1;
        self.next = now + *wait;
        true
    }
}
