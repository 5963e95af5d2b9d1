//! Secure channel, port 443: records sealed with keys of this channel alone, within a tunnel that is sealed already.
//!
//! ```text
//! client ── X25519 public key ──► server
//! client ◄── X25519 public key ── server
//! client ◄── record: proof ────── server      between agents that demand it
//! client ── record: proof ──────► server
//!          records, both ways
//! ```
//!
//! A proof is a signature over the prover's public key of this channel, so it cannot be carried to another. It has to be by
//! the node at the other end of the stream, with the key the directory has for it, fresh, and new.

mod proofs;
mod records;

use std::cell::RefCell;
use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use hkdf::Hkdf;
use secrets::{Locked, scrubbed};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::timeout;
pub use wire::services::secure::Role;
use wire::services::secure::{PUBLIC_KEY_LEN, Proof, signed};
use wire::{DecodeError, NodeId};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::aead::KEY_LEN;
use crate::identity::{Identity, has_signed};
use crate::services::WallClock;

pub use proofs::Proofs;
pub use records::{Reader, Writer};

/// An opening takes no longer.
const OPENING_MAX: Duration = Duration::from_secs(10);
/// A proof's time may be off so much, in seconds.
const SKEW_MAX: u64 = 5;
const INFO: &[u8] = b"pilot-secure-v1";

/// Fresh chance for one channel.
pub struct Chance {
    /// The X25519 private key of this channel alone.
    pub secret: Locked<[u8; 32]>,
    /// The nonce of our proof.
    pub nonce: [u8; 16],
}

/// Holds a node's key, and signs its proofs: whoever has its [`Identity`], or asks the daemon that does.
pub trait Signer {
    /// The signature of this node over [`signed`], for its X25519 public key of this channel.
    fn sign(&self, public_key: [u8; PUBLIC_KEY_LEN], unix_seconds: u64, nonce: [u8; 16]) -> Signing<'_>;
}

/// A signature, or why there is none.
pub type Signing<'a> = Pin<Box<dyn Future<Output = Result<[u8; 64], String>> + 'a>>;

/// An identity signs in the name of the node it belongs to.
impl Signer for (NodeId, Identity) {
    fn sign(&self, public_key: [u8; PUBLIC_KEY_LEN], unix_seconds: u64, nonce: [u8; 16]) -> Signing<'_> {
        Box::pin(ready(Ok(self.1.sign(&signed(self.0, &public_key, unix_seconds, &nonce)))))
    }
}

/// Who we are, and who the other end has to be.
pub struct Parties<'a> {
    /// Our node.
    pub own: NodeId,
    /// Who signs our proof.
    pub signer: &'a dyn Signer,
    /// The node at the other end of the stream.
    pub peer: NodeId,
    /// The key the directory has for it.
    pub peer_key: [u8; 32],
    /// Unix seconds.
    pub clock: WallClock,
    /// Proofs seen, shared by all channels of this node.
    pub seen: &'a RefCell<Proofs>,
}

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
    /// Ours: there is no proof of our own.
    #[error("our own proof is not signed: {0}")]
    NotSigned(String),
    /// Ours: longer than a record.
    #[error("{0} bytes are too long for a record")]
    TooLong(usize),
}

/// An open channel.
pub struct Channel<S> {
    reader: Reader<tokio::io::ReadHalf<S>>,
    writer: Writer<tokio::io::WriteHalf<S>>,
}

/// Opens a channel over `stream`. With `parties`, both sides prove who they are (the server first) or there is none;
/// without, the other end may be anybody, as old releases have it.
///
/// # Errors
/// [`Error`].
pub async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    role: Role,
    chance: Chance,
    parties: Option<Parties<'_>>,
) -> Result<Channel<S>, Error> {
    timeout(OPENING_MAX, opening(stream, role, chance, parties)).await.map_err(|_| Error::Silent)?
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// The next record; none at the end of the stream between two records. May be dropped half-way.
    ///
    /// # Errors
    /// [`Error`]; the channel is of no use then.
    pub async fn read(&mut self) -> Result<Option<Vec<u8>>, Error> {
        self.reader.read().await
    }

    /// Seals and sends `plaintext` as one record. Must not be dropped half-way.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn write(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        self.writer.write(plaintext).await
    }

    /// The two directions, for tasks of their own.
    pub fn split(self) -> (Reader<tokio::io::ReadHalf<S>>, Writer<tokio::io::WriteHalf<S>>) {
        (self.reader, self.writer)
    }
}

async fn opening<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    role: Role,
    chance: Chance,
    parties: Option<Parties<'_>>,
) -> Result<Channel<S>, Error> {
    let secret = scrubbed(|| Locked::new(StaticSecret::from(*chance.secret)));
    let own_public = scrubbed(|| PublicKey::from(&*secret).to_bytes());
    let mut peer_public = [0; PUBLIC_KEY_LEN];
    if role == Role::Client {
        send_key(&mut stream, &own_public).await?;
    }
    stream.read_exact(&mut peer_public).await?;
    let key = scrubbed(|| {
        let shared = secret.diffie_hellman(&PublicKey::from(peer_public));
        shared.was_contributory().then(|| Locked::new(*channel_key(shared.as_bytes())))
    });
    let key = key.ok_or(Error::WeakKey)?;
    if role == Role::Server {
        send_key(&mut stream, &own_public).await?;
    }
    let (read, write) = split(stream);
    let mut channel =
        scrubbed(|| Channel { reader: Reader::new(read, &key, other(role)), writer: Writer::new(write, &key, role) });
    if let Some(parties) = parties {
        if role == Role::Server {
            prove(&mut channel, &parties, &own_public, &chance.nonce).await?;
        }
        check(&mut channel, &parties, &peer_public).await?;
        if role == Role::Client {
            prove(&mut channel, &parties, &own_public, &chance.nonce).await?;
        }
    }
    Ok(channel)
}

async fn send_key(stream: &mut (impl AsyncWrite + Unpin), key: &[u8; PUBLIC_KEY_LEN]) -> io::Result<()> {
    stream.write_all(key).await?;
    stream.flush().await
}

const fn other(role: Role) -> Role {
    match role {
        Role::Server => Role::Client,
        Role::Client => Role::Server,
    }
}

fn channel_key(shared: &[u8; 32]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    Hkdf::<Sha256>::new(None, shared).expand(INFO, &mut *key).expect("HKDF-SHA256 gives up to 8160 bytes");
    key
}

async fn prove<S: AsyncRead + AsyncWrite + Unpin>(
    channel: &mut Channel<S>,
    parties: &Parties<'_>,
    own_public: &[u8; PUBLIC_KEY_LEN],
    nonce: &[u8; 16],
) -> Result<(), Error> {
    let unix_seconds = (parties.clock)().as_secs();
    let signing = parties.signer.sign(*own_public, unix_seconds, *nonce);
    let signature = signing.await.map_err(Error::NotSigned)?;
    channel.write(&Proof { node: parties.own, unix_seconds, nonce, signature: &signature }.encode()).await
}

async fn check<S: AsyncRead + AsyncWrite + Unpin>(
    channel: &mut Channel<S>,
    parties: &Parties<'_>,
    peer_public: &[u8; PUBLIC_KEY_LEN],
) -> Result<(), Error> {
    let not_proven = |why| Error::NotProven(parties.peer, why);
    let plaintext = channel.read().await?.ok_or(not_proven("it closed the connection"))?;
    let proof = Proof::decode(&plaintext).map_err(|_| not_proven("it begins with something else"))?;
    if proof.node != parties.peer {
        return Err(not_proven("it says it is another"));
    }
    let text = signed(proof.node, peer_public, proof.unix_seconds, proof.nonce);
    if !has_signed(&parties.peer_key, &text, proof.signature) {
        return Err(not_proven("the signature is wrong"));
    }
    let now = (parties.clock)().as_secs();
    if now.abs_diff(proof.unix_seconds) > SKEW_MAX {
        return Err(not_proven("its clock, or ours, is more than 5 s off"));
    }
    if !parties.seen.borrow_mut().note(now, proof.nonce) {
        return Err(not_proven("the proof has been used before"));
    }
    Ok(())
}
