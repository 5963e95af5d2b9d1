//! The directory's protocol (section 6): `length=4` and one JSON object, in both directions, over TCP.
//!
//! This file frames bytes; the parts below give them meaning. What a request may do is left to the directory.
//!
//! | part | what |
//! |---|---|
//! | [`json`] | bounds on size, depth and count before anything is allocated; typed access to fields |
//! | [`request`] | every request of section 6.4, decoded and encoded |
//! | [`signing`] | the texts that get signed (6.3) |
//! | [`answer`] | answers and errors, and which error texts may be shown (6.2) |
//! | [`capability`] | what a node says it can do, signed; ours |
//! | [`bans`] | whom nodes are told is kept out, with their heartbeats; ours |
//! | [`names`] | rules for hostnames and tags (6.5) |
//!
//! ```text
//!  0        4
//! +--------+----------------------------+
//! | length | {"type":"lookup", … }      |   length counts the JSON alone
//! +--------+----------------------------+
//! ```

pub mod answer;
pub mod bans;
pub mod capability;
pub mod json;
pub mod names;
pub mod request;
pub mod signing;

pub use answer::Answer;
pub use request::{Operation, Request};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fmt;
use std::str::FromStr;

use crate::DecodeError;

/// The longest message taken or sent. (Section 6.1: 1 MiB in the oldest release, more later; no request needs more.)
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Bytes of the length before each message.
pub const LENGTH_BYTES: usize = 4;

/// Whether a connection that begins with `opening` asks for the binary mode (`PILT` 01), which daemons never need.
/// As a length these bytes are far beyond [`MESSAGE_BYTES_MAX`], so four of them suffice.
#[must_use]
pub fn is_binary_opening(opening: &[u8]) -> bool {
    opening.starts_with(b"PILT")
}

/// A message, and the bytes behind it.
pub type Split<'a> = (&'a [u8], &'a [u8]);

/// The first message in `received`; `None` while it is incomplete.
///
/// # Errors
/// [`DecodeError::TooLong`] as soon as the length is known and exceeds [`MESSAGE_BYTES_MAX`]; the connection is then
/// beyond repair, since where the next message starts is unknown.
pub fn split_message(received: &[u8]) -> Result<Option<Split<'_>>, DecodeError> {
    let Some((length, rest)) = received.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(DecodeError::TooLong { length, limit: MESSAGE_BYTES_MAX });
    }
    Ok(rest.split_at_checked(length))
}

/// Appends `message`, framed, to `out`: a [`Request`] or an [`Answer`].
pub fn push_message(out: &mut Vec<u8>, message: &impl serde::Serialize) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    serde_json::to_writer(&mut *out, message).expect("requests and answers are plain maps, which always serialise");
    let length = u32::try_from(out.len() - start - LENGTH_BYTES).expect("a message stays far below 4 GiB");
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// An Ed25519 public key, in JSON as base64.
pub type PublicKey = Base64<32>;

/// An Ed25519 signature, in JSON as base64.
pub type Signature = Base64<64>;

/// `N` bytes that travel as standard base64 with padding. Only the canonical text is taken, so that printing gives
/// back what was sent, as the signed texts need.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Base64<const N: usize>(pub [u8; N]);

impl<const N: usize> fmt::Display for Base64<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        base64::display::Base64Display::new(&self.0, &BASE64).fmt(f)
    }
}

impl<const N: usize> fmt::Debug for Base64<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> FromStr for Base64<N> {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let mut bytes = [0; N];
        // The decoder wants room for whole groups of three, so it cannot write into `bytes` directly.
        let decoded = if text.len() > N * 2 { None } else { BASE64.decode(text).ok() };
        let decoded = decoded.filter(|decoded| decoded.len() == N).ok_or(DecodeError::Invalid("base64"))?;
        bytes.copy_from_slice(&decoded);
        Ok(Self(bytes))
    }
}

impl<const N: usize> serde::Serialize for Base64<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> serde::Deserialize<'de> for Base64<N> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
