//! The file with what this node offers: read at the start, written after each change. What is in it is the node's; how a
//! file is replaced is [`State`]'s.

use std::rc::Rc;

use tokio::sync::Mutex;

use super::core::Core;
use super::state::State;
use crate::Time;
use crate::capability::{Offer, OfferError};
use crate::node::Node;

/// The file, for one writer at a time: of two, the one with the older text could be the last.
pub struct CapabilityFile {
    core: Rc<Core>,
    state: Rc<State>,
    writing: Mutex<()>,
}

impl CapabilityFile {
    /// The file of `core`'s node, in the folder of `state`.
    #[must_use]
    pub fn new(core: Rc<Core>, state: Rc<State>) -> Self {
        Self { core, state, writing: Mutex::default() }
    }

    /// Writes what the node offers now.
    pub async fn keep(&self) {
        let _one = self.writing.lock().await;
        if let Some(kept) = self.core.look(Node::kept_record) {
            self.state.keep_capability(self.core.clock().now(), &kept).await;
        }
    }
}

/// What was offered before the last end goes on, unless the operator says something else now.
///
/// # Errors
/// The operator's offer cannot be published.
pub fn begin(node: &mut Node, now: Time, state: &State, offer: Option<Offer>) -> Result<(), OfferError> {
    node.with_publication(now, |publication| {
        if let Some(kept) = state.capability()
            && let Err(error) = publication.restore(&kept)
        {
            tracing::warn!(%error, "what this node offered before cannot be read; offer it again");
        }
        match offer {
            Some(offer) if offer.is_tags_alone() => publication.set_tags(now, offer.tags),
            Some(offer) => publication.offer(now, offer)?,
            None => {}
        }
        Ok(())
    })
}
