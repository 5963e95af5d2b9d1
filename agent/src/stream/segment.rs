//! A segment without its addresses: what one end of a stream says to the other.

use wire::address::SocketAddress;
use wire::packet::{Flags, Packet, Protocol, VERSION};
use wire::stream::Sequence;

/// A segment, its payload borrowed from the packet it came in or from the stream that sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// SYN, ACK, FIN, RST.
    pub flags: Flags,
    /// Number of the first payload byte.
    pub sequence: Sequence,
    /// Number of the next byte that is expected; counts with [`Flags::ACK`].
    pub acknowledgement: Sequence,
    /// Segments, whatever their size, that the sender of this one has room for.
    pub window_segments: u16,
    /// Data, or the blocks of a selective acknowledgement.
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The packet that carries this segment.
    #[must_use]
    pub const fn packet(&self, source: SocketAddress, destination: SocketAddress) -> Packet<'a> {
        Packet {
            version: VERSION,
            flags: self.flags,
            protocol: Protocol::STREAM,
            source,
            destination,
            sequence: self.sequence.0,
            acknowledgement: self.acknowledgement.0,
            window_segments: self.window_segments,
            payload: self.payload,
        }
    }
}

/// What a packet says to the stream it belongs to.
impl<'a> From<&Packet<'a>> for Segment<'a> {
    fn from(packet: &Packet<'a>) -> Self {
        Self {
            flags: packet.flags,
            sequence: Sequence(packet.sequence),
            acknowledgement: Sequence(packet.acknowledgement),
            window_segments: packet.window_segments,
            payload: packet.payload,
        }
    }
}
