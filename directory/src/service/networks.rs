//! Networks, the groups of the protocol: members reach one another without trust. Network 0, the backbone, is where
//! everyone is, and shares nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sha2::{Digest, Sha256};
use wire::NodeId;
use wire::address::Address;
use wire::registry::answer::{Invite, Member, NetworkSummary};
use wire::registry::names::check_hostname;
use wire::registry::{Answer, Request};

use super::{Caller, Now, Refusal, Service, grouped};
use crate::config::digests_equal;
use crate::facts::{Change, InviteFact, JoinRule, NetworkFact};

/// Networks in all.
const NETWORKS_MAX: usize = 10_000;
/// Networks that one node makes.
const NETWORKS_PER_CREATOR_MAX: usize = 32;
/// Networks that one node is in.
const NETWORKS_PER_NODE_MAX: usize = 64;
/// Members of one network.
const MEMBERS_MAX: usize = 10_000;
/// Invitations that wait for one node.
const INVITES_MAX: usize = 100;

/// All networks but the backbone.
#[derive(Debug)]
pub(super) struct Networks {
    by_id: BTreeMap<u16, Network>,
    of_node: HashMap<NodeId, BTreeSet<u16>>,
    invites: HashMap<NodeId, Vec<InviteFact>>,
}

#[derive(Debug)]
struct Network {
    fact: NetworkFact,
    members: BTreeSet<NodeId>,
}

impl Networks {
    pub(super) fn new(facts: Vec<NetworkFact>, members: Vec<(u16, NodeId)>, invites: Vec<InviteFact>) -> Self {
        let networks = facts.into_iter().map(|fact| (fact.id, Network { fact, members: BTreeSet::new() }));
        let mut this = Self {
            by_id: networks.collect(),
            of_node: HashMap::new(),
            invites: grouped(invites.into_iter().map(|invite| (invite.target, invite))),
        };
        for (network, node) in members {
            this.add(network, node);
        }
        this
    }

    pub(super) fn count(&self) -> usize {
        self.by_id.len()
    }

    /// The networks of a node besides the backbone, in order.
    pub(super) fn of(&self, node: NodeId) -> impl Iterator<Item = u16> + '_ {
        self.of_node.get(&node).into_iter().flatten().copied()
    }

    /// Whether two nodes are in one network besides the backbone.
    pub(super) fn share(&self, one: NodeId, other: NodeId) -> bool {
        self.of(one).any(|network| self.is_member(network, other))
    }

    fn find(&self, id: u16) -> Result<&Network, Refusal> {
        self.by_id.get(&id).ok_or(Refusal::NetworkNotFound(id))
    }

    /// Nobody, where there is no such network.
    pub(super) fn members(&self, network: u16) -> impl Iterator<Item = NodeId> + '_ {
        self.by_id.get(&network).into_iter().flat_map(|network| &network.members).copied()
    }

    pub(super) fn join_rule(&self, network: u16) -> Result<JoinRule, Refusal> {
        self.find(network).map(|network| network.fact.join_rule)
    }

    pub(super) fn is_member(&self, network: u16, node: NodeId) -> bool {
        self.by_id.get(&network).is_some_and(|network| network.members.contains(&node))
    }

    fn is_invited(&self, network: u16, node: NodeId) -> bool {
        self.invites.get(&node).into_iter().flatten().any(|invite| invite.network == network)
    }

    fn add(&mut self, network: u16, node: NodeId) {
        if let Some(network) = self.by_id.get_mut(&network) {
            network.members.insert(node);
        }
        self.of_node.entry(node).or_default().insert(network);
    }

    fn remove(&mut self, network: u16, node: NodeId) -> bool {
        if let Some(networks) = self.of_node.get_mut(&node) {
            networks.remove(&network);
            if networks.is_empty() {
                self.of_node.remove(&node);
            }
        }
        self.by_id.get_mut(&network).is_some_and(|network| network.members.remove(&node))
    }
}

impl Service {
    pub(super) fn list_networks(&self) -> Answer {
        let backbone = NetworkSummary {
            id: 0,
            name: "backbone".to_owned(),
            join_rule: JoinRule::Open.to_string(),
            members: Some(self.nodes.registered_count()),
            online: None,
            enterprise: Some(false),
            created: Some(self.created_at),
        };
        let others = self.networks.by_id.values().map(|network| NetworkSummary {
            id: network.fact.id,
            name: network.fact.name.clone(),
            join_rule: network.fact.join_rule.to_string(),
            members: Some(network.members.len()),
            online: None,
            enterprise: Some(false),
            created: Some(network.fact.created_at),
        });
        Answer::ListNetworks { networks: std::iter::once(backbone).chain(others).collect() }
    }

    /// The members of a network: for administrators, for members, and for anyone where anyone may join. Requests are
    /// not signed, so a member is known by its address.
    pub(super) fn list_nodes(&self, caller: &Caller<'_>, request: &Request, network: u16) -> Result<Answer, Refusal> {
        let admin = self.is_admin(request)?;
        if network == 0 {
            return if admin {
                Ok(self.members(0, self.registered()))
            } else {
                Err(Refusal::AdminRequired("list_nodes"))
            };
        }
        let Network { fact, members } = self.networks.find(network)?;
        let allowed = admin
            || fact.join_rule == JoinRule::Open
            || members.iter().any(|member| self.proofs.is_from(*member, caller.ip));
        if allowed {
            Ok(self.members(network, members.iter().copied()))
        } else {
            Err(Refusal::AdminRequired("list_nodes"))
        }
    }

    fn members(&self, network: u16, ids: impl Iterator<Item = NodeId>) -> Answer {
        let members = ids.filter_map(|id| {
            let node = self.nodes.find(id).ok()?;
            Some(Member {
                node_id: id,
                address: Address { network, node: id },
                public: node.fact.public,
                hostname: node.fact.hostname.clone(),
                tags: node.fact.tags.clone(),
                last_seen: node.last_seen_unix_seconds(),
                online: None,
                real_addr: Some(node.fact.endpoint.clone()).filter(|_| node.fact.public && !node.fact.relay_only),
            })
        });
        Answer::ListNodes { nodes: members.collect(), more: false }
    }

    /// The protocol has no signature for this request, so it takes an administrator, or a connection on which the
    /// creator has signed something else.
    pub(super) fn create_network(
        &mut self,
        now: Now,
        caller: &Caller<'_>,
        request: &Request,
        creator: NodeId,
        (name, join_rule, token): (&str, &str, &str),
    ) -> Result<Answer, Refusal> {
        self.nodes.find(creator)?;
        if !self.is_admin(request)? && !self.proofs.is_on(creator, caller.connection) {
            return Err(Refusal::CreatorUnproven(creator));
        }
        check_hostname(name)?;
        let join_rule: JoinRule = join_rule.parse().map_err(|()| Refusal::JoinRuleInvalid)?;
        if join_rule == JoinRule::Token && token.is_empty() {
            return Err(Refusal::TokenMissing);
        }
        let networks = &self.networks.by_id;
        if networks.values().any(|network| network.fact.name == name) {
            return Err(Refusal::NetworkNameTaken(name.to_owned()));
        }
        let created = networks.values().filter(|network| network.fact.creator == creator).count();
        if networks.len() >= NETWORKS_MAX || created >= NETWORKS_PER_CREATOR_MAX {
            return Err(Refusal::TooMany("networks"));
        }
        let id = networks.last_key_value().map_or(1, |(last, _)| last + 1);
        let fact = NetworkFact {
            id,
            name: name.to_owned(),
            join_rule,
            token_digest: (join_rule == JoinRule::Token).then(|| Sha256::digest(token).into()),
            creator,
            created_at: now.unix_seconds,
        };
        self.networks.by_id.insert(id, Network { fact: fact.clone(), members: BTreeSet::new() });
        self.changes.push(Change::NetworkCreated(fact));
        self.join(id, creator)?;
        Ok(Answer::CreateNetwork { network_id: id, name: name.to_owned() })
    }

    pub(super) fn join_network(
        &mut self,
        request: &Request,
        node: NodeId,
        network: u16,
        token: &str,
    ) -> Result<Answer, Refusal> {
        not_backbone(network)?;
        let fact = &self.networks.find(network)?.fact;
        if !self.networks.is_member(network, node) && !self.is_admin(request)? {
            let presented = Sha256::digest(token).into();
            match fact.join_rule {
                JoinRule::Open => {}
                JoinRule::Token if self.networks.is_invited(network, node) => {}
                JoinRule::Token if fact.token_digest.is_some_and(|digest| digests_equal(&digest, &presented)) => {}
                JoinRule::Token => return Err(Refusal::TokenWrong(network)),
                JoinRule::Invite if self.networks.is_invited(network, node) => {}
                JoinRule::Invite => return Err(Refusal::InvitationRequired(network)),
            }
        }
        self.join(network, node)?;
        Ok(Answer::JoinNetwork { network_id: network, address: Address { network, node } })
    }

    pub(super) fn leave_network(&mut self, node: NodeId, network: u16) -> Result<Answer, Refusal> {
        not_backbone(network)?;
        self.networks.find(network)?;
        if !self.leave(network, node) {
            return Err(Refusal::NotMember { node, network });
        }
        Ok(Answer::LeaveNetwork { network_id: network })
    }

    pub(super) fn invite_to_network(
        &mut self,
        now: Now,
        request: &Request,
        network: u16,
        inviter: NodeId,
        target: NodeId,
    ) -> Result<Answer, Refusal> {
        not_backbone(network)?;
        self.networks.find(network)?;
        self.nodes.find(target)?;
        if !self.networks.is_member(network, inviter) && !self.is_admin(request)? {
            return Err(Refusal::NotMember { node: inviter, network });
        }
        if self.networks.is_member(network, target) {
            return Err(Refusal::AlreadyMember { node: target, network });
        }
        let again = self.networks.is_invited(network, target);
        if !again {
            let invites = self.networks.invites.entry(target).or_default();
            if invites.len() >= INVITES_MAX {
                return Err(Refusal::TooMany("invitations waiting for this node"));
            }
            let fact = InviteFact { network, target, inviter, at: now.unix_seconds };
            invites.push(fact);
            self.changes.push(Change::Invited(fact));
        }
        Ok(Answer::InviteToNetwork {
            network_id: network,
            target_node_id: target,
            status: again.then(|| "already_invited".to_owned()),
        })
    }

    /// Invitations stay until they are answered.
    pub(super) fn poll_invites(&self, node: NodeId) -> Answer {
        let invites = self.networks.invites.get(&node).into_iter().flatten();
        let invites = invites.map(|invite| Invite {
            network_id: invite.network,
            inviter_id: invite.inviter,
            timestamp: invite.at,
        });
        Answer::PollInvites { invites: invites.collect() }
    }

    pub(super) fn respond_invite(&mut self, node: NodeId, network: u16, accept: bool) -> Result<Answer, Refusal> {
        if !self.networks.is_invited(network, node) {
            return Err(Refusal::InvitationNotFound(network));
        }
        if accept {
            self.join(network, node)?;
        } else {
            self.close_invite(network, node);
        }
        Ok(Answer::RespondInvite { accepted: accept, network_id: network })
    }

    /// Networks have no policies here, which is what this says.
    pub(super) fn network_policy(&self, network: u16) -> Result<Answer, Refusal> {
        if network != 0 {
            self.networks.find(network)?;
        }
        Ok(Answer::GetNetworkPolicy {
            network_id: network,
            max_members: 0,
            allowed_ports: Vec::new(),
            description: String::new(),
        })
    }

    pub(super) fn leave_all_networks(&mut self, node: NodeId) {
        for network in self.networks.of(node).collect::<Vec<_>>() {
            self.leave(network, node);
        }
        let invites = self.networks.invites.get(&node).into_iter().flatten();
        for network in invites.map(|invite| invite.network).collect::<Vec<_>>() {
            self.close_invite(network, node);
        }
    }

    fn join(&mut self, network: u16, node: NodeId) -> Result<(), Refusal> {
        if self.networks.is_member(network, node) {
            return Ok(());
        }
        if self.networks.of(node).count() >= NETWORKS_PER_NODE_MAX {
            return Err(Refusal::TooMany("networks of this node"));
        }
        if self.networks.find(network)?.members.len() >= MEMBERS_MAX {
            return Err(Refusal::TooMany("members of this network"));
        }
        self.networks.add(network, node);
        self.changes.push(Change::Joined(network, node));
        self.close_invite(network, node);
        Ok(())
    }

    fn leave(&mut self, network: u16, node: NodeId) -> bool {
        let left = self.networks.remove(network, node);
        if left {
            self.changes.push(Change::Left(network, node));
        }
        left
    }

    fn close_invite(&mut self, network: u16, target: NodeId) {
        if !self.networks.is_invited(network, target) {
            return;
        }
        if let Some(invites) = self.networks.invites.get_mut(&target) {
            invites.retain(|invite| invite.network != network);
            if invites.is_empty() {
                self.networks.invites.remove(&target);
            }
        }
        self.changes.push(Change::InviteClosed { network, target });
    }
}

const fn not_backbone(network: u16) -> Result<(), Refusal> {
    if network == 0 { Err(Refusal::Backbone) } else { Ok(()) }
}
