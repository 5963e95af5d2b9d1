//! How many streams one service serves at a time: a bound for all peers together, and one for each, so that no peer takes
//! the room of the others.

use std::collections::BTreeMap;

use wire::NodeId;

/// Streams of all peers, and of each.
#[derive(Clone, Debug)]
pub struct Slots {
    all_max: usize,
    per_peer_max: usize,
    all: usize,
    of_peers: BTreeMap<NodeId, usize>,
}

impl Slots {
    /// So many for all together, and so many for one peer.
    #[must_use]
    pub const fn new(all_max: usize, per_peer_max: usize) -> Self {
        Self { all_max, per_peer_max, all: 0, of_peers: BTreeMap::new() }
    }

    /// Takes a slot for `peer`; false when there is none.
    #[must_use]
    pub fn take(&mut self, peer: NodeId) -> bool {
        if self.all >= self.all_max || self.of_peers.get(&peer).is_some_and(|taken| *taken >= self.per_peer_max) {
            return false;
        }
        self.all += 1;
        *self.of_peers.entry(peer).or_default() += 1;
        true
    }

    /// Gives back what [`Self::take`] took.
    pub fn give_back(&mut self, peer: NodeId) {
        let Some(taken) = self.of_peers.get_mut(&peer) else { return };
        *taken -= 1;
        self.all -= 1;
        if *taken == 0 {
            self.of_peers.remove(&peer);
        }
    }
}
