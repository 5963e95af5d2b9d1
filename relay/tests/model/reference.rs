//! What the relay should do, written so that it can be believed by reading it: one list of sessions for all shards, maps
//! instead of tables, messages built byte by byte instead of rewritten in place. Nothing here is fast, bounded or shared,
//! and budgets do not exist: `laws` holds the relay to those.
//!
//! The reference decides on the same datagrams, messages between shards and instants as the relay and says what it
//! expects; `world` compares. It follows the relay in one thing only: when exactly the sweep comes by an expired session.
//!
//! Where rules grow, this is where they go: a message in [`Reference::control`]; in `holders` a grade in
//! [`Reference::grade`], a condition for a session in [`Reference::may_be_stored`] and [`Reference::claim`].

mod holders;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use relay::Time;
use relay::admission::{Budget, is_service_port};
use relay::authority::{self, Introduction, Question as Asked};
use relay::contests::Claim;
use relay::cookie::SLOT;
use relay::endpoint::{Endpoint, LocalId, Path};
use relay::locals::{Local, Service};
use relay::membership::PROVEN_MAX;
use relay::metrics::DropReason;
use relay::server::{Admission, Handoff};
use relay::sessions::{Grade, shard_of};
use wire::NodeId;

const SECOND: Duration = Duration::from_secs(1);
/// A round of the sweep takes at most so many calls.
const SWEEPS_PER_ROUND: u32 = 60;
const TRACES_PER_SECOND: u8 = 4;
const FOREIGN_TRACES_PER_SECOND: u64 = 16;

/// What the directory says of a node.
#[derive(Clone, Debug)]
pub struct Known {
    pub proven: Vec<IpAddr>,
    pub last: Option<Endpoint>,
}

/// Who holds an id.
#[derive(Clone, Debug)]
pub struct Holder {
    pub path: Path,
    pub extended: bool,
    /// By a signature.
    pub claimed: bool,
    pub seen: Time,
    /// As it was when the holder was last heard.
    grade: Grade,
    contested: bool,
    /// The second in which traces were last noted, and how many.
    traces: (u16, u8),
    /// Calls of the sweep since the session could have ended.
    sweeps_survived: u32,
}

/// What is expected of a datagram.
#[derive(Debug)]
pub enum Verdict {
    /// These bytes go to that path, and nothing to the sender.
    Forward(Path, Vec<u8>),
    /// These bytes go back to the source from the address asked; perhaps a second message to another.
    Answer(Vec<u8>, Option<(Path, Vec<u8>)>),
    /// A challenge for that node goes back to the source.
    Challenge(NodeId),
    /// What STUN answers is tested elsewhere; here only that it answers the source, or drops.
    Stun,
    Defer,
    /// For one of these reasons.
    Drop(&'static [DropReason]),
}

const MALFORMED: Verdict = Verdict::Drop(&[DropReason::Malformed]);
const UNKNOWN_TYPE: Verdict = Verdict::Drop(&[DropReason::UnknownType]);
const MISMATCH: Verdict = Verdict::Drop(&[DropReason::SourceMismatch]);
const CONTESTED: Verdict = Verdict::Drop(&[DropReason::SourceContested]);
const NOBODY: Verdict = Verdict::Drop(&[DropReason::UnknownDestination]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Contest,
    Takeover,
    Recall,
}

/// A sign of life that is asked for.
#[derive(Clone, Copy, Debug)]
struct Question {
    kind: Kind,
    claim: Claim,
    grade: Grade,
    asked: Path,
    tries_left: u8,
    interval: Duration,
    due: Time,
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    node: NodeId,
    at: Time,
    extended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Holds,
    Contested,
    Refused,
}

/// What belongs to one shard alone.
#[derive(Debug)]
struct Shard {
    locals: Vec<Local>,
    questions: Vec<Question>,
    /// Who came last to an endpoint, as far as this shard has seen.
    arrivals: HashMap<Endpoint, Arrival>,
    foreign_traces: Time,
    next_sweep: Time,
}

/// The whole relay.
#[derive(Debug)]
pub struct Reference {
    admission: Admission,
    session_timeout: Duration,
    /// Sessions that one shard has room for.
    room: usize,
    shards: Vec<Shard>,
    pub sessions: BTreeMap<NodeId, Holder>,
    known: BTreeMap<NodeId, Known>,
    /// Whether a directory says who exists.
    has_authority: bool,
    remembered: HashMap<NodeId, Endpoint>,
    /// Messages of the relay's own that this step sends.
    pub sends: Vec<(Path, Vec<u8>)>,
    /// What this step tells other shards.
    pub mail: Vec<(usize, Handoff)>,
    /// What this step asks those who know the nodes.
    pub asked: Vec<Asked>,
    /// Challenges, to whom and in which slot of time.
    challenges: Vec<(NodeId, Endpoint, [u8; 16], u128)>,
}

impl Reference {
    pub fn new(admission: Admission, session_timeout: Duration, room: usize, locals: &[Local], shards: usize) -> Self {
        let shard = || Shard {
            locals: locals.to_vec(),
            questions: Vec::new(),
            arrivals: HashMap::new(),
            foreign_traces: Time::default(),
            next_sweep: Time::default(),
        };
        Self {
            admission,
            session_timeout,
            room,
            shards: (0..shards).map(|_| shard()).collect(),
            sessions: BTreeMap::new(),
            known: BTreeMap::new(),
            has_authority: false,
            remembered: HashMap::new(),
            sends: Vec::new(),
            mail: Vec::new(),
            asked: Vec::new(),
            challenges: Vec::new(),
        }
    }

    // What the directory and the host say.

    pub const fn set_authority(&mut self, present: bool) {
        self.has_authority = present;
    }

    pub fn publish(&mut self, node: NodeId, proven: &[IpAddr], last: Option<Endpoint>) {
        let proven = proven.iter().take(PROVEN_MAX).copied().collect();
        self.known.insert(node, Known { proven, last });
    }

    pub fn withdraw(&mut self, node: NodeId) {
        self.known.remove(&node);
    }

    pub fn remember(&mut self, endpoints: HashMap<NodeId, Endpoint>) {
        self.remembered = endpoints;
    }

    pub fn forget(&mut self) {
        self.remembered.clear();
    }

    pub fn set_present(&mut self, shard: usize, LocalId(local): LocalId, present: bool) {
        self.shards[shard].locals[usize::from(local)].present = present;
    }

    // What happens.

    /// A datagram has come to `shard`.
    pub fn datagram(&mut self, shard: usize, now: Time, from: Path, bytes: &[u8]) -> Verdict {
        let service = self.local(shard, from.local).service;
        match bytes {
            [0x05, ..] if service == Service::Beacon => self.relay(shard, now, from, bytes),
            _ if is_service_port(from.remote.port) && self.admission != Admission::Open => {
                Verdict::Drop(&[DropReason::ServicePort])
            }
            _ if service == Service::Stun => Verdict::Stun,
            [b'P', b'I', b'L', b'P', ..] => self.sign_of_life(shard, now, from.remote),
            [0x01..=0x0D, ..] => self.control(shard, now, from, bytes),
            [0x00, ..] if bytes.get(4..8) == Some(&[0x21, 0x12, 0xA4, 0x42]) => Verdict::Stun,
            _ => UNKNOWN_TYPE,
        }
    }

    fn control(&mut self, shard: usize, now: Time, from: Path, bytes: &[u8]) -> Verdict {
        match (bytes[0], node_at(bytes, 1), node_at(bytes, 5)) {
            (kind @ (0x01 | 0x08), Some(node), _) => {
                let claim = Claim { node, path: from, extended: kind == 0x08 };
                if self.may_be_stored(node) {
                    self.tell_owner(shard, now, Handoff::Claim(claim), node);
                }
                Verdict::Answer(endpoint_message(0x02, from.remote), None)
            }
            (0x03, Some(requester), Some(target)) => self.punch(shard, now, from, requester, target),
            (0x0D, Some(sender), Some(dest)) => match bytes.get(9..34) {
                Some(context) if context[..16] != [0; 16] && context[16..24] != [0; 8] => {
                    self.trace(shard, now, from, (sender, dest), context[24] & 1 == 1)
                }
                _ => MALFORMED,
            },
            (0x0C, Some(node), _) if bytes.len() >= 85 => self.signed_claim(now, from, node, bytes),
            (0x01 | 0x03 | 0x08 | 0x0C | 0x0D, ..) => MALFORMED,
            // What only relays send, whole or not.
            _ => Verdict::Drop(&[DropReason::UnknownType, DropReason::Malformed]),
        }
    }

    fn relay(&mut self, shard: usize, now: Time, from: Path, bytes: &[u8]) -> Verdict {
        let (Some(sender), Some(dest)) = (node_at(bytes, 1), node_at(bytes, 5)) else { return MALFORMED };
        if let Err(refusal) = self.admit_sender(shard, now, from, sender) {
            return refusal;
        }
        let Some(holder) = self.sessions.get(&dest) else {
            self.want(shard, now, dest, from.local);
            return NOBODY;
        };
        if !self.local(shard, holder.path.local).present {
            return Verdict::Drop(&[DropReason::NoLocalAddress]);
        }
        let header = if holder.extended { [&[0x09], &bytes[1..9]].concat() } else { [&[0x06], &bytes[1..5]].concat() };
        Verdict::Forward(holder.path, [&header[..], &bytes[9..]].concat())
    }

    fn punch(&mut self, shard: usize, now: Time, from: Path, requester: NodeId, target: NodeId) -> Verdict {
        if self.admission != Admission::Open && !self.admit_requester(shard, now, from, requester) {
            return MISMATCH;
        }
        if self.admission == Admission::Strict {
            self.asked.push(Asked::Introduction(Introduction { requester, from, target }));
            return Verdict::Defer;
        }
        let target_path = self.sessions.get(&target).map(|holder| holder.path);
        let Some(path) = target_path.filter(|path| self.local(shard, path.local).present) else {
            self.want(shard, now, target, from.local);
            return NOBODY;
        };
        let to_target = (path, endpoint_message(0x04, from.remote));
        Verdict::Answer(endpoint_message(0x04, path.remote), Some(to_target))
    }

    fn trace(
        &mut self,
        shard: usize,
        now: Time,
        from: Path,
        (sender, dest): (NodeId, NodeId),
        is_sampled: bool,
    ) -> Verdict {
        let is_own = match self.admit_sender(shard, now, from, sender) {
            Ok(is_own) => is_own,
            Err(refusal) => return refusal,
        };
        if is_sampled && self.may_note_trace(shard, now, is_own.then_some(sender)) && !self.sessions.contains_key(&dest)
        {
            self.want(shard, now, dest, from.local);
        }
        Verdict::Defer
    }

    fn may_note_trace(&mut self, shard: usize, now: Time, own: Option<NodeId>) -> bool {
        let Some(holder) = own.and_then(|node| self.sessions.get_mut(&node)) else {
            let budget = Budget::new(FOREIGN_TRACES_PER_SECOND, FOREIGN_TRACES_PER_SECOND);
            return budget.charge(&mut self.shards[shard].foreign_traces, now, 1);
        };
        let second = now.second() as u16;
        let noted = if holder.traces.0 == second { holder.traces.1 } else { 0 };
        let may = noted < TRACES_PER_SECOND;
        holder.traces = (second, noted + u8::from(may));
        may
    }

    /// A sign of life goes to the first shard that has asked for it.
    fn sign_of_life(&mut self, shard: usize, now: Time, from: Endpoint) -> Verdict {
        let asks = |shard: &Shard| shard.questions.iter().any(|question| question.asked.remote == from);
        match self.shards.iter().position(asks) {
            None => return Verdict::Drop(&[DropReason::UnsolicitedProbe]),
            Some(asking) if asking == shard => self.answered(shard, now, from),
            Some(asking) => self.mail.push((asking, Handoff::Answered(from))),
        }
        Verdict::Defer
    }

    /// Another shard or the directory has a word for `shard`.
    pub fn handoff(&mut self, shard: usize, now: Time, handoff: Handoff) {
        match handoff {
            Handoff::Claim(claim) => {
                self.claim(shard, now, claim);
            }
            Handoff::Answered(endpoint) => self.answered(shard, now, endpoint),
            Handoff::Recall(node, local) => self.recall(shard, now, node, local),
            Handoff::Notify(node) => {
                if let Some(holder) = self.sessions.get(&node) {
                    self.sends.push((holder.path, vec![0x0A, 0x01]));
                }
            }
            Handoff::Withdraw(node) => {
                self.end_question(shard, node);
                self.sessions.remove(&node);
            }
            Handoff::Claimed(claim, authority::Verdict::Signed) => self.claimed(shard, now, claim),
            Handoff::Introduce(Introduction { requester, from, target }, true) => {
                let place = |node: NodeId| self.sessions.get(&node).map(|holder| holder.path);
                if place(requester).is_none_or(|path| path.remote != from.remote) {
                    return;
                }
                match place(target).filter(|path| self.local(shard, path.local).present) {
                    Some(path) => {
                        self.sends.push((from, endpoint_message(0x04, path.remote)));
                        self.sends.push((path, endpoint_message(0x04, from.remote)));
                    }
                    None => self.want(shard, now, target, from.local),
                }
            }
            Handoff::Claimed(..)
            | Handoff::Introduce(..)
            | Handoff::Quota(..)
            | Handoff::Sent(..)
            | Handoff::AddUp(_)
            | Handoff::Watch(_) => {}
        }
    }

    /// The time is `now`; afterwards sessions may be gone: see [`Self::swept`].
    pub fn timeout(&mut self, shard: usize, now: Time) {
        while let Some(index) = self.shards[shard].questions.iter().position(|question| question.due <= now) {
            let question = &mut self.shards[shard].questions[index];
            if question.tries_left > 0 {
                question.tries_left -= 1;
                question.due = now + question.interval;
                let asked = question.asked;
                self.ask_for_life(shard, asked);
            } else {
                let question = self.shards[shard].questions.swap_remove(index);
                self.silence(shard, now, question);
            }
        }
    }

    /// After a [`Self::timeout`]: `remains` says which sessions the relay still has.
    ///
    /// # Panics
    /// If one is gone that has not expired, or one is left that should have been swept.
    pub fn swept(&mut self, shard: usize, now: Time, remains: impl Fn(NodeId) -> bool) {
        let has_swept = now >= self.shards[shard].next_sweep;
        if has_swept {
            self.shards[shard].next_sweep = now + SECOND;
        }
        let checks_ids = self.admission != Admission::Open && self.has_authority;
        let (known, shards, timeout) = (&self.known, self.shards.len(), self.session_timeout);
        let checks_proofs = checks_ids && self.admission == Admission::Strict;
        self.sessions.retain(|node, holder| {
            if shard_of(*node, shards) != shard || !has_swept {
                return true;
            }
            let at = holder.path.remote.ip;
            let is_it = |proven: &IpAddr| relay::endpoint::mapped(*proven) == at;
            let proves = known.get(node).is_some_and(|known| known.proven.iter().any(is_it));
            let has_expired = now.since(holder.seen) > timeout
                || (checks_ids && !known.contains_key(node))
                || (checks_proofs && !holder.claimed && !proves);
            holder.sweeps_survived = if has_expired { holder.sweeps_survived + 1 } else { 0 };
            let remains = remains(*node);
            assert!(remains || has_expired, "the session of {node} was swept away alive");
            assert!(
                !remains || holder.sweeps_survived <= SWEEPS_PER_ROUND,
                "the session of {node} is never swept away"
            );
            remains
        });
    }

    // Who may send.

    /// Whether the sender may send from there; if so, whether the session is this shard's and accounted for.
    fn admit_sender(&mut self, shard: usize, now: Time, from: Path, sender: NodeId) -> Result<bool, Verdict> {
        let held = self.sessions.get(&sender).cloned();
        let is_there = held.as_ref().is_some_and(|holder| holder.path.remote == from.remote);
        if is_there && self.owner(sender) == shard {
            self.hear(shard, now, sender);
        }
        if self.admission == Admission::Open {
            return Ok(false);
        }
        if is_there {
            return Ok(self.owner(sender) == shard);
        }
        if !self.may_claim_by_relay(sender, from, held.is_some()) {
            return Err(MISMATCH);
        }
        let claim = Claim { node: sender, path: from, extended: held.is_some_and(|holder| holder.extended) };
        if self.owner(sender) != shard {
            self.mail.push((self.owner(sender), Handoff::Claim(claim)));
            return Err(MISMATCH);
        }
        match self.claim(shard, now, claim) {
            Outcome::Holds => Ok(true),
            Outcome::Contested => Err(CONTESTED),
            Outcome::Refused => Err(MISMATCH),
        }
    }

    fn admit_requester(&mut self, shard: usize, now: Time, from: Path, requester: NodeId) -> bool {
        let is_own = self.owner(requester) == shard;
        match self.sessions.get(&requester).map(|holder| holder.path.remote) {
            Some(place) if place != from.remote => false,
            Some(_) => {
                if is_own {
                    self.hear(shard, now, requester);
                }
                true
            }
            None => {
                is_own
                    && self.may_claim_by_relay(requester, from, false)
                    && self.claim(shard, now, Claim { node: requester, path: from, extended: false }) == Outcome::Holds
            }
        }
    }

    fn may_claim_by_relay(&self, node: NodeId, from: Path, is_held: bool) -> bool {
        let is_proven = node.is_node() && self.proves(node, from.remote);
        let may_contest = is_held && self.may_be_stored(node) && self.admission != Admission::Strict;
        !is_service_port(from.remote.port) && (is_proven || may_contest)
    }

    fn signed_claim(&mut self, now: Time, from: Path, node: NodeId, bytes: &[u8]) -> Verdict {
        let (cookie, signature) =
            (*bytes[5..].first_chunk().expect("whole"), *bytes[21..].first_chunk().expect("whole"));
        if self.admission == Admission::Open {
            return UNKNOWN_TYPE;
        }
        if !self.may_be_stored(node) {
            return Verdict::Drop(&[DropReason::UnknownClaimant]);
        }
        if cookie == [0; 16] {
            let stands = self.sessions.get(&node).is_some_and(|holder| holder.claimed && holder.path == from);
            return if stands { Verdict::Defer } else { Verdict::Challenge(node) };
        }
        let slot = slot(now);
        let fits = |(to, at, made, in_slot): &(NodeId, Endpoint, [u8; 16], u128)| {
            (*to, *at, *made) == (node, from.remote, cookie) && (*in_slot == slot || *in_slot + 1 == slot)
        };
        if !self.challenges.iter().any(fits) {
            return Verdict::Drop(&[DropReason::StaleCookie]);
        }
        let claim = Claim { node, path: from, extended: false };
        self.asked.push(Asked::Signature { claim, cookie, signature });
        Verdict::Defer
    }

    /// The relay has sent a challenge.
    pub fn challenged(&mut self, now: Time, node: NodeId, to: Endpoint, cookie: [u8; 16]) {
        self.challenges.push((node, to, cookie, slot(now)));
    }

    // Small things.

    /// Does it here where the node is owned, else leaves it to the owner.
    fn tell_owner(&mut self, shard: usize, now: Time, handoff: Handoff, node: NodeId) {
        if self.owner(node) == shard {
            self.handoff(shard, now, handoff);
        } else {
            self.mail.push((self.owner(node), handoff));
        }
    }

    fn owner(&self, node: NodeId) -> usize {
        shard_of(node, self.shards.len())
    }

    fn local(&self, shard: usize, LocalId(local): LocalId) -> &Local {
        &self.shards[shard].locals[usize::from(local)]
    }

    fn holder(&mut self, node: NodeId, change: impl FnOnce(&mut Holder)) {
        if let Some(holder) = self.sessions.get_mut(&node) {
            change(holder);
        }
    }
}

fn slot(now: Time) -> u128 {
    u128::from(now.0) / SLOT.as_nanos()
}

fn node_at(bytes: &[u8], offset: usize) -> Option<NodeId> {
    bytes.get(offset..offset + 4).map(|four| NodeId(u32::from_be_bytes([four[0], four[1], four[2], four[3]])))
}

/// 02 or 04: the length of an address, the address, the port.
fn endpoint_message(kind: u8, endpoint: Endpoint) -> Vec<u8> {
    let ip = match endpoint.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    [&[kind, ip.len() as u8], &ip[..], &endpoint.port.to_be_bytes()].concat()
}
