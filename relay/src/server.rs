//! The rules: what happens to a datagram. A plain value; the shard gives it bytes, source and time, and does what the
//! returned [`Action`] says.
//!
//! | message | rule |
//! |---|---|
//! | discover, id 0 | answered, never stored |
//! | discover, unknown id | answered; stored only where no directory can say (then at the lowest grade) |
//! | discover, known id | stored or contested by grade; the answer always carries the true source |
//! | relay or punch to a known node without a session | dropped, and the node is asked where it was last |
//! | relay | the source must be the sender's endpoint; from elsewhere it is a claim, which begins none without proof |
//! | punch | same source rule; begins a session only from a proven address, never moves one; `strict` asks the directory |
//! | claim | without a cookie challenged; with one its signature is checked elsewhere, and then it wins |
//! | `PILP` | evidence in a contest, or nothing |
//! | trace | same source rule as relay; where recorded noted, and the pair's datagrams counted a while; never answered |
//! | STUN | answered by [`crate::stun`] |
//! | anything but relay from a service's port | dropped: the answer would go to a service that may answer it |
//!
//! Who may send in a node's name is decided in `senders`, who holds an id in `claims`, with a signature in `signatures`: a
//! higher [`crate::sessions::Grade`] displaces a lower one at once; everything else is a contest (see [`crate::contests`]).
//! Under [`Admission::Open`] nothing is checked and the last claim wins: for laboratories; under [`Admission::Strict`] what
//! is not proven is answered and no more. What befalls a node is noted as
//! [`crate::events`] by `notes`; `watches` counts what is relayed of traced pairs.

mod claims;
mod foreign;
mod notes;
mod punches;
mod rules;
mod senders;
mod signatures;
mod succession;
mod watches;

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use wire::beacon::{self, Message};
use wire::cidr::Cidr;
use wire::codec::Writer;
use wire::{Format, NodeId};

use crate::admission::{Budget, PrefixBudgets, RelayBudgets, is_service_port};
use crate::authority::{Introduction, Question, Verdict};
use crate::contests::{Board, Claim, Contests, Due};
use crate::endpoint::{Endpoint, LocalId, Path};
use crate::events::{Event, What};
use crate::locals::{Locals, Service};
use crate::membership::Membership;
use crate::metrics::{Counter, Counters, DropReason, Gauge};
use crate::quota::{Quota, Quotas};
use crate::sessions::{Sessions, Table};
use crate::stun;
use crate::time::Time;
use crate::usage::Tally;

pub use self::rules::{Admission, Rules};
pub use self::watches::TracedPair;

use self::foreign::Foreign;
use self::notes::Notes;
use self::senders::Sender;
use self::signatures::Allowance;
use self::watches::Watches;

/// Room a reply needs at most.
pub const REPLY_MAX: usize = stun::REPLY_MAX;
/// Sends and handoffs kept until the shard fetches them; what exceeds this is dropped and counted.
const PENDING_MAX: usize = 1024;
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Every slot is looked at once in this time.
const SWEEP_ROUND: u32 = 60;

/// What the shard does with the buffer it has just shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this part of the same buffer.
    Forward {
        /// To whom.
        to: Path,
        /// Which part.
        part: Range<usize>,
    },
    /// Send the first `len` bytes of the reply buffer back to the source.
    Reply {
        /// Bytes written.
        len: usize,
        /// The local address to send from; not always the one asked (RFC 5780).
        via: LocalId,
    },
    /// As `Reply` from the address asked, and a second message.
    ReplyAndSend {
        /// Bytes written.
        len: usize,
        /// The second message.
        send: Send,
    },
    /// Nothing to send: the content went to the shard it concerns, into a decision, or to the recorder.
    Defer,
    /// Give the buffer back and count why.
    Drop(DropReason),
}

/// A short message the relay sends of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// To whom.
    pub to: Path,
    bytes: [u8; beacon::ENDPOINT_MESSAGE_MAX],
    len: u8,
}

impl Send {
    fn new(to: Path, message: &Message<'_>) -> Self {
        let mut bytes = [0; beacon::ENDPOINT_MESSAGE_MAX];
        let mut writer = Writer::new(&mut bytes);
        message.encode(&mut writer);
        let len = writer.len() as u8;
        Self { to, bytes, len }
    }

    /// The message.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What one shard, or the directory, tells the shard that owns a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handoff {
    /// A discover arrived elsewhere.
    Claim(Claim),
    /// A probed endpoint answered elsewhere.
    Answered(Endpoint),
    /// The node is wanted and has no session; it may be asked from this local address.
    Recall(NodeId, LocalId),
    /// Something waits for the node in the directory.
    Notify(NodeId),
    /// The directory has forgotten the node.
    Withdraw(NodeId),
    /// What the node may send from now on. Told to every shard: its datagrams may arrive at any.
    Quota(NodeId, Quota),
    /// What another shard has relayed for the node, and refused.
    Sent(NodeId, Tally),
    /// Somebody wants to know what the node has sent.
    AddUp(NodeId),
    /// A trace message arrived elsewhere; the pair's datagrams may arrive here.
    Watch(TracedPair),
    /// A claim's signature was checked.
    Claimed(Claim, Verdict),
    /// The directory says whether the two may be introduced.
    Introduce(Introduction, bool),
}

/// The rules of one shard, with the sessions it owns.
#[derive(Debug)]
pub struct Server {
    rules: Rules,
    shard: usize,
    sessions: Sessions,
    contests: Contests,
    membership: Arc<Membership>,
    locals: Arc<Locals>,
    control: PrefixBudgets,
    foreign: Foreign,
    refused: PrefixBudgets,
    claims: PrefixBudgets,
    prefix_claims: Budget,
    claims_in_all: Allowance,
    punches: PrefixBudgets,
    prefix_punches: Budget,
    punches_in_all: Allowance,
    questions: VecDeque<Question>,
    relayed: RelayBudgets,
    counters: Counters,
    sends: VecDeque<Send>,
    handoffs: VecDeque<(usize, Handoff)>,
    notes: Notes,
    quotas: Quotas,
    watches: Watches,
    next_sweep: Time,
    draining: bool,
}

/// What all shards share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Every shard's sessions.
    pub table: Arc<Table>,
    /// Which nodes exist.
    pub membership: Arc<Membership>,
    /// Who is being asked for a sign of life.
    pub board: Arc<Board>,
}

impl Server {
    /// The rules of shard number `shard`.
    #[must_use]
    pub fn new(rules: Rules, shard: usize, shared: &Shared, locals: Arc<Locals>) -> Self {
        let shards = shared.table.shards();
        Self {
            sessions: Sessions::new(Arc::clone(&shared.table), shard),
            contests: Contests::new(Arc::clone(&shared.board), shard),
            membership: Arc::clone(&shared.membership),
            locals,
            control: PrefixBudgets::new(rules.exempt.clone()),
            foreign: Foreign::new(PrefixBudgets::new(rules.exempt.clone())),
            refused: PrefixBudgets::new(rules.exempt.clone()),
            claims: PrefixBudgets::new(rules.exempt.clone()),
            prefix_claims: Allowance::bound(rules.prefix_claims, rules.claims_per_second, shards),
            claims_in_all: Allowance::share(rules.claims_per_second, shards),
            punches: PrefixBudgets::new(rules.exempt.clone()),
            prefix_punches: Allowance::of_prefix(rules.punches_per_second, shards),
            punches_in_all: Allowance::share(rules.punches_per_second, shards),
            questions: VecDeque::new(),
            relayed: RelayBudgets::new(rules.prefix_packets, rules.prefix_bytes, rules.exempt.clone()),
            counters: Counters::default(),
            sends: VecDeque::with_capacity(PENDING_MAX),
            handoffs: VecDeque::with_capacity(PENDING_MAX),
            notes: Notes::new(),
            quotas: Quotas::default(),
            watches: Watches::new(),
            next_sweep: Time::default(),
            draining: false,
            rules,
            shard,
        }
    }

    /// What has been counted; the shard adds what it sees of the kernel.
    pub const fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// The local addresses have changed.
    pub fn set_locals(&mut self, locals: Arc<Locals>) {
        self.locals = locals;
    }

    /// The local addresses as the rules see them.
    #[must_use]
    pub fn locals(&self) -> &Locals {
        &self.locals
    }

    /// Sources no limit applies to: where nobody is checked, all.
    #[must_use]
    pub fn exempt(&self) -> Vec<Cidr> {
        match self.rules.admission {
            Admission::Open => Cidr::new(Ipv6Addr::UNSPECIFIED.into(), 0).into_iter().collect(),
            _ => self.rules.exempt.clone(),
        }
    }

    /// Whether it pays to [`Self::foresee`] a batch.
    #[must_use]
    pub const fn should_foresee(&self) -> bool {
        self.sessions.are_many()
    }

    /// Begins to fetch what the decision on `datagram` will look at. To be called for a whole batch ahead: with many
    /// sessions the waits for memory are what a decision costs, and so they overlap.
    pub fn foresee(&self, datagram: &[u8]) {
        if let Ok(Message::Relay { sender, dest, .. }) = Message::decode(datagram) {
            self.sessions.foresee(sender, dest);
        }
    }

    /// Decides on one datagram that came over `from`. A reply is written to the start of `reply`.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        from: Path,
        datagram: &mut [u8],
        reply: &mut [u8; REPLY_MAX],
    ) -> Action {
        self.counters.count(Counter::Received);
        self.counters.add(Counter::ReceivedBytes, datagram.len() as u64);
        let action = self.decide(now, from, datagram, reply);
        match &action {
            Action::Forward { part, .. } => {
                self.counters.count(Counter::Forwarded);
                self.counters.add(Counter::ForwardedBytes, part.len() as u64);
            }
            Action::Reply { .. } | Action::ReplyAndSend { .. } => self.counters.count(Counter::Answered),
            Action::Defer => self.counters.count(Counter::Deferred),
            Action::Drop(reason) => self.counters.drop(*reason),
        }
        action
    }

    /// Counts a datagram that cannot be shown to the rules.
    pub fn refuse(&mut self, reason: DropReason) {
        self.counters.count(Counter::Received);
        self.counters.drop(reason);
    }

    /// Takes in what another shard or the directory has to say of a node owned here.
    pub fn handle_handoff(&mut self, now: Time, handoff: Handoff) {
        match handoff {
            Handoff::Claim(claim) => {
                self.claim(now, claim);
            }
            Handoff::Answered(endpoint) => self.answered(now, &endpoint),
            Handoff::Recall(node, local) => {
                self.recall(now, node, local);
            }
            Handoff::Notify(node) => {
                if let Some(session) = self.sessions.find(node) {
                    self.push_send(Send::new(session.path, &Message::Notify { kind: 1 }));
                    self.note_present(now, node, What::NotifySent { at: session.path.remote });
                }
            }
            Handoff::Quota(node, quota) => {
                self.quotas.set(node, quota);
                self.foreign.forget(node);
                if let Some((slot, _)) = self.sessions.find_own(node) {
                    self.sessions.activity(slot).quota = self.quotas.of(node);
                }
            }
            Handoff::Sent(node, tally) => self.note_sent_elsewhere(now, node, tally),
            Handoff::AddUp(node) => {
                if let Some((slot, _)) = self.sessions.find_own(node) {
                    self.sessions.add_up(slot);
                }
            }
            Handoff::Withdraw(node) => {
                self.contests.end(node);
                self.quotas.set(node, Quota::default());
                if let Some((slot, _)) = self.sessions.find_own(node) {
                    self.sessions.remove(slot);
                    self.notes.push(Event { at: now, node, what: What::SessionWithdrawn });
                }
            }
            Handoff::Watch(pair) => {
                self.watch(pair);
            }
            Handoff::Claimed(claim, verdict) => self.claimed(now, claim, verdict),
            Handoff::Introduce(asked, allowed) => self.introduce(now, asked, allowed),
        }
        self.gauge();
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(due) = self.contests.poll_due(now) {
            match due {
                Due::Probe(holder) => self.probe(holder),
                Due::Silence(contest) => self.handle_silence(now, contest),
            }
        }
        self.end_watches(now);
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_INTERVAL;
            self.sweep(now);
        }
        self.gauge();
    }

    /// When [`Self::handle_timeout`] is next needed.
    #[must_use]
    pub fn poll_timeout(&self) -> Time {
        let due = [self.contests.next_due(), self.watches.next_end()];
        due.into_iter().flatten().fold(self.next_sweep, Time::min)
    }

    /// The next message the rules want sent beside the answers.
    pub fn poll_send(&mut self) -> Option<Send> {
        self.sends.pop_front()
    }

    /// The next message for another shard.
    pub fn poll_handoff(&mut self) -> Option<(usize, Handoff)> {
        self.handoffs.pop_front().or_else(|| self.poll_untold())
    }

    fn decide(&mut self, now: Time, from: Path, datagram: &mut [u8], reply: &mut [u8; REPLY_MAX]) -> Action {
        if datagram.first() == Some(&beacon::kind::RELAY) && self.speaks(from.local, Service::Beacon) {
            return self.relay(now, from, datagram);
        }
        if is_service_port(from.remote.port) && self.rules.admission != Admission::Open {
            return Action::Drop(DropReason::ServicePort);
        }
        if !self.charge_control(now, from) {
            return Action::Drop(DropReason::ControlBudget);
        }
        if self.speaks(from.local, Service::Stun) {
            return self.stun(from, datagram, reply);
        }
        match Format::of(datagram) {
            Format::Beacon => self.control(now, from, datagram, reply),
            Format::Stun => self.stun(from, datagram, reply),
            Format::Tunnel => self.tunnel_frame(now, from, datagram),
            Format::Unknown => Action::Drop(DropReason::UnknownType),
        }
    }

    fn is_present(&self, local: LocalId) -> bool {
        self.locals.get(local).is_some_and(|local| local.present)
    }

    fn speaks(&self, local: LocalId, service: Service) -> bool {
        self.locals.get(local).is_some_and(|local| local.service == service)
    }

    fn charge_control(&mut self, now: Time, from: Path) -> bool {
        self.rules.admission == Admission::Open
            || self.control.charge(&[(self.rules.prefix_control, 1)], from.remote.ip, now)
    }

    fn control(&mut self, now: Time, from: Path, datagram: &[u8], reply: &mut [u8; REPLY_MAX]) -> Action {
        match Message::decode(datagram) {
            Ok(Message::Discover { node, extended }) => self.discover(now, Claim { node, path: from, extended }, reply),
            Ok(Message::PunchRequest { requester, target }) => self.punch(now, from, requester, target, reply),
            Ok(Message::Claim { node, cookie, signature }) => {
                self.signed_claim(now, from, node, (cookie, signature), reply)
            }
            Ok(Message::Trace { sender, dest, context }) => {
                self.trace(now, from, (sender, dest), context, datagram.len())
            }
            Ok(_) | Err(wire::DecodeError::UnknownType(_)) => Action::Drop(DropReason::UnknownType),
            Err(_) => Action::Drop(DropReason::Malformed),
        }
    }

    fn discover(&mut self, now: Time, claim: Claim, reply: &mut [u8; REPLY_MAX]) -> Action {
        if self.may_be_stored(claim.node) {
            match self.sessions.owner(claim.node) {
                owner if owner == self.shard => {
                    self.claim(now, claim);
                    self.gauge();
                }
                owner => {
                    self.push_handoff(owner, Handoff::Claim(claim));
                }
            }
        }
        answer(reply, claim.path.local, &Message::DiscoverReply(claim.path.remote.socket_addr()))
    }

    fn may_be_stored(&self, node: NodeId) -> bool {
        node.is_node()
            && (self.rules.admission == Admission::Open
                || self.membership.admits_unknown()
                || self.membership.knows(node))
    }

    fn relay(&mut self, now: Time, from: Path, datagram: &mut [u8]) -> Action {
        let (sender, dest) = match Message::decode(datagram) {
            Ok(Message::Relay { sender, dest, .. }) => (sender, dest),
            _ => return Action::Drop(self.charge_refused(now, from, DropReason::Malformed)),
        };
        let admitted = match self.admit_sender(now, from, sender, datagram.len()) {
            Ok(admitted) if self.charge_relayed(now, from, datagram.len()) => admitted,
            Ok(_) => return Action::Drop(DropReason::PrefixBudget),
            Err(reason) => return Action::Drop(self.charge_refused(now, from, reason)),
        };
        let Some(session) = self.sessions.find(dest) else {
            self.charge_unknown(now, from, admitted.slot(), sender, dest);
            self.want(now, dest, from);
            return Action::Drop(DropReason::UnknownDestination);
        };
        match admitted {
            Sender::Own(slot) => {
                let activity = self.sessions.activity(slot);
                activity.unknown_run = 0;
                activity.tally.relayed(datagram.len());
            }
            Sender::Foreign => self.note_foreign(sender, |tally| tally.relayed(datagram.len())),
            Sender::Unchecked => {}
        }
        if !self.is_present(session.path.local) {
            return Action::Drop(DropReason::NoLocalAddress);
        }
        if !self.watches.is_empty() {
            self.watches.note(now, sender, dest);
        }
        let part = if session.extended {
            beacon::relay_into_deliver_to(datagram)
        } else {
            beacon::relay_into_deliver(datagram)
        };
        Action::Forward { to: session.path, part }
    }

    fn stun(&self, from: Path, datagram: &[u8], reply: &mut [u8; REPLY_MAX]) -> Action {
        let software = self.rules.stun_software.as_deref();
        match stun::respond(datagram, from, &self.locals, software, reply) {
            Ok(stun::Reply { len, via }) => Action::Reply { len, via },
            Err(reason) => Action::Drop(reason),
        }
    }

    fn tunnel_frame(&mut self, now: Time, from: Path, datagram: &[u8]) -> Action {
        if !datagram.starts_with(b"PILP") {
            return Action::Drop(DropReason::UnknownType);
        }
        match self.contests.awaited_by(&from.remote) {
            Some(shard) if shard == self.shard => self.answered(now, &from.remote),
            Some(shard) => {
                self.push_handoff(shard, Handoff::Answered(from.remote));
            }
            None => return Action::Drop(DropReason::UnsolicitedProbe),
        }
        Action::Defer
    }

    fn sweep(&mut self, now: Time) {
        let share = self.sessions.slots().div_ceil(SWEEP_ROUND as usize);
        let timeout = self.rules.session_timeout;
        let membership = (self.rules.admission != Admission::Open && self.membership.has_authority())
            .then(|| Arc::clone(&self.membership));
        let is_strict = self.rules.admission == Admission::Strict;
        let notes = &mut self.notes;
        let ended = self.sessions.sweep(share, |node, session, activity| {
            let is_gone = |membership: &Arc<Membership>| !membership.knows(node);
            // Whoever sends nothing but packets is heard, and asked for no proof.
            let has_lapsed = |membership: &Arc<Membership>| {
                is_strict && !session.claimed && !membership.proves(node, session.path.remote.ip)
            };
            let what = if now.since(activity.seen) > timeout || membership.as_ref().is_some_and(is_gone) {
                Some(What::SessionExpired)
            } else {
                membership.as_ref().is_some_and(has_lapsed).then_some(What::SessionLapsed)
            };
            if let Some(what) = what {
                notes.push(Event { at: now, node, what });
            }
            what.is_some()
        });
        self.counters.add(Counter::SessionsExpired, ended as u64);
    }

    fn gauge(&mut self) {
        self.counters.set(Gauge::Sessions, self.sessions.live() as u64);
        self.counters.set(Gauge::Contests, self.contests.len() as u64);
    }

    fn push_send(&mut self, send: Send) {
        if self.sends.len() < PENDING_MAX {
            self.sends.push_back(send);
        } else {
            self.counters.count(Counter::MailDropped);
        }
    }

    /// Says whether there was room for it.
    fn push_handoff(&mut self, shard: usize, handoff: Handoff) -> bool {
        let has_room = self.handoffs.len() < PENDING_MAX;
        if has_room {
            self.handoffs.push_back((shard, handoff));
        } else {
            self.counters.count(Counter::MailDropped);
        }
        has_room
    }
}

fn encode(reply: &mut [u8; REPLY_MAX], message: &Message<'_>) -> usize {
    let mut writer = Writer::new(reply);
    message.encode(&mut writer);
    writer.len()
}

fn answer(reply: &mut [u8; REPLY_MAX], via: LocalId, message: &Message<'_>) -> Action {
    Action::Reply { len: encode(reply, message), via }
}
