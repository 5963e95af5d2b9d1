//! Trust, which has a direction: what X signs lets others reach X, and gives X nothing over anyone (section 12,
//! weakness 0; older registries made a pair of every report, so that anyone could admit themselves anywhere).
//!
//! The two directions of a handshake come from two signatures: the request on file is the requester's, the report or
//! response the other's.
//!
//! Revoking ends both directions. The one from X is X's grant to take back; the one to X is X's gain, which X may give
//! up; so one signature of X suffices for both. And daemons expect it: an untrust removes the peer on both machines,
//! and what stayed behind here would readmit whom neither lists any more.

use std::collections::BTreeSet;

use wire::NodeId;
use wire::registry::Answer;

use super::{Refusal, Service};
use crate::facts::{Change, TrustFact};

/// Nodes that one node may trust.
pub const TRUSTED_MAX: usize = 4096;

/// Who lets whom reach it.
#[derive(Debug)]
pub(super) struct Trust {
    by_truster: BTreeSet<(NodeId, NodeId)>,
    by_trusted: BTreeSet<(NodeId, NodeId)>,
}

impl Trust {
    pub(super) fn new(facts: Vec<TrustFact>) -> Self {
        Self {
            by_truster: facts.iter().map(|fact| (fact.truster, fact.trusted)).collect(),
            by_trusted: facts.iter().map(|fact| (fact.trusted, fact.truster)).collect(),
        }
    }

    pub(super) fn holds(&self, truster: NodeId, trusted: NodeId) -> bool {
        self.by_truster.contains(&(truster, trusted))
    }

    /// Who lets `trusted` reach it.
    pub(super) fn trusters_of(&self, trusted: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.by_trusted.range(of(trusted)).map(|&(_, truster)| truster)
    }

    pub(super) fn count(&self) -> usize {
        self.by_truster.len()
    }

    fn add(&mut self, TrustFact { truster, trusted }: TrustFact) -> bool {
        self.by_trusted.insert((trusted, truster));
        self.by_truster.insert((truster, trusted))
    }

    fn remove(&mut self, TrustFact { truster, trusted }: TrustFact) -> bool {
        self.by_trusted.remove(&(trusted, truster));
        self.by_truster.remove(&(truster, trusted))
    }

    fn is_full(&self, truster: NodeId) -> bool {
        self.by_truster.range(of(truster)).count() >= TRUSTED_MAX
    }

    fn concerning(&self, node: NodeId) -> Vec<TrustFact> {
        let given = self.by_truster.range(of(node)).map(|&(truster, trusted)| TrustFact { truster, trusted });
        let gained = self.by_trusted.range(of(node)).map(|&(trusted, truster)| TrustFact { truster, trusted });
        given.chain(gained).collect()
    }
}

/// The pairs that begin with `node`.
fn of(node: NodeId) -> std::ops::RangeInclusive<(NodeId, NodeId)> {
    (node, NodeId(0))..=(node, NodeId(u32::MAX))
}

impl Service {
    pub(super) fn report_trust(&mut self, node: NodeId, peer: NodeId) -> Result<Answer, Refusal> {
        if node == peer {
            return Err(Refusal::OwnPeer);
        }
        self.nodes.find(peer)?;
        self.give_trust(node, peer)?;
        Ok(Answer::ReportTrust)
    }

    pub(super) fn revoke_trust(&mut self, node: NodeId, peer: NodeId) -> Result<Answer, Refusal> {
        let ended = [(node, peer), (peer, node)]
            .map(|(truster, trusted)| self.end_trust(TrustFact { truster, trusted }))
            .contains(&true);
        // A request or an acceptance still on file would revive it.
        let withdrawn = self.close_handshakes_between(node, peer);
        if ended || withdrawn { Ok(Answer::RevokeTrust) } else { Err(Refusal::TrustNotFound(peer)) }
    }

    /// Asked by `node` when `peer` knocks, so the order says whose door it is (section 6.5).
    pub(super) fn check_trust(&self, node: NodeId, peer: NodeId) -> Answer {
        let exist = self.nodes.find(node).is_ok() && self.nodes.find(peer).is_ok();
        Answer::CheckTrust { trusted: exist && self.admits(node, peer) }
    }

    /// `node` has signed that `peer` may reach it. Where `peer` has asked for this with a request of its own, that
    /// request is its signature for the other direction.
    pub(super) fn give_trust(&mut self, node: NodeId, peer: NodeId) -> Result<(), Refusal> {
        self.add_trust(TrustFact { truster: node, trusted: peer })?;
        if self.handshakes.is_on_file(peer, node) {
            self.add_trust(TrustFact { truster: peer, trusted: node })?;
        }
        Ok(())
    }

    pub(super) fn end_trust_of(&mut self, node: NodeId) {
        for fact in self.trust.concerning(node) {
            self.end_trust(fact);
        }
    }

    fn add_trust(&mut self, fact: TrustFact) -> Result<(), Refusal> {
        if self.trust.holds(fact.truster, fact.trusted) {
            return Ok(());
        }
        if self.trust.is_full(fact.truster) {
            return Err(Refusal::TooManyTrusted(TRUSTED_MAX));
        }
        self.trust.add(fact);
        self.changes.push(Change::Trusted(fact));
        Ok(())
    }

    fn end_trust(&mut self, fact: TrustFact) -> bool {
        let ended = self.trust.remove(fact);
        if ended {
            self.changes.push(Change::Distrusted(fact));
        }
        ended
    }
}
