//! Secure channel, port 443.

use std::cell::RefCell;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
pub use wire::services::secure::Role;
use wire::{DecodeError, NodeId};

use crate::identity::Identity;
use crate::services::WallClock;

/// Fresh chance for one channel.
pub struct Chance {
    /// The X25519 private key of this channel alone.
    pub secret: [u8; 32],
    /// The nonce of our proof.
    pub nonce: [u8; 16],
}

/// Who we are, and who the other end has to be.
pub struct Parties<'a> {
    /// Our node.
    pub own: NodeId,
    /// Our key.
    pub identity: &'a Identity,
    /// The node at the other end of the stream.
    pub peer: NodeId,
    /// The key the directory has for it.
    pub peer_key: [u8; 32],
    /// Unix seconds.
    pub clock: WallClock,
    /// Proofs seen, shared by all channels of this node.
    pub seen: &'a RefCell<Proofs>,
}

/// Proofs seen lately: none counts twice.
#[derive(Default)]
pub struct Proofs {}

/// Why there is no channel, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream.
    #[error("the connection broke: {0}")]
    Stream(#[from] io::Error),
    /// Not within 10 s.
    #[error("the peer did not finish the opening within 10 s")]
    Silent,
    /// The peer does not speak the protocol.
    #[error("the peer sends what is no record: {0}")]
    Malformed(#[from] DecodeError),
    /// The peer's key agrees to the same secret with everyone.
    #[error("the peer's key is weak")]
    WeakKey,
    /// A record does not open, or comes out of turn.
    #[error("a record was changed on the way, or was not sealed for this channel")]
    NotAuthentic,
    /// The peer has not proved who it is.
    #[error("the peer does not prove that it is node {0}: {1}")]
    NotProven(NodeId, &'static str),
    /// Ours: longer than a record.
    #[error("{0} bytes are too long for a record")]
    TooLong(usize),
}

/// An open channel.
pub struct Channel<S> {
    _stream: S,
}

/// Opens a channel over `stream`. With `parties`, both sides prove who they are (the server first) or there is none;
/// without, the other end may be anybody, as old releases have it.
///
/// # Errors
/// [`Error`].
#[expect(clippy::unimplemented, reason = "the shape first")]
pub async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    _stream: S,
    _role: Role,
    _chance: Chance,
    _parties: Option<Parties<'_>>,
) -> Result<Channel<S>, Error> {
    unimplemented!()
}

#[expect(clippy::unimplemented, reason = "the shape first")]
impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// The next record; none at the end of the stream between two records. May be dropped half-way.
    ///
    /// # Errors
    /// [`Error`]; the channel is of no use then.
    pub async fn read(&mut self) -> Result<Option<Vec<u8>>, Error> {
        unimplemented!()
    }

    /// Seals and sends `plaintext` as one record.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn write(&mut self, _plaintext: &[u8]) -> Result<(), Error> {
        unimplemented!()
    }
}
