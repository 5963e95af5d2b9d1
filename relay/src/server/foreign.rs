//! Senders that belong to another shard: several nodes may share a socket, and a merged receive is steered by its first
//! datagram. Their sessions are read where they are.
//!
//! The source prefix pays for them, as one sender. A node that may send less than everyone is granted its share of that and
//! no more, and the owner is told what was granted, and takes it off what it grants itself: so nobody sends more than its
//! quota by having its datagrams arrive elsewhere, but for one burst a shard, once.

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
    /// Arrival times of packets and bytes, of nodes that may send less than everyone.
    accounts: HashMap<NodeId, [Time; 2]>,
    /// Not yet told to the owners of nodes with a quota; told after each batch.
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
            self.note_foreign(sender, Tally::refused);
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
        let own = [quota.packets(&everyone[0].0), quota.bytes(&everyone[1].0)];
        let account = self.foreign.accounts.get(&sender).copied().unwrap_or_default();
        let (mut arrivals, mut of_prefix) = (account, everyone);
        for ((own, (everyones, units)), arrival) in own.into_iter().zip(&mut of_prefix).zip(&mut arrivals) {
            if own.is_slower_than(everyones) {
                *everyones = Budget::unlimited();
                if !own.share_of(shards).charge(arrival, now, *units) {
                    return false;
                }
            }
        }
        let within = self.foreign.prefixes.charge(&of_prefix, from.remote.ip, now);
        if within && arrivals != account {
            self.foreign.accounts.insert(sender, arrivals);
        }
        within
    }

    /// Counts a packet of another shard's node.
    pub(super) fn note_foreign(&mut self, sender: NodeId, count: impl FnOnce(&mut Tally)) {
        if self.quotas.of(sender).is_everyones() {
            let mut tally = Tally::default();
            count(&mut tally);
            self.sessions.usage().add(sender, tally);
        } else {
            count(self.foreign.untold.entry(sender).or_default());
        }
    }

    /// There was no room for it in the owner's mailbox: it is told later.
    pub fn keep_untold(&mut self, node: NodeId, tally: Tally) {
        self.foreign.untold.entry(node).or_default().merge(tally);
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
        let shards = self.sessions.shards();
        let activity = self.sessions.activity(slot);
        activity.tally.merge(tally);
        if activity.quota.is_everyones() || self.rules.admission == Admission::Open {
            return;
        }
        let quota = activity.quota;
        quota.packets(&self.rules.sender_packets).take(&mut activity.packets, now, tally.packets(), shards);
        quota.bytes(&self.rules.sender_bytes).take(&mut activity.bytes, now, tally.bytes(), shards);
    }
}
