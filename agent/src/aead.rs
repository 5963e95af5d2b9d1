//! Authenticated encryption in place, with the tag apart: no datagram is copied to be sealed or opened.
//!
//! The trait is all that tunnels know of a cipher, so that another implementation of AES-256-GCM can take the place of
//! this one where a bench shows that it pays.

use aes_gcm::aead::{AeadInOut, KeyInit};
use secrets::Locked;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of a tag.
pub const TAG_LEN: usize = 16;

/// A cipher with its key, which lies in locked memory and is wiped when the value goes.
pub trait Aead {
    /// The cipher under `key`; the caller wipes its own copy, and the stack ([`secrets::scrubbed`]).
    fn new(key: &[u8; KEY_LEN]) -> Self;

    /// Encrypts `buffer` in place. The same nonce twice under one key gives both plaintexts away.
    fn seal(&self, nonce: &[u8; NONCE_LEN], associated_data: &[u8], buffer: &mut [u8]) -> [u8; TAG_LEN];

    /// Decrypts `buffer` in place if the tag is right.
    ///
    /// # Errors
    /// [`NotAuthentic`] for a wrong tag; the buffer is then as it was, so that another key can be tried.
    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated_data: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), NotAuthentic>;
}

/// The tag is not the one this key gives: another key, or bytes that somebody changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sealed with this key, or changed on the way")]
pub struct NotAuthentic;

/// AES-256-GCM of the `aes-gcm` crate, which takes the processor's instructions for it where there are any. What is kept is
/// the key with all its round keys.
pub struct Aes256Gcm(Locked<aes_gcm::Aes256Gcm>);

impl Aead for Aes256Gcm {
    fn new(key: &[u8; KEY_LEN]) -> Self {
        Self(Locked::new(aes_gcm::Aes256Gcm::new(key.into())))
    }

    fn seal(&self, nonce: &[u8; NONCE_LEN], associated_data: &[u8], buffer: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = self.0.encrypt_inout_detached(nonce.into(), associated_data, buffer.into());
        tag.expect("a datagram is shorter than 64 GiB").into()
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated_data: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), NotAuthentic> {
        self.0
            .decrypt_inout_detached(nonce.into(), associated_data, buffer.into(), tag.into())
            .map_err(|_| NotAuthentic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 16 of the GCM submission (McGrew and Viega): AES-256, 96-bit nonce, associated data.
    const KEY: [u8; 32] = [
        0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08, 0xfe, 0xff,
        0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08,
    ];
    const NONCE: [u8; 12] = [0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88];
    const PLAINTEXT: [u8; 60] = [
        0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5, 0xa5, 0x59, 0x09, 0xc5, 0xaf, 0xf5, 0x26, 0x9a, 0x86, 0xa7,
        0xa9, 0x53, 0x15, 0x34, 0xf7, 0xda, 0x2e, 0x4c, 0x30, 0x3d, 0x8a, 0x31, 0x8a, 0x72, 0x1c, 0x3c, 0x0c, 0x95,
        0x95, 0x68, 0x09, 0x53, 0x2f, 0xcf, 0x0e, 0x24, 0x49, 0xa6, 0xb5, 0x25, 0xb1, 0x6a, 0xed, 0xf5, 0xaa, 0x0d,
        0xe6, 0x57, 0xba, 0x63, 0x7b, 0x39,
    ];
    const ASSOCIATED_DATA: [u8; 20] = [
        0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xab, 0xad,
        0xda, 0xd2,
    ];
    const TAG: [u8; 16] =
        [0x76, 0xfc, 0x6e, 0xce, 0x0f, 0x4e, 0x17, 0x68, 0xcd, 0xdf, 0x88, 0x53, 0xbb, 0x2d, 0x55, 0x1b];

    #[test]
    fn seals_the_published_test_case_and_opens_it_again() {
        let cipher = Aes256Gcm::new(&KEY);
        let mut buffer = PLAINTEXT;
        assert_eq!(cipher.seal(&NONCE, &ASSOCIATED_DATA, &mut buffer), TAG);
        assert_eq!(buffer[..4], [0x52, 0x2d, 0xc1, 0xf0]);
        assert_eq!(cipher.open(&NONCE, &ASSOCIATED_DATA, &mut buffer, &TAG), Ok(()));
        assert_eq!(buffer, PLAINTEXT);
    }

    #[test]
    fn what_does_not_open_is_left_as_it_was() {
        let cipher = Aes256Gcm::new(&KEY);
        let mut sealed = PLAINTEXT;
        let tag = cipher.seal(&NONCE, &ASSOCIATED_DATA, &mut sealed);
        for bit in 0..8 * TAG_LEN {
            let (mut buffer, mut wrong) = (sealed, tag);
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cipher.open(&NONCE, &ASSOCIATED_DATA, &mut buffer, &wrong), Err(NotAuthentic));
            assert_eq!(buffer, sealed);
        }
        assert_eq!(cipher.open(&NONCE, &ASSOCIATED_DATA[1..], &mut sealed.clone(), &tag), Err(NotAuthentic));
    }
}
