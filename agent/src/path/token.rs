//! What a probe carries and its answer brings back. Nobody who has not received the probe can know it: a peer could else
//! name an endpoint that is not its own, answer for it through the relay, and so aim traffic at a third party.

use std::fmt;

use secrets::{Locked, scrubbed};
use sha2::{Digest, Sha256};

use crate::Time;

/// Bytes that no one can guess.
const PAYLOAD_LEN: usize = 8;

/// The mark of one probe. Daemons echo both parts unchanged (SPEC 8.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The sequence number of the ping: one after the other.
    pub sequence: u32,
    /// The payload of the ping: known to its receiver alone.
    pub payload: [u8; PAYLOAD_LEN],
}

/// Tokens that never repeat, as a secret gives them.
#[derive(Clone)]
pub struct Tokens {
    secret: Locked<[u8; 32]>,
    next: u32,
}

impl Tokens {
    /// `seed` may be the same for all paths to one peer, since no two of them begin at one time.
    pub fn new(now: Time, seed: &[u8; 32]) -> Self {
        scrubbed(|| {
            let digest = Sha256::new().chain_update(seed).chain_update(now.0.to_be_bytes()).finalize();
            Self { secret: Locked::new(digest.into()), next: 1 }
        })
    }

    /// The next one.
    pub fn draw(&mut self) -> Token {
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        let digest = Sha256::new().chain_update(*self.secret).chain_update(sequence.to_be_bytes()).finalize();
        let mut payload = [0; PAYLOAD_LEN];
        payload.copy_from_slice(&digest[..PAYLOAD_LEN]);
        Token { sequence, payload }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tokens").field("next", &self.next).finish_non_exhaustive()
    }
}
