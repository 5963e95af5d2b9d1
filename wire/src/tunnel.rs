//! Tunnel frames between daemons (section 3): four ASCII bytes, then a fixed layout.
//!
//! ```text
//! PILT  packet                                                 plain packet
//! PILS  sender=4 nonce=12 ciphertext ‖ tag=16                  sealed packet
//! PILK  sender=4 x25519=32                                     key exchange, unauthenticated
//! PILA  sender=4 x25519=32 ed25519=32 signature=64             key exchange, authenticated
//! PILP                                                         hole-punch probe
//! ```
//!
//! Layout only, and the bytes that get signed and authenticated. Keys, nonces, replay windows and trust belong to the
//! agent. Bytes after a key exchange or a probe are ignored: some daemons append to them.

use crate::NodeId;
use crate::codec::{DecodeError, Reader, Writer};

/// The four bytes a frame starts with.
pub mod magic {
    /// A packet in clear.
    pub const PLAIN: [u8; 4] = *b"PILT";
    /// A sealed packet.
    pub const SEALED: [u8; 4] = *b"PILS";
    /// A key exchange without proof.
    pub const KEY_EXCHANGE: [u8; 4] = *b"PILK";
    /// A key exchange signed by the node's identity key.
    pub const SIGNED_KEY_EXCHANGE: [u8; 4] = *b"PILA";
    /// A probe that opens a way through a NAT.
    pub const PROBE: [u8; 4] = *b"PILP";
}

/// Bytes of the AES-256-GCM tag at the end of a sealed frame.
pub const TAG_LEN: usize = 16;
/// Bytes of a sealed frame besides the packet.
pub const SEALED_OVERHEAD: usize = 4 + 4 + 12 + TAG_LEN;
/// Bytes of a `PILK` frame.
pub const KEY_EXCHANGE_LEN: usize = 4 + 4 + 32;
/// Bytes of a `PILA` frame.
pub const SIGNED_KEY_EXCHANGE_LEN: usize = KEY_EXCHANGE_LEN + 32 + 64;

/// A tunnel frame, borrowed from its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// `PILT`: a packet in clear. The newest daemons refuse it.
    Plain {
        /// The bytes of one packet (section 2), not looked at here.
        packet: &'a [u8],
    },
    /// `PILS`.
    Sealed {
        /// Whose key sealed it.
        sender: NodeId,
        /// Never twice under one key.
        nonce: Nonce,
        /// The sealed packet and its tag, at least [`TAG_LEN`] bytes.
        ciphertext: &'a [u8],
    },
    /// `PILK`. A receiver that knows a key of the sender's must not believe it, but answers with `PILA`.
    KeyExchange {
        /// Who says so.
        sender: NodeId,
        /// The sender's ephemeral key.
        x25519: &'a [u8; 32],
    },
    /// `PILA`.
    SignedKeyExchange(SignedKeyExchange<'a>),
    /// `PILP`.
    Probe,
}

/// A key exchange signed by the node's identity key. The signature is not checked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedKeyExchange<'a> {
    /// Who says so.
    pub sender: NodeId,
    /// The sender's ephemeral key.
    pub x25519: &'a [u8; 32],
    /// The identity key; counts only if the directory knows it as the sender's.
    pub ed25519: &'a [u8; 32],
    /// Over [`key_exchange_text`].
    pub signature: &'a [u8; 64],
}

/// The nonce of a sealed frame: a prefix drawn with the key, and a counter that starts at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce {
    /// Tells apart the two directions and each re-keying.
    pub prefix: [u8; 4],
    /// Rises by one with each frame.
    pub counter: u64,
}

impl Nonce {
    /// The twelve bytes on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        Writer::new(&mut bytes).bytes(&self.prefix).u64(self.counter);
        bytes
    }

    /// The nonce in twelve wire bytes.
    #[must_use]
    pub const fn from_bytes([a, b, c, d, counter @ ..]: [u8; 12]) -> Self {
        Self { prefix: [a, b, c, d], counter: u64::from_be_bytes(counter) }
    }
}

/// What the sender of a `PILA` signs: `auth` (without a colon), its id and its ephemeral key (section 3.1).
#[must_use]
pub fn key_exchange_text(sender: NodeId, x25519: &[u8; 32]) -> [u8; 40] {
    let mut text = [0; 40];
    Writer::new(&mut text).bytes(b"auth").u32(sender.0).bytes(x25519);
    text
}

/// The additional data under which a sealed frame is authenticated, since v1.9: the sender's id as in the frame.
#[must_use]
pub const fn associated_data(sender: NodeId) -> [u8; 4] {
    sender.0.to_be_bytes()
}

impl<'a> Frame<'a> {
    /// Decodes one datagram, or the inner part of a relayed one.
    ///
    /// # Errors
    /// [`DecodeError::UnknownType`] for another magic, [`DecodeError::Truncated`] for a frame shorter than its layout.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(datagram);
        Ok(match *reader.array()? {
            magic::PLAIN => Self::Plain { packet: reader.rest() },
            magic::SEALED => Self::Sealed {
                sender: NodeId(reader.u32()?),
                nonce: Nonce::from_bytes(*reader.array()?),
                ciphertext: at_least_a_tag(reader.rest())?,
            },
            magic::KEY_EXCHANGE => Self::KeyExchange { sender: NodeId(reader.u32()?), x25519: reader.array()? },
            magic::SIGNED_KEY_EXCHANGE => Self::SignedKeyExchange(SignedKeyExchange {
                sender: NodeId(reader.u32()?),
                x25519: reader.array()?,
                ed25519: reader.array()?,
                signature: reader.array()?,
            }),
            magic::PROBE => Self::Probe,
            other => return Err(DecodeError::UnknownType(u32::from_be_bytes(other))),
        })
    }

    /// Bytes that [`Frame::encode`] writes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        match self {
            Self::Plain { packet } => 4 + packet.len(),
            Self::Sealed { ciphertext, .. } => SEALED_OVERHEAD - TAG_LEN + ciphertext.len(),
            Self::KeyExchange { .. } => KEY_EXCHANGE_LEN,
            Self::SignedKeyExchange(_) => SIGNED_KEY_EXCHANGE_LEN,
            Self::Probe => 4,
        }
    }

    /// Appends the frame to `out`, which must have room for [`Frame::encoded_len`] bytes.
    pub fn encode(&self, out: &mut Writer<'_>) {
        match *self {
            Self::Plain { packet } => out.bytes(&magic::PLAIN).bytes(packet),
            Self::Sealed { sender, nonce, ciphertext } => {
                out.bytes(&magic::SEALED).u32(sender.0).bytes(&nonce.to_bytes()).bytes(ciphertext)
            }
            Self::KeyExchange { sender, x25519 } => out.bytes(&magic::KEY_EXCHANGE).u32(sender.0).bytes(x25519),
            Self::SignedKeyExchange(SignedKeyExchange { sender, x25519, ed25519, signature }) => {
                out.bytes(&magic::SIGNED_KEY_EXCHANGE).u32(sender.0).bytes(x25519).bytes(ed25519).bytes(signature)
            }
            Self::Probe => out.bytes(&magic::PROBE),
        };
    }
}

fn at_least_a_tag(ciphertext: &[u8]) -> Result<&[u8], DecodeError> {
    if ciphertext.len() < TAG_LEN {
        return Err(DecodeError::Truncated { needed: TAG_LEN, found: ciphertext.len() });
    }
    Ok(ciphertext)
}
