//! The trace a stream belongs to, told from one of our agents to another: the payload of a control packet, from port 2 to
//! port 0, which nobody answers. It is sealed like everything in a tunnel, and goes only to a peer whose
//! [`Capabilities`](super::Capabilities) say that it is understood.
//!
//! ```text
//!          0               4               8
//!      0   │ "PRtrace" 0                   │
//!      8   │ v │ sender's  │ receiver's│ c     version 1; the ports of the stream, both 0 for none; context
//!     16   │ … trace id                    │
//!     24   │                   │ span id   │
//!     32   │                   │ f │ …         flags; bytes after them are ignored
//! ```

use crate::codec::{DecodeError, Reader, Writer};
use crate::trace::{self, TraceContext};

/// The eight bytes a payload starts with.
pub const MAGIC: [u8; 8] = *b"PRtrace\0";
/// The version that is spoken. Later ones may append bytes without being another version.
pub const VERSION: u8 = 1;
/// Bytes of a payload.
pub const LEN: usize = 13 + trace::LEN;

/// The trace of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The stream's port at the sender.
    pub sender_port: u16,
    /// The stream's port at the receiver.
    pub receiver_port: u16,
    /// The span at the sender that the receiver's belong under.
    pub context: TraceContext,
}

/// Whether the payload of a control packet is one of these, well-formed or not.
#[must_use]
pub fn has_magic(payload: &[u8]) -> bool {
    payload.starts_with(&MAGIC)
}

impl Payload {
    /// Decodes the payload of a control packet.
    ///
    /// # Errors
    /// [`DecodeError::UnknownType`] for another magic, [`DecodeError::Invalid`] for another version or an id of zeros,
    /// [`DecodeError::Truncated`] when less than [`LEN`] bytes are there.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let magic: &[u8; 8] = reader.array()?;
        if *magic != MAGIC {
            return Err(DecodeError::UnknownType(u32::from_be_bytes([magic[0], magic[1], magic[2], magic[3]])));
        }
        if reader.u8()? != VERSION {
            return Err(DecodeError::Invalid("version of the trace extension"));
        }
        let (sender_port, receiver_port) = (reader.u16()?, reader.u16()?);
        Ok(Self { sender_port, receiver_port, context: TraceContext::read(&mut reader)? })
    }

    /// The bytes of the payload.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let mut writer = Writer::new(&mut bytes);
        writer.bytes(&MAGIC).u8(VERSION).u16(self.sender_port).u16(self.receiver_port);
        self.context.write(&mut writer);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        let context = TraceContext { trace_id: [0xA5; 16], span_id: [0x5A; 8], flags: 1 };
        Payload { sender_port: 0x0102, receiver_port: 1001, context }
    }

    #[test]
    fn every_byte_is_where_the_drawing_says() {
        let bytes = payload().to_bytes();
        assert_eq!(bytes[..13], *b"PRtrace\0\x01\x01\x02\x03\xE9");
        assert_eq!((&bytes[13..29], &bytes[29..37], bytes[37]), ([0xA5; 16].as_slice(), [0x5A; 8].as_slice(), 1));
        assert_eq!(Payload::decode(&bytes), Ok(payload()));
        assert!(has_magic(&bytes) && !crate::extension::has_magic(&bytes));
    }

    #[test]
    fn bytes_after_it_are_ignored_and_missing_ones_are_not() {
        let bytes = [payload().to_bytes().as_slice(), b"later"].concat();
        assert_eq!(Payload::decode(&bytes), Ok(payload()));
        for len in 0..LEN {
            assert!(matches!(Payload::decode(&bytes[..len]), Err(DecodeError::Truncated { .. })), "{len}");
        }
    }

    #[test]
    fn another_magic_another_version_and_an_id_of_zeros_are_refused() {
        let refused = |change: fn(&mut [u8; LEN])| {
            let mut bytes = payload().to_bytes();
            change(&mut bytes);
            Payload::decode(&bytes).unwrap_err()
        };
        assert_eq!(refused(|bytes| bytes[0] += 1), DecodeError::UnknownType(u32::from_be_bytes(*b"QRtr")));
        assert_eq!(refused(|bytes| bytes[8] += 1), DecodeError::Invalid("version of the trace extension"));
        assert_eq!(refused(|bytes| bytes[29..37].fill(0)), DecodeError::Invalid("trace context"));
    }
}
