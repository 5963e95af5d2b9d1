//! The directory as the relay's shards may ask it: whose key is whose, and who would be told where another is.

use std::sync::{Arc, Weak};

use directory::Running;
use relay::authority::Authority;
use wire::NodeId;

/// The embedded directory, while it runs: whoever shuts it down need not wait for those who only ask.
pub struct Asked(Weak<Running>);

impl Asked {
    /// Asks `directory`.
    #[must_use]
    pub fn of(directory: &Arc<Running>) -> Arc<Self> {
        Arc::new(Self(Arc::downgrade(directory)))
    }
}

impl Authority for Asked {
    fn public_key(&self, node: NodeId) -> Option<[u8; 32]> {
        self.0.upgrade()?.public_key(node)
    }

    fn lets_resolve(&self, requester: NodeId, target: NodeId) -> bool {
        self.0.upgrade().is_some_and(|directory| directory.lets_resolve(requester, target))
    }
}
