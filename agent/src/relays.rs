//! Which relay is used, and whether it answers (section 4): discovers, failover, keepalive.
//!
//! ```text
//!              reply                        three discovers without reply
//!   asking ────────────► in use ──────────────────────────► asking the next
//!     │                    │  ▲                               of the list
//!     └─ no reply: next    └──┘ a discover every keepalive
//! ```
//!
//! Decides when a discover goes to whom, which replies count, and how long a NAT's mapping can be trusted to live. What
//! is carried through the relay is left to the owner; so is the list.
//!
//! Relays of ours are shown with every discover, by a signature, that the node is where it comes from: see `claim`.
//!
//! A reply carries nothing of its request, so one counts if it comes from a relay that was asked a moment ago. Whoever
//! can forge that source can lie about the mapped endpoint; peers then find the direct path dead and stay relayed.

mod claim;
mod keepalive;
mod trial;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use wire::NodeId;

pub use self::claim::{ANSWERS_MAX, CHALLENGE_WINDOW, Claims};
use self::keepalive::Keepalive;
pub use self::keepalive::{KEEPALIVE_MAX, KEEPALIVE_MIN, LENGTHEN_AFTER};
use self::trial::Trial;
pub use self::trial::{TRIAL_ANSWERS, TRIAL_INTERVAL_MAX, TRIAL_INTERVAL_MIN};
use crate::Time;

/// How long each discover waits for its reply; after the last the relay counts as dead.
pub const REPLY_WAITS: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(1000), Duration::from_millis(1500)];
/// The first reply is soon asked for again: the relay may not have known the id yet (section 11.2).
pub const CONFIRM_AFTER: Duration = Duration::from_secs(1);
/// The pause after a first round without any reply; it doubles
pub const ROUND_PAUSE_MIN: Duration = Duration::from_millis(500);
/// up to this.
pub const ROUND_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A reply that comes later than this after the discover is nobody's.
pub const REPLY_WINDOW: Duration = Duration::from_secs(5);
/// Doubts and changed addresses make for one discover in this time.
const DOUBT_INTERVAL: Duration = Duration::from_millis(200);
/// Relays of a list that count.
pub const RELAYS_MAX: usize = 16;
/// Events kept for the owner; the oldest go first.
const EVENTS_MAX: usize = 16;

/// What the owner should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This relay has answered and is used from now on.
    InUse(SocketAddr),
    /// The relay in use does not answer any more, or there is none left.
    Lost(SocketAddr),
    /// This node's endpoint as the relay in use sees it is new, or another than before.
    Mapped(SocketAddr),
}

/// The relay in use, and what it said last.
#[derive(Clone, Copy, Debug)]
struct InUse {
    relay: SocketAddr,
    /// The endpoint it saw; none once local addresses have changed, since that leaves nothing to compare with.
    mapped: Option<SocketAddr>,
    /// When it replied.
    answered: Time,
}

/// Where the discovers to the candidate stand.
#[derive(Clone, Copy, Debug)]
struct Asking {
    /// Discovers since the last sign of life.
    tries: usize,
    /// When the next one is due, or the last one is given up.
    due: Time,
    /// When the last one left.
    sent: Option<Time>,
    /// The next reply is soon asked for again.
    confirm: bool,
}

impl Asking {
    const fn at(due: Time) -> Self {
        Self { tries: 0, due, sent: None, confirm: true }
    }
}

/// The relays of one node.
#[derive(Debug)]
pub struct Relays {
    /// The best first, without repetition.
    list: Vec<SocketAddr>,
    node: NodeId,
    in_use: Option<InUse>,
    /// The one that is asked: that in use, or the one that may become it.
    candidate: Option<SocketAddr>,
    asking: Asking,
    /// Relays in a row that did not answer.
    silent: u32,
    trial: Trial,
    keepalive: Keepalive,
    mapped: Option<SocketAddr>,
    events: VecDeque<Event>,
}

impl Relays {
    /// Begins with the first of `list`.
    #[must_use]
    pub fn new(now: Time, list: &[SocketAddr]) -> Self {
        let mut relays = Self {
            list: Vec::new(),
            node: NodeId::UNSET,
            in_use: None,
            candidate: None,
            asking: Asking::at(now),
            silent: 0,
            trial: Trial::new(now),
            keepalive: Keepalive::new(now),
            mapped: None,
            events: VecDeque::new(),
        };
        relays.set_list(now, list);
        relays
    }

    /// The relays there are, the best first. One in use stays so while it is among them, and otherwise until another
    /// has answered.
    pub fn set_list(&mut self, now: Time, list: &[SocketAddr]) {
        let mut known: Vec<SocketAddr> = Vec::new();
        for relay in list {
            if known.len() < RELAYS_MAX && !known.iter().any(|other| is_same(*other, *relay)) {
                known.push(*relay);
            }
        }
        if self.list.first() != known.first() {
            self.trial = Trial::new(now);
        }
        self.list = known;
        if self.candidate.is_none_or(|candidate| self.position(candidate).is_none()) {
            self.silent = 0;
            self.candidate = self.list.first().copied();
            self.asking = Asking::at(now);
        }
        if self.list.is_empty() {
            self.lose();
        }
    }

    /// The id that discovers carry from now on, at once, again a second later and with every keepalive. To be called at
    /// each registration: before, the relay may have known nothing of the id.
    pub fn set_node(&mut self, now: Time, node: NodeId) {
        self.node = node;
        self.asking = Asking { tries: 0, due: now, confirm: true, ..self.asking };
    }

    /// Local addresses have changed: asks at once, and forgets what was learnt of the NAT.
    pub fn refresh(&mut self, now: Time) {
        self.keepalive = Keepalive::new(now);
        self.silent = 0;
        if let Some(in_use) = &mut self.in_use {
            in_use.mapped = None;
        }
        self.asking = Asking { tries: 0, due: self.doubt_at(now), ..self.asking };
    }

    /// There are doubts about `relay`, by ICMP or since all behind it are silent: asks at once if it is the one in use.
    pub fn suspect(&mut self, now: Time, relay: SocketAddr) {
        let is_in_use = self.is_candidate_in_use() && self.current().is_some_and(|in_use| is_same(in_use, relay));
        if is_in_use && self.asking.tries == 0 {
            self.asking.due = self.asking.due.min(self.doubt_at(now));
        }
    }

    /// Takes a discover reply. `false` if it is not from a relay that was asked a moment ago: forged, or very late.
    pub fn handle_discover_reply(&mut self, now: Time, from: SocketAddr, mapped: SocketAddr) -> bool {
        let mapped = canonical(mapped);
        if mapped.ip().is_unspecified() || mapped.ip().is_multicast() || mapped.port() == 0 {
            return false;
        }
        if self.trial.is_awaited(now, from) {
            if let Some(preferred) = self.trial.handle_reply(now) {
                self.candidate = Some(preferred);
                self.asking = Asking { sent: Some(now), ..Asking::at(now) };
                self.handle_candidate_reply(now, preferred, mapped);
            }
            return true;
        }
        let asked = self.asking.sent.is_some_and(|sent| now.since(sent) <= REPLY_WINDOW);
        match self.candidate {
            Some(candidate) if asked && is_same(candidate, from) => {
                self.handle_candidate_reply(now, candidate, mapped);
                true
            }
            _ => false,
        }
    }

    /// Another datagram of a relay. If it is the one in use, a discover that got lost does not count against it.
    pub fn handle_alive(&mut self, now: Time, from: SocketAddr) {
        if self.asking.tries > 0
            && self.is_candidate_in_use()
            && self.current().is_some_and(|relay| is_same(relay, from))
        {
            self.asking.tries = 0;
            self.asking.due = now + self.keepalive.interval();
        }
    }

    /// Gives up what did not answer in time. Early and late calls do no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.candidate.is_some() && self.asking.tries >= REPLY_WAITS.len() && self.asking.due <= now {
            self.fail_over(now);
        }
        self.trial.handle_timeout(now);
    }

    /// When there will be something to do, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let asking = self.candidate.map(|_| self.asking.due);
        let trial = self.tried().map(|_| self.trial.due());
        asking.into_iter().chain(trial).min()
    }

    /// The next discover to be sent: to whom, and with which id.
    pub fn poll_discover(&mut self, now: Time) -> Option<(SocketAddr, NodeId)> {
        self.handle_timeout(now);
        if let Some(candidate) = self.candidate
            && self.asking.due <= now
            && let Some(wait) = REPLY_WAITS.get(self.asking.tries)
        {
            self.asking.tries += 1;
            self.asking.sent = Some(now);
            self.asking.due = now + *wait;
            return Some((candidate, self.node));
        }
        let preferred = self.tried()?;
        let is_last = self.trial.poll(now, preferred)?;
        // Only the one that decides tells the id: until then the node is not to be looked for there.
        Some((preferred, if is_last { self.node } else { NodeId::UNSET }))
    }

    /// The next thing the owner should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Relays of the list besides the one in use: others may have found no way to that one.
    pub fn others(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let in_use = self.current().or_else(|| self.candidate());
        self.list.iter().copied().filter(move |relay| in_use.is_none_or(|in_use| !is_same(in_use, *relay)))
    }

    /// Whether datagrams of this address come from a relay.
    #[must_use]
    pub fn is_relay(&self, address: SocketAddr) -> bool {
        self.position(address).is_some() || self.current().is_some_and(|relay| is_same(relay, address))
    }

    /// The relay in use: one that has answered.
    #[must_use]
    pub fn current(&self) -> Option<SocketAddr> {
        self.in_use.map(|in_use| in_use.relay)
    }

    /// The relay that is asked: the one in use or, while there is none, the one that may become it.
    #[must_use]
    pub const fn candidate(&self) -> Option<SocketAddr> {
        self.candidate
    }

    /// This node's endpoint as the relay that answered last sees it.
    #[must_use]
    pub const fn mapped(&self) -> Option<SocketAddr> {
        self.mapped
    }

    /// The longest time that a NAT on the way can be trusted to keep a mapping without traffic. Direct paths go through
    /// the same NAT.
    #[must_use]
    pub const fn keepalive(&self) -> Duration {
        self.keepalive.interval()
    }

    fn position(&self, address: SocketAddr) -> Option<usize> {
        self.list.iter().position(|relay| is_same(*relay, address))
    }

    fn is_candidate_in_use(&self) -> bool {
        self.in_use.is_some() && self.current() == self.candidate
    }

    /// The best relay, while another is in use.
    fn tried(&self) -> Option<SocketAddr> {
        let preferred = self.list.first().copied()?;
        (self.is_candidate_in_use() && self.current() != Some(preferred)).then_some(preferred)
    }

    fn doubt_at(&self, now: Time) -> Time {
        self.asking.sent.map_or(now, |sent| now.max(sent + DOUBT_INTERVAL))
    }

    fn handle_candidate_reply(&mut self, now: Time, candidate: SocketAddr, mapped: SocketAddr) {
        let before = self.in_use.filter(|in_use| in_use.relay == candidate);
        if let Some(before) = before {
            let changed = before.mapped.is_some_and(|before| before != mapped);
            self.keepalive.handle_reply(now, now.since(before.answered), changed);
        } else {
            self.tell(Event::InUse(candidate));
            self.keepalive.handle_first_reply(now);
            self.trial.start(now);
            self.asking.confirm = true;
        }
        self.silent = 0;
        self.in_use = Some(InUse { relay: candidate, mapped: Some(mapped), answered: now });
        // Late copies of a reply do not put off the next discover.
        if self.asking.tries > 0 || before.is_none() {
            let wait = if self.asking.confirm { CONFIRM_AFTER } else { self.keepalive.interval() };
            self.asking = Asking { tries: 0, due: now + wait, confirm: false, ..self.asking };
        }
        if self.mapped != Some(mapped) {
            self.mapped = Some(mapped);
            self.tell(Event::Mapped(mapped));
        }
    }

    fn fail_over(&mut self, now: Time) {
        if self.is_candidate_in_use() {
            if self.current() == self.list.first().copied() {
                self.trial.handle_lost(now);
            }
            self.lose();
        }
        self.silent = self.silent.saturating_add(1);
        let relays = u32::try_from(self.list.len()).unwrap_or(u32::MAX).max(1);
        if self.silent >= relays {
            // One that has left the list was kept until another answers, but none does.
            self.lose();
        }
        let next = self.candidate.and_then(|candidate| self.position(candidate)).map_or(0, |position| position + 1);
        self.candidate = self.list.get(next % self.list.len().max(1)).copied();
        // A whole round without reply is followed by a pause.
        let pause = match (self.silent / relays, self.silent % relays) {
            (rounds @ 1.., 0) => ROUND_PAUSE_MIN.saturating_mul(1 << (rounds - 1).min(8)).min(ROUND_PAUSE_MAX),
            _ => Duration::ZERO,
        };
        self.asking = Asking::at(now + pause);
    }

    fn lose(&mut self) {
        if let Some(in_use) = self.in_use.take() {
            self.tell(Event::Lost(in_use.relay));
        }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// A socket of both families shows IPv4 addresses as IPv6 ones.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    canonical(one) == canonical(other)
}
