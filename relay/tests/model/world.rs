//! The relay's shards, the reference and the laws in one place, and the comparison after every step.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use relay::Time;
use relay::admission::Budget;
use relay::authority::{Question, Verdict as Judgement};
use relay::contests::Board;
use relay::cookie::Cookies;
use relay::endpoint::{Endpoint, LocalId, Path};
use relay::locals::{Local, Locals, Service};
use relay::membership::Membership;
use relay::metrics::{Counter, Gauge};
use relay::server::{Action, Handoff, REPLY_MAX, Rules, Server, Shared};
use relay::sessions::{Table, shard_of, slots_per_shard};
use wire::NodeId;

use super::laws::{Allowance, Laws, Places, Seen};
use super::reference::{Reference, Verdict};
use super::script::{NODES, REAL_NODES, STEP_LEN, Setting, Source, Step, endpoint, hosts};

/// Budgets that bind within one history.
const ALLOWANCE: Allowance = Allowance { per_second: 4, burst: 6 };
/// Messages that wait between shards; far more than one history makes without reading any.
const MAIL_MAX: usize = 4096;
/// Turns that a moment may take: each message is followed by at most one.
const TURNS_MAX: usize = 10_000;

/// Questions to those who know the nodes that wait at once.
const QUESTIONS_MAX: usize = 64;
/// The relay's key.
const RELAY_KEY: [u8; 32] = [7; 32];

/// Everything.
pub struct World {
    now: Time,
    setting: Setting,
    shards: Vec<Server>,
    table: Arc<Table>,
    membership: Arc<Membership>,
    mail: Vec<VecDeque<Handoff>>,
    received: Vec<u64>,
    /// With the shard that asks.
    questions: VecDeque<(usize, Question)>,
    /// The latest challenge of a node at an endpoint.
    cookies: HashMap<(NodeId, Endpoint), [u8; 16]>,
    /// None where budgets bind.
    reference: Option<Reference>,
    laws: Laws,
    /// Facts as the directory told them, to judge by.
    known: HashMap<NodeId, HashSet<Endpoint>>,
    proven: HashMap<NodeId, Vec<std::net::IpAddr>>,
    has_authority: bool,
    named: HashSet<Endpoint>,
    locals: Vec<Vec<Local>>,
    asked_last: Option<Endpoint>,
    places: Places,
}

impl World {
    /// A relay that has just started.
    pub fn new(setting: &Setting) -> Self {
        let Setting { shards, admission, sessions_max, .. } = *setting;
        let budget =
            |bound: bool| if bound { Budget::new(ALLOWANCE.per_second, ALLOWANCE.burst) } else { Budget::unlimited() };
        let rules = Rules {
            admission,
            sender_packets: budget(setting.has_budgets),
            sender_bytes: Budget::unlimited(),
            prefix_control: budget(setting.has_budgets),
            prefix_packets: budget(setting.has_budgets),
            prefix_bytes: Budget::unlimited(),
            // Forged signatures would bind it soon.
            prefix_claims: Budget::unlimited(),
            cookies: Some(Arc::new(Cookies::new(RELAY_KEY, &[9; 32]))),
            ..Rules::default()
        };
        let membership = Arc::new(Membership::default());
        let shared = Shared {
            table: Table::new(shards, sessions_max),
            membership: Arc::clone(&membership),
            board: Board::new(shards),
        };
        let locals = locals();
        let room = slots_per_shard(shards, sessions_max) * 3 / 4;
        let reference = Reference::new(admission, rules.session_timeout, room, &locals, shards);
        let server = |shard| Server::new(rules.clone(), shard, &shared, Arc::new(Locals::new(locals.clone())));
        let mut world = Self {
            now: Time(1_000_000_000_000),
            shards: (0..shards).map(server).collect(),
            table: shared.table,
            membership,
            mail: vec![VecDeque::new(); shards],
            received: vec![0; shards],
            questions: VecDeque::new(),
            cookies: HashMap::new(),
            reference: (!setting.has_budgets).then_some(reference),
            laws: Laws::default(),
            known: HashMap::new(),
            proven: HashMap::new(),
            has_authority: false,
            named: HashSet::new(),
            locals: vec![locals; shards],
            asked_last: None,
            places: Places::new(),
            setting: setting.clone(),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.set_authority(self.setting.has_authority);
        for (bit, node) in NODES.into_iter().enumerate().take(REAL_NODES) {
            if self.setting.known >> bit & 1 == 1 {
                self.publish(node, 1 << (bit % 4), Some(bit as u8 * 3));
            }
        }
        let remembered = NODES.into_iter().enumerate().filter(|(bit, _)| self.setting.remembered >> bit & 1 == 1);
        let remembered: HashMap<_, _> = remembered.map(|(bit, node)| (node, endpoint(bit as u8 * 3 + 1))).collect();
        self.named.extend(remembered.values());
        self.membership.remember(remembered.clone());
        if let Some(reference) = &mut self.reference {
            reference.remember(remembered);
        }
    }

    /// Does one step, and looks at everything afterwards.
    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Datagram { from, local, shard, bytes } => self.receive(*from, *local, *shard, bytes),
            Step::Claim { from, local, shard, node, has_cookie } => {
                let from_endpoint = self.endpoint_of(*from);
                let cookie = self.cookies.get(&(*node, from_endpoint)).filter(|_| *has_cookie).copied();
                let signature = if cookie.is_some() { [7; 64] } else { [0; 64] };
                let bytes = [&[0x0C], &node.0.to_be_bytes()[..], &cookie.unwrap_or_default(), &signature].concat();
                self.receive(*from, *local, *shard, &bytes);
            }
            Step::Judge { is_good, is_repeated } => self.judge_question(*is_good, *is_repeated),
            Step::Pass(time) => self.pass(*time),
            Step::Stall { shard, time } => {
                self.now = self.now + *time;
                self.timeout(usize::from(*shard) % self.shards.len());
            }
            Step::Publish { node, proven, last } => self.publish(*node, *proven, *last),
            Step::Withdraw { node, is_told } => self.withdraw(*node, *is_told),
            Step::Authority(present) => self.set_authority(*present),
            Step::Notify(node) if node.is_node() => self.post(self.owner(*node), Handoff::Notify(*node)),
            Step::Notify(_) => {}
            Step::Local { shard, local, is_present } => self.set_present(*shard, *local, *is_present),
            Step::Deliver { shard, count } => {
                (0..*count).for_each(|_| self.deliver(usize::from(*shard) % self.shards.len()));
            }
            Step::Lose { shard } => {
                let shard = usize::from(*shard) % self.shards.len();
                self.mail[shard].pop_back();
            }
            Step::Forget => {
                self.membership.forget();
                if let Some(reference) = &mut self.reference {
                    reference.forget();
                }
            }
        }
        if self.setting.is_prompt {
            self.settle();
        }
        self.check();
    }

    /// Lets all that is under way come to its end: nothing may go on for ever.
    pub fn finish(&mut self) {
        self.settle();
        self.pass(Duration::from_secs(3));
        for shard in &mut self.shards {
            assert_eq!(shard.counters().gauge(Gauge::Contests), 0, "a question without an end");
        }
        let live: u64 = self.shards.iter_mut().map(|shard| shard.counters().gauge(Gauge::Sessions)).sum();
        assert_eq!(live, self.look().len() as u64, "sessions as they are counted");
        self.check();
    }

    // What happens.

    fn endpoint_of(&self, from: Source) -> Endpoint {
        match from {
            Source::Endpoint(number) => endpoint(number),
            Source::Asked => self.asked_last.unwrap_or_else(|| endpoint(0)),
        }
    }

    /// The oldest question is answered, as [`relay::questions`] does.
    fn judge_question(&mut self, is_good: bool, is_repeated: bool) {
        match self.questions.pop_front() {
            Some((_, Question::Signature { claim, .. })) => {
                let verdict = match (is_good, is_repeated) {
                    (true, false) => Judgement::Signed,
                    (true, true) => Judgement::Repeated,
                    (false, _) => Judgement::Forged,
                };
                self.post(self.owner(claim.node), Handoff::Claimed(claim, verdict));
            }
            Some((shard, Question::Introduction(asked))) => self.post(shard, Handoff::Introduce(asked, is_good)),
            None => {}
        }
    }

    fn receive(&mut self, from: Source, local: u8, shard: Option<u8>, bytes: &[u8]) {
        let remote = self.endpoint_of(from);
        let from = Path { remote, local: LocalId(u16::from(local) % self.locals[0].len() as u16) };
        let steered = match *bytes {
            [0x01..=0x0D, a, b, c, d, ..] => self.owner(NodeId(u32::from_be_bytes([a, b, c, d]))),
            _ => 0,
        };
        let shard = shard.map_or(steered, usize::from) % self.shards.len();
        self.received[shard] += 1;
        let mut buffer = bytes.to_vec();
        let mut reply = [0; REPLY_MAX];
        let now = self.now;
        let action = self.shards[shard].handle_datagram(now, from, &mut buffer, &mut reply);
        let mut out = match &action {
            Action::Forward { to, part } => vec![(*to, buffer[part.clone()].to_vec())],
            Action::Reply { len, via } => vec![(Path { local: *via, ..from }, reply[..*len].to_vec())],
            Action::ReplyAndSend { len, send } => {
                vec![(from, reply[..*len].to_vec()), (send.to, send.bytes().to_vec())]
            }
            Action::Defer | Action::Drop(_) => Vec::new(),
        };
        if let Some(reference) = &mut self.reference {
            let verdict = reference.datagram(shard, now, from, bytes);
            compare(&verdict, &action, from, &out);
            if let Verdict::Challenge(node) = verdict {
                let cookie = *out[0].1[33..].first_chunk().expect("compared");
                reference.challenged(now, node, remote, cookie);
                self.cookies.insert((node, remote), cookie);
            }
        }
        out.extend(self.take_outputs(shard));
        let after = self.look();
        let relays_for = super::laws::relayed(bytes).map(|(sender, _)| sender);
        let is_owner = relays_for.is_some_and(|sender| self.owner(sender) == shard);
        let seen = Seen { now, shard, is_owner, from, datagram: bytes, action: &action, out: &out };
        let allowance = self.setting.has_budgets.then_some(ALLOWANCE);
        self.laws.datagram(&seen, (&self.places, &after), &self.named, self.setting.admission, allowance);
        self.judge(after);
    }

    /// Moves the clock, doing what falls due when it does.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..TURNS_MAX {
            let dues = self.shards.iter().map(Server::poll_timeout).enumerate();
            let (shard, due) = dues.min_by_key(|(_, due)| *due).expect("a shard");
            if due > end {
                self.now = end;
                return;
            }
            // Years of seconds in which nothing is under way need not be gone through one by one.
            self.now = self.now.max(due);
            self.timeout(shard);
            if self.setting.is_prompt {
                self.settle();
            }
        }
        panic!("time does not go on");
    }

    fn timeout(&mut self, shard: usize) {
        let now = self.now;
        self.shards[shard].handle_timeout(now);
        let table = &self.table;
        if let Some(reference) = &mut self.reference {
            reference.timeout(shard, now);
            reference.swept(shard, now, |node| table.find(node).is_some());
        }
        let sent = self.take_outputs(shard);
        self.judge_sends(&sent);
    }

    fn publish(&mut self, node: NodeId, proven: u8, last: Option<u8>) {
        if !node.is_node() {
            return;
        }
        let (proven, last) = (hosts(proven), last.map(endpoint));
        self.membership.publish(node, &proven, last.map(|last| last.socket_addr()));
        self.named.extend(last);
        self.known.entry(node).or_default().extend(last);
        if let Some(reference) = &mut self.reference {
            reference.publish(node, &proven, last);
        }
        self.proven.insert(node, proven);
    }

    fn withdraw(&mut self, node: NodeId, is_told: bool) {
        if !node.is_node() {
            return;
        }
        self.membership.withdraw(node);
        self.known.remove(&node);
        self.proven.remove(&node);
        if let Some(reference) = &mut self.reference {
            reference.withdraw(node);
        }
        if is_told {
            self.post(self.owner(node), Handoff::Withdraw(node));
        }
    }

    fn set_authority(&mut self, present: bool) {
        self.membership.set_authority(present);
        self.has_authority = present;
        if let Some(reference) = &mut self.reference {
            reference.set_authority(present);
        }
    }

    fn set_present(&mut self, shard: u8, local: u8, is_present: bool) {
        let shard = usize::from(shard) % self.shards.len();
        let local = usize::from(local) % self.locals[shard].len();
        self.locals[shard][local].present = is_present;
        self.shards[shard].set_locals(Arc::new(Locals::new(self.locals[shard].clone())));
        if let Some(reference) = &mut self.reference {
            reference.set_present(shard, LocalId(local as u16), is_present);
        }
    }

    // Messages between shards.

    fn post(&mut self, shard: usize, handoff: Handoff) {
        assert!(self.mail[shard].len() < MAIL_MAX, "shards talk too much");
        self.mail[shard].push_back(handoff);
    }

    fn deliver(&mut self, shard: usize) {
        let Some(handoff) = self.mail[shard].pop_front() else { return };
        let now = self.now;
        self.shards[shard].handle_handoff(now, handoff);
        if let Some(reference) = &mut self.reference {
            reference.handoff(shard, now, handoff);
        }
        let sent = self.take_outputs(shard);
        let introduces = matches!(handoff, Handoff::Introduce(..));
        assert!(sent.len() <= 1 + usize::from(introduces), "{sent:?} for one message");
        self.judge_sends(&sent);
    }

    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let Some(shard) = self.mail.iter().position(|mail| !mail.is_empty()) else { return };
            self.deliver(shard);
        }
        panic!("shards write to each other without end");
    }

    /// What a shard wants sent and told, which the reference must have expected.
    fn take_outputs(&mut self, shard: usize) -> Vec<(Path, Vec<u8>)> {
        let server = &mut self.shards[shard];
        let sent: Vec<_> =
            std::iter::from_fn(|| server.poll_send()).map(|send| (send.to, send.bytes().to_vec())).collect();
        let told: Vec<_> = std::iter::from_fn(|| server.poll_handoff()).collect();
        while server.poll_event().is_some() {}
        let asked: Vec<_> = std::iter::from_fn(|| server.poll_question()).collect();
        assert!(told.len() <= self.shards.len(), "too much for other shards: {told:?}");
        if let Some(reference) = &mut self.reference {
            assert_eq!(sent, std::mem::take(&mut reference.sends), "messages of the relay's own");
            let decisions =
                told.iter().filter(|(_, handoff)| !matches!(handoff, Handoff::Watch(_) | Handoff::Sent(..)));
            let decisions: Vec<_> = decisions.copied().collect();
            assert_eq!(decisions, std::mem::take(&mut reference.mail), "messages to other shards");
            assert_eq!(asked, std::mem::take(&mut reference.asked), "questions");
        }
        self.questions.extend(asked.into_iter().map(|question| (shard, question)));
        self.questions.truncate(QUESTIONS_MAX);
        for (to, bytes) in &sent {
            let ours: Vec<Endpoint> = self.locals[shard].iter().map(|local| local.seen_as.into()).collect();
            self.laws.sent(self.now, to, bytes, &ours);
            if bytes[0] == 0x04 {
                self.asked_last = Some(to.remote);
            }
        }
        for (to, handoff) in told {
            assert_ne!(to, shard, "a shard does not write to itself");
            self.post(to, handoff);
        }
        sent
    }

    // What has to hold.

    fn judge_sends(&mut self, sent: &[(Path, Vec<u8>)]) {
        let after = self.look();
        for (to, _) in sent {
            let may = self.laws.may_be_sent_to(&to.remote, (&self.places, &after), &self.named);
            assert!(may, "a datagram to {to:?}, where nobody is");
        }
        self.judge(after);
    }

    fn judge(&mut self, after: Places) {
        let Self { laws, now, places, known, proven, has_authority, setting, .. } = self;
        let is_open = setting.admission == relay::server::Admission::Open;
        let may_exist = |node: NodeId| node.is_node() && (is_open || !*has_authority || known.contains_key(&node));
        let proves = |node: NodeId, at: Endpoint| {
            let first = relay::membership::PROVEN_MAX;
            proven.get(&node).is_some_and(|ips| ips.iter().take(first).any(|ip| *ip == at.ip()))
        };
        laws.moved(*now, (places, &after), may_exist, proves, setting.admission);
        self.places = after;
    }

    fn check(&mut self) {
        for (shard, (server, received)) in self.shards.iter_mut().zip(&self.received).enumerate() {
            let counters = server.counters();
            assert!(counters.balanced(), "received = forwarded + answered + deferred + dropped on shard {shard}");
            assert_eq!(counters.get(Counter::Received), *received);
        }
        let places = self.look();
        if let Some(reference) = &self.reference {
            let expected =
                reference.sessions.iter().map(|(node, holder)| (*node, (holder.path, holder.extended, holder.claimed)));
            let found = places.iter().map(|(node, session)| (*node, (session.path, session.extended, session.claimed)));
            assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "who holds which id");
        }
    }

    fn look(&self) -> Places {
        self.table.iter().collect()
    }

    fn owner(&self, node: NodeId) -> usize {
        shard_of(node, self.shards.len())
    }
}

/// What was expected, and what came of a datagram from `from`.
fn compare(verdict: &Verdict, action: &Action, from: Path, out: &[(Path, Vec<u8>)]) {
    let answers = |len: usize, via: LocalId| via == from.local && out[0].1.len() == len;
    let is_expected = match (verdict, action) {
        (Verdict::Forward(to, bytes), Action::Forward { .. }) => out == [(*to, bytes.clone())],
        (Verdict::Answer(bytes, None), Action::Reply { len, via }) => out[0].1 == *bytes && answers(*len, *via),
        (Verdict::Answer(bytes, Some(second)), Action::ReplyAndSend { .. }) => {
            out == [(from, bytes.clone()), second.clone()]
        }
        (Verdict::Challenge(_), Action::Reply { len: 49, via }) => {
            out[0].1[0] == 0x0B && out[0].1[1..33] == RELAY_KEY && answers(49, *via)
        }
        (Verdict::Stun, Action::Reply { .. } | Action::Drop(_)) | (Verdict::Defer, Action::Defer) => true,
        (Verdict::Drop(reasons), Action::Drop(reason)) => reasons.contains(reason),
        _ => false,
    };
    assert!(is_expected, "expected {verdict:?}, found {action:?} with {out:?}");
}

/// Two IPv4 addresses and an IPv6 one, each with a beacon and a STUN port.
fn locals() -> Vec<Local> {
    let local = |address: &str, service| {
        let bound: SocketAddr = address.parse().expect("an address");
        Local { bound, seen_as: bound, service, payload_max: 1472, present: true }
    };
    vec![
        local("198.18.0.2:9001", Service::Beacon),
        local("198.18.0.2:3478", Service::Stun),
        local("198.18.0.3:9001", Service::Beacon),
        local("198.18.0.3:3478", Service::Stun),
        local("[2001:db8::2]:9001", Service::Beacon),
        local("[2001:db8::2]:3478", Service::Stun),
    ]
}

const _: () = assert!(STEP_LEN == 8, "a step is eight bytes: see `script`");
