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

/// Whether `key` can be an identity: a point on the curve, and not one of the few that fit any signature.
pub(crate) fn is_identity(key: &PublicKey) -> bool {
    VerifyingKey::from_bytes(&key.0).is_ok_and(|key| !key.is_weak())
}
