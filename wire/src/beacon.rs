//! Beacon messages over UDP (section 4.1): the first byte is the type, all integers are big-endian.
//!
//! ```text
//! 01 discover        node=4 [ed25519=32]            07 sync        beacon=4 count=2 node=4 × count
//! 02 discover reply  iplen=1 ip port=2              08 discover-ex as 01; asks for 09 deliveries
//! 03 punch request   requester=4 target=4 [grant]   09 deliver-to  sender=4 dest=4 inner
//! 04 punch command   iplen=1 ip port=2              0A notify      kind=1
//! 05 relay           sender=4 dest=4 inner
//! 06 deliver         sender=4 inner                 0B challenge   relay key=32 cookie=16 (ours)
//!                                                   0C claim       node=4 cookie=16 signature=64 (ours)
//!                                                   0D trace       sender=4 dest=4 context=25 (ours)
//! ```
//!
//! **The signed claim.** A node sends a claim whose cookie and signature are zeros; the relay answers with a challenge,
//! which is smaller; the node sends the claim again, with the cookie and its signature over [`claim_text`]. The cookie
//! fits the source it was sent to and a few seconds of time, so that a copy is worth nothing elsewhere or later.
//!
//! Every message from a daemon carries the sender's node id at offset 1, the key by which datagrams are steered to
//! shards. Bytes after a known message are ignored.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use crate::NodeId;
use crate::codec::{DecodeError, Reader, Writer};
use crate::trace::TraceContext;

/// Type bytes of the beacon messages.
pub mod kind {
    /// Where am I? From a daemon.
    pub const DISCOVER: u8 = 0x01;
    /// You are there. From a beacon.
    pub const DISCOVER_REPLY: u8 = 0x02;
    /// Help me reach that node. From a daemon.
    pub const PUNCH_REQUEST: u8 = 0x03;
    /// Send probes to that endpoint. From a beacon.
    pub const PUNCH_COMMAND: u8 = 0x04;
    /// Carry this to that node. From a daemon.
    pub const RELAY: u8 = 0x05;
    /// This came from that node. From a beacon.
    pub const DELIVER: u8 = 0x06;
    /// Nodes held by a beacon. Between beacons; not spoken here.
    pub const SYNC: u8 = 0x07;
    /// As [`DISCOVER`], and [`DELIVER_TO`] is understood.
    pub const DISCOVER_EX: u8 = 0x08;
    /// As [`DELIVER`], with the destination: several nodes share the socket.
    pub const DELIVER_TO: u8 = 0x09;
    /// Something waits for you in the directory. From a beacon.
    pub const NOTIFY: u8 = 0x0A;
    /// Ours: sign this, if you hold the id. From a relay, to who has sent a [`CLAIM`].
    pub const CHALLENGE: u8 = 0x0B;
    /// Ours: I hold this id, and here is my signature; or, with zeros, ask me for it. Only sent to a relay that says in the
    /// directory's list that it takes it.
    pub const CLAIM: u8 = 0x0C;
    /// Ours: the trace that the next datagrams to a node belong to. Only sent to a relay that says in the directory's list
    /// that it takes it.
    pub const TRACE: u8 = 0x0D;
    /// The highest type in use, ours included.
    pub const LAST: u8 = TRACE;
}

/// Offset of the node id by which datagrams are steered.
pub const ROUTING_KEY_OFFSET: usize = 1;
/// The shortest datagram that carries a routing key.
pub const ROUTING_KEY_END: usize = 5;
/// Bytes of a relay (05) or deliver-to (09) message before the inner datagram.
pub const RELAY_HEADER_LEN: usize = 9;
/// Bytes of a trace (0D) message.
pub const TRACE_LEN: usize = 9 + crate::trace::LEN;
/// Bytes of a cookie in a challenge (0B) or claim (0C).
pub const COOKIE_LEN: usize = 16;
/// Bytes of a challenge (0B) message.
pub const CHALLENGE_LEN: usize = 1 + 32 + COOKIE_LEN;
/// Bytes of a claim (0C) message.
pub const CLAIM_LEN: usize = 1 + 4 + COOKIE_LEN + 64;
const _: () = assert!(CHALLENGE_LEN < CLAIM_LEN, "a challenge amplifies nothing");
/// Bytes of a deliver (06) message before the inner datagram.
pub const DELIVER_HEADER_LEN: usize = 5;
/// Room for any message that carries an endpoint (02, 04).
pub const ENDPOINT_MESSAGE_MAX: usize = 1 + 1 + 16 + 2;

/// A beacon message, borrowed from its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// 01 or 08.
    Discover {
        /// The asking node; zero from a start-up probe.
        node: NodeId,
        /// 08: deliveries may come as 09.
        extended: bool,
    },
    /// 02: the sender's endpoint as the beacon saw it.
    DiscoverReply(SocketAddr),
    /// 03. The grant some servers may ask for is not looked at.
    PunchRequest {
        /// Who asks.
        requester: NodeId,
        /// Whom it wants to reach.
        target: NodeId,
    },
    /// 04: where to send probes.
    PunchCommand(SocketAddr),
    /// 05.
    Relay {
        /// Who sends.
        sender: NodeId,
        /// Who shall get it.
        dest: NodeId,
        /// What is carried; may be empty.
        inner: &'a [u8],
    },
    /// 06.
    Deliver {
        /// Who sent.
        sender: NodeId,
        /// What was carried.
        inner: &'a [u8],
    },
    /// 07: `nodes` are held by `beacon`.
    Sync {
        /// The telling beacon.
        beacon: u32,
        /// Node ids, four bytes each.
        nodes: &'a [u8],
    },
    /// 09.
    DeliverTo {
        /// Who sent.
        sender: NodeId,
        /// Which of the nodes behind the socket it is for.
        dest: NodeId,
        /// What was carried.
        inner: &'a [u8],
    },
    /// 0A. Kind 01: poll the directory for handshakes.
    Notify {
        /// What waits.
        kind: u8,
    },
    /// 0B.
    Challenge {
        /// The relay's Ed25519 public key, as the directory's list has it.
        relay_key: &'a [u8; 32],
        /// What is to be signed; fits the asked node's source for some seconds.
        cookie: &'a [u8; COOKIE_LEN],
    },
    /// 0C.
    Claim {
        /// The node that says it is there.
        node: NodeId,
        /// Of the challenge; zeros to be sent one.
        cookie: &'a [u8; COOKIE_LEN],
        /// Ed25519 over [`claim_text`]; zeros to be sent a challenge.
        signature: &'a [u8; 64],
    },
    /// 0D.
    Trace {
        /// Who sends.
        sender: NodeId,
        /// Whom it wants to reach.
        dest: NodeId,
        /// The sender's span.
        context: TraceContext,
    },
}

impl<'a> Message<'a> {
    /// Decodes one datagram.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] for a message shorter than its layout, [`DecodeError::UnknownType`] for a first
    /// byte that is none of the types, [`DecodeError::Invalid`] for an address length other than 4 and 16.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(datagram);
        let node = |reader: &mut Reader<'a>| reader.u32().map(NodeId);
        Ok(match reader.u8()? {
            kind @ (kind::DISCOVER | kind::DISCOVER_EX) => {
                Self::Discover { node: node(&mut reader)?, extended: kind == kind::DISCOVER_EX }
            }
            kind::DISCOVER_REPLY => Self::DiscoverReply(read_endpoint(&mut reader)?),
            kind::PUNCH_REQUEST => Self::PunchRequest { requester: node(&mut reader)?, target: node(&mut reader)? },
            kind::PUNCH_COMMAND => Self::PunchCommand(read_endpoint(&mut reader)?),
            kind::RELAY => Self::Relay { sender: node(&mut reader)?, dest: node(&mut reader)?, inner: reader.rest() },
            kind::DELIVER => Self::Deliver { sender: node(&mut reader)?, inner: reader.rest() },
            kind::SYNC => {
                let beacon = reader.u32()?;
                let count = usize::from(reader.u16()?);
                Self::Sync { beacon, nodes: reader.bytes(count * 4)? }
            }
            kind::DELIVER_TO => {
                Self::DeliverTo { sender: node(&mut reader)?, dest: node(&mut reader)?, inner: reader.rest() }
            }
            kind::NOTIFY => Self::Notify { kind: reader.u8()? },
            kind::CHALLENGE => Self::Challenge { relay_key: reader.array()?, cookie: reader.array()? },
            kind::CLAIM => {
                Self::Claim { node: node(&mut reader)?, cookie: reader.array()?, signature: reader.array()? }
            }
            kind::TRACE => Self::Trace {
                sender: node(&mut reader)?,
                dest: node(&mut reader)?,
                context: TraceContext::read(&mut reader)?,
            },
            other => return Err(DecodeError::UnknownType(u32::from(other))),
        })
    }

    /// Appends the message to `out`, which must have room for it.
    pub fn encode(&self, out: &mut Writer<'_>) {
        match *self {
            Self::Discover { node, extended } => {
                out.u8(if extended { kind::DISCOVER_EX } else { kind::DISCOVER }).u32(node.0);
            }
            Self::DiscoverReply(endpoint) => write_endpoint(out.u8(kind::DISCOVER_REPLY), endpoint),
            Self::PunchRequest { requester, target } => {
                out.u8(kind::PUNCH_REQUEST).u32(requester.0).u32(target.0);
            }
            Self::PunchCommand(endpoint) => write_endpoint(out.u8(kind::PUNCH_COMMAND), endpoint),
            Self::Relay { sender, dest, inner } => {
                out.u8(kind::RELAY).u32(sender.0).u32(dest.0).bytes(inner);
            }
            Self::Deliver { sender, inner } => {
                out.u8(kind::DELIVER).u32(sender.0).bytes(inner);
            }
            Self::Sync { beacon, nodes } => {
                let count = u16::try_from(nodes.len() / 4).expect("at most 65535 nodes in one sync");
                out.u8(kind::SYNC).u32(beacon).u16(count).bytes(&nodes[..usize::from(count) * 4]);
            }
            Self::DeliverTo { sender, dest, inner } => {
                out.u8(kind::DELIVER_TO).u32(sender.0).u32(dest.0).bytes(inner);
            }
            Self::Notify { kind } => {
                out.u8(kind::NOTIFY).u8(kind);
            }
            Self::Challenge { relay_key, cookie } => {
                out.u8(kind::CHALLENGE).bytes(relay_key).bytes(cookie);
            }
            Self::Claim { node, cookie, signature } => {
                out.u8(kind::CLAIM).u32(node.0).bytes(cookie).bytes(signature);
            }
            Self::Trace { sender, dest, context } => {
                context.write(out.u8(kind::TRACE).u32(sender.0).u32(dest.0));
            }
        }
    }
}

/// The text a node signs to hold its id at the relay with this key: ASCII
/// `pilot-relay-claim:<relay key in hex>:<node>:`, then the cookie. It names the relay, so that no other can borrow it.
#[must_use]
pub fn claim_text(relay_key: &[u8; 32], node: NodeId, cookie: &[u8; COOKIE_LEN]) -> Vec<u8> {
    let mut text = String::from("pilot-relay-claim:");
    relay_key.iter().for_each(|byte| {
        let _ = write!(text, "{byte:02x}");
    });
    let _ = write!(text, ":{node}:");
    [text.as_bytes(), cookie].concat()
}

/// Turns a relay message (05) into a deliver message (06) in place and returns the part of it to send: the
/// destination id goes, the inner datagram does not move.
///
/// `datagram` must be at least [`RELAY_HEADER_LEN`] long, as every decoded [`Message::Relay`] is.
#[must_use]
pub fn relay_into_deliver(datagram: &mut [u8]) -> Range<usize> {
    const SHIFT: usize = RELAY_HEADER_LEN - DELIVER_HEADER_LEN;
    datagram.copy_within(1..5, SHIFT + 1);
    datagram[SHIFT] = kind::DELIVER;
    SHIFT..datagram.len()
}

/// Turns a relay message (05) into a deliver-to message (09) in place: only the type byte changes.
#[must_use]
pub fn relay_into_deliver_to(datagram: &mut [u8]) -> Range<usize> {
    datagram[0] = kind::DELIVER_TO;
    0..datagram.len()
}

fn read_endpoint(reader: &mut Reader<'_>) -> Result<SocketAddr, DecodeError> {
    let ip = match reader.u8()? {
        4 => IpAddr::V4(Ipv4Addr::from(*reader.array::<4>()?)),
        16 => IpAddr::V6(Ipv6Addr::from(*reader.array::<16>()?)),
        _ => return Err(DecodeError::Invalid("address length; 4 or 16 expected")),
    };
    Ok(SocketAddr::new(ip, reader.u16()?))
}

/// IPv4-mapped IPv6 addresses go out in their four-byte form.
fn write_endpoint(out: &mut Writer<'_>, endpoint: SocketAddr) {
    match endpoint.ip().to_canonical() {
        IpAddr::V4(ip) => out.u8(4).bytes(&ip.octets()),
        IpAddr::V6(ip) => out.u8(16).bytes(&ip.octets()),
    }
    .u16(endpoint.port());
}
