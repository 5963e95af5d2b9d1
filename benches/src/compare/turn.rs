//! What a TURN client says and hears (RFC 8656), over UDP and IPv4 and without credentials: bytes only.
//!
//! ```text
//!  request    STUN header, then   Allocate:    REQUESTED-TRANSPORT, LIFETIME
//!                                 ChannelBind: CHANNEL-NUMBER, XOR-PEER-ADDRESS
//!  channel data   | channel=2 | length=2 | payload |     towards the server, which sends the peer the payload alone
//! ```

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

use wire::codec::{DecodeError, Reader};
use wire::stun::{Attribute, Attributes, Class, HEADER_LEN, Header, MAGIC_COOKIE, MessageWriter, TransactionId};

/// Channels an allocation can have: those of RFC 5766, section 11, four times as many as RFC 8656 leaves of them.
pub const CHANNELS: RangeInclusive<u16> = 0x4000..=0x7FFE;
/// Bytes before the payload of channel data.
pub const CHANNEL_HEADER_LEN: usize = 4;
/// Room for any [`Request`].
pub const REQUEST_MAX: usize = HEADER_LEN + 8 + 12;

const ALLOCATE: u16 = 0x003;
const CHANNEL_BIND: u16 = 0x009;
const UDP: u8 = 17;

/// Attribute types (RFC 8656, section 18).
mod attribute {
    pub(super) const CHANNEL_NUMBER: u16 = 0x000C;
    pub(super) const LIFETIME: u16 = 0x000D;
    pub(super) const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub(super) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub(super) const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub(super) use wire::stun::attribute::ERROR_CODE;
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A relayed address for the client's own (section 7).
    Allocate {
        /// How long it shall last without a refresh.
        lifetime_seconds: u32,
    },
    /// A short name for a peer, with the permission to reach it (section 12).
    ChannelBind {
        /// One of [`CHANNELS`].
        channel: u16,
        /// Where what is sent to the channel goes.
        peer: SocketAddrV4,
    },
}

/// The answer to a [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// That of the request.
    pub transaction: TransactionId,
    /// How it went.
    pub outcome: Outcome,
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is an allocation.
    Allocated {
        /// Where its datagrams come from, as peers see it.
        relayed: SocketAddrV4,
        /// How long it lasts; may be less than what was asked for.
        lifetime_seconds: u32,
    },
    /// The channel stands for its peer.
    ChannelBound,
    /// Refused.
    Refused {
        /// 300 to 699: the error codes of STUN and section 19.
        code: u16,
    },
}

impl Request {
    /// Writes the request; returns its length.
    #[must_use]
    pub fn encode(&self, transaction: &TransactionId, out: &mut [u8; REQUEST_MAX]) -> usize {
        let mut message = MessageWriter::new(out, Class::Request, transaction);
        let method = match *self {
            Self::Allocate { lifetime_seconds } => {
                message.attribute(attribute::REQUESTED_TRANSPORT, &[UDP, 0, 0, 0]);
                message.attribute(attribute::LIFETIME, &lifetime_seconds.to_be_bytes());
                ALLOCATE
            }
            Self::ChannelBind { channel, peer } => {
                let [high, low] = channel.to_be_bytes();
                message.attribute(attribute::CHANNEL_NUMBER, &[high, low, 0, 0]);
                message.xor_address(attribute::XOR_PEER_ADDRESS, peer.into());
                CHANNEL_BIND
            }
        };
        let len = message.finish();
        // The writer is made for Binding. The type of a request is its method, as long as that has four bits.
        out[..2].copy_from_slice(&method.to_be_bytes());
        len
    }
}

impl Response {
    /// Decodes a datagram.
    ///
    /// # Errors
    /// Those of [`Header::decode`]; [`DecodeError::Invalid`] for what answers none of our requests, or lacks what such
    /// an answer must have.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let Header { class, method, transaction, .. } = Header::decode(datagram)?;
        let outcome = match (class, method) {
            (Class::Success, ALLOCATE) => decode_allocated(datagram)?,
            (Class::Success, CHANNEL_BIND) => Outcome::ChannelBound,
            (Class::Error, ALLOCATE | CHANNEL_BIND) => decode_refused(datagram)?,
            _ => return Err(DecodeError::Invalid("TURN message; an Allocate or ChannelBind response expected")),
        };
        Ok(Self { transaction, outcome })
    }
}

fn decode_allocated(datagram: &[u8]) -> Result<Outcome, DecodeError> {
    let (mut relayed, mut lifetime_seconds) = (None, None);
    for attribute in Attributes::of(datagram) {
        let Attribute { kind, value } = attribute?;
        match kind {
            attribute::XOR_RELAYED_ADDRESS => relayed = Some(read_xor_address(value)?),
            attribute::LIFETIME => lifetime_seconds = Some(Reader::new(value).u32()?),
            _ => {}
        }
    }
    let relayed = relayed.ok_or(DecodeError::Invalid("Allocate response without a relayed address"))?;
    let lifetime_seconds = lifetime_seconds.ok_or(DecodeError::Invalid("Allocate response without a lifetime"))?;
    Ok(Outcome::Allocated { relayed, lifetime_seconds })
}

fn decode_refused(datagram: &[u8]) -> Result<Outcome, DecodeError> {
    for attribute in Attributes::of(datagram) {
        let Attribute { kind, value } = attribute?;
        if kind == attribute::ERROR_CODE {
            let [_, _, hundreds, rest] = *Reader::new(value).array()?;
            return Ok(Outcome::Refused { code: u16::from(hundreds & 0x07) * 100 + u16::from(rest) });
        }
    }
    Err(DecodeError::Invalid("error response without an error code"))
}

/// Port and address are masked with the magic cookie (RFC 8489, 14.2).
fn read_xor_address(value: &[u8]) -> Result<SocketAddrV4, DecodeError> {
    let mut reader = Reader::new(value);
    let [_, family] = *reader.array()?;
    if family != 1 {
        return Err(DecodeError::Invalid("address family; IPv4 expected"));
    }
    let mask = u32::from_be_bytes(MAGIC_COOKIE);
    let port = reader.u16()? ^ (mask >> 16) as u16;
    let ip = Ipv4Addr::from(reader.u32()? ^ mask);
    Ok(SocketAddrV4::new(ip, port))
}

/// What goes before a payload of `payload_bytes` (section 12.4). Over UDP nothing is padded.
#[must_use]
pub fn channel_header(channel: u16, payload_bytes: u16) -> [u8; CHANNEL_HEADER_LEN] {
    let ([c0, c1], [l0, l1]) = (channel.to_be_bytes(), payload_bytes.to_be_bytes());
    [c0, c1, l0, l1]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSACTION: [u8; 12] = *b"transaction!";
    /// The example address of RFC 5769, and how it looks masked.
    const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 32853);
    const ADDRESS_MASKED: [u8; 8] = [0x00, 0x01, 0xA1, 0x47, 0xE1, 0x12, 0xA6, 0x43];

    fn message(kind: u16, attributes: &[&[u8]]) -> Vec<u8> {
        let attributes = attributes.concat();
        let length = u16::try_from(attributes.len()).unwrap();
        [&kind.to_be_bytes()[..], &length.to_be_bytes(), &MAGIC_COOKIE[..], &TRANSACTION[..], &attributes].concat()
    }

    fn encoded(request: Request) -> Vec<u8> {
        let mut out = [0; REQUEST_MAX];
        let len = request.encode(&TransactionId::new(TRANSACTION), &mut out);
        out[..len].to_vec()
    }

    #[test]
    fn requests_have_the_bytes_of_the_rfc() {
        let allocate = [&[0x00, 0x19, 0, 4, 17, 0, 0, 0][..], &[0x00, 0x0D, 0, 4, 0, 0, 0x1C, 0x20]];
        assert_eq!(encoded(Request::Allocate { lifetime_seconds: 7200 }), message(0x0003, &allocate));
        let bind = [&[0x00, 0x0C, 0, 4, 0x40, 0x01, 0, 0][..], &[0x00, 0x12, 0, 8], &ADDRESS_MASKED];
        assert_eq!(encoded(Request::ChannelBind { channel: 0x4001, peer: ADDRESS }), message(0x0009, &bind));
    }

    #[test]
    fn responses_are_read() {
        let outcome = |kind, attributes: &[&[u8]]| Response::decode(&message(kind, attributes)).map(|one| one.outcome);
        let (relayed, lifetime) =
            ([&[0x00, 0x16, 0, 8][..], &ADDRESS_MASKED].concat(), [0x00, 0x0D, 0, 4, 0, 0, 2, 88]);
        assert_eq!(
            outcome(0x0103, &[&relayed, &lifetime]),
            Ok(Outcome::Allocated { relayed: ADDRESS, lifetime_seconds: 600 })
        );
        assert_eq!(outcome(0x0109, &[]), Ok(Outcome::ChannelBound));
        let mismatch = [0x00, 0x09, 0, 6, 0, 0, 4, 37, b'N', b'o', 0, 0];
        assert_eq!(outcome(0x0113, &[&mismatch]), Ok(Outcome::Refused { code: 437 }));
        assert_eq!(outcome(0x0119, &[&mismatch]), Ok(Outcome::Refused { code: 437 }));
        assert_eq!(
            Response::decode(&message(0x0109, &[])).unwrap().transaction,
            TransactionId::new(TRANSACTION),
            "the transaction is that of the header"
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let relayed = [&[0x00, 0x16, 0, 8][..], &ADDRESS_MASKED].concat();
        for (kind, attributes) in
            [(0x0103, vec![]), (0x0103, relayed), (0x0113, vec![]), (0x0101, vec![]), (0x0003, vec![])]
        {
            assert!(Response::decode(&message(kind, &[&attributes])).is_err(), "{kind:#06x} {attributes:?}");
        }
        let whole = message(0x0109, &[]);
        for len in 0..whole.len() {
            assert!(Response::decode(&whole[..len]).is_err(), "cut to {len} bytes");
        }
    }

    #[test]
    fn channel_data_begins_with_channel_and_length() {
        assert_eq!(channel_header(0x7FFE, 256), [0x7F, 0xFE, 0x01, 0x00]);
    }
}
