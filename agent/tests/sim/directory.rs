//! The directory: the engine and its database, with every request and answer in the form it has on the wire.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use agent::Time;
use directory::config::Limits;
use directory::service::enrolment::{Act, Subject};
use directory::service::{Caller, ConnectionId, Decision, Effect, Now, Service};
use directory::store::Store;
use wire::NodeId;
use wire::registry::answer::EXTENSION_CLAIM;
use wire::registry::{Answer, Base64, Request};

use crate::relay::RELAY_KEY;

/// The directory's process.
pub struct Directory {
    pub up: bool,
    service: Service,
    store: Store,
    advertised: Vec<String>,
    next_connection: u64,
    pub requests: u64,
    /// The relays' key, in a world whose relays take signed claims.
    pub relay_key: Option<[u8; 32]>,
}

impl Directory {
    pub fn new(unix_seconds: u64, advertised: Vec<String>) -> Self {
        let store = Store::in_memory(unix_seconds).expect("memory suffices");
        let service = load(&store);
        Self { up: true, service, store, advertised, next_connection: 0, requests: 0, relay_key: Some(RELAY_KEY) }
    }

    /// Ends the process and starts it again: facts survive, presence and connections do not.
    pub fn restart(&mut self) {
        self.service = load(&self.store);
    }

    pub const fn accept(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId(self.next_connection)
    }

    pub fn close(&mut self, connection: ConnectionId) -> Vec<Effect> {
        self.service.handle_close(connection)
    }

    /// Decides, checks signatures, stores; the effects are to be carried out before the answer leaves.
    pub fn serve(
        &mut self,
        now: Time,
        unix_seconds: u64,
        (connection, ip): (ConnectionId, IpAddr),
        request: &[u8],
    ) -> (Answer, Vec<Effect>) {
        self.requests += 1;
        let request = Request::decode(request).expect("nodes ask what directories know");
        let now = Now { monotonic: Duration::from_nanos(now.0), unix_seconds };
        let extensions: Vec<String> = self.relay_key.iter().map(|_| EXTENSION_CLAIM.to_owned()).collect();
        let caller = Caller {
            connection,
            ip,
            exempt: false,
            advertised: &self.advertised,
            extensions: &extensions,
            relay_key: self.relay_key.map(Base64),
        };
        let mut checked = None;
        let mut found = None;
        let outcome = loop {
            let decision = match found.take() {
                Some(found) => self.service.handle_found(now, &request, found),
                None => self.service.handle(now, &caller, &request, checked.as_ref()),
            };
            match decision {
                Decision::Check(check) => checked = Some(check.run()),
                Decision::Search(search) => {
                    let mut reader = self.store.reader().expect("memory suffices");
                    found = Some(reader.find(*search).expect("written by ourselves"));
                }
                Decision::Pick(rest) => found = Some(*rest),
                Decision::Done(outcome) => break outcome,
            }
        };
        let changes = self.service.take_changes();
        self.store.commit(&changes).expect("memory suffices");
        let mut message = Vec::new();
        wire::registry::push_message(&mut message, &outcome.answer);
        let answer = Answer::decode(&message[4..]).expect("directories answer what nodes know");
        (answer, outcome.effects)
    }

    /// Does what the administrator wants with a node; the effects are to be carried out.
    pub fn administer(&mut self, now: Time, unix_seconds: u64, node: NodeId, act: &Act) -> Vec<Effect> {
        let now = Now { monotonic: Duration::from_nanos(now.0), unix_seconds };
        self.service.administer(now, Subject::Node(node), act).expect("a node that is registered");
        self.store.commit(&self.service.take_changes()).expect("memory suffices");
        self.service.take_effects()
    }

    /// What a relay has to know of a node, its key, addresses and place; `None` when there is no such node.
    pub fn known(&self, node: NodeId) -> Option<([u8; 32], Vec<IpAddr>, Option<SocketAddr>)> {
        let key = self.service.public_key(node)?;
        self.service.proven(node).map(|proven| (key, proven.to_vec(), self.service.last_endpoint(node)))
    }

    pub fn registered(&self) -> Vec<NodeId> {
        self.service.registered().collect()
    }
}

/// The form a request has on the wire.
pub fn encode(request: &Request) -> Vec<u8> {
    let mut message = Vec::new();
    wire::registry::push_message(&mut message, request);
    message.split_off(4)
}

fn load(store: &Store) -> Service {
    Service::new(store.load().expect("written by ourselves"), &Limits::default(), None)
}
