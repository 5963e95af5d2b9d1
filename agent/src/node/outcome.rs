//! What a node tells its owner, and why it refuses.

use std::net::SocketAddr;

use wire::NodeId;
use wire::address::{Address, SocketAddress};

/// One stream of a node; also the connection number that clients of the daemon see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// One question to the directory, to match its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A datagram to be sent: it stands at the start of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Bytes of it.
    pub len: usize,
}

/// What the application should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The directory has given the node its id.
    Registered {
        /// The id.
        node: NodeId,
        /// The address that goes with it.
        address: Address,
    },
    /// The directory refused something the node was told to announce, as a hostname that another has.
    Complaint(String),
    /// What the node offers, or how its publication stands, has changed; keep it.
    CapabilityChanged,
    /// The directory cannot be reached, and why; everything that needs no answer of it goes on.
    DirectoryLost(String),
    /// The directory answers again.
    DirectoryBack,
    /// Another relay is used from now on, or none answers.
    RelayChanged(Option<SocketAddr>),
    /// A stream that was dialled is open.
    Opened(StreamId),
    /// A peer has opened a stream to a bound port.
    Accepted {
        /// The bound port.
        port: u16,
        /// The stream.
        stream: StreamId,
        /// Who dialled.
        remote: SocketAddress,
    },
    /// A stream has bytes to read, or its end has come: then `read` gives nothing and [`super::Node::stream_end`] says
    /// why. Told again after a `read` that has left
    /// something, or when more comes.
    Readable(StreamId),
    /// A stream takes bytes again after a `write` that took fewer than it was given.
    Writable(StreamId),
    /// A datagram has come.
    Datagram {
        /// Who sent it.
        source: SocketAddress,
        /// Our port it came to.
        port: u16,
        /// What was sent.
        data: Box<[u8]>,
    },
    /// The path to a peer has changed.
    PathChanged {
        /// The peer.
        peer: NodeId,
        /// The direct endpoint; none through the relay.
        direct: Option<SocketAddr>,
    },
    /// The directory's list of relays, to be resolved and given to [`super::Node::set_relays`].
    RelaysListed(Vec<String>),
    /// A peer asks for trust.
    TrustRequested {
        /// Who.
        peer: NodeId,
        /// Why, in the peer's words.
        justification: String,
    },
    /// What the node knows of trust has changed; keep it.
    TrustChanged,
}

/// Why a question to the directory has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// There is no connection, or it broke before the answer came.
    #[error("the directory cannot be reached: {0}")]
    Unreachable(String),
    /// It answered with an error that says nothing of what was asked.
    #[error("the directory refuses: {0}")]
    Refused(String),
}

/// Why a stream cannot be dialled, or a datagram not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The directory has not given this node its id yet.
    #[error("this node is not registered yet")]
    NotRegistered,
    /// The address is no node's.
    #[error("this is no node's address")]
    NotANode,
    /// As many streams as there may be.
    #[error("too many connections")]
    TooMany,
    /// Longer than a packet can carry.
    #[error("too long for a datagram")]
    TooLong,
}

/// Why a port cannot be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Another has it.
    #[error("port {0} already bound")]
    InUse(u16),
    /// No free port is left.
    #[error("no free port")]
    Exhausted,
}

/// What stands between this node and a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The directory does not know the peer.
    #[error("no such node: {0}")]
    Unknown(String),
    /// The directory could not be asked for the peer's key.
    #[error("{0}")]
    DirectoryAway(Unanswered),
    /// The directory names another key than the one that is trusted.
    #[error(
        "the directory has another key for this node than the one that is trusted; if it was renewed on purpose: pilotctl \
         untrust, then handshake"
    )]
    ForeignKey,
    /// The administrator of the directory keeps the peer out.
    #[error("the administrator of the directory has banned this peer")]
    Banned,
    /// No answer to our keys, on any path.
    #[error("the peer does not answer; it may be offline, or not trust this node")]
    Silent,
}
