//! The relay: the engine's one shard behind simulated sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use agent::Time;
use relay::contests::Board;
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

/// A relay at one address.
pub struct Relay {
    pub ip: IpAddr,
    pub up: bool,
    /// When it asked to be woken.
    pub wake_at: Time,
    membership: Arc<Membership>,
    server: Server,
}

impl Relay {
    pub fn new(ip: IpAddr) -> Self {
        let membership = Arc::new(Membership::default());
        membership.set_authority(true);
        let shared =
            Shared { table: Table::new(1, SESSIONS_MAX), membership: Arc::clone(&membership), board: Board::new(1) };
        let server = Server::new(Rules::default(), 0, &shared, Arc::new(locals(ip)));
        Self { ip, up: true, wake_at: Time(0), membership, server }
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
        self.settle(sent)
    }

    pub fn handle_timeout(&mut self, now: Time) -> Vec<Datagram> {
        self.server.handle_timeout(relay::Time(now.0));
        self.settle(Vec::new())
    }

    pub fn poll_timeout(&self) -> Time {
        Time(self.server.poll_timeout().0)
    }

    /// The directory says that `node` exists and which addresses are its own.
    pub fn publish(&self, node: NodeId, proven: &[IpAddr], last: Option<SocketAddr>) {
        self.membership.publish(node, proven, last);
    }

    pub fn withdraw(&mut self, now: Time, node: NodeId) -> Vec<Datagram> {
        self.membership.withdraw(node);
        self.server.handle_handoff(relay::Time(now.0), Handoff::Withdraw(node));
        self.settle(Vec::new())
    }

    pub fn notify(&mut self, now: Time, node: NodeId) -> Vec<Datagram> {
        self.server.handle_handoff(relay::Time(now.0), Handoff::Notify(node));
        self.settle(Vec::new())
    }

    /// Every datagram is accounted for.
    pub fn is_balanced(&mut self) -> bool {
        self.server.counters().balanced()
    }

    fn settle(&mut self, mut sent: Vec<Datagram>) -> Vec<Datagram> {
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
