//! Event stream, port 1002: `topiclen=2, topic, length=4, payload`.
//!
//! The first event on a connection subscribes to its topic, `*` to all; its payload is ignored. Later ones publish.

use super::{awaited, within};
use crate::codec::{DecodeError, Reader};

/// Bytes of a topic.
pub const TOPIC_MAX: usize = 1024;
/// Bytes of a payload.
pub const PAYLOAD_MAX: usize = 16 << 20;
/// The topic that stands for all.
pub const ALL_TOPICS: &str = "*";

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// What it is about.
    pub topic: &'a str,
    /// What it says.
    pub payload: &'a [u8],
}

impl<'a> Event<'a> {
    /// The first event in `bytes`, and how many of them it took; `None` when more have to come.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] as soon as a length says so, [`DecodeError::Invalid`] for a topic that is no UTF-8.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, DecodeError> {
        awaited(Self::read(&mut Reader::new(bytes))).map(|event| event.map(|event| (event, event.encoded_len())))
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let topic_len = within(usize::from(reader.u16()?), TOPIC_MAX)?;
        let topic = str::from_utf8(reader.bytes(topic_len)?).map_err(|_| DecodeError::Invalid("topic"))?;
        let length = within(reader.u32()? as usize, PAYLOAD_MAX)?;
        Ok(Self { topic, payload: reader.bytes(length)? })
    }

    /// Bytes it takes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        2 + self.topic.len() + 4 + self.payload.len()
    }

    /// Appends it to `out`.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] for a topic or payload above its limit, which no receiver would take.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let topic_len = within(self.topic.len(), TOPIC_MAX)? as u16;
        let length = within(self.payload.len(), PAYLOAD_MAX)? as u32;
        out.extend(topic_len.to_be_bytes());
        out.extend(self.topic.as_bytes());
        out.extend(length.to_be_bytes());
        out.extend(self.payload);
        Ok(())
    }
}
