//! Messages that came lately on port 444: none counts twice, and no peer is heard too often.
//!
//! Two tables: one counts all messages of a peer, before the costly look at a signature; the other knows those that were
//! genuine. Both forget the oldest where they are full: what is forgotten can at worst be said again by the peer itself,
//! for nobody else gets past the comparison with the other end of the stream.

use std::collections::VecDeque;
use std::time::Duration;

use sha2::{Digest, Sha256};
use wire::NodeId;
use wire::services::handshake::Message;

use super::{MESSAGE_AGE_MAX, MESSAGE_AHEAD_MAX, MESSAGES_PER_PEER_MAX, Refusal};
use crate::Time;

/// Messages remembered.
const REMEMBERED_MAX: usize = 1024;
/// A message stays fresh for so long.
const REMEMBERED_FOR: Duration = Duration::from_secs(MESSAGE_AGE_MAX.as_secs() + MESSAGE_AHEAD_MAX.as_secs());

#[derive(Default)]
pub(super) struct Sources {
    /// Oldest first.
    counted: VecDeque<(Time, NodeId)>,
    genuine: VecDeque<(Time, [u8; 32])>,
}

impl Sources {
    /// Counts a message of `peer`.
    pub(super) fn count(&mut self, now: Time, peer: NodeId) -> Result<(), Refusal> {
        forget_old(&mut self.counted, now, MESSAGE_AGE_MAX);
        if self.counted.iter().filter(|(_, of)| *of == peer).count() >= MESSAGES_PER_PEER_MAX {
            return Err(Refusal::TooMany);
        }
        push(&mut self.counted, (now, peer));
        Ok(())
    }

    /// Notes a genuine message.
    pub(super) fn note(&mut self, now: Time, peer: NodeId, message: &Message) -> Result<(), Refusal> {
        forget_old(&mut self.genuine, now, REMEMBERED_FOR);
        // Written anew, so that another order of fields makes no other message.
        let digest = Sha256::new().chain_update(peer.0.to_be_bytes()).chain_update(message.encode()).finalize().into();
        if self.genuine.iter().any(|(_, known)| *known == digest) {
            return Err(Refusal::Duplicate);
        }
        push(&mut self.genuine, (now, digest));
        Ok(())
    }
}

fn forget_old<T>(entries: &mut VecDeque<(Time, T)>, now: Time, lifetime: Duration) {
    while entries.front().is_some_and(|(since, _)| now.since(*since) >= lifetime) {
        entries.pop_front();
    }
}

fn push<T>(entries: &mut VecDeque<T>, entry: T) {
    if entries.len() >= REMEMBERED_MAX {
        entries.pop_front();
    }
    entries.push_back(entry);
}
