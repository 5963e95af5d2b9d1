//! Senders that belong to another shard: several nodes may share a socket, and a merged receive is steered by its first
//! datagram. Their sessions are read where they are.
//!
//! The source prefix pays for them, as one sender. Where a node has a quota of its own, this shard grants it its share of
//! it and no more, and tells the owner what it has granted, who takes that off what it grants itself: so nobody sends more
//! than its quota by having its datagrams arrive elsewhere, but for one burst a shard.

use std::collections::HashMap;

use wire::NodeId;

use super::{Admission, Handoff, Server};
use crate::admission::{Budget, PrefixBudgets};
use crate::contests::Claim;
use crate::endpoint::Path;
use crate::metrics::{Counter, DropReason};
use crate::time::Time;
use crate::usage::Tally;

/// What one shard has granted to the nodes of others.
#[derive(Debug)]
pub(super) struct Foreign {
    prefixes: PrefixBudgets,
    /// Arrival times of packets and bytes, of nodes with a quota of their own.
    accounts: HashMap<NodeId, [Time; 2]>,
    /// Not yet told to the owners. Told after each batch, so it holds no more nodes than a batch has datagrams.
    untold: HashMap<NodeId, Tally>,
}

impl Foreign {
    pub(super) fn new(prefixes: PrefixBudgets) -> Self {
        Self { prefixes, accounts: HashMap::new(), untold: HashMap::new() }
    }

    /// A quota has changed, or ended: what was granted under the one before is forgotten.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.accounts.remove(&node);
    }
}

impl Server {
    /// Checks a sender that another shard owns; see [`Server::admit_sender`].
    pub(super) fn admit_foreign_sender(
        &mut self,
        now: Time,
        from: Path,
        sender: NodeId,
        len: usize,
    ) -> Result<(), DropReason> {
        self.counters.count(Counter::Foreign);
        let held = self.sessions.find(sender);
        if held.is_some_and(|session| session.path.remote == from.remote) {
            if self.charge_foreign(now, from, sender, len) {
                return Ok(());
            }
            self.foreign.untold.entry(sender).or_default().refused();
            return Err(DropReason::SenderBudget);
        }
        if self.may_claim_by_relay(now, from, sender, held) {
            let extended = held.is_some_and(|session| session.extended);
            let claim = Claim { node: sender, path: from, extended };
            self.push_handoff(self.sessions.owner(sender), Handoff::Claim(claim));
        }
        Err(DropReason::SourceMismatch)
    }

    fn charge_foreign(&mut self, now: Time, from: Path, sender: NodeId, len: usize) -> bool {
        let everyone = [(self.rules.sender_packets, 1), (self.rules.sender_bytes, len as u64)];
        let quota = self.quotas.of(sender);
        if quota.is_everyones() {
            return self.foreign.prefixes.charge(&everyone, from.remote.ip, now);
        }
        let shards = self.sessions.shards();
        let own = [(quota.packets(&everyone[0].0), 1), (quota.bytes(&everyone[1].0), len as u64)];
        let account = self.foreign.accounts.entry(sender).or_default();
        let mut arrivals = *account;
        let within = own.iter().zip(&mut arrivals).all(|((budget, units), arrival)| {
            let share: Budget = budget.share_of(shards);
            share.charge(arrival, now, *units)
        });
        if within {
            *account = arrivals;
        }
        within
    }

    /// A packet of another shard's node was relayed here.
    pub(super) fn note_foreign_relayed(&mut self, sender: NodeId, len: usize) {
        self.foreign.untold.entry(sender).or_default().relayed(len);
    }

    /// What the next of other shards' nodes was granted here, for its owner.
    pub(super) fn poll_untold(&mut self) -> Option<(usize, Handoff)> {
        if self.foreign.untold.is_empty() {
            return None;
        }
        let node = *self.foreign.untold.keys().next()?;
        let tally = self.foreign.untold.remove(&node)?;
        Some((self.sessions.owner(node), Handoff::Sent(node, tally)))
    }

    /// Another shard has relayed for a node of this one.
    pub(super) fn note_sent_elsewhere(&mut self, now: Time, node: NodeId, tally: Tally) {
        let Some((slot, _)) = self.sessions.find_own(node) else {
            // It has ended meanwhile, and sent all the same.
            self.sessions.usage().add(node, tally);
            return;
        };
        let activity = self.sessions.activity(slot);
        activity.tally.merge(tally);
        if activity.quota.is_everyones() || self.rules.admission == Admission::Open {
            return;
        }
        let quota = activity.quota;
        quota.packets(&self.rules.sender_packets).take(&mut activity.packets, now, tally.packets());
        quota.bytes(&self.rules.sender_bytes).take(&mut activity.bytes, now, tally.bytes());
    }
}
