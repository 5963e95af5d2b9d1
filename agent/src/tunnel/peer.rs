//! What is known of one peer: its identity, the session in use and the last few before, the pace of exchanges.
//!
//! A signed key can be late, or a recording sent again (SPEC 12, weakness 13), so a new key alone does not end a
//! session. The sessions it replaces stay for a while, and frames that open decide which of them the peer has.
//!
//! A negotiated session is given up for newly negotiated keys only, or for a new signed one, whose session stands as a
//! candidate until the peer has answered a hello in it; if the peer does not know hellos, until it is heard there and no
//! longer elsewhere. An older key leads nowhere, however silent the peer, and neither do frames of older sessions.

use std::collections::VecDeque;
use std::time::Duration;

use wire::NodeId;
use wire::tunnel::Nonce;

use super::exchange::{Answers, COOL_DOWN, Exchange};
use super::keys::X25519_LEN;
use super::negotiation::Negotiation;
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
/// The same when the session that replaced one from ephemeral keys has opened a frame: then its keys are wiped,
const NEGOTIATED_GRACE: Duration = Duration::from_secs(10);
/// and at the latest after this, whatever has opened.
const NEGOTIATED_GRACE_MAX: Duration = Duration::from_mins(3);
/// A peer that is heard in a candidate and for so long not in the negotiated session has lost that.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Sessions kept beside the one in use.
const PREVIOUS_MAX: usize = 4;
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
    /// It may be new, or a recording, and the session in use is a negotiated one: the peer has to show that it has it.
    Challenge,
}

/// A frame that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The session it belongs to.
    pub session: u32,
    /// What it says of the session in use.
    pub change: Option<Change>,
}

/// Why a frame puts another session into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was negotiated in the one before.
    Negotiated,
    /// The peer's signed key is another.
    Exchanged,
    /// It had been in use before.
    Back,
    /// None yet: the session is a candidate, and the peer is to be asked.
    Claimed,
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
    /// What has to do with ephemeral keys.
    pub negotiation: Option<Box<Negotiation>>,
    current: Option<Box<Session>>,
    /// Newest last. Each in its box, so that its keys are in one place only and are wiped there.
    #[expect(clippy::vec_box, reason = "keys are not to be moved about")]
    previous: Vec<Box<Session>>,
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
            negotiation: None,
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

    /// The session in use.
    #[must_use]
    pub fn current(&self) -> Option<&Session> {
        self.current.as_deref()
    }

    /// The session of this id, in use or kept.
    #[must_use]
    pub fn session_of(&mut self, id: u32) -> Option<&mut Session> {
        let kept = self.previous.iter_mut().chain(&mut self.current);
        kept.map(|session| &mut **session).find(|session| session.id() == id)
    }

    /// The ordinary session of these exchange keys, in use or kept.
    #[must_use]
    pub fn ordinary(&self, pair: &KeyPair) -> Option<&Session> {
        let mut kept = self.previous.iter().chain(&self.current);
        kept.find(|session| !session.is_negotiated() && session.pair() == pair).map(|session| &**session)
    }

    /// Whether what is sent is sealed with ephemeral keys.
    #[must_use]
    pub fn is_negotiated(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.is_negotiated())
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
        let is_outlived = |old: &Session| old.is_proven() && !old.is_candidate() && old.pair().peer == pair.peer;
        let is_outlived = self.previous.iter().any(|old| is_outlived(old));
        let is_retired = pair.peer != current.pair().peer && self.retired.contains(&pair.peer);
        match () {
            () if current.pair() == pair => Verdict::Keep,
            () if current.is_negotiated() && pair.peer == current.pair().peer => Verdict::Challenge,
            () if current.is_negotiated() && (is_retired || is_outlived) => Verdict::Stale,
            () if current.is_negotiated() => Verdict::Challenge,
            () if is_alive && (is_previous || is_retired) => Verdict::Stale,
            () if is_previous => Verdict::Reinstate,
            () => Verdict::Install,
        }
    }

    /// Puts `session` into use. The only place where keys change, wherever they come from.
    pub fn install(&mut self, now: Time, session: Box<Session>) {
        if let Some(mut replaced) = self.current.replace(session) {
            replaced.replace(now);
            self.keep(replaced);
        }
        self.answers.settle();
    }

    /// Keeps a session for what it may yet open; the first frame puts one that is new into use.
    pub fn keep(&mut self, session: Box<Session>) {
        self.previous.push(session);
        if self.previous.len() > PREVIOUS_MAX {
            // Those never heard from go first: recordings shall not drive out what works. But a new candidate has its time.
            let is_new = |at: usize| at == PREVIOUS_MAX && self.previous[at].is_candidate();
            let expendable = (0..=PREVIOUS_MAX).filter(|at| !is_new(*at) && !self.is_root(&self.previous[*at]));
            let by_age = expendable.min_by_key(|at| self.previous[*at].heard_at());
            let gone = by_age.map(|at| self.previous.remove(at));
            self.retire(gone);
        }
    }

    /// Ends the session that has sealed all it may.
    pub fn end_session(&mut self) {
        let gone = self.current.take();
        self.retire(gone);
    }

    /// Uses the session of this pair again.
    pub fn reinstate(&mut self, now: Time, pair: &KeyPair) {
        if let Some(at) = self.previous.iter().position(|old| !old.is_negotiated() && old.pair() == pair) {
            self.use_again(now, at);
        }
    }

    /// Opens a frame in place with whichever session it belongs to, and learns from that which one the peer has. The
    /// nonce tells a negotiated one; of the others each is tried.
    ///
    /// # Errors
    /// What the session in use says of it.
    pub fn open(&mut self, now: Time, sender: NodeId, nonce: Nonce, body: &mut [u8]) -> Result<Opened, Refusal> {
        let Some(current) = &mut self.current else { return Err(Refusal::NotAuthentic) };
        let opened = match current.is_negotiated() == current.expects(nonce.prefix) {
            true => current.open(now, sender, nonce, body).map(|()| {
                if let Some(negotiation) = self.negotiation.as_mut().filter(|_| current.is_negotiated()) {
                    negotiation.confirmed();
                }
                Opened { session: current.id(), change: None }
            }),
            false => Err(Refusal::NotAuthentic),
        };
        let opened = match opened {
            Err(Refusal::NotAuthentic) => self.open_beside(now, sender, nonce, body)?,
            opened => opened?,
        };
        self.answers.settle();
        Ok(opened)
    }

    /// Opens a frame with a session that is not in use, and puts that into use if the frame shows that the peer uses it.
    fn open_beside(&mut self, now: Time, sender: NodeId, nonce: Nonce, body: &mut [u8]) -> Result<Opened, Refusal> {
        if let Some(negotiation) = &mut self.negotiation
            && let Some(pending) = &mut negotiation.pending
            && pending.session.expects(nonce.prefix)
            && pending.session.open(now, sender, nonce, body).is_ok()
            && let Some(pending) = negotiation.pending.take()
        {
            negotiation.switched(now, false);
            let session = pending.session.id();
            self.install(now, pending.session);
            return Ok(Opened { session, change: Some(Change::Negotiated) });
        }
        let (at, is_first) = open_with_any(&mut self.previous, now, sender, nonce, body)?;
        let session = self.previous[at].id();
        let silence = self.current.as_ref().map_or(Duration::ZERO, |current| now.since(current.believed_at()));
        let change = match () {
            () if !self.is_negotiated() => (is_first || silence >= IN_FLIGHT).then_some(Change::Back),
            () if self.is_root(&self.previous[at]) || self.previous[at].is_negotiated() => None,
            () => {
                let candidate = &mut self.previous[at];
                candidate.stand(is_first || candidate.is_candidate());
                let claim = if silence >= SILENCE_MAX { Change::Exchanged } else { Change::Claimed };
                candidate.is_candidate().then_some(claim)
            }
        };
        if matches!(change, Some(Change::Back | Change::Exchanged)) {
            self.use_again(now, at);
        }
        Ok(Opened { session, change })
    }

    /// Puts a candidate into use: the peer has answered in it. Whether it was one.
    pub fn elect(&mut self, now: Time, id: u32) -> bool {
        let candidate = self.previous.iter().position(|session| session.id() == id && session.is_candidate());
        if let Some(at) = candidate {
            self.use_again(now, at);
        }
        candidate.is_some()
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
        let Some(current) = &self.current else { return };
        let (root, is_proven) = (current.is_negotiated().then_some(*current.pair()), current.is_proven());
        let is_over = |old: &mut Box<Session>| match old.is_negotiated() {
            true => now.since(old.replaced_at()) >= negotiated_grace(is_proven),
            false => is_proven && now.since(old.believed_at()) >= ALIVE && root != Some(*old.pair()),
        };
        let gone: Vec<_> = self.previous.extract_if(.., is_over).collect();
        self.retire(gone);
    }

    /// When there is something to do for this peer.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let negotiation = self.negotiation.as_ref().and_then(|negotiation| negotiation.deadline());
        let deadlines = [
            self.exchange.deadline(),
            self.answers.deadline(),
            self.keepalive_deadline(),
            negotiation,
            self.wiping_deadline(),
        ];
        deadlines.into_iter().flatten().min()
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

    /// When the keys of a negotiated session that was replaced have to be wiped.
    fn wiping_deadline(&self) -> Option<Time> {
        let is_proven = self.current.as_ref()?.is_proven();
        let replaced = self.previous.iter().filter(|old| old.is_negotiated()).map(|old| old.replaced_at());
        replaced.min().map(|replaced_at| replaced_at + negotiated_grace(is_proven))
    }

    /// Whether the session in use was negotiated in this one, or in one that was. It is kept as long: should the peer have
    /// lost its keys, that is where new ones are negotiated.
    fn is_root(&self, session: &Session) -> bool {
        let negotiated = self.current.as_ref().filter(|current| current.is_negotiated());
        negotiated.is_some_and(|current| !session.is_negotiated() && session.pair() == current.pair())
    }

    fn use_again(&mut self, now: Time, at: usize) {
        let mut again = self.previous.remove(at);
        again.stand(false);
        if let Some(mut replaced) = self.current.replace(again) {
            replaced.replace(now);
            self.previous.push(replaced);
        }
    }

    /// Remembers keys that are not used any more. With a negotiated session that keys never heard from may yet be the
    /// peer's: nobody has denied them.
    fn retire(&mut self, gone: impl IntoIterator<Item = Box<Session>>) {
        let is_strict = self.is_negotiated();
        for session in gone {
            let key = session.pair().peer;
            if (session.is_proven() || !is_strict) && !self.retired.contains(&key) {
                self.retired.push_back(key);
            }
        }
        let too_many = self.retired.len().saturating_sub(RETIRED_MAX);
        self.retired.drain(..too_many);
    }
}

const fn negotiated_grace(is_proven: bool) -> Duration {
    if is_proven { NEGOTIATED_GRACE } else { NEGOTIATED_GRACE_MAX }
}

/// Opens a frame with the first session that can, and tells which that is and whether it is the first frame it opens.
/// The nonce tells which negotiated one it can be.
fn open_with_any(
    sessions: &mut [Box<Session>],
    now: Time,
    sender: NodeId,
    nonce: Nonce,
    body: &mut [u8],
) -> Result<(usize, bool), Refusal> {
    for (at, session) in sessions.iter_mut().enumerate().rev() {
        if session.is_negotiated() != session.expects(nonce.prefix) {
            continue;
        }
        let is_first = !session.is_proven();
        match session.open(now, sender, nonce, body) {
            Ok(()) => return Ok((at, is_first)),
            Err(Refusal::Replayed) => return Err(Refusal::Replayed),
            Err(Refusal::NotAuthentic) => {}
        }
    }
    Err(Refusal::NotAuthentic)
}
