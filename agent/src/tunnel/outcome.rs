//! What becomes of datagrams and packets, in the words of the engine and its owner.

use std::net::SocketAddr;

use wire::NodeId;
use wire::packet::Packet;

use super::session::Refusal;

/// The way a datagram has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// From this endpoint. Anybody can write a false one.
    Direct(SocketAddr),
    /// Through a relay, which names the sender.
    Relay(NodeId),
}

/// The way a frame shall go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The path in use with the peer.
    InUse,
    /// Every path there is, the relay among them.
    Every,
    /// Back where something came from, though nothing has proven that path.
    Back(Via),
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// The peer sent this packet, and the path it came on works.
    Packet {
        /// Who sealed it.
        peer: NodeId,
        /// Its content, opened in place.
        packet: Packet<'a>,
    },
    /// The peer lives, and the path works.
    Keepalive {
        /// Who sealed it.
        peer: NodeId,
    },
    /// A hole-punch probe, from anybody.
    Probe,
    /// A key exchange, used or kept.
    Taken,
    /// Nothing; count why.
    Dropped(DropReason),
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Not a tunnel frame, or the packet in it is none.
    Malformed,
    /// A packet in clear.
    Plain,
    /// The sender it names is nobody, or we.
    ForgedSender,
    /// The source sends too many key exchanges.
    RateLimited,
    /// The same signed key again.
    Repeated,
    /// The directory knows no key of the sender's.
    UnknownIdentity,
    /// The signed key is another's than the sender's.
    ForeignIdentity,
    /// The signature is wrong.
    BadSignature,
    /// An X25519 key that agrees to zero with everyone.
    WeakKey,
    /// A key the peer has long replaced: a recording.
    StaleKey,
    /// Too many unknown nodes at once.
    TooManyStrangers,
    /// No room for another peer.
    TooManyPeers,
    /// No room for another frame that has to wait.
    QueueFull,
    /// Sealed for a session we do not have.
    NoSession,
    /// Not sealed with the session's key.
    NotAuthentic,
    /// Seen before, or too old to tell.
    Replayed,
    /// The packet's source is not the frame's sender.
    ForeignSource,
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Replayed => Self::Replayed,
            Refusal::NotAuthentic => Self::NotAuthentic,
        }
    }
}

/// What became of a packet to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// The frame is sealed: send it.
    Ready,
    /// A copy waits for a session.
    Waiting,
    /// Nothing; count why.
    Dropped(DropReason),
}

/// What the owner has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a frame.
    Transmit {
        /// To whom.
        peer: NodeId,
        /// Which way.
        route: Route,
        /// What.
        frame: Box<[u8]>,
    },
    /// Ask the directory for the peer's public key, and tell it by [`super::Tunnels::handle_identity`].
    IdentityWanted(NodeId),
    /// There is a session, new or renewed. The path is not proven.
    Established {
        /// With whom.
        peer: NodeId,
        /// How the peer's key came.
        via: Via,
    },
    /// Ephemeral keys have been negotiated and are in use.
    Negotiated {
        /// With whom.
        peer: NodeId,
    },
    /// The peer does not answer, on any path.
    Unreachable {
        /// Who.
        peer: NodeId,
        /// Frames that waited for it and are gone.
        dropped: usize,
    },
    /// A key exchange that had been [`Received::Taken`] is dropped after all.
    Refused {
        /// Whose it would have been.
        peer: NodeId,
        /// Why.
        reason: DropReason,
    },
}
