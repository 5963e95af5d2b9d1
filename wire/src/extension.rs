//! How two of our agents agree on ephemeral keys inside a tunnel that stands: payloads of control packets.
//!
//! The frames on the wire stay `PILS` frames and the packets in them ordinary control packets (protocol 3), a hello from
//! port 2 to port 0, an accept from port 0 to port 2 with the ACK flag. Every other daemon sends a control packet to
//! port 0 back as it is, with the ACK flag and the ports swapped (section 8.5): whoever gets its own hello back knows
//! that the peer is none of ours.
//!
//! ```text
//!          0               4               8
//!      0   │ "PRtunnel"                    │   never the start of a path probe, whose payload is 4 bytes or text
//!      8   │ v │ k │ capab.│ handshake id …│   version 1; kind 1 = hello, 2 = accept; bit 0 = ephemeral keys, 1 = traces
//!     16   │ … id          │ nonce prefix  │   of the frames its sender will seal with the new key
//!     24   │                               │
//!     32   │ ephemeral X25519 key          │
//!     40   │                               │
//!     48   │                               │
//!     56   │ m │ f │ …                         NAT mapping, NAT filtering; bytes after them are ignored
//! ```
//!
//! An accept bears the handshake id of its hello. What the two sides make of the keys is the agent's affair.

pub mod trace;

use crate::codec::{DecodeError, Reader, Writer};

/// The eight bytes a payload starts with.
pub const MAGIC: [u8; 8] = *b"PRtunnel";
/// The version that is spoken. Later ones may append bytes without being another version.
pub const VERSION: u8 = 1;
/// The port a hello comes from, and an accept goes to.
pub const PORT: u16 = 2;
/// The port a hello goes to, and an accept comes from.
pub const PEER_PORT: u16 = 0;
/// Bytes of a payload.
pub const LEN: usize = 58;

/// What the sender can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(pub u16);

impl Capabilities {
    /// Ephemeral keys and periodic rekeying.
    pub const EPHEMERAL_KEYS: Self = Self(1);
    /// [`trace`] payloads are understood.
    pub const TRACE: Self = Self(2);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are there.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Which of the two payloads it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks for new keys.
    Hello,
    /// Agrees.
    Accept,
}

/// What a node says about itself, for people to read. Zero means that it does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// How the NATs before it map (RFC 4787, 4.1): 1 there is none, 2 endpoint-independent, 3 that or the next (it could
    /// not be told), 4 address-dependent, 5 address- and port-dependent.
    pub nat_mapping: u8,
    /// How they filter (RFC 4787, 5): 1 endpoint-independent, 2 that or the next, 3 address-dependent, 4 address- and
    /// port-dependent.
    pub nat_filtering: u8,
}

/// A hello or an accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// Which.
    pub kind: Kind,
    /// What the sender can do.
    pub capabilities: Capabilities,
    /// Drawn by the sender of the hello, new for each.
    pub handshake: u64,
    /// Under which its sender will seal with the new key.
    pub prefix: [u8; 4],
    /// The sender's ephemeral key.
    pub x25519: &'a [u8; 32],
    /// What the sender says about itself.
    pub about: About,
}

/// Whether the payload of a control packet is one of these, well-formed or not.
#[must_use]
pub fn has_magic(payload: &[u8]) -> bool {
    payload.starts_with(&MAGIC)
}

impl<'a> Payload<'a> {
    /// Decodes the payload of a control packet.
    ///
    /// # Errors
    /// [`DecodeError::UnknownType`] for another magic or kind, [`DecodeError::Invalid`] for another version,
    /// [`DecodeError::Truncated`] when less than [`LEN`] bytes are there.
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let magic: &[u8; 8] = reader.array()?;
        if *magic != MAGIC {
            return Err(DecodeError::UnknownType(u32::from_be_bytes([magic[0], magic[1], magic[2], magic[3]])));
        }
        if reader.u8()? != VERSION {
            return Err(DecodeError::Invalid("version of the tunnel extension"));
        }
        let kind = match reader.u8()? {
            1 => Kind::Hello,
            2 => Kind::Accept,
            other => return Err(DecodeError::UnknownType(other.into())),
        };
        Ok(Self {
            kind,
            capabilities: Capabilities(reader.u16()?),
            handshake: reader.u64()?,
            prefix: *reader.array()?,
            x25519: reader.array()?,
            about: About { nat_mapping: reader.u8()?, nat_filtering: reader.u8()? },
        })
    }

    /// The bytes of the payload.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let kind = match self.kind {
            Kind::Hello => 1,
            Kind::Accept => 2,
        };
        Writer::new(&mut bytes)
            .bytes(&MAGIC)
            .bytes(&[VERSION, kind])
            .u16(self.capabilities.0)
            .u64(self.handshake)
            .bytes(&self.prefix)
            .bytes(self.x25519)
            .bytes(&[self.about.nat_mapping, self.about.nat_filtering]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [0xA5; 32];

    fn hello() -> Payload<'static> {
        Payload {
            kind: Kind::Hello,
            capabilities: Capabilities::EPHEMERAL_KEYS,
            handshake: 0x0102_0304_0506_0708,
            prefix: [9, 10, 11, 12],
            x25519: &KEY,
            about: About { nat_mapping: 2, nat_filtering: 4 },
        }
    }

    #[test]
    fn every_byte_is_where_the_drawing_says() {
        let bytes = hello().to_bytes();
        assert_eq!(bytes[..8], *b"PRtunnel");
        assert_eq!(bytes[8..24], [1, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!((&bytes[24..56], &bytes[56..]), (KEY.as_slice(), [2, 4].as_slice()));
        let accept = Payload { kind: Kind::Accept, ..hello() };
        assert_eq!(accept.to_bytes()[9], 2);
        assert_eq!(Payload::decode(&accept.to_bytes()), Ok(accept));
    }

    #[test]
    fn bytes_after_it_are_ignored_and_missing_ones_are_not() {
        let bytes = [hello().to_bytes().as_slice(), b"later"].concat();
        assert_eq!(Payload::decode(&bytes), Ok(hello()));
        for len in 0..LEN {
            assert!(matches!(Payload::decode(&bytes[..len]), Err(DecodeError::Truncated { .. })), "{len}");
        }
    }

    #[test]
    fn another_magic_version_or_kind_is_refused() {
        for (at, is_refused_as) in [
            (0, DecodeError::UnknownType(u32::from_be_bytes(*b"QRtu"))),
            (8, DecodeError::Invalid("version of the tunnel extension")),
            (9, DecodeError::UnknownType(3)),
        ] {
            let mut bytes = hello().to_bytes();
            bytes[at] = match at {
                9 => 3,
                at => bytes[at] + 1,
            };
            assert_eq!(Payload::decode(&bytes), Err(is_refused_as));
        }
    }
}
