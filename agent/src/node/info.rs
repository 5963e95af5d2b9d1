//! What a node tells a person about itself.

use std::net::SocketAddr;
use std::time::Duration;

use wire::NodeId;
use wire::address::SocketAddress;

use super::StreamId;
use crate::stream;

/// One stream, for a person.
#[derive(Clone, Copy, Debug)]
pub struct StreamInfo {
    /// Its number.
    pub id: StreamId,
    /// Our port.
    pub local_port: u16,
    /// The other end.
    pub remote: SocketAddress,
    /// Where it stands.
    pub state: stream::State,
    /// How it fares.
    pub metrics: stream::Metrics,
    /// Bytes taken from the application.
    pub bytes_sent: u64,
    /// Bytes given to the application.
    pub bytes_received: u64,
}

/// One peer, for a person.
#[derive(Clone, Copy, Debug)]
pub struct PeerInfo {
    /// Who.
    pub node: NodeId,
    /// The direct endpoint in use; none through the relay.
    pub direct: Option<SocketAddr>,
    /// Whether there is a session; all sessions are authenticated.
    pub has_session: bool,
    /// Round-trip time of the direct path in use, once measured.
    pub rtt: Option<Duration>,
}

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of them.
    pub bytes_sent: u64,
    /// Of these, through the relay.
    pub datagrams_relayed: u64,
    /// Datagrams received, whatever became of them.
    pub datagrams_received: u64,
    /// Bytes of them.
    pub bytes_received: u64,
    /// Frames sealed.
    pub sealed: u64,
    /// Frames opened.
    pub opened: u64,
    /// Frames that did not open.
    pub not_opened: u64,
    /// Datagrams dropped for any reason, those included.
    pub dropped: u64,
    /// Streams and datagrams of strangers that were not let in.
    pub strangers: u64,
}
