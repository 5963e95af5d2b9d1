//! The relay: the engine's one shard behind simulated sockets.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use agent::Time;
use relay::authority::{Authority, Judge};
use relay::contests::Board;
use relay::cookie::Cookies;
use relay::endpoint::Path;
use relay::locals::{Local, Locals, Service};
use relay::membership::Membership;
use relay::server::{Action, Handoff, REPLY_MAX, Rules, Server, Shared};
use relay::sessions::Table;
use wire::NodeId;

use crate::world::Datagram;

pub const BEACON_PORT: u16 = 9001;
pub const STUN_PORT: u16 = 3478;
const SESSIONS_MAX: usize = 256;
/// The key by which nodes know the relays of a world.
pub const RELAY_KEY: [u8; 32] = [0x4B; 32];

/// The nodes' keys, as the directory has told them; it is beside the relay and answers at once.
#[derive(Default)]
struct Keys(BTreeMap<NodeId, [u8; 32]>);

impl Authority for Keys {
    fn public_key(&self, node: NodeId) -> Option<[u8; 32]> {
        self.0.get(&node).copied()
    }

    fn lets_resolve(&self, _requester: NodeId, _target: NodeId) -> bool {
        true
    }
}

/// A relay at one address.
pub struct Relay {
    pub ip: IpAddr,
    pub up: bool,
    /// When it asked to be woken.
    pub wake_at: Time,
    membership: Arc<Membership>,
    keys: Keys,
    judge: Judge,
    table: Arc<Table>,
    server: Server,
}

impl Relay {
    pub fn new(ip: IpAddr) -> Self {
        let membership = Arc::new(Membership::default());
        membership.set_authority(true);
        let shared =
            Shared { table: Table::new(1, SESSIONS_MAX), membership: Arc::clone(&membership), board: Board::new(1) };
        let mut secret = [0; 32];
        secret.iter_mut().zip(ip.to_string().bytes()).for_each(|(byte, of_ip)| *byte = of_ip);
        let rules = Rules { cookies: Some(Arc::new(Cookies::new(RELAY_KEY, &secret))), ..Rules::default() };
        let server = Server::new(rules, 0, &shared, Arc::new(locals(ip)));
        let (keys, judge) = (Keys::default(), Judge::new(RELAY_KEY));
        Self { ip, up: true, wake_at: Time(0), membership, keys, judge, table: shared.table, server }
    }

    pub const fn beacon(&self) -> SocketAddr {
        SocketAddr::new(self.ip, BEACON_PORT)
    }

    /// What `datagram` makes the relay send.
    pub fn handle_datagram(&mut self, now: Time, datagram: Datagram) -> Vec<Datagram> {
        let Datagram { from: remote, to, mut bytes } = datagram;
        let Some((local, _)) = self.server.locals().iter().find(|(_, local)| local.bound == to) else {
            return Vec::new();
        };
        let from = Path { remote: remote.into(), local };
        let mut reply = [0; REPLY_MAX];
        let action = self.server.handle_datagram(relay::Time(now.0), from, &mut bytes, &mut reply);
        let mut sent = Vec::new();
        match action {
            Action::Forward { to, part } => sent.push(self.datagram(to, &bytes[part])),
            Action::Reply { len, via } => sent.push(self.datagram(Path { local: via, ..from }, &reply[..len])),
            Action::ReplyAndSend { len, send } => {
                sent.push(self.datagram(from, &reply[..len]));
                sent.push(self.datagram(send.to, send.bytes()));
            }
            Action::Defer | Action::Drop(_) => {}
        }
        self.settle(now, sent)
    }

    pub fn handle_timeout(&mut self, now: Time) -> Vec<Datagram> {
        self.server.handle_timeout(relay::Time(now.0));
        self.settle(now, Vec::new())
    }

    pub fn poll_timeout(&self) -> Time {
        Time(self.server.poll_timeout().0)
    }

    /// Where the relay believes a node to be, and whether the node has signed that it is there.
    pub fn session(&self, node: NodeId) -> Option<(SocketAddr, bool)> {
        self.table.find(node).map(|session| (session.path.remote.socket_addr(), session.claimed))
    }

    /// The directory says that `node` exists, what its key is and which addresses are its own.
    pub fn publish(&mut self, node: NodeId, key: [u8; 32], proven: &[IpAddr], last: Option<SocketAddr>) {
        self.keys.0.insert(node, key);
        self.membership.publish(node, proven, last);
    }

    pub fn withdraw(&mut self, now: Time, node: NodeId) -> Vec<Datagram> {
        self.membership.withdraw(node);
        self.server.handle_handoff(relay::Time(now.0), Handoff::Withdraw(node));
        self.settle(now, Vec::new())
    }

    pub fn notify(&mut self, now: Time, node: NodeId) -> Vec<Datagram> {
        self.server.handle_handoff(relay::Time(now.0), Handoff::Notify(node));
        self.settle(now, Vec::new())
    }

    /// Every datagram is accounted for.
    pub fn is_balanced(&mut self) -> bool {
        self.server.counters().balanced()
    }

    fn settle(&mut self, now: Time, mut sent: Vec<Datagram>) -> Vec<Datagram> {
        let now = relay::Time(now.0);
        while let Some(question) = self.server.poll_question() {
            let answer = self.judge.judge(now, &self.keys, &question);
            self.server.handle_handoff(now, answer);
        }
        while let Some(send) = self.server.poll_send() {
            sent.push(self.datagram(send.to, send.bytes()));
        }
        assert!(self.server.poll_handoff().is_none(), "a lone shard has nobody to tell");
        sent
    }

    fn datagram(&self, path: Path, bytes: &[u8]) -> Datagram {
        let local = self.server.locals().get(path.local).expect("sessions name addresses of ours");
        Datagram { from: local.bound, to: path.remote.socket_addr(), bytes: bytes.to_vec() }
    }
}

fn locals(ip: IpAddr) -> Locals {
    let local = |port, service| {
        let bound = SocketAddr::new(ip, port);
        Local { bound, seen_as: bound, service, payload_max: 1472, present: true }
    };
    Locals::new(vec![local(BEACON_PORT, Service::Beacon), local(STUN_PORT, Service::Stun)])
}
