//! Who may learn where a node is, and what they are told: its own endpoint, or a relay's.

use wire::NodeId;
use wire::registry::Answer;
use wire::registry::answer::Resolved;

use super::nodes::Node;
use super::{Caller, Now, Refusal, Service};

const SECONDS_PER_DAY: u64 = 86_400;

impl Service {
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
