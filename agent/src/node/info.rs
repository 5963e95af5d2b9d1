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
    /// Of the bytes sent, frames to peers: directly, and through a relay.
    pub bytes_sent_direct: u64,
    /// See [`Counters::bytes_sent_direct`].
    pub bytes_sent_relayed: u64,
    /// Frames of peers that came straight from them, and bytes of these.
    pub frames_received_direct: u64,
    /// See [`Counters::frames_received_direct`].
    pub bytes_received_direct: u64,
    /// Frames that came through a relay, and bytes of these.
    pub frames_received_relayed: u64,
    /// See [`Counters::frames_received_relayed`].
    pub bytes_received_relayed: u64,
    /// Sessions established.
    pub sessions: u64,
    /// Ephemeral keys negotiated.
    pub rekeyings: u64,
    /// Exchanges of keys that have failed.
    pub handshakes_failed: u64,
    /// Streams this node has dialled.
    pub streams_dialled: u64,
    /// Of these, answered.
    pub streams_opened: u64,
    /// Of these, failed.
    pub streams_failed: u64,
    /// Streams of peers let in.
    pub streams_accepted: u64,
    /// Streams of peers not let in.
    pub streams_refused: u64,
    /// Segments sent again, of streams that have ended.
    pub retransmissions: u64,
    /// Direct paths found.
    pub paths_direct: u64,
    /// Direct paths lost.
    pub paths_lost: u64,
    /// Searches for a direct path that were given up.
    pub punches_failed: u64,
}
