//! Trust handshake, port 444 (section 7): one JSON object on a stream of its own, without a length.
//!
//! ```text
//! {"type","node_id","public_key","justification","signature","reason","timestamp"}
//! ```
//!
//! Fields that say nothing are empty texts. The signature covers [`signed_text`] alone: neither the type nor the time.

use serde::{Deserialize, Serialize};

use crate::NodeId;
use crate::codec::DecodeError;

/// Bytes of a message.
pub const MESSAGE_MAX: usize = 64 << 10;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What it says.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Who says it.
    pub node_id: NodeId,
    /// The sender's key in base64; the one that counts is the directory's.
    #[serde(default)]
    pub public_key: String,
    /// Why trust is asked for.
    #[serde(default)]
    pub justification: String,
    /// Ed25519 in base64 over [`signed_text`].
    #[serde(default)]
    pub signature: String,
    /// Why trust is refused.
    #[serde(default)]
    pub reason: String,
    /// Seconds since 1970.
    #[serde(default)]
    pub timestamp: i64,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// "Trust me."
    #[serde(rename = "handshake_request")]
    Request,
    /// "I do."
    #[serde(rename = "handshake_accept")]
    Accept,
    /// "I will not."
    #[serde(rename = "handshake_reject")]
    Reject,
    /// "No longer."
    #[serde(rename = "handshake_revoke")]
    Revoke,
}

impl Message {
    /// The message in what has come so far; `None` when more has to come.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] above [`MESSAGE_MAX`], [`DecodeError::Invalid`] for what is no such message.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        if bytes.len() > MESSAGE_MAX {
            return Err(DecodeError::TooLong { length: bytes.len(), limit: MESSAGE_MAX });
        }
        match serde_json::from_slice(bytes) {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.is_eof() => Ok(None),
            Err(_) => Err(DecodeError::Invalid("trust handshake")),
        }
    }

    /// The bytes of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers make JSON")
    }
}

/// What a sender signs, whatever the message says.
#[must_use]
pub fn signed_text(sender: NodeId, receiver: NodeId) -> String {
    format!("handshake:{sender}:{receiver}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            kind: Kind::Request,
            node_id: NodeId(7),
            public_key: String::new(),
            justification: "a \"colleague\"".to_owned(),
            signature: String::new(),
            reason: String::new(),
            timestamp: 1_767_225_600,
        }
    }

    #[test]
    fn empty_texts_are_written_and_may_be_missing() {
        let bytes = message().encode();
        assert_eq!(
            str::from_utf8(&bytes),
            Ok(concat!(
                r#"{"type":"handshake_request","node_id":7,"public_key":"","justification":"a \"colleague\"","#,
                r#""signature":"","reason":"","timestamp":1767225600}"#
            ))
        );
        assert_eq!(Message::decode(&bytes), Ok(Some(message())));
        let short =
            br#"{"type":"handshake_request","node_id":7,"justification":"a \"colleague\"","timestamp":1767225600}"#;
        assert_eq!(Message::decode(short), Ok(Some(message())));
    }

    #[test]
    fn every_part_of_a_message_awaits_the_rest() {
        let bytes = message().encode();
        for len in 0..bytes.len() {
            assert_eq!(Message::decode(&bytes[..len]), Ok(None), "{len} bytes");
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in
            [&b"hello"[..], b"[]", br#"{"type":"handshake_hug","node_id":7}"#, br#"{"type":"handshake_accept"}"#]
        {
            assert_eq!(Message::decode(bytes), Err(DecodeError::Invalid("trust handshake")));
        }
        let long = vec![b' '; MESSAGE_MAX + 1];
        assert_eq!(Message::decode(&long), Err(DecodeError::TooLong { length: MESSAGE_MAX + 1, limit: MESSAGE_MAX }));
    }
}
