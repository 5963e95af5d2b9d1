//! Frames that wait for a session: 64 for a peer, 256 peers. What comes when that is full is dropped (section 3.4).

use std::collections::HashMap;

use wire::NodeId;

/// Frames kept for one peer.
pub const FRAMES_MAX: usize = 64;
/// Peers frames are kept for.
pub const PEERS_MAX: usize = 256;

/// Frames by peer, in the order they came: complete but for the sealing.
#[derive(Debug, Default)]
pub struct Waiting(HashMap<NodeId, Vec<Box<[u8]>>>);

impl Waiting {
    /// Keeps a copy of `frame`; `false` when there is no room.
    #[must_use]
    pub fn push(&mut self, peer: NodeId, frame: &[u8]) -> bool {
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(&peer) {
            return false;
        }
        let frames = self.0.entry(peer).or_default();
        let has_room = frames.len() < FRAMES_MAX;
        if has_room {
            frames.push(frame.into());
        }
        has_room
    }

    /// Whether anything waits for `peer`.
    #[must_use]
    pub fn is_waiting(&self, peer: NodeId) -> bool {
        self.0.contains_key(&peer)
    }

    /// All that waits for `peer`.
    #[must_use]
    pub fn take(&mut self, peer: NodeId) -> Vec<Box<[u8]>> {
        self.0.remove(&peer).unwrap_or_default()
    }
}
