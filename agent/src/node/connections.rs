//! The streams of a node: which segment belongs to which, which of them have something to send, which wait for time.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use wire::NodeId;
use wire::address::SocketAddress;

use super::StreamId;
use super::span::StreamTrace;
use crate::Time;
use crate::identity::PUBLIC_KEY_LEN;
use crate::stream::Stream;

/// Streams in all (section 8.5), and that one peer may open.
pub const CONNECTIONS_MAX: usize = 65_536;
pub const CONNECTIONS_OF_ONE_MAX: usize = 1024;

/// What tells the streams of one node apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The other end.
    pub peer: NodeId,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

/// Who reads and writes a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The application.
    Application,
    /// The node, which delivers a trust message and closes after a while.
    HandshakeOut {
        /// What is to be said; empty once it is written.
        message: Vec<u8>,
        /// Whoever wanted it said knows what became of it.
        told: bool,
    },
    /// The node, which awaits a trust message.
    HandshakeIn {
        /// What has come so far.
        received: Vec<u8>,
    },
}

/// One stream and what its owner has been told.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The stream itself.
    pub stream: Stream,
    /// Which one it is.
    pub key: Key,
    /// Our end.
    pub local: SocketAddress,
    /// The other end.
    pub remote: SocketAddress,
    /// Who reads and writes it.
    pub owner: Owner,
    /// We dialled, and the owner waits to hear that it is open.
    pub opening: bool,
    /// The owner knows that there is something to read.
    pub readable_told: bool,
    /// The owner could not write all it had.
    pub wants_to_write: bool,
    /// The owner is done with it.
    pub released: bool,
    /// Bytes the owner has written.
    pub bytes_sent: u64,
    /// Bytes the owner has read.
    pub bytes_received: u64,
    /// When it was dialled, or its SYN came.
    pub begun_at: Time,
    /// When the peer's SYN was let in.
    pub accepted_at: Option<Time>,
    /// We dialled.
    pub is_dialled: bool,
    /// Our SYN has left.
    pub is_asked: bool,
    /// The key the peer had proved to hold when the stream opened, if we dialled.
    pub proven_key: Option<[u8; PUBLIC_KEY_LEN]>,
    /// Its end has been noted.
    pub is_end_told: bool,
    /// Its trace.
    pub trace: Option<Box<StreamTrace>>,
    is_ready: bool,
    armed: Option<Time>,
}

impl Connection {
    /// A stream that its owner has heard nothing of.
    #[must_use]
    pub const fn new(
        now: Time,
        stream: Stream,
        key: Key,
        local: SocketAddress,
        remote: SocketAddress,
        owner: Owner,
    ) -> Self {
        Self {
            stream,
            key,
            local,
            remote,
            owner,
            opening: false,
            readable_told: false,
            wants_to_write: false,
            released: false,
            bytes_sent: 0,
            bytes_received: 0,
            begun_at: now,
            accepted_at: None,
            is_dialled: false,
            is_asked: false,
            proven_key: None,
            is_end_told: false,
            trace: None,
            is_ready: false,
            armed: None,
        }
    }
}

/// All streams.
#[derive(Debug, Default)]
pub struct Connections {
    connections: HashMap<StreamId, Connection>,
    by_key: BTreeMap<Key, StreamId>,
    /// Streams that may have something to send, in turns.
    ready: VecDeque<StreamId>,
    timers: BTreeSet<(Time, StreamId)>,
    last: u32,
}

impl Connections {
    /// Whether there is no room for another.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.connections.len() >= CONNECTIONS_MAX
    }

    /// Takes in a stream that has something to send. One that was there for the same ports is gone.
    pub fn insert(&mut self, connection: Connection) -> StreamId {
        self.last = self.last.wrapping_add(1);
        while self.last == 0 || self.connections.contains_key(&StreamId(self.last)) {
            self.last = self.last.wrapping_add(1);
        }
        let id = StreamId(self.last);
        self.by_key.insert(connection.key, id);
        self.connections.insert(id, connection);
        self.make_ready(id);
        id
    }

    /// The stream between these ports.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<StreamId> {
        self.by_key.get(key).copied()
    }

    /// One stream.
    #[must_use]
    pub fn get(&self, id: StreamId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    /// One stream, to be changed; [`Connections::make_ready`] belongs behind every change.
    pub fn get_mut(&mut self, id: StreamId) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    /// Forgets a stream.
    pub fn remove(&mut self, id: StreamId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if let Some(due) = connection.armed {
            self.timers.remove(&(due, id));
        }
        // Another may have taken its ports.
        if self.by_key.get(&connection.key) == Some(&id) {
            self.by_key.remove(&connection.key);
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (StreamId, &Connection)> {
        self.connections.iter().map(|(id, connection)| (*id, connection))
    }

    /// Streams with `peer`.
    #[must_use]
    pub fn with(&self, peer: NodeId) -> Vec<StreamId> {
        self.range(peer).map(|(_, id)| *id).collect()
    }

    /// How many streams there are with `peer`.
    #[must_use]
    pub fn count_with(&self, peer: NodeId) -> usize {
        self.range(peer).count()
    }

    fn range(&self, peer: NodeId) -> impl Iterator<Item = (&Key, &StreamId)> {
        let first = Key { peer, local_port: 0, remote_port: 0 };
        self.by_key.range(first..=Key { local_port: u16::MAX, remote_port: u16::MAX, ..first })
    }

    /// The stream may have something to send.
    pub fn make_ready(&mut self, id: StreamId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !std::mem::replace(&mut connection.is_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// The stream whose turn it is to send.
    #[must_use]
    pub fn next_ready(&self) -> Option<StreamId> {
        self.ready.front().copied()
    }

    /// Lets the other streams have a turn.
    pub fn yield_turn(&mut self) {
        if self.ready.len() > 1 {
            self.ready.rotate_left(1);
        }
    }

    /// The stream whose turn it is has nothing to send until it is touched, or until `wakes`.
    pub fn rest(&mut self, wakes: Option<Time>) {
        let Some(id) = self.ready.pop_front() else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.is_ready = false;
        if connection.armed != wakes {
            if let Some(due) = std::mem::replace(&mut connection.armed, wakes) {
                self.timers.remove(&(due, id));
            }
            self.timers.extend(wakes.map(|due| (due, id)));
        }
    }

    /// When a stream is to be woken.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// A stream that is to be woken at `now`.
    pub fn pop_due(&mut self, now: Time) -> Option<StreamId> {
        let (due, id) = *self.timers.first()?;
        if due > now {
            return None;
        }
        self.timers.pop_first();
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.armed = None;
        }
        Some(id)
    }
}
