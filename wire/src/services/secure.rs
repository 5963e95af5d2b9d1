//! Secure channel, port 443: after two X25519 public keys, records `length=4, nonce=12, ciphertext ‖ tag=16`, where the
//! length counts the nonce, too. The keys are the agent's affair; this is how records are cut and what is signed.

use super::{awaited, within};
use crate::NodeId;
use crate::codec::{DecodeError, Reader};

/// Bytes of an X25519 public key, the first thing each side sends.
pub const PUBLIC_KEY_LEN: usize = 32;
/// Bytes of a nonce; the first four are also the record's additional data.
pub const NONCE_LEN: usize = 12;
/// Bytes of the tag at the end of a record.
pub const TAG_LEN: usize = 16;
/// The most a length field may say.
pub const LENGTH_MAX: usize = 16 << 20;
/// Bytes of [`Proof`].
pub const PROOF_LEN: usize = 4 + 8 + 16 + 64;
const SIGNED_PREFIX: &[u8] = b"pilot-secure-auth:";
/// Bytes of what a proof signs.
pub const SIGNED_LEN: usize = SIGNED_PREFIX.len() + 4 + PUBLIC_KEY_LEN + 8 + 16;

/// Who seals a record; decides the first four bytes of its nonces, so that the two sides never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The side that listened.
    Server,
    /// The side that dialled.
    Client,
}

impl Role {
    /// The nonce of this side's record number `counter`, the first being 1.
    #[must_use]
    pub fn nonce(self, counter: u64) -> [u8; NONCE_LEN] {
        let side: u32 = match self {
            Self::Server => 1,
            Self::Client => 2,
        };
        let mut nonce = [0; NONCE_LEN];
        nonce[..4].copy_from_slice(&side.to_be_bytes());
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        nonce
    }
}

/// A record as it stands in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it was sealed with.
    pub nonce: &'a [u8; NONCE_LEN],
    /// Ciphertext and tag.
    pub sealed: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first record in `bytes`, and how many of them it took; `None` when more have to come.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] for a length above [`LENGTH_MAX`], [`DecodeError::Invalid`] for one that leaves no room for
    /// nonce and tag.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, DecodeError> {
        let mut reader = Reader::new(bytes);
        awaited(Self::read(&mut reader)).map(|record| record.map(|record| (record, bytes.len() - reader.rest().len())))
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let length = within(reader.u32()? as usize, LENGTH_MAX)?;
        let sealed_len = length.checked_sub(NONCE_LEN).filter(|len| *len >= TAG_LEN);
        let sealed_len = sealed_len.ok_or(DecodeError::Invalid("record length"))?;
        Ok(Self { nonce: reader.array()?, sealed: reader.bytes(sealed_len)? })
    }

    /// Appends it to `out`.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] for more than a record holds.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let length = within(NONCE_LEN + self.sealed.len(), LENGTH_MAX)? as u32;
        out.extend(length.to_be_bytes());
        out.extend(self.nonce);
        out.extend(self.sealed);
        Ok(())
    }
}

/// Who is at the other end: the plaintext of the first record of each side, where they authenticate (the server first).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// The node that signs.
    pub node: NodeId,
    /// When, in seconds since 1970; more than 5 s off is refused.
    pub unix_seconds: u64,
    /// Never seen before within an hour.
    pub nonce: &'a [u8; 16],
    /// Ed25519 over [`signed`].
    pub signature: &'a [u8; 64],
}

impl<'a> Proof<'a> {
    /// Reads the plaintext of a record.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] for less than [`PROOF_LEN`] bytes; more are ignored.
    pub fn decode(plaintext: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(plaintext);
        Ok(Self {
            node: NodeId(reader.u32()?),
            unix_seconds: reader.u64()?,
            nonce: reader.array()?,
            signature: reader.array()?,
        })
    }

    /// The plaintext of a record.
    #[must_use]
    pub fn encode(&self) -> [u8; PROOF_LEN] {
        let mut out = [0; PROOF_LEN];
        out[..4].copy_from_slice(&self.node.0.to_be_bytes());
        out[4..12].copy_from_slice(&self.unix_seconds.to_be_bytes());
        out[12..28].copy_from_slice(self.nonce);
        out[28..].copy_from_slice(self.signature);
        out
    }
}

/// What a side signs: its node, its own X25519 public key of this channel, the time, and a nonce.
#[must_use]
pub fn signed(
    node: NodeId,
    public_key: &[u8; PUBLIC_KEY_LEN],
    unix_seconds: u64,
    nonce: &[u8; 16],
) -> [u8; SIGNED_LEN] {
    let mut out = [0; SIGNED_LEN];
    let mut rest = &mut out[..];
    for part in [SIGNED_PREFIX, &node.0.to_be_bytes(), public_key, &unix_seconds.to_be_bytes(), nonce] {
        let (head, tail) = rest.split_at_mut(part.len());
        head.copy_from_slice(part);
        rest = tail;
    }
    out
}
