//! One session: the keys two nodes share, the counters of what is sent, the windows of what is received.
//!
//! An ordinary one has one key for both directions, and the peer sends under whatever prefix it likes. One from ephemeral
//! keys has a key for each direction, and a prefix that the peer has announced.

use std::time::Duration;

use secrets::Locked;
use wire::NodeId;
use wire::codec::Writer;
use wire::tunnel::{Frame, Nonce, SEALED_OVERHEAD, TAG_LEN, associated_data};

use super::ephemeral::DirectedKeys;
use super::keys::{CHAIN_LEN, X25519_LEN};
use super::replay::Windows;
use crate::Time;
use crate::aead::{Aead, Aes256Gcm};
use crate::identity::PUBLIC_KEY_LEN;

/// Bytes of a sealed frame before the packet.
pub const HEAD_LEN: usize = SEALED_OVERHEAD - TAG_LEN;

/// Frames that fail to open, or replayed ones, in a row, before the session is doubted.
const FAILURES_MAX: u8 = 5;
/// After an installation frames under the old key are still under way.
const FAILURE_GRACE: Duration = Duration::from_secs(3);
const REPLAY_GRACE: Duration = Duration::from_secs(1);
/// A session of this age is doubted at the first frame that fails to open: the peer has probably started anew.
const OLD: Duration = Duration::from_mins(1);

/// The two exchange keys a session follows from. With the same pair both sides have the same session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// Ours.
    pub own: [u8; X25519_LEN],
    /// The peer's.
    pub peer: [u8; X25519_LEN],
}

/// Why a frame does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its counter was seen before, or is too far behind to tell.
    Replayed,
    /// Not sealed with this session's key.
    NotAuthentic,
}

/// What two nodes share once they have exchanged keys.
pub struct Session {
    id: u32,
    pair: KeyPair,
    cipher: Aes256Gcm,
    negotiated: Option<Box<Negotiated>>,
    prefix: [u8; 4],
    /// Frames sealed under the key, under whatever prefix; also the last counter.
    sealed: u64,
    windows: Windows,
    installed_at: Time,
    heard_at: Option<Time>,
    sent_at: Time,
    failures: u8,
    replays: u8,
    /// When to ask for new keys; `None`: never.
    renew_at: Option<Time>,
    rounds: u8,
    replaced_at: Option<Time>,
    is_candidate: bool,
    /// The Ed25519 key under whose signature the peer's exchange key has come.
    proven_key: Option<[u8; PUBLIC_KEY_LEN]>,
}

/// What a session from ephemeral keys has besides: a key of its own for each direction.
struct Negotiated {
    opening: Aes256Gcm,
    peer_prefix: [u8; 4],
    chain: Locked<[u8; CHAIN_LEN]>,
}

impl Session {
    /// A session that has carried nothing yet. `prefix` must be new for this pair of keys.
    #[must_use]
    pub fn new(now: Time, pair: KeyPair, cipher: Aes256Gcm, prefix: [u8; 4]) -> Self {
        Self {
            id: u32::from_be_bytes(prefix),
            pair,
            cipher,
            negotiated: None,
            prefix,
            sealed: 0,
            windows: Windows::default(),
            installed_at: now,
            heard_at: None,
            sent_at: now,
            failures: 0,
            replays: 0,
            renew_at: None,
            rounds: 0,
            replaced_at: None,
            is_candidate: false,
            proven_key: None,
        }
    }

    /// The Ed25519 key that has signed the exchange key from which this session follows, whatever the directory says of
    /// the peer by now.
    #[must_use]
    pub const fn proven_key(&self) -> Option<[u8; PUBLIC_KEY_LEN]> {
        self.proven_key
    }

    /// The signature of the peer's exchange key was verified with `key`, or that of the session this one was negotiated in.
    pub const fn set_proven_key(&mut self, key: Option<[u8; PUBLIC_KEY_LEN]>) {
        self.proven_key = key;
    }

    /// A session from ephemeral keys, negotiated in one that followed from `pair`. `peer_prefix` stands in all frames
    /// the peer seals in it.
    #[must_use]
    pub fn negotiated(
        now: Time,
        pair: KeyPair,
        keys: DirectedKeys,
        prefix: [u8; 4],
        peer_prefix: [u8; 4],
        renew_at: Time,
    ) -> Self {
        let negotiated = Box::new(Negotiated { opening: keys.opening, peer_prefix, chain: keys.chain });
        let session = Self::new(now, pair, keys.sealing, prefix);
        Self { negotiated: Some(negotiated), renew_at: Some(renew_at), ..session }
    }

    /// Seals a frame in place: [`HEAD_LEN`] bytes that are written here, the packet, room for the tag.
    ///
    /// # Panics
    /// If the frame is shorter than [`SEALED_OVERHEAD`].
    pub fn seal(&mut self, now: Time, sender: NodeId, frame: &mut [u8]) {
        self.sealed += 1;
        self.sent_at = now;
        let nonce = Nonce { prefix: self.prefix, counter: self.sealed };
        let (head, body) = frame.split_at_mut(HEAD_LEN);
        let (packet, tag) = body.split_last_chunk_mut::<TAG_LEN>().expect("a frame has room for the tag");
        Frame::Sealed { sender, nonce, ciphertext: &[] }.encode(&mut Writer::new(head));
        *tag = self.cipher.seal(&nonce.to_bytes(), &associated_data(sender), packet);
    }

    /// Opens `body`, a packet and its tag, in place. On failure nothing is changed.
    ///
    /// # Errors
    /// [`Refusal::Replayed`] before, [`Refusal::NotAuthentic`] after a look at the tag.
    pub fn open(&mut self, now: Time, sender: NodeId, nonce: Nonce, body: &mut [u8]) -> Result<(), Refusal> {
        if !self.windows.admits(nonce) {
            return Err(Refusal::Replayed);
        }
        let (packet, tag) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(Refusal::NotAuthentic)?;
        let cipher = self.negotiated.as_ref().map_or(&self.cipher, |negotiated| &negotiated.opening);
        let opened = cipher.open(&nonce.to_bytes(), &associated_data(sender), packet, tag);
        opened.map_err(|_| Refusal::NotAuthentic)?;
        self.windows.record(nonce);
        self.heard_at = Some(now);
        (self.failures, self.replays) = (0, 0);
        Ok(())
    }

    /// Counts a frame that did not open; whether the session is now in doubt, so that keys should be exchanged again.
    #[must_use]
    pub fn doubt(&mut self, now: Time, refusal: Refusal) -> bool {
        let age = now.since(self.installed_at);
        let (count, grace) = match refusal {
            Refusal::Replayed => (&mut self.replays, REPLAY_GRACE),
            Refusal::NotAuthentic => (&mut self.failures, FAILURE_GRACE),
        };
        if age < grace {
            return false;
        }
        *count += 1;
        let doubted = *count >= FAILURES_MAX || (refusal == Refusal::NotAuthentic && age > OLD);
        if doubted {
            *count = 0;
        }
        doubted
    }

    /// Tells it from all others of this start.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Whether it follows from ephemeral keys.
    #[must_use]
    pub const fn is_negotiated(&self) -> bool {
        self.negotiated.is_some()
    }

    /// Whether the peer has announced this prefix for it.
    #[must_use]
    pub fn expects(&self, prefix: [u8; 4]) -> bool {
        self.negotiated.as_ref().is_some_and(|negotiated| negotiated.peer_prefix == prefix)
    }

    /// What the keys negotiated in it follow from, beside their own secrets.
    #[must_use]
    pub fn chain(&self) -> Option<&[u8; CHAIN_LEN]> {
        self.negotiated.as_ref().map(|negotiated| &*negotiated.chain)
    }

    /// Whether it is time to ask for new keys.
    #[must_use]
    pub fn wants_renewal(&self, now: Time) -> bool {
        self.renew_at.is_some_and(|due| due <= now) && self.is_proven()
    }

    /// Asks for new keys from then on; `None`: never.
    pub const fn renew_from(&mut self, at: Option<Time>) {
        self.renew_at = at;
    }

    /// Counts a request for new keys that nobody answered; how many there were before.
    pub const fn count_round(&mut self) -> u8 {
        self.rounds = self.rounds.saturating_add(1);
        self.rounds - 1
    }

    /// Whether the peer may be about to use it, though what is sent is sealed in a negotiated one.
    #[must_use]
    pub const fn is_candidate(&self) -> bool {
        self.is_candidate
    }

    /// Makes it such a session, or one like all others again.
    pub const fn stand(&mut self, is_candidate: bool) {
        self.is_candidate = is_candidate;
    }

    /// Another takes its place for what is sent.
    pub const fn replace(&mut self, now: Time) {
        self.replaced_at = Some(now);
    }

    /// When that was, or the session was installed.
    #[must_use]
    pub fn replaced_at(&self) -> Time {
        self.replaced_at.unwrap_or(self.installed_at)
    }

    /// The exchange keys it follows from, be it through a session negotiated in.
    #[must_use]
    pub const fn pair(&self) -> &KeyPair {
        &self.pair
    }

    /// The prefix of the nonces sent.
    #[must_use]
    pub const fn prefix(&self) -> [u8; 4] {
        self.prefix
    }

    /// Sends under another prefix from now on. The counter goes on: frames under the key are limited, not under a prefix.
    pub const fn change_prefix(&mut self, prefix: [u8; 4]) {
        self.prefix = prefix;
    }

    /// Frames sealed so far.
    #[must_use]
    pub const fn sealed(&self) -> u64 {
        self.sealed
    }

    /// Whether the windows have no room for another prefix of the peer's.
    #[must_use]
    pub const fn is_worn(&self) -> bool {
        self.windows.are_worn()
    }

    /// Whether a frame has opened: the peer has the same keys.
    #[must_use]
    pub const fn is_proven(&self) -> bool {
        self.heard_at.is_some()
    }

    /// When a frame last opened.
    #[must_use]
    pub const fn heard_at(&self) -> Option<Time> {
        self.heard_at
    }

    /// When there was last reason to believe in it: a frame opened, or it was installed.
    #[must_use]
    pub fn believed_at(&self) -> Time {
        self.heard_at.unwrap_or(self.installed_at)
    }

    /// When a frame was last sealed, or the session installed.
    #[must_use]
    pub const fn sent_at(&self) -> Time {
        self.sent_at
    }
}
