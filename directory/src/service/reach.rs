//! Who may learn where a node is, and what they are told: its own endpoint, or a relay's.

use wire::NodeId;
use wire::registry::Answer;
use wire::registry::answer::Resolved;

use super::nodes::Node;
use super::{Caller, Now, Refusal, Service};

const SECONDS_PER_DAY: u64 = 86_400;

/// Nodes that trust one node, as far as they are listed.
const TRUSTERS_MAX: usize = 1024;

/// Who lets one node reach it, found out once for many look-ups.
#[derive(Debug)]
pub(super) struct Acquaintance {
    own: NodeId,
    networks: Vec<u16>,
    /// In order. A look-up among all trust there is costs ten times as much.
    trusters: Vec<NodeId>,
}

impl Acquaintance {
    pub(super) const fn own(&self) -> NodeId {
        self.own
    }

    /// Whether one of `networks` is the node's own.
    pub(super) fn shares(&self, networks: impl IntoIterator<Item = u16>) -> bool {
        networks.into_iter().any(|network| self.networks.contains(&network))
    }
}

impl Service {
    pub(super) fn acquaintance(&self, own: NodeId) -> Acquaintance {
        let networks = self.networks.of(own).collect();
        let trusters = self.trust.trusters_of(own).take(TRUSTERS_MAX).collect();
        Acquaintance { own, networks, trusters }
    }

    /// Whether `node` trusts the one that this is about.
    pub(super) fn trusts(&self, acquaintance: &Acquaintance, node: NodeId) -> bool {
        match acquaintance.trusters.len() {
            TRUSTERS_MAX => self.trust.holds(node, acquaintance.own),
            _ => acquaintance.trusters.binary_search(&node).is_ok(),
        }
    }

    /// Whether `node` is the one that this is about, or lets it reach it.
    pub(super) fn is_acquainted(&self, acquaintance: &Acquaintance, node: NodeId) -> bool {
        node == acquaintance.own
            || self.trusts(acquaintance, node)
            || (!acquaintance.networks.is_empty() && acquaintance.shares(self.networks.of(node)))
    }

    pub(super) fn resolve(
        &self,
        now: Now,
        caller: &Caller<'_>,
        target: NodeId,
        requester: NodeId,
    ) -> Result<Answer, Refusal> {
        let node = self.reachable(target, requester)?;
        let fact = &node.fact;
        let key_age_days = now.unix_seconds.saturating_sub(fact.key_set_at) / SECONDS_PER_DAY;
        Ok(Answer::Resolve(Resolved {
            node_id: target,
            real_addr: dialled_at(node, caller)?,
            lan_addrs: if fact.relay_only { Vec::new() } else { fact.lan_addrs.clone() },
            key_age_days: u32::try_from(key_age_days).ok(),
            public_key: Some(fact.key),
            relay_only: fact.relay_only,
        }))
    }

    pub(super) fn punch(
        &self,
        caller: &Caller<'_>,
        requester: NodeId,
        node_a: NodeId,
        node_b: NodeId,
    ) -> Result<Answer, Refusal> {
        if requester != node_a && requester != node_b {
            return Err(Refusal::PunchNotOwn);
        }
        let address = |node| dialled_at(self.reachable(node, requester)?, caller);
        Ok(Answer::Punch { node_a, node_a_addr: address(node_a)?, node_b, node_b_addr: address(node_b)? })
    }

    /// Whether `node` lets `peer` reach it: by trust of its own, or by a network that both have joined.
    pub(super) fn admits(&self, node: NodeId, peer: NodeId) -> bool {
        self.trust.holds(node, peer) || self.networks.share(node, peer)
    }

    /// The key `node` is registered with.
    #[must_use]
    pub fn public_key(&self, node: NodeId) -> Option<[u8; 32]> {
        self.nodes.find(node).ok().map(|node| node.fact.key.0)
    }

    /// Whether `requester`, if there is such a node, would be told where `target` is.
    #[must_use]
    pub fn lets_resolve(&self, requester: NodeId, target: NodeId) -> bool {
        self.nodes.find(requester).is_ok() && self.reachable(target, requester).is_ok()
    }

    fn reachable(&self, target: NodeId, requester: NodeId) -> Result<&Node, Refusal> {
        let node = self.nodes.find(target)?;
        let allowed = node.fact.public || target == requester || self.admits(target, requester);
        if allowed { Ok(node) } else { Err(Refusal::NotTrusted { target, requester }) }
    }
}

fn dialled_at(node: &Node, caller: &Caller<'_>) -> Result<String, Refusal> {
    if !node.fact.relay_only {
        return Ok(node.fact.endpoint.clone());
    }
    caller.advertised.first().cloned().ok_or(Refusal::NoRelay(node.fact.id))
}
