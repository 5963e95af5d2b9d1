//! Checking one signature: slow, pure, and therefore handed out to be done elsewhere.

use ed25519_dalek::VerifyingKey;
use wire::registry::{PublicKey, Request, Signature};

/// A signature to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureCheck {
    key: PublicKey,
    signature: Signature,
    text: String,
    older_text: Option<String>,
}

impl SignatureCheck {
    /// The check of the signature that came with `request` against `key`; `None` when it came without.
    pub(super) fn new(key: PublicKey, request: &Request) -> Option<Self> {
        Some(Self {
            key,
            signature: request.signature?,
            text: request.operation.signed_text()?,
            older_text: request.operation.older_signed_text(),
        })
    }

    /// Does the check: some 40 µs. Strict, so that keys which fit any signature fit none.
    #[must_use]
    pub fn run(&self) -> Checked {
        let fits =
            |key: &VerifyingKey, text: &str| key.verify_strict(text.as_bytes(), &self.signature.0.into()).is_ok();
        let valid = VerifyingKey::from_bytes(&self.key.0)
            .is_ok_and(|key| fits(&key, &self.text) || self.older_text.as_ref().is_some_and(|text| fits(&key, text)));
        Checked { key: self.key, valid }
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    pub(super) key: PublicKey,
    pub(super) valid: bool,
}

/// Whether `key` can be an identity: a point on the curve, written in the one way it has to be (RFC 8032 section 5.1.3), or
/// one identity would have two keys; and not one of the few points that fit any signature.
pub(crate) fn is_identity(key: &PublicKey) -> bool {
    is_canonical(&key.0) && VerifyingKey::from_bytes(&key.0).is_ok_and(|key| !key.is_weak())
}

/// Whether the number that stands for y, in little-endian order below the sign of x, is less than 2^255 - 19.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    bytes[31] & 0x7F != 0x7F || bytes[1..31].iter().any(|byte| *byte != 0xFF) || bytes[0] < 0xED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_has_one_way_to_be_written() {
        let mut prime = [0xFF; 32];
        (prime[0], prime[31]) = (0xED, 0x7F);
        let beyond = |low: u8, sign: u8| {
            let mut bytes = prime;
            (bytes[0], bytes[31]) = (low, 0x7F | sign);
            bytes
        };
        for sign in [0, 0x80] {
            assert!((0xED..=0xFF).all(|low| !is_canonical(&beyond(low, sign))));
            assert!(is_canonical(&beyond(0xEC, sign)));
        }
        // Some of these are points of the curve, so that nothing else would refuse them.
        let lax =
            (0xED..=0xFF).filter(|low| VerifyingKey::from_bytes(&beyond(*low, 0)).is_ok_and(|key| !key.is_weak()));
        assert!(lax.count() > 0);
        assert!(is_canonical(&[0; 32]) && is_canonical(&[0xFE; 32]));
    }
}
