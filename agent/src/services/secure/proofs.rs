//! Proofs seen lately: none counts twice. Within the few seconds in which a proof is fresh nothing is ever forgotten.

use std::collections::{BTreeSet, VecDeque};

/// Nonces are remembered so long, in seconds.
const REMEMBERED_FOR: u64 = 60 * 60;
/// Nonces remembered; when there are more, proofs are refused until some are an hour old.
const REMEMBERED_MAX: usize = 65_536;

/// Proofs seen lately.
#[derive(Default)]
pub struct Proofs {
    nonces: BTreeSet<[u8; 16]>,
    /// Oldest first.
    ages: VecDeque<(u64, [u8; 16])>,
}

impl Proofs {
    /// Notes a nonce; false where it has come before, or there is no room.
    pub(super) fn note(&mut self, unix: u64, nonce: &[u8; 16]) -> bool {
        while let Some((since, oldest)) = self.ages.front().copied() {
            if unix.saturating_sub(since) < REMEMBERED_FOR {
                break;
            }
            self.ages.pop_front();
            self.nonces.remove(&oldest);
        }
        if self.nonces.len() >= REMEMBERED_MAX || !self.nonces.insert(*nonce) {
            return false;
        }
        self.ages.push_back((unix, *nonce));
        true
    }
}
