//! A host: a node's process with its socket, its connection to the directory, its clocks and its applications.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agent::Time;
use agent::identity::Identity;
use agent::node::{Config, Event, Node, StreamId, Ticket};
use agent::stream;
use directory::service::ConnectionId;
use wire::NodeId;

use crate::chance::Chance;
use crate::flow::Side;
use crate::world::SiteId;

/// The port of every tunnel socket.
pub const TUNNEL_PORT: u16 = 4000;
/// What the virtual wall clock shows when the virtual clock shows zero.
const EPOCH_UNIX_SECONDS: u64 = 1_795_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub usize);

/// What runs on a host.
pub enum Process {
    Node(Box<Node>),
    /// Nothing of ours: the story speaks for it, and reads what comes.
    Raw(VecDeque<(SocketAddr, Vec<u8>)>),
}

/// The connection to the directory.
#[derive(Debug, Default)]
pub struct Connection {
    pub id: Option<ConnectionId>,
    /// When it is established.
    pub ready_at: Time,
    /// Questions without an answer yet.
    pub pending: BTreeSet<Ticket>,
}

/// A change of path that the node has told its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathChange {
    pub at: Time,
    pub peer: NodeId,
    pub direct: Option<SocketAddr>,
}

pub struct Host {
    pub site: SiteId,
    pub ip: IpAddr,
    pub process: Process,
    pub config: Config,
    pub connection: Connection,
    pub wake_at: Option<Time>,
    /// What the wall clock is off by, in seconds.
    pub wall_offset: i64,
    /// The lid is closed: nothing runs, time goes on.
    pub suspended: bool,
    /// The id, also while a new process does not know it yet.
    pub known_as: Option<NodeId>,
    pub streams: BTreeMap<StreamId, (usize, Side)>,
    pub path_changes: Vec<PathChange>,
    pub complaints: Vec<String>,
    pub datagrams: Vec<(NodeId, u16, Box<[u8]>)>,
    /// Frames sealed and opened by processes that are gone.
    pub sealed_before: u64,
    pub opened_before: u64,
    identity: Arc<Identity>,
    chance: Chance,
    /// The second that runs, and what was sent in it.
    sent: (u64, u32),
}

impl Host {
    pub fn new(site: SiteId, ip: IpAddr, config: Config, process: Process, mut chance: Chance) -> Self {
        Self {
            site,
            ip,
            process,
            config,
            connection: Connection::default(),
            wake_at: None,
            wall_offset: 0,
            suspended: false,
            known_as: None,
            streams: BTreeMap::new(),
            path_changes: Vec::new(),
            complaints: Vec::new(),
            datagrams: Vec::new(),
            sealed_before: 0,
            opened_before: 0,
            identity: Arc::new(Identity::from_seed(&chance.bytes())),
            chance,
            sent: (0, 0),
        }
    }

    pub const fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.ip, TUNNEL_PORT)
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn unix_seconds(&self, now: Time) -> u64 {
        unix_seconds(now).saturating_add_signed(self.wall_offset)
    }

    /// Starts the node's process, or starts it again with the same identity and fresh chance.
    pub fn start(&mut self, now: Time) {
        if let Process::Node(node) = &self.process {
            self.sealed_before += node.counters().sealed;
            self.opened_before += node.counters().opened;
        }
        let mut node = Node::new(now, self.config.clone(), Arc::clone(&self.identity), &self.chance.bytes());
        node.set_wall_clock(self.unix_seconds(now));
        node.set_local_endpoints(now, &[self.socket()]);
        self.process = Process::Node(Box::new(node));
        self.streams.clear();
        self.wake_at = None;
    }

    /// Counts a datagram that leaves; how many have within the second.
    pub const fn count_sent(&mut self, now: Time) -> u32 {
        let second = now.0 / 1_000_000_000;
        if self.sent.0 != second {
            self.sent = (second, 0);
        }
        self.sent.1 += 1;
        self.sent.1
    }

    pub fn node(&self) -> Option<&Node> {
        match &self.process {
            Process::Node(node) => Some(node),
            Process::Raw(_) => None,
        }
    }

    /// # Panics
    /// If no node runs here.
    pub fn node_mut(&mut self) -> &mut Node {
        match &mut self.process {
            Process::Node(node) => node,
            Process::Raw(_) => panic!("no node runs on this host"),
        }
    }

    pub fn id(&self) -> Option<NodeId> {
        self.node()?.id()
    }

    pub fn is_raw(&self) -> bool {
        matches!(self.process, Process::Raw(_))
    }
}

pub const fn unix_seconds(now: Time) -> u64 {
    EPOCH_UNIX_SECONDS + now.0 / 1_000_000_000
}

/// A node that anyone may dial.
pub fn config(relays: &[SocketAddr]) -> Config {
    Config {
        version: "simulated".into(),
        public: true,
        relays: relays.to_vec(),
        // Room for what a story sends, and no more: worlds hold many nodes.
        stream: stream::Config { send_buffer_bytes: 256 << 10, ..stream::Config::default() },
        ..Config::default()
    }
}

/// What a host's node wants of its world.
pub enum Wish {
    Transmit(SocketAddr, Vec<u8>),
    Ask(Ticket, Vec<u8>),
    Tell(Event),
}

/// How long a question to the directory is waited for that nobody refuses.
pub const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
