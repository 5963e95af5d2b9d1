//! Keys of negotiated sessions: what goes into them, and that both sides make the same of it.
//!
//! In the manner of Noise, every pair of keys there is agrees, and everything said is hashed:
//!
//! ```text
//!   secrets    = X25519(eI, eR) ‖ X25519(eI, sR) ‖ X25519(sI, eR) ‖ X25519(sI, sR)
//!   transcript = SHA-256(label ‖ ids of I and R ‖ sI ‖ sR ‖ length and bytes of hello ‖ length and bytes of accept)
//!   PRK        = HKDF-Extract(salt = chain of the session it was said in, or zeros, ikm = secrets)
//!   key I→R, key R→I, next chain = HKDF-Expand(PRK, name ‖ transcript)
//! ```
//!
//! I sent the hello, R the accept; e are ephemeral keys, s the exchange keys each has signed. What that gives:
//!
//! - Whoever records everything and takes both hosts later has sI and sR, but not eI and eR, which are wiped by then,
//!   nor the chain of an earlier session. The first product alone keeps the keys from him.
//! - Whoever has the exchange key of one side can be taken for that side, which nothing prevents, but not for the other
//!   side: that takes sR against I, or sI against R. To stand in between he needs both.
//! - Whoever has read the memory of one side once, chain and all, has lost the track after the next handshake.
//!
//! Each direction has its own key, so no nonce occurs twice under one (SPEC 12, weakness 17).

use hkdf::Hkdf;
use secrets::{Locked, scrubbed};
use sha2::{Digest, Sha256};
use wire::NodeId;
use zeroize::Zeroizing;

use super::keys::{CHAIN_LEN, ExchangeKey, X25519_LEN, expand};
use super::session::KeyPair;
use crate::aead::{Aead, Aes256Gcm, KEY_LEN};

const LABEL: &[u8] = b"pilot-relay tunnel extension 1";

/// Who we are in a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We sent the hello.
    Initiator,
    /// We sent the accept.
    Responder,
}

/// All that two nodes have said, as one of them sees it.
#[derive(Clone, Copy, Debug)]
pub struct Transcript<'a> {
    /// Who we are in it.
    pub role: Role,
    /// Our id.
    pub own: NodeId,
    /// The peer's.
    pub peer: NodeId,
    /// The exchange keys of the session it was said in.
    pub pair: &'a KeyPair,
    /// The payload of the hello, whole.
    pub hello: &'a [u8],
    /// The payload of the accept, whole.
    pub accept: &'a [u8],
}

/// What a negotiated session is made of.
pub struct DirectedKeys {
    /// For what we send.
    pub sealing: Aes256Gcm,
    /// For what comes in.
    pub opening: Aes256Gcm,
    /// For the next negotiation.
    pub chain: Locked<[u8; CHAIN_LEN]>,
}

impl Transcript<'_> {
    /// The keys; `None` if the peer's ephemeral key agrees to zero with everyone. `exchange` is our key of the pair, and
    /// `chain` that of the session it was said in, where it has one.
    #[must_use]
    pub fn derive(
        &self,
        exchange: &ExchangeKey,
        ephemeral: &ExchangeKey,
        peer_ephemeral: &[u8; X25519_LEN],
        chain: Option<&[u8; CHAIN_LEN]>,
    ) -> Option<DirectedKeys> {
        scrubbed(|| self.agree(exchange, ephemeral, peer_ephemeral, chain))
    }

    fn agree(
        &self,
        exchange: &ExchangeKey,
        ephemeral: &ExchangeKey,
        peer_ephemeral: &[u8; X25519_LEN],
        chain: Option<&[u8; CHAIN_LEN]>,
    ) -> Option<DirectedKeys> {
        let ours_with_theirs = ephemeral.shared(&self.pair.peer)?;
        let theirs_with_ours = exchange.shared(peer_ephemeral)?;
        let (hello_side, accept_side) = match self.role {
            Role::Initiator => (ours_with_theirs, theirs_with_ours),
            Role::Responder => (theirs_with_ours, ours_with_theirs),
        };
        let agreed = [ephemeral.shared(peer_ephemeral)?, hello_side, accept_side, exchange.shared(&self.pair.peer)?];
        let mut secrets = Zeroizing::new([0; 4 * X25519_LEN]);
        for (place, secret) in secrets.chunks_exact_mut(X25519_LEN).zip(&agreed) {
            place.copy_from_slice(secret.as_bytes());
        }
        let key = Hkdf::<Sha256>::new(chain.map(<[u8; CHAIN_LEN]>::as_slice), &*secrets);
        let transcript = self.hash();
        let of_hello_side = expand::<KEY_LEN>(&key, &[b"initiator to responder", &transcript]);
        let of_accept_side = expand::<KEY_LEN>(&key, &[b"responder to initiator", &transcript]);
        let (sealing, opening) = match self.role {
            Role::Initiator => (of_hello_side, of_accept_side),
            Role::Responder => (of_accept_side, of_hello_side),
        };
        let chain = Locked::new(*expand(&key, &[b"chain", &transcript]));
        Some(DirectedKeys { sealing: Aes256Gcm::new(&sealing), opening: Aes256Gcm::new(&opening), chain })
    }

    fn hash(&self) -> [u8; 32] {
        let ours = (self.own, &self.pair.own);
        let theirs = (self.peer, &self.pair.peer);
        let (initiator, responder) = match self.role {
            Role::Initiator => (ours, theirs),
            Role::Responder => (theirs, ours),
        };
        let mut hash = Sha256::new_with_prefix(LABEL);
        hash.update(initiator.0.0.to_be_bytes());
        hash.update(responder.0.0.to_be_bytes());
        hash.update(initiator.1);
        hash.update(responder.1);
        for said in [self.hello, self.accept] {
            hash.update((said.len() as u64).to_be_bytes());
            hash.update(said);
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; 12] = [1; 12];

    fn key(byte: u8) -> ExchangeKey {
        ExchangeKey::from_bytes(&[byte; 32])
    }

    fn pair(own: u8, peer: u8) -> KeyPair {
        KeyPair { own: *key(own).public(), peer: *key(peer).public() }
    }

    fn initiator<'a>(pair: &'a KeyPair, accept: &'a [u8]) -> Transcript<'a> {
        Transcript { role: Role::Initiator, own: NodeId(1), peer: NodeId(2), pair, hello: b"hello", accept }
    }

    fn responder<'a>(pair: &'a KeyPair, accept: &'a [u8]) -> Transcript<'a> {
        Transcript { role: Role::Responder, own: NodeId(2), peer: NodeId(1), pair, hello: b"hello", accept }
    }

    fn agree(left: &DirectedKeys, right: &DirectedKeys) -> bool {
        let opens = |sealing: &Aes256Gcm, opening: &Aes256Gcm| {
            let mut text = *b"text";
            let tag = sealing.seal(&NONCE, b"", &mut text);
            opening.open(&NONCE, b"", &mut text, &tag).is_ok()
        };
        opens(&left.sealing, &right.opening) && opens(&right.sealing, &left.opening) && *left.chain == *right.chain
    }

    /// Exchange keys 1 and 2, ephemeral keys 11 and 12.
    fn left(chain: Option<&[u8; 32]>) -> DirectedKeys {
        initiator(&pair(1, 2), b"accept").derive(&key(1), &key(11), key(12).public(), chain).unwrap()
    }

    #[test]
    fn both_sides_make_the_same_keys_and_one_for_each_direction() {
        for chain in [None, Some(&[5; 32])] {
            let right = responder(&pair(2, 1), b"accept").derive(&key(2), &key(12), key(11).public(), chain).unwrap();
            assert!(agree(&left(chain), &right));
            let (mut one, mut other) = (*b"text", *b"text");
            right.sealing.seal(&NONCE, b"", &mut one);
            right.opening.seal(&NONCE, b"", &mut other);
            assert_ne!(one, other);
        }
    }

    /// Each differs in one thing from what the initiator has.
    #[test]
    fn every_key_and_every_byte_said_counts() {
        let derive = |transcript: Transcript<'_>, exchange: u8, ephemeral: u8, chain| {
            transcript.derive(&key(exchange), &key(ephemeral), key(11).public(), chain).unwrap()
        };
        let (same, stranger, other_own) = (pair(2, 1), pair(2, 3), pair(3, 1));
        let others = [
            derive(responder(&same, b"other"), 2, 12, None),
            derive(responder(&same, b"accept"), 2, 12, Some(&[5; 32])),
            derive(responder(&stranger, b"accept"), 2, 12, None),
            derive(responder(&other_own, b"accept"), 2, 12, None),
            derive(Transcript { own: NodeId(3), ..responder(&same, b"accept") }, 2, 12, None),
            derive(Transcript { hello: b"hallo", ..responder(&same, b"accept") }, 2, 12, None),
            // Who has all but the ephemeral key, and who has all but the exchange key.
            derive(responder(&same, b"accept"), 2, 13, None),
            derive(responder(&same, b"accept"), 3, 12, None),
        ];
        for (number, other) in others.iter().enumerate() {
            assert!(!agree(&left(None), other), "{number}");
        }
    }

    #[test]
    fn keys_that_agree_to_zero_give_none() {
        assert!(initiator(&pair(1, 2), b"").derive(&key(1), &key(11), &[0; 32], None).is_none());
    }
}
