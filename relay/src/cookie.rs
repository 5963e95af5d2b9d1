//! Cookies of signed claims: what a node has to sign to show that it is there, now.
//!
//! A cookie is a MAC (HMAC-SHA-256, its first half) over the node, its source and a slot of time, under a secret that is
//! drawn anew at each start and kept in locked memory. So nothing is kept for who is challenged; only who receives at the source can know its
//! cookie; and neither a copy from elsewhere nor an old one fits. Every shard makes and checks all of them.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use secrets::{Locked, scrubbed};
use sha2::Sha256;
use wire::NodeId;
use wire::beacon::COOKIE_LEN;

use crate::endpoint::Endpoint;
use crate::time::{Time, nanos};

/// A cookie fits in its slot and the next: for a round trip and a signature, and hardly longer.
pub const SLOT: Duration = Duration::from_secs(2);
/// The longest time for which a cookie fits.
pub const LIFETIME: Duration = Duration::from_secs(2 * SLOT.as_secs());

/// Makes and checks cookies.
#[derive(Clone)]
pub struct Cookies {
    /// Keyed, with nothing in it yet.
    mac: Locked<Hmac<Sha256>>,
    relay_key: [u8; 32],
}

impl Cookies {
    /// For the relay that nodes know by `relay_key`; `secret` is chance.
    #[must_use]
    pub fn new(relay_key: [u8; 32], secret: &[u8; 32]) -> Self {
        let keyed = || <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("a key of any length will do");
        Self { mac: scrubbed(|| Locked::new(keyed())), relay_key }
    }

    /// The key the relay is known by, which is part of what is signed.
    #[must_use]
    pub const fn relay_key(&self) -> &[u8; 32] {
        &self.relay_key
    }

    /// The cookie of `node` at `from`.
    #[must_use]
    pub fn make(&self, now: Time, node: NodeId, from: &Endpoint) -> [u8; COOKIE_LEN] {
        let whole = self.mac(slot(now), node, from).finalize().into_bytes();
        *whole.first_chunk().expect("a MAC of 32 bytes")
    }

    /// Whether `cookie` is that of `node` at `from`, of this slot or the one before. Takes as long for any other.
    #[must_use]
    pub fn fits(&self, now: Time, node: NodeId, from: &Endpoint, cookie: &[u8; COOKIE_LEN]) -> bool {
        let of = |slot| self.mac(slot, node, from).verify_truncated_left(cookie).is_ok();
        let slot = slot(now);
        of(slot) | slot.checked_sub(1).is_some_and(of)
    }

    fn mac(&self, slot: u64, node: NodeId, from: &Endpoint) -> Hmac<Sha256> {
        let mut mac = Hmac::clone(&self.mac);
        mac.update(&slot.to_be_bytes());
        mac.update(&node.0.to_be_bytes());
        mac.update(&from.ip.octets());
        mac.update(&from.port.to_be_bytes());
        mac
    }
}

/// Without the secret.
impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies").finish_non_exhaustive()
    }
}

const fn slot(now: Time) -> u64 {
    now.0 / nanos(SLOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(7);

    fn endpoint(text: &str) -> Endpoint {
        text.parse::<std::net::SocketAddr>().unwrap().into()
    }

    #[test]
    fn a_cookie_fits_its_node_and_source_for_two_slots() {
        let cookies = Cookies::new([1; 32], &[2; 32]);
        for from in ["198.18.1.1:4000", "[2001:db8::1]:4000"] {
            let from = endpoint(from);
            let start = Time(nanos(SLOT) * 100);
            let cookie = cookies.make(start, NODE, &from);
            assert_eq!(cookies.make(start + (SLOT - Duration::from_nanos(1)), NODE, &from), cookie);
            assert!(cookies.fits(start, NODE, &from, &cookie));
            assert!(cookies.fits(start + (LIFETIME - Duration::from_nanos(1)), NODE, &from, &cookie));
            assert!(!cookies.fits(start + LIFETIME, NODE, &from, &cookie), "too late");
            assert!(!cookies.fits(start, NodeId(8), &from, &cookie), "another node's");
            for elsewhere in ["198.18.1.1:4001", "198.18.1.2:4000", "[2001:db8::2]:4000"] {
                assert!(!cookies.fits(start, NODE, &endpoint(elsewhere), &cookie), "from {elsewhere}");
            }
            assert!(!Cookies::new([1; 32], &[3; 32]).fits(start, NODE, &from, &cookie), "of another start");
            for byte in 0..COOKIE_LEN {
                let mut wrong = cookie;
                wrong[byte] ^= 1;
                assert!(!cookies.fits(start, NODE, &from, &wrong));
            }
        }
        assert!(
            !cookies.fits(Time(0), NODE, &endpoint("198.18.1.1:4000"), &[0; COOKIE_LEN]),
            "no slot before the first"
        );
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Cookies::new([1; 32], &[2; 32])), "Cookies { .. }");
    }
}
