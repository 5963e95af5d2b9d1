//! Room for long messages that have come in part: so many at a time, and fewer of one peer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use wire::NodeId;

/// The room of a service.
pub(super) struct Rooms {
    of_all: Semaphore,
    of_peers: RefCell<BTreeMap<NodeId, Arc<Semaphore>>>,
    per_peer_max: usize,
}

/// What of it one peer may take.
pub(super) struct Room<'a> {
    of_peer: Arc<Semaphore>,
    of_all: &'a Semaphore,
}

/// Room taken, until this goes.
pub(super) type Taken<'a> = (OwnedSemaphorePermit, SemaphorePermit<'a>);

impl Rooms {
    /// For so many messages of all peers, and so many of one.
    pub(super) const fn new(all_max: usize, per_peer_max: usize) -> Self {
        let of_all = Semaphore::const_new(all_max);
        Self { of_all, of_peers: RefCell::new(BTreeMap::new()), per_peer_max }
    }

    /// For a stream of `peer`.
    pub(super) fn of(&self, peer: NodeId) -> Room<'_> {
        let mut peers = self.of_peers.borrow_mut();
        // Those without a stream need no entry.
        peers.retain(|_, room| Arc::strong_count(room) > 1);
        let of_peer = peers.entry(peer).or_insert_with(|| Arc::new(Semaphore::new(self.per_peer_max)));
        Room { of_peer: Arc::clone(of_peer), of_all: &self.of_all }
    }
}

impl<'a> Room<'a> {
    /// Waits for room for one message; never none.
    pub(super) async fn take(&self) -> Option<Taken<'a>> {
        // One peer's messages wait for each other first, so that it cannot take all the room there is.
        Some((Arc::clone(&self.of_peer).acquire_owned().await.ok()?, self.of_all.acquire().await.ok()?))
    }
}
