//! What is known of one peer: its identity, the session in use and the last few before, the pace of exchanges.
//!
//! A signed key can be late, or a recording sent again (SPEC 12, weakness 13), so a new key alone does not end a
//! session. The sessions it replaces stay for a while, and frames that open decide which of them the peer has.

use std::collections::VecDeque;
use std::time::Duration;

use wire::NodeId;
use wire::tunnel::Nonce;

use super::exchange::{Answers, COOL_DOWN, Exchange};
use super::keys::X25519_LEN;
use super::outcome::Via;
use super::session::{KeyPair, Refusal, Session};
use crate::Time;
use crate::identity::PUBLIC_KEY_LEN;

/// The same signed key again so soon has come on the other path, or twice.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// A tunnel that has sent nothing for so long sends a keepalive,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(25);
/// unless the peer has been silent for longer than this.
const KEEPALIVE_SILENCE_MAX: Duration = Duration::from_mins(10);
/// While frames keep opening, an older key of the peer's is a recording.
const ALIVE: Duration = Duration::from_mins(1);
/// Frames sealed before a change of keys are under way for at most this long.
const IN_FLIGHT: Duration = Duration::from_secs(1);
/// An identity is asked for again, when another is claimed, at most this often.
const IDENTITY_LIFETIME: Duration = Duration::from_mins(1);
/// Replaced sessions kept.
const PREVIOUS_MAX: usize = 3;
/// Keys of sessions no longer kept that are remembered.
const RETIRED_MAX: usize = 8;

/// What a peer's signed key means for its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The session in use follows from it.
    Keep,
    /// One of the sessions before does, and nothing speaks for the one in use.
    Reinstate,
    /// It is new.
    Install,
    /// It was replaced long ago, and the session in use works.
    Stale,
}

/// One peer.
pub struct Peer {
    /// Exchanges that we began.
    pub exchange: Exchange,
    /// Keys we owe.
    pub answers: Answers<Via>,
    /// When the engine is to look at this peer again.
    pub armed: Option<Time>,
    identity: Option<([u8; PUBLIC_KEY_LEN], Time)>,
    current: Option<Box<Session>>,
    /// Newest last.
    previous: Vec<Session>,
    retired: VecDeque<[u8; X25519_LEN]>,
    last_offer: Option<([u8; X25519_LEN], Time)>,
    doubted_at: Option<Time>,
}

impl Peer {
    /// A peer of which nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            exchange: Exchange::Occasion,
            answers: Answers::new(),
            armed: None,
            identity: None,
            current: None,
            previous: Vec::new(),
            retired: VecDeque::new(),
            last_offer: None,
            doubted_at: None,
        }
    }

    /// The session frames are sealed in.
    #[must_use]
    pub fn session(&mut self) -> Option<&mut Session> {
        self.current.as_deref_mut()
    }

    /// Whether there is one.
    #[must_use]
    pub const fn has_session(&self) -> bool {
        self.current.is_some()
    }

    /// The directory's key of the peer.
    #[must_use]
    pub fn identity(&self) -> Option<[u8; PUBLIC_KEY_LEN]> {
        self.identity.map(|(key, _)| key)
    }

    /// Whether the key is so old that the directory may have another by now.
    #[must_use]
    pub fn identity_is_old(&self, now: Time) -> bool {
        self.identity.is_some_and(|(_, learned_at)| now.since(learned_at) >= IDENTITY_LIFETIME)
    }

    /// The directory has said which key is the peer's.
    pub const fn learn_identity(&mut self, now: Time, key: [u8; PUBLIC_KEY_LEN]) {
        self.identity = Some((key, now));
    }

    /// Whether this key has just come, from the peer or from somebody who repeats it.
    #[must_use]
    pub fn is_repeated(&self, now: Time, key: &[u8; X25519_LEN]) -> bool {
        self.last_offer.is_some_and(|(last, at)| last == *key && now.since(at) < DEBOUNCE)
    }

    /// The peer's signature stands under this key.
    pub const fn accept(&mut self, now: Time, key: [u8; X25519_LEN]) {
        self.last_offer = Some((key, now));
    }

    /// What to do about a pair of keys, ours and the one the peer has signed.
    #[must_use]
    pub fn judge(&self, now: Time, pair: &KeyPair) -> Verdict {
        let Some(current) = &self.current else { return Verdict::Install };
        let is_alive = current.heard_at().is_some_and(|heard_at| now.since(heard_at) < ALIVE);
        let is_previous = self.previous.iter().any(|previous| previous.pair() == pair);
        let is_retired = pair.peer != current.pair().peer && self.retired.contains(&pair.peer);
        match () {
            () if current.pair() == pair => Verdict::Keep,
            () if is_alive && (is_previous || is_retired) => Verdict::Stale,
            () if is_previous => Verdict::Reinstate,
            () => Verdict::Install,
        }
    }

    /// Puts `session` into use. The only place where keys change, wherever they come from.
    pub fn install(&mut self, session: Session) {
        self.previous.extend(self.current.replace(Box::new(session)).map(|replaced| *replaced));
        if self.previous.len() > PREVIOUS_MAX {
            // Those never heard from go first: recordings shall not drive out what works.
            let by_age = (0..self.previous.len()).min_by_key(|at| self.previous[*at].heard_at());
            let gone = by_age.map(|at| self.previous.remove(at));
            self.retire(gone);
        }
        self.answers.settle();
    }

    /// Ends the session that has sealed all it may.
    pub fn end_session(&mut self) {
        let gone = self.current.take();
        self.retire(gone.map(|session| *session));
    }

    /// Uses the session of this pair again.
    pub fn reinstate(&mut self, pair: &KeyPair) {
        if let Some(at) = self.previous.iter().position(|previous| previous.pair() == pair) {
            self.use_again(at);
        }
    }

    /// Opens a frame in place with whichever session it belongs to, and learns from that which one the peer has.
    ///
    /// # Errors
    /// What the session in use says of it.
    pub fn open(&mut self, now: Time, sender: NodeId, nonce: Nonce, body: &mut [u8]) -> Result<(), Refusal> {
        let Some(current) = &mut self.current else { return Err(Refusal::NotAuthentic) };
        match current.open(now, sender, nonce, body) {
            Err(Refusal::NotAuthentic) if !self.previous.is_empty() => {
                let in_doubt = now.since(current.believed_at()) >= IN_FLIGHT;
                let (at, is_first) = open_with_any(&mut self.previous, now, sender, nonce, body)?;
                if is_first || in_doubt {
                    self.use_again(at);
                }
            }
            result => result?,
        }
        self.answers.settle();
        Ok(())
    }

    /// Counts a frame that did not open; whether keys should be exchanged again.
    #[must_use]
    pub fn doubt(&mut self, now: Time, refusal: Refusal) -> bool {
        let rested = self.doubted_at.is_none_or(|doubted_at| now.since(doubted_at) >= COOL_DOWN);
        let doubted = self.current.as_mut().is_some_and(|session| session.doubt(now, refusal)) && rested;
        if doubted {
            self.doubted_at = Some(now);
        }
        doubted
    }

    /// Whether a keepalive has to go.
    #[must_use]
    pub fn needs_keepalive(&self, now: Time) -> bool {
        self.keepalive_deadline().is_some_and(|due| due <= now)
    }

    /// Forgets the sessions before that cannot matter any more.
    pub fn tidy(&mut self, now: Time) {
        if self.current.as_ref().is_some_and(|current| current.is_proven()) {
            let gone: Vec<_> = self.previous.extract_if(.., |old| now.since(old.believed_at()) >= ALIVE).collect();
            self.retire(gone);
        }
    }

    /// When there is something to do for this peer.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        [self.exchange.deadline(), self.answers.deadline(), self.keepalive_deadline()].into_iter().flatten().min()
    }

    /// Since when the peer has been silent; `None` without a session, or while keys are being exchanged.
    #[must_use]
    pub fn silent_since(&self) -> Option<Time> {
        let session = self.current.as_ref().filter(|_| self.exchange == Exchange::Occasion)?;
        Some(session.believed_at())
    }

    fn keepalive_deadline(&self) -> Option<Time> {
        let session = self.current.as_ref()?;
        let due = session.sent_at() + KEEPALIVE_INTERVAL;
        (due.since(session.believed_at()) < KEEPALIVE_SILENCE_MAX).then_some(due)
    }

    fn use_again(&mut self, at: usize) {
        let again = Box::new(self.previous.remove(at));
        self.previous.extend(self.current.replace(again).map(|replaced| *replaced));
    }

    fn retire(&mut self, gone: impl IntoIterator<Item = Session>) {
        self.retired.extend(gone.into_iter().map(|session| session.pair().peer));
        let too_many = self.retired.len().saturating_sub(RETIRED_MAX);
        self.retired.drain(..too_many);
    }
}

/// Opens a frame with the first session that can, and tells which that is and whether it is the first frame it opens.
fn open_with_any(
    sessions: &mut [Session],
    now: Time,
    sender: NodeId,
    nonce: Nonce,
    body: &mut [u8],
) -> Result<(usize, bool), Refusal> {
    for (at, session) in sessions.iter_mut().enumerate().rev() {
        let is_first = !session.is_proven();
        match session.open(now, sender, nonce, body) {
            Ok(()) => return Ok((at, is_first)),
            Err(Refusal::Replayed) => return Err(Refusal::Replayed),
            Err(Refusal::NotAuthentic) => {}
        }
    }
    Err(Refusal::NotAuthentic)
}
