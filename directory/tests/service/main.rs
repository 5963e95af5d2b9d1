//! Stories about the directory's decisions, over a database in memory: every change goes through SQL, and whenever a
//! story restarts the directory, what it knows comes from there.

mod bans;
mod capabilities;
mod capture;
mod changes;
mod collection;
mod enrolment;
mod guesses;
mod handshakes;
mod lists;
mod networks;
mod overview;
mod presence;
mod questions;
mod reach;
mod registration;

use std::net::IpAddr;
use std::time::Duration;

use directory::config::{AdminToken, Limits};
use directory::service::enrolment::{Act, ActError, Policy};
use directory::service::{Caller, ConnectionId, Decision, Effect, Now, Outcome, Service};
use directory::store::{Reader, Store};
use ed25519_dalek::{Signer as _, SigningKey};
use wire::NodeId;
use wire::registry::request::Register;
use wire::registry::{Answer, Base64, Operation, PublicKey, Request};

/// The administrators' token.
const ADMIN: &str = "letmein";
/// Where callers come from unless a story says otherwise.
const HOME: &str = "198.51.100.1";

/// A directory, its database, and the clock.
struct World {
    service: Service,
    store: Store,
    reader: Reader,
    now: Now,
    limits: Limits,
    policy: Policy,
    relays: Vec<String>,
    extensions: Vec<String>,
    relay_key: Option<PublicKey>,
}

/// Someone at an address, on a connection.
#[derive(Clone, Copy)]
struct From {
    ip: IpAddr,
    connection: ConnectionId,
}

fn from(ip: &str, connection: u64) -> From {
    From { ip: ip.parse().unwrap(), connection: ConnectionId(connection) }
}

impl World {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self::under(Policy::default(), limits)
    }

    fn under(policy: Policy, limits: Limits) -> Self {
        let now = Now { monotonic: Duration::from_secs(1000), unix_seconds: 1_795_000_000 };
        let store = Store::in_memory(now.unix_seconds).unwrap();
        let service = Service::new(store.load().unwrap(), &limits, AdminToken::new(ADMIN)).with_policy(policy.clone());
        let reader = store.reader().unwrap();
        let relays = vec!["192.0.2.1:9001".into()];
        let extensions = Vec::new();
        let mut world = Self { service, store, reader, now, limits, policy, relays, extensions, relay_key: None };
        world.service.begin_changes(now.unix_seconds * 1000);
        world
    }

    /// Ends the process and starts it again: only facts survive.
    fn restart(&mut self) {
        let service = Service::new(self.store.load().unwrap(), &self.limits, AdminToken::new(ADMIN));
        self.service = service.with_policy(self.policy.clone());
        self.store_changes();
        self.service.begin_changes(self.now.unix_seconds * 1000);
    }

    fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.unix_seconds += time.as_secs();
        self.sweep();
    }

    fn sweep(&mut self) {
        while self.service.sweep(self.now) {}
        self.store_changes();
    }

    /// What was decided outside a request.
    fn store_changes(&mut self) {
        let changes = self.service.take_changes();
        self.store.commit(&changes).unwrap();
    }

    /// The administrator's wish, and what it has the relay told.
    fn act(&mut self, subject: &str, act: &Act) -> Result<(bool, Vec<Effect>), ActError> {
        let subject = self.service.subject(subject)?;
        let changed = self.service.administer(self.now, subject, act)?;
        self.store_changes();
        Ok((changed, self.service.take_effects()))
    }

    fn outcome(&mut self, from: From, request: &Request) -> Outcome {
        let caller = Caller {
            connection: from.connection,
            ip: from.ip,
            exempt: false,
            advertised: &self.relays,
            extensions: &self.extensions,
            relay_key: self.relay_key,
        };
        let (mut checked, mut found) = (None, None);
        let outcome = loop {
            let decision = match found.take() {
                Some(found) => self.service.handle_found(self.now, request, found),
                None => self.service.handle(self.now, &caller, request, checked.as_ref()),
            };
            match decision {
                Decision::Check(check) => checked = Some(check.run()),
                Decision::Search(search) => found = Some(self.reader.find(*search).unwrap()),
                Decision::Pick(rest) => found = Some(*rest),
                Decision::Done(outcome) => break outcome,
            }
        };
        let changes = self.service.take_changes();
        assert!(
            changes.is_empty() || outcome.durable_first || matches!(outcome.answer, Answer::Heartbeat { .. }),
            "{request:?} changes facts without waiting for the disk"
        );
        self.store.commit(&changes).unwrap();
        outcome
    }

    /// Asks without a signature.
    fn ask(&mut self, operation: Operation) -> Answer {
        self.outcome(from(HOME, 0), &operation.into()).answer
    }

    /// Asks with a signature.
    fn signed(&mut self, key: &SigningKey, from: From, operation: Operation) -> Answer {
        // As our agents ask.
        let operation = operation.to_be_signed_at(Some(self.now.unix_seconds));
        self.outcome(from, &sign(key, operation)).answer
    }

    /// Asks with a signature, from home.
    fn by(&mut self, key: &SigningKey, operation: Operation) -> Answer {
        self.signed(key, from(HOME, 1), operation)
    }

    /// Asks as an administrator.
    fn as_admin(&mut self, operation: Operation) -> Answer {
        let request = Request { admin_token: Some(ADMIN.into()), ..operation.into() };
        self.outcome(from(HOME, 0), &request).answer
    }

    /// Registers the key made from `seed`, signed, and returns key and number.
    fn node(&mut self, seed: u8) -> (SigningKey, NodeId) {
        let key = key(seed);
        let number = registered(&self.by(&key, Operation::Register(register(&key))));
        (key, number)
    }

    /// A signed heartbeat.
    fn beat(&mut self, key: &SigningKey, node_id: NodeId) -> Answer {
        self.by(key, Operation::Heartbeat { node_id, report: None, bans_since: None })
    }

    fn proven(&self, node: NodeId) -> Vec<String> {
        self.service.proven(node).unwrap().iter().map(ToString::to_string).collect()
    }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    Base64(key.verifying_key().to_bytes())
}

fn sign(key: &SigningKey, operation: Operation) -> Request {
    let text = operation.signed_text().unwrap();
    Request { signature: Some(Base64(key.sign(text.as_bytes()).to_bytes())), ..operation.into() }
}

/// The registration of a daemon that does not know its own address.
fn register(key: &SigningKey) -> Register {
    Register {
        listen_addr: "[::1]:4000".into(),
        public_key: public(key),
        owner: String::new(),
        hostname: String::new(),
        version: "1.18.0".into(),
        lan_addrs: vec![],
        relay_only: false,
    }
}

fn registered(answer: &Answer) -> NodeId {
    match answer {
        Answer::Register(registered) => registered.node_id,
        other => panic!("not registered: {other:?}"),
    }
}

fn error(answer: Answer) -> String {
    match answer {
        Answer::Error { error } => error,
        other => panic!("no error: {other:?}"),
    }
}

fn set_hostname(node_id: NodeId, hostname: &str) -> Operation {
    Operation::SetHostname { node_id, hostname: hostname.into() }
}

fn resolve(target: NodeId, requester_id: NodeId) -> Operation {
    Operation::Resolve { node_id: target, requester_id }
}

fn check_trust(node_id: NodeId, peer_id: NodeId) -> Operation {
    Operation::CheckTrust { node_id, peer_id }
}

fn trusts(world: &mut World, node: NodeId, peer: NodeId) -> bool {
    world.ask(check_trust(node, peer)) == Answer::CheckTrust { trusted: true }
}
