//! Where the status page learns what the relay does: a snapshot of its counters, and what it knows of one node. The other
//! direction of the seam is [`crate::relay_link`].

use std::net::SocketAddr;

use serde::Serialize;
use wire::NodeId;

/// What a relay tells when asked. Called from any thread, some times a second.
pub trait RelaySource: Send + Sync {
    /// The counters now.
    fn snapshot(&self) -> RelaySnapshot;

    /// What the relay knows of `node`; `None` when it has neither a session nor a memory of it.
    fn node(&self, node: NodeId) -> Option<NodeAtRelay>;

    /// What `node` has sent through the relay; `None` where that is not counted.
    fn usage(&self, _node: NodeId) -> Option<Usage> {
        None
    }
}

/// What a node has sent through the relay since that started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Packets relayed.
    pub packets: u64,
    /// Bytes relayed.
    pub bytes: u64,
    /// Packets dropped because they were beyond its quota, or beyond what everyone is granted.
    pub dropped: u64,
}

/// The counters of a relay at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RelaySnapshot {
    /// Seconds since the relay began to serve.
    pub uptime_seconds: u64,
    /// One a shard.
    pub shards: Vec<ShardFigures>,
    /// Datagrams dropped since the start, by reason, in the order of the relay's metrics.
    pub drops: Vec<DropFigures>,
}

/// The counters of one shard, since the start but for `sessions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShardFigures {
    /// Its number.
    pub shard: usize,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// Live sessions.
    pub sessions: u64,
    /// Datagrams received.
    pub received: u64,
    /// Datagrams relayed.
    pub forwarded: u64,
    /// Bytes relayed.
    pub forwarded_bytes: u64,
    /// Datagrams answered.
    pub answered: u64,
    /// Datagrams dropped for any reason.
    pub dropped: u64,
    /// Datagrams the kernel dropped before the shard saw them.
    pub kernel_drops: u64,
}

/// Datagrams dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DropFigures {
    /// The reason, as in the metrics.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// What a relay knows of a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeAtRelay {
    /// Where its session stands; `None` when it has none.
    pub endpoint: Option<SocketAddr>,
    /// The shard that owns it.
    pub shard: usize,
    /// Whether the node has signed that it is there (2), the session's address is one the directory holds proof for (1), or
    /// neither (0); `None` without a session.
    pub grade: Option<u8>,
    /// Seconds since it was heard last.
    pub heard_seconds_ago: Option<u64>,
    /// The last control events, the oldest first.
    pub events: Vec<RelayEvent>,
}

/// Something that happened to a node at the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RelayEvent {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// What, in one word or two, as `session moved`.
    pub what: String,
    /// With what, in words.
    pub detail: String,
}
