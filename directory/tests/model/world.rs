//! A directory, connections to it, nodes with keys, and what has to hold after every request.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use directory::config::Limits;
use directory::facts::Change;
use directory::search;
use directory::service::{Caller, ConnectionId, Decision, Effect, Now, Outcome, Service};
use directory::store::Store;
use ed25519_dalek::{Signer as _, SigningKey};
use wire::NodeId;
use wire::registry::request::{Changes, Query, Register};
use wire::registry::{
    Answer, Base64, MESSAGE_BYTES_MAX, Operation, PublicKey, Request, is_binary_opening, push_message, split_message,
};

use super::ledger::{Cause, Ledger};
use super::script::{Ask, CONNECTIONS, KEYS, Step, Twist};

const START: u64 = 1_795_000_000;
const NAMES: [&str; 6] = ["alice", "bob", "carol-1", "", "UPPER case", "localhost"];
const LISTENS: [&str; 5] = ["[::1]:4000", "198.51.100.1:4000", "203.0.113.9:4001", "[2001:db8::9]:4000", "nowhere"];
/// Frames kept to be sent again.
const KEPT_MAX: usize = 64;
/// Decisions of one request: as in the driver.
const DECISIONS_MAX: usize = 64;

struct Connection {
    id: ConnectionId,
    ip: IpAddr,
    received: Vec<u8>,
    /// The second half of a frame.
    rest: Vec<u8>,
    signed_here: BTreeSet<NodeId>,
    /// Whole frames that were sent and not answered yet; unknown once anything but frames was sent.
    unanswered: Option<usize>,
}

pub struct World {
    service: Service,
    store: Option<Store>,
    ledger: Ledger,
    now: Now,
    limits: Limits,
    connections: Vec<Connection>,
    next_connection: u64,
    keys: Vec<SigningKey>,
    sent: Vec<Vec<u8>>,
}

impl World {
    pub fn new(stored: bool) -> Self {
        let now = Now { monotonic: Duration::from_secs(1000), unix_seconds: START };
        let store = stored.then(|| Store::in_memory(START).expect("memory"));
        let limits = Limits::default();
        let mut world = Self {
            service: Service::new(Ledger::default().facts(START), &limits, None),
            store,
            ledger: Ledger::default(),
            now,
            limits,
            connections: Vec::new(),
            next_connection: 0,
            keys: (1..=KEYS as u8).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect(),
            sent: Vec::new(),
        };
        world.service.begin_changes(START * 1000);
        (0..CONNECTIONS).for_each(|place| {
            let connection = world.connect(place);
            world.connections.push(connection);
        });
        world
    }

    fn connect(&mut self, place: usize) -> Connection {
        self.next_connection += 1;
        Connection {
            id: ConnectionId(self.next_connection),
            // Two connections an address.
            ip: Ipv4Addr::new(198, 51, 100, place as u8 / 2 + 1).into(),
            received: Vec::new(),
            rest: Vec::new(),
            signed_here: BTreeSet::new(),
            unanswered: Some(0),
        }
    }

    /// Does one step.
    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Request { connection, ask, twist } => {
                let (mut frame, is_whole) = (self.frame(*ask, *twist), *twist != Twist::Halved);
                let connection = *connection;
                if self.sent.len() < KEPT_MAX {
                    self.sent.push(frame.clone());
                }
                let half = frame.split_off(if is_whole { frame.len() } else { frame.len() / 2 });
                self.arrive(connection, frame, half, usize::from(is_whole));
            }
            Step::Replay { connection, which } => {
                if let Some(frame) = self.sent.get(usize::from(*which) % self.sent.len().max(1)).cloned() {
                    self.arrive(*connection, frame, Vec::new(), 1);
                }
            }
            Step::Bytes { connection, bytes } => {
                self.connections[*connection].unanswered = None;
                self.arrive(*connection, bytes.clone(), Vec::new(), 0);
            }
            Step::Close { connection } => self.close(*connection),
            Step::Pass(seconds) => {
                self.now.monotonic += Duration::from_secs(*seconds);
                self.now.unix_seconds += seconds;
                while self.service.sweep(self.now) {}
                let changes = self.service.take_changes();
                changes.iter().for_each(|change| self.ledger.apply_unasked(change));
                if let Some(store) = &mut self.store {
                    store.commit(&changes).expect("what was decided can be stored");
                }
            }
            Step::Restart => self.restart(),
        }
    }

    /// Ends the process and starts it again from its facts, which answer as before.
    pub fn restart(&mut self) {
        (0..CONNECTIONS).for_each(|place| self.close(place));
        let facts = match &self.store {
            Some(store) => {
                let facts = store.load().expect("what was stored can be read");
                self.ledger.compare(facts.clone());
                facts
            }
            None => self.ledger.facts(START),
        };
        let mut again = Service::new(facts, &self.limits, None);
        again.begin_changes(self.now.unix_seconds * 1000);
        for question in self.questions() {
            let before = ask_as_stranger(&mut self.service, self.now, &question);
            let after = ask_as_stranger(&mut again, self.now, &question);
            assert_eq!(before, after, "after a restart {question:?} is answered otherwise");
        }
        self.service = again;
    }

    /// What anybody may ask, and is answered from facts alone.
    fn questions(&self) -> Vec<Request> {
        let nodes = || (0..=self.ledger.nodes.len() as u32 + 1).map(NodeId);
        let lookups = nodes().map(|node_id| Operation::Lookup { node_id });
        let names = NAMES.iter().map(|name| Operation::ResolveHostname { hostname: (*name).into() });
        let pairs = nodes().flat_map(|node_id| nodes().map(move |peer_id| Operation::CheckTrust { node_id, peer_id }));
        let policies = (0..4).map(|network_id| Operation::GetNetworkPolicy { network_id });
        let all = lookups.chain(names).chain(pairs).chain(policies).chain([Operation::ListNetworks]);
        all.map(Request::from).collect()
    }

    fn close(&mut self, place: usize) {
        let next = self.connect(place);
        let gone = std::mem::replace(&mut self.connections[place], next);
        for effect in self.service.handle_close(gone.id) {
            self.check_effect(effect);
        }
    }

    // Frames.

    fn frame(&self, ask: Ask, twist: Twist) -> Vec<u8> {
        let key = &self.keys[ask.key];
        let operation = self.operation(ask);
        let signer = if twist == Twist::WrongKey { &self.keys[(ask.key + 1) % KEYS] } else { key };
        let text = operation.signed_text().filter(|_| twist != Twist::Unsigned);
        let signature = text.map(|text| Base64(signer.sign(text.as_bytes()).to_bytes()));
        let mut frame = Vec::new();
        push_message(&mut frame, &Request { signature, ..operation.into() });
        if let Twist::Flipped(bit) = twist {
            let place = 4 + usize::from(bit) * 7 % (frame.len() - 4);
            frame[place] ^= 1 << (bit % 7);
        }
        frame
    }

    fn operation(&self, Ask { operation, key, peer, choice, flag }: Ask) -> Operation {
        let public_key = public(&self.keys[key]);
        let node_id = self.ledger.keys.get(&public_key).copied().unwrap_or(NodeId(77));
        let peer_id = NodeId(u32::from(peer) % (KEYS as u32 + 2));
        let pick = |from: &[&str]| from[usize::from(choice) % from.len()].to_owned();
        let network_id = u16::from(peer) % 4;
        let token = if flag { "token" } else { "" }.to_owned();
        match operation % 29 {
            0 => Operation::Register(Register {
                listen_addr: LISTENS[usize::from(peer) % LISTENS.len()].into(),
                public_key,
                owner: "owner".into(),
                hostname: pick(&NAMES),
                version: "1.18.0".into(),
                lan_addrs: if flag { vec!["192.168.1.2:4000".into()] } else { Vec::new() },
                relay_only: flag,
            }),
            1 => Operation::Heartbeat { node_id, report: None, bans_since: None },
            2 => Operation::SetHostname { node_id, hostname: pick(&NAMES) },
            3 => Operation::SetTags { node_id, tags: vec![pick(&["blue", "red", "-", ""])] },
            4 => Operation::SetVisibility { node_id, public: flag },
            5 => Operation::SetTaskExec { node_id, enabled: flag },
            6 | 7 => Operation::ReportTrust { node_id, peer_id },
            8 => Operation::RevokeTrust { node_id, peer_id },
            9 | 10 => {
                Operation::RequestHandshake { from_node_id: node_id, to_node_id: peer_id, justification: "?".into() }
            }
            11 | 12 => Operation::RespondHandshake { node_id, peer_id, accept: flag },
            13 => Operation::PollHandshakes { node_id },
            14 => Operation::Resolve { node_id: peer_id, requester_id: node_id },
            15 => Operation::Punch { requester_id: node_id, node_a: node_id, node_b: peer_id },
            16 => {
                let new = &self.keys[usize::from(choice) % KEYS];
                Operation::RotateKey { node_id, new_public_key: public(new) }
            }
            17 => Operation::Deregister { node_id },
            18 => Operation::CreateNetwork {
                node_id,
                name: pick(&["reading", "writing", "backbone", ""]),
                join_rule: ["open", "token", "invite", "other"][usize::from(peer) % 4].into(),
                token,
            },
            19 => Operation::JoinNetwork { node_id, network_id, token },
            20 => Operation::LeaveNetwork { node_id, network_id },
            21 => Operation::InviteToNetwork {
                network_id,
                inviter_id: node_id,
                target_node_id: NodeId(u32::from(choice) % 10),
            },
            22 => Operation::PollInvites { node_id },
            23 => Operation::RespondInvite { node_id, network_id, accept: flag },
            24 => Operation::ListNodes { network_id, after: None },
            25 => Operation::BeaconList,
            26 => Operation::Changes(Changes {
                requester_id: flag.then_some(node_id),
                after: u64::from(choice),
                ..Changes::default()
            }),
            27 => Operation::Query(Query {
                requester_id: flag.then_some(node_id),
                text: pick(&["words", ""]),
                ..Query::default()
            }),
            _ => Operation::Lookup { node_id: peer_id },
        }
    }

    /// Bytes come over a connection; what is whole is answered, in order.
    fn arrive(&mut self, place: usize, bytes: Vec<u8>, rest: Vec<u8>, frames: usize) {
        let connection = &mut self.connections[place];
        let begun = std::mem::take(&mut connection.rest);
        let ends = usize::from(!begun.is_empty());
        connection.received.extend(begun.into_iter().chain(bytes));
        connection.rest = rest;
        connection.unanswered = connection.unanswered.map(|unanswered| unanswered + frames + ends);
        loop {
            let received = std::mem::take(&mut self.connections[place].received);
            match split_message(&received) {
                _ if is_binary_opening(&received) => return self.close(place),
                Err(_) => return self.close(place),
                Ok(None) => {
                    self.connections[place].received = received;
                    break;
                }
                Ok(Some((message, behind))) => {
                    let request = Request::decode(message);
                    self.connections[place].received = behind.to_vec();
                    let answer = match request {
                        Ok(request) => self.serve(place, &request),
                        Err(error) => Answer::error(&error),
                    };
                    check_answer(&answer);
                    let unanswered = &mut self.connections[place].unanswered;
                    if let Some(count) = unanswered {
                        *count = count.checked_sub(1).expect("an answer that nobody has asked for");
                    }
                }
            }
        }
        let left = self.connections[place].unanswered;
        assert!(left.is_none_or(|left| left == 0), "{left:?} requests without an answer");
    }

    // Decisions.

    fn serve(&mut self, place: usize, request: &Request) -> Answer {
        let is_signed = self.ledger.is_signed(request);
        let registers = match &request.operation {
            Operation::Register(register) => Some(register.public_key),
            _ => None,
        };
        let connection = &mut self.connections[place];
        if let Some(node) = request.operation.signer().filter(|_| is_signed) {
            connection.signed_here.insert(node);
        }
        let signed_here = connection.signed_here.clone();
        let (id, ip) = (connection.id, connection.ip);
        let outcome = decide(&mut self.service, self.now, id, ip, request);
        let changes = self.service.take_changes();
        let may_wait = |change: &Change| {
            matches!(change, Change::Seen(..))
                || matches!(request.operation, Operation::Heartbeat { .. } | Operation::PollInvites { .. })
        };
        assert!(
            outcome.durable_first || changes.iter().all(may_wait),
            "{request:?} changes facts without waiting for the disk: {changes:?}"
        );
        let cause = Cause { request, is_signed, signed_here: &signed_here };
        self.ledger.note_grant(&cause);
        for change in &changes {
            self.ledger.apply(change, &cause);
        }
        if let Some(store) = &mut self.store {
            store.commit(&changes).expect("what was decided can be stored");
        }
        if let Some(key) = registers {
            let node = self.ledger.keys.get(&key).copied();
            if let Answer::Register(registered) = &outcome.answer {
                assert_eq!(Some(registered.node_id), node, "a key has one number for ever");
                assert_eq!(registered.public_key, key);
            }
            if let Some(node) = node.filter(|_| is_signed) {
                self.connections[place].signed_here.insert(node);
            }
        }
        outcome.effects.iter().for_each(|effect| self.check_effect(*effect));
        self.check_proofs();
        outcome.answer
    }

    fn check_effect(&self, effect: Effect) {
        let (Effect::Publish(node) | Effect::Notify(node)) = effect;
        assert!(self.ledger.nodes.contains_key(&node), "{effect:?} of nobody");
    }

    /// An address is proven by the latest signed registration, or by a live connection that carried a signature.
    fn check_proofs(&self) {
        for (node, fact) in &self.ledger.nodes {
            for ip in self.service.proven(*node).unwrap_or_default() {
                let carried = |connection: &Connection| connection.ip == *ip && connection.signed_here.contains(node);
                let is_proven = fact.signed_host == Some(*ip) || self.connections.iter().any(carried);
                assert!(is_proven, "{ip} is not proven to be an address of {node}");
            }
            assert_eq!(self.service.proven(*node).is_some(), fact.registered);
        }
        let registered = self.ledger.nodes.values().filter(|fact| fact.registered).map(|fact| fact.id);
        assert_eq!(self.service.registered().collect::<Vec<_>>(), registered.collect::<Vec<_>>());
    }
}

fn decide(service: &mut Service, now: Now, connection: ConnectionId, ip: IpAddr, request: &Request) -> Outcome {
    let caller = Caller {
        connection,
        ip,
        exempt: true,
        advertised: &["192.0.2.1:9001".into()],
        extensions: &[],
        relay_key: None,
    };
    let (mut checked, mut found) = (None, None);
    for _ in 0..DECISIONS_MAX {
        let decision = match found.take() {
            Some(found) => service.handle_found(now, request, found),
            None => service.handle(now, &caller, request, checked.as_ref()),
        };
        match decision {
            Decision::Check(check) => checked = Some(check.run()),
            Decision::Search(search) => {
                found = Some(search::Found { search: *search, candidates: Vec::new(), more: None });
            }
            Decision::Pick(rest) => found = Some(*rest),
            Decision::Done(outcome) => return outcome,
        }
    }
    panic!("no end to the decisions on {request:?}");
}

/// From an address that has proven nothing.
fn ask_as_stranger(service: &mut Service, now: Now, question: &Request) -> Answer {
    let outcome = decide(service, now, ConnectionId(0), Ipv4Addr::new(192, 0, 2, 250).into(), question);
    assert_eq!(service.take_changes(), [], "a question changes nothing");
    let mut answer = outcome.answer;
    if let Answer::ListNetworks { networks } = &mut answer {
        // Presence is no fact.
        networks.iter_mut().for_each(|network| network.online = None);
    }
    answer
}

/// What is answered can be read, within bounds, and an error may be shown.
fn check_answer(answer: &Answer) {
    let mut out = Vec::new();
    push_message(&mut out, answer);
    let (message, behind) = split_message(&out).expect("within bounds").expect("whole");
    assert!(behind.is_empty() && message.len() <= MESSAGE_BYTES_MAX);
    let again = Answer::decode(message).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    let mut out_again = Vec::new();
    push_message(&mut out_again, &again);
    assert_eq!(out_again, out, "an answer survives its reading");
    if let Answer::Error { error } = answer {
        assert!(!error.is_empty());
    }
}

fn public(key: &SigningKey) -> PublicKey {
    Base64(key.verifying_key().to_bytes())
}
