//! Which nodes are banned since when, in order, for nodes that ask with their heartbeats: two that need no relay any more
//! are parted by nobody but themselves.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use wire::NodeId;
use wire::registry::bans::{Cursor, LISTED_MAX, Listed, OVERLAP_SECONDS};

use crate::facts::NodeFact;
use crate::service::{Now, Service};

/// The bans that stand, by their time. Also those of nodes that are not registered any more: their tunnels may stand.
#[derive(Debug, Default)]
pub(in crate::service) struct Bans(BTreeSet<(u64, NodeId)>);

impl Bans {
    pub(super) fn new(nodes: &[NodeFact]) -> Self {
        Self(nodes.iter().filter_map(entry).collect())
    }

    /// What is known of a node has changed.
    pub(in crate::service) fn follow(&mut self, before: &NodeFact, after: &NodeFact) {
        let (before, after) = (entry(before), entry(after));
        if before != after {
            before.map(|before| self.0.remove(&before));
            self.0.extend(after);
        }
    }

    fn since(&self, now: u64, cursor: Cursor) -> Listed {
        let settled = now.saturating_sub(OVERLAP_SECONDS);
        // A list that was complete ends no later than `settled`, one that was cut off no later than now. Beyond that the
        // clock was set back, and what was banned since stands before the cursor.
        let latest = if cursor.after == NodeId::UNSET { settled } else { now };
        let told = match cursor.at {
            0 => (settled, NodeId::UNSET),
            at if at > latest => (0, NodeId::UNSET),
            at => (at, cursor.after),
        };
        let mut later = self.0.range((Excluded(told), Unbounded)).copied();
        let listed: Vec<_> = later.by_ref().take(LISTED_MAX).collect();
        let next = match (listed.last(), later.next()) {
            (Some((at, node)), Some(_)) => Cursor { at: *at, after: *node },
            _ => Cursor { at: settled, after: NodeId::UNSET },
        };
        Listed { node_ids: listed.into_iter().map(|(_, node)| node).collect(), next }
    }
}

impl Service {
    /// What a heartbeat of `node` is told of bans: nothing unless it asks and belongs.
    pub(in crate::service) fn bans_for(&self, now: Now, node: NodeId, since: Option<Cursor>) -> Option<Listed> {
        let since = since.filter(|_| self.nodes.find(node).is_ok())?;
        Some(self.enrolled.bans.since(now.unix_seconds, since))
    }
}

fn entry(fact: &NodeFact) -> Option<(u64, NodeId)> {
    fact.ban.as_ref().map(|ban| (ban.at, fact.id))
}
