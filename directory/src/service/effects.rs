//! What a decision has the relay told.

use std::collections::HashSet;

use wire::NodeId;

/// Something to tell the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The node's existence or proven addresses have changed; [`Service::proven`](super::Service::proven) has them.
    Publish(NodeId),
    /// Something waits in the node's inbox.
    Notify(NodeId),
}

/// The effects of one decision, in order. A new list of keys may concern every node there is.
#[derive(Debug, Default)]
pub(super) struct Effects {
    list: Vec<Effect>,
    published: HashSet<NodeId>,
}

impl Effects {
    /// Has the relay told about `node`, once.
    pub(super) fn publish(&mut self, node: NodeId) {
        if self.published.insert(node) {
            self.list.push(Effect::Publish(node));
        }
    }

    pub(super) fn notify(&mut self, node: NodeId) {
        self.list.push(Effect::Notify(node));
    }

    pub(super) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(self).list
    }
}
