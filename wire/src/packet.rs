//! The packet (section 2): a 34-byte header and its payload, guarded by a CRC-32.
//!
//! ```text
//!  0  version:4 flags:4   2  payload length   16  source port   20  sequence          28  window
//!  1  protocol            4  source address   18  dest. port    24  acknowledgement   30  CRC-32
//!                        10  dest. address                                            34  payload …
//! ```
//!
//! The CRC covers the header with the CRC field zero, then the payload. The version is carried but not judged, and
//! bytes after the payload are ignored: so do all daemons. What the fields mean to a stream is left to the agent.

use std::ops::BitOr;

use crate::address::{Address, SocketAddress};
use crate::codec::{DecodeError, Reader, Writer};

/// Bytes before the payload.
pub const HEADER_LEN: usize = 34;
/// The longest payload the length field can express.
pub const PAYLOAD_MAX: usize = u16::MAX as usize;
/// The version that is spoken.
pub const VERSION: u8 = 1;

const CRC_OFFSET: usize = 30;

/// What the payload belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Ordered bytes with acknowledgements.
    pub const STREAM: Self = Self(1);
    /// Single messages.
    pub const DATAGRAM: Self = Self(2);
    /// Pings, keepalives, path probes.
    pub const CONTROL: Self = Self(3);
}

/// Flags of a stream segment; the four low bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// Opens a stream.
    pub const SYN: Self = Self(1);
    /// The acknowledgement field counts.
    pub const ACK: Self = Self(2);
    /// Nothing more will be sent.
    pub const FIN: Self = Self(4);
    /// The stream is refused or given up.
    pub const RST: Self = Self(8);

    /// The flags in the low half of `byte`.
    #[must_use]
    pub const fn from_bits(byte: u8) -> Self {
        Self(byte & 0x0F)
    }

    /// The flags as a number, 0 to 15.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One packet, its payload borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// 0 to 15; [`VERSION`] in all that is sent.
    pub version: u8,
    /// Stream flags.
    pub flags: Flags,
    /// Stream, datagram or control.
    pub protocol: Protocol,
    /// Sender.
    pub source: SocketAddress,
    /// Receiver.
    pub destination: SocketAddress,
    /// Number of the first payload byte.
    pub sequence: u32,
    /// Number of the next byte that is expected.
    pub acknowledgement: u32,
    /// Room at the receiver, in segments.
    pub window_segments: u16,
    /// At most [`PAYLOAD_MAX`] bytes.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Decodes the packet at the start of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when header or payload are not all there, [`DecodeError::Checksum`] when the CRC
    /// does not match.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let header: &[u8; HEADER_LEN] = reader.array()?;
        let mut fields = Reader::new(header);
        let ([first, protocol], payload_len) = (*fields.array()?, fields.u16()?);
        let (source, destination) = (Address::from_bytes(*fields.array()?), Address::from_bytes(*fields.array()?));
        let packet = Self {
            version: first >> 4,
            flags: Flags::from_bits(first),
            protocol: Protocol(protocol),
            source: SocketAddress { address: source, port: fields.u16()? },
            destination: SocketAddress { address: destination, port: fields.u16()? },
            sequence: fields.u32()?,
            acknowledgement: fields.u32()?,
            window_segments: fields.u16()?,
            payload: reader.bytes(usize::from(payload_len))?,
        };
        if fields.u32()? != checksum(header, packet.payload) {
            return Err(DecodeError::Checksum);
        }
        Ok(packet)
    }

    /// Bytes that [`Packet::encode`] writes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }

    /// Appends the packet to `out`, which must have room for [`Packet::encoded_len`] bytes.
    pub fn encode(&self, out: &mut Writer<'_>) {
        let payload_len = u16::try_from(self.payload.len()).expect("a payload is at most PAYLOAD_MAX bytes");
        let mut header = [0; HEADER_LEN];
        Writer::new(&mut header)
            .bytes(&[self.version << 4 | self.flags.bits(), self.protocol.0])
            .u16(payload_len)
            .bytes(&self.source.address.to_bytes())
            .bytes(&self.destination.address.to_bytes())
            .u16(self.source.port)
            .u16(self.destination.port)
            .u32(self.sequence)
            .u32(self.acknowledgement)
            .u16(self.window_segments);
        let crc = checksum(&header, self.payload);
        out.bytes(&header[..CRC_OFFSET]).u32(crc).bytes(self.payload);
    }
}

/// The CRC that belongs into `header`, whatever its CRC field holds now.
fn checksum(header: &[u8; HEADER_LEN], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..CRC_OFFSET]);
    crc.update(&[0; 4]);
    crc.update(payload);
    crc.finalize()
}
