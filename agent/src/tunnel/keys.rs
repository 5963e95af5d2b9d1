//! Keys of tunnels (section 3.1): X25519 agreement, and HKDF-SHA256 as daemons do it since v1.9.
//!
//! Daemons of v1.2.2 derive another key from the same agreement and can never be talked to; nothing here tries.

use hkdf::Hkdf;
use secrets::{Locked, scrubbed};
use sha2::Sha256;
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

use crate::aead::{Aead, KEY_LEN};

/// Bytes of an X25519 key, private or public.
pub const X25519_LEN: usize = 32;
/// Bytes of what one negotiated session leaves to the next.
pub const CHAIN_LEN: usize = 32;

/// What HKDF is told, without a colon.
const INFO: &[u8] = b"pilot-tunnel-v1";

/// The X25519 key pair that goes into key exchanges: one for all peers, until it has sealed enough.
pub struct ExchangeKey {
    secret: Locked<StaticSecret>,
    public: [u8; X25519_LEN],
}

impl ExchangeKey {
    /// The pair of this private key.
    #[must_use]
    pub fn from_bytes(secret: &[u8; X25519_LEN]) -> Self {
        scrubbed(|| {
            let secret = Locked::new(StaticSecret::from(*secret));
            let public = PublicKey::from(&*secret).to_bytes();
            Self { secret, public }
        })
    }

    /// What peers are told.
    #[must_use]
    pub const fn public(&self) -> &[u8; X25519_LEN] {
        &self.public
    }

    /// The cipher shared with the holder of `public`; `None` for a public key that agrees to zero with everyone.
    #[must_use]
    pub fn agree<A: Aead>(&self, public: &[u8; X25519_LEN]) -> Option<A> {
        scrubbed(|| self.shared(public).map(|shared| A::new(&session_key(shared.as_bytes()))))
    }

    /// The bare secret shared with the holder of `public`; to be had in [`scrubbed`] alone.
    pub(super) fn shared(&self, public: &[u8; X25519_LEN]) -> Option<SharedSecret> {
        let shared = self.secret.diffie_hellman(&PublicKey::from(*public));
        shared.was_contributory().then_some(shared)
    }
}

/// The key both directions are sealed with, from the agreed secret.
#[must_use]
pub fn session_key(shared: &[u8; X25519_LEN]) -> Zeroizing<[u8; KEY_LEN]> {
    expand(&Hkdf::new(None, shared), &[INFO])
}

/// All chance a start of the agent needs, from one seed.
///
/// Exchange keys can be had again as long as this lives. Ephemeral keys cannot: each moves a chain on that does not run
/// backwards, and nothing else here leads to it.
pub struct Chance {
    root: Locked<Hkdf<Sha256>>,
    chain: Locked<[u8; 32]>,
}

impl Chance {
    /// Chance that is as good as the `seed`.
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        scrubbed(|| {
            let seed = Hkdf::new(None, seed);
            let root = Locked::new(Hkdf::new(None, &*expand::<32>(&seed, &[b"root"])));
            Self { root, chain: Locked::new(*expand(&seed, &[b"ephemeral chain"])) }
        })
    }

    /// The exchange key number `generation` of this start.
    #[must_use]
    pub fn exchange_key(&self, generation: u32) -> ExchangeKey {
        scrubbed(|| ExchangeKey::from_bytes(&expand(&self.root, &[b"exchange key", &generation.to_be_bytes()])))
    }

    /// Where nonce prefixes begin.
    #[must_use]
    pub fn first_prefix(&self) -> u32 {
        scrubbed(|| u32::from_be_bytes(*expand(&self.root, &[b"nonce prefix"])))
    }

    /// A key for one handshake and the handshake's id; never the same again, and not to be had again.
    #[must_use]
    pub fn ephemeral(&mut self) -> (ExchangeKey, u64) {
        scrubbed(|| {
            let chain = Hkdf::new(None, &*self.chain);
            *self.chain = *expand(&chain, &[b"next"]);
            let id = u64::from_be_bytes(*expand(&chain, &[b"handshake id"]));
            (ExchangeKey::from_bytes(&expand(&chain, &[b"ephemeral key"])), id)
        })
    }

    /// Mixes fresh chance into the ephemeral keys to come, so that whoever once saw this memory cannot foretell them.
    pub fn stir(&mut self, fresh: &[u8; 32]) {
        scrubbed(|| *self.chain = *expand(&Hkdf::new(Some(fresh), &*self.chain), &[b"stirred"]));
    }
}

/// Key material of `N` bytes.
pub(super) fn expand<const N: usize>(key: &Hkdf<Sha256>, info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    let mut out = Zeroizing::new([0; N]);
    key.expand_multi_info(info, &mut *out).expect("HKDF-SHA256 gives up to 8160 bytes");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ephemeral_keys_are_never_the_same_and_fresh_chance_changes_those_to_come() {
        let (mut one, mut other) = (Chance::new(&[1; 32]), Chance::new(&[1; 32]));
        let (first, second) = (one.ephemeral(), one.ephemeral());
        assert_ne!((first.0.public(), first.1), (second.0.public(), second.1));
        assert_eq!(other.ephemeral().0.public(), first.0.public(), "a seed replays exactly");
        other.stir(&[2; 32]);
        assert_ne!(other.ephemeral().0.public(), second.0.public());
        assert_eq!(one.exchange_key(0).public(), other.exchange_key(0).public());
        assert_ne!(one.exchange_key(0).public(), one.exchange_key(1).public());
    }
}
