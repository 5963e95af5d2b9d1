//! Networks, the groups of the protocol: members reach one another without trust. Network 0, the backbone, is where
//! everyone is, and shares nothing.
//!
//! A network outlives its members, and its creator may always come back. Joining, leaving and the question whether two
//! nodes share one cost a few look-ups, however many members there are; a list of members is answered in pages.

mod page;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

use sha2::{Digest, Sha256};
use wire::NodeId;
use wire::address::Address;
use wire::registry::answer::{Happened, Invite, NetworkSummary};
use wire::registry::names::check_group_name;
use wire::registry::{Answer, Request};

use self::page::page;
use super::overview::GroupFigures;
use super::{Caller, Now, Refusal, Service, grouped};
use crate::config::digests_equal;
use crate::enrolment::Standing;
use crate::facts::{Change, InviteFact, JoinRule, NetworkFact};
use crate::limits::Rate;

/// Networks in all: as many as one answer lists with the longest names.
const NETWORKS_MAX: usize = 4096;
/// Networks that one node makes.
const NETWORKS_PER_CREATOR_MAX: usize = 32;
/// Networks that one address (one /64 in IPv6) may make: keys cost nothing, so a bound per creator alone would let one host
/// take all numbers in a minute.
pub(super) const CREATIONS: Rate = Rate::per_day(128);
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
    /// By names in lower case.
    by_name: HashMap<String, u16>,
    of_node: HashMap<NodeId, BTreeSet<u16>>,
    invites: HashMap<NodeId, Vec<InviteFact>>,
}

#[derive(Debug)]
struct Network {
    fact: NetworkFact,
    members: BTreeSet<NodeId>,
    /// Members that are present.
    online: usize,
}

impl Network {
    const fn new(fact: NetworkFact) -> Self {
        Self { fact, members: BTreeSet::new(), online: 0 }
    }
}

impl Networks {
    pub(super) fn new(facts: Vec<NetworkFact>, members: Vec<(u16, NodeId)>, invites: Vec<InviteFact>) -> Self {
        let mut this = Self {
            by_name: facts.iter().map(|fact| (fact.name.to_ascii_lowercase(), fact.id)).collect(),
            by_id: facts.into_iter().map(|fact| (fact.id, Network::new(fact))).collect(),
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

    /// A node is present from now on.
    pub(super) fn came(&mut self, node: NodeId) {
        self.count_present(node, |online| online + 1);
    }

    /// A node was present and is so no more.
    pub(super) fn went(&mut self, node: NodeId) {
        self.count_present(node, |online| online - 1);
    }

    fn count_present(&mut self, node: NodeId, count: impl Fn(usize) -> usize) {
        for network in self.of_node.get(&node).into_iter().flatten() {
            if let Some(network) = self.by_id.get_mut(network) {
                network.online = count(network.online);
            }
        }
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
        let summary = |figures: GroupFigures, created| NetworkSummary {
            id: figures.id,
            name: figures.name,
            join_rule: figures.join_rule,
            members: Some(figures.members),
            online: Some(figures.online),
            enterprise: Some(false),
            created: Some(created),
        };
        let created =
            std::iter::once(self.created_at).chain(self.networks.by_id.values().map(|network| network.fact.created_at));
        Answer::ListNetworks {
            networks: self.groups().zip(created).map(|(figures, at)| summary(figures, at)).collect(),
        }
    }

    /// Every network at a glance, the backbone first, in the order of their numbers.
    pub(super) fn groups(&self) -> impl Iterator<Item = GroupFigures> + '_ {
        let backbone = GroupFigures {
            id: 0,
            name: "backbone".to_owned(),
            join_rule: JoinRule::Open.to_string(),
            members: self.nodes.count(Standing::Approved),
            online: self.presence.count(),
        };
        let others = self.networks.by_id.values().map(|Network { fact, members, online }| GroupFigures {
            id: fact.id,
            name: fact.name.clone(),
            join_rule: fact.join_rule.to_string(),
            members: members.len(),
            online: *online,
        });
        std::iter::once(backbone).chain(others)
    }

    /// The names of the networks a node is in besides the backbone.
    pub(super) fn groups_of(&self, node: NodeId) -> impl Iterator<Item = &str> + '_ {
        self.networks.of(node).filter_map(|network| Some(self.networks.find(network).ok()?.fact.name.as_str()))
    }

    /// The members of a network after `after`, as many as one answer holds: for administrators, for members, and for
    /// anyone where anyone may join. Requests are not signed, so a member is known by its address.
    pub(super) fn list_nodes(
        &self,
        now: Now,
        caller: &Caller<'_>,
        request: &Request,
        network: u16,
        after: Option<NodeId>,
    ) -> Result<Answer, Refusal> {
        let admin = self.is_admin(request)?;
        let after = after.unwrap_or(NodeId(0));
        if network == 0 {
            return if admin {
                Ok(page(now, 0, self.nodes.after(after)))
            } else {
                Err(Refusal::AdminRequired("list_nodes"))
            };
        }
        let Network { fact, members, .. } = self.networks.find(network)?;
        let allowed = admin
            || fact.join_rule == JoinRule::Open
            || members.iter().any(|member| self.proofs.is_from(*member, caller.ip));
        if !allowed {
            return Err(Refusal::AdminRequired("list_nodes"));
        }
        let rest = members.range((Excluded(after), Unbounded));
        Ok(page(now, network, rest.filter_map(|member| self.nodes.find(*member).ok())))
    }

    /// Whether `node`, or a stranger, may follow what happens in a network: where anyone may join, and for members.
    pub(super) fn may_follow(&self, network: u16, node: Option<NodeId>) -> Result<(), Refusal> {
        let open = self.networks.find(network)?.fact.join_rule == JoinRule::Open;
        match node {
            _ if open => Ok(()),
            Some(node) if self.networks.is_member(network, node) => Ok(()),
            Some(node) => Err(Refusal::NotMember { node, network }),
            None => Err(Refusal::SignatureRequired("changes")),
        }
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
        check_group_name(name)?;
        let join_rule: JoinRule = join_rule.parse().map_err(|()| Refusal::JoinRuleInvalid)?;
        if join_rule == JoinRule::Token && token.is_empty() {
            return Err(Refusal::TokenMissing);
        }
        let networks = &self.networks.by_id;
        if self.networks.by_name.contains_key(&name.to_ascii_lowercase()) {
            return Err(Refusal::NetworkNameTaken(name.to_owned()));
        }
        let created = networks.values().filter(|network| network.fact.creator == creator).count();
        if networks.len() >= NETWORKS_MAX || created >= NETWORKS_PER_CREATOR_MAX {
            return Err(Refusal::TooMany("networks"));
        }
        self.has_room_for_network(creator)?;
        if !caller.exempt && !self.is_admin(request)? && !self.creations.take(now.monotonic, caller.ip) {
            return Err(Refusal::CreationsLimited);
        }
        let networks = &self.networks.by_id;
        let next = networks.last_key_value().map_or(Some(1), |(last, _)| last.checked_add(1));
        // An imported network may have the highest number there is.
        let free = || (1..=u16::MAX).find(|id| !networks.contains_key(id));
        let id = next.or_else(free).ok_or(Refusal::TooMany("networks"))?;
        let fact = NetworkFact {
            id,
            name: name.to_owned(),
            join_rule,
            token_digest: (join_rule == JoinRule::Token).then(|| Sha256::digest(token).into()),
            creator,
            created_at: now.unix_seconds,
        };
        self.networks.by_name.insert(name.to_ascii_lowercase(), id);
        self.networks.by_id.insert(id, Network::new(fact.clone()));
        self.changes.push(Change::NetworkCreated(fact));
        self.join(now, id, creator)?;
        Ok(Answer::CreateNetwork { network_id: id, name: name.to_owned() })
    }

    pub(super) fn join_network(
        &mut self,
        now: Now,
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
                _ if fact.creator == node => {}
                JoinRule::Token if self.networks.is_invited(network, node) => {}
                JoinRule::Token if fact.token_digest.is_some_and(|digest| digests_equal(&digest, &presented)) => {}
                JoinRule::Token => return Err(Refusal::TokenWrong(network)),
                JoinRule::Invite if self.networks.is_invited(network, node) => {}
                JoinRule::Invite => return Err(Refusal::InvitationRequired(network)),
            }
        }
        self.join(now, network, node)?;
        Ok(Answer::JoinNetwork { network_id: network, address: Address { network, node } })
    }

    pub(super) fn leave_network(&mut self, now: Now, node: NodeId, network: u16) -> Result<Answer, Refusal> {
        not_backbone(network)?;
        self.networks.find(network)?;
        if !self.leave(now, network, node) {
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

    /// Invitations stay until they are answered. Who waits is shown none, and nobody those of whoever waits or is banned.
    pub(super) fn poll_invites(&self, node: NodeId) -> Answer {
        let waits = self.nodes.waits(node);
        let invites = self.networks.invites.get(&node).into_iter().flatten();
        let invites = invites.filter(|invite| !waits && !self.nodes.is_kept_apart(invite.inviter));
        let invites = invites.map(|invite| Invite {
            network_id: invite.network,
            inviter_id: invite.inviter,
            timestamp: invite.at,
        });
        Answer::PollInvites { invites: invites.collect() }
    }

    pub(super) fn respond_invite(
        &mut self,
        now: Now,
        node: NodeId,
        network: u16,
        accept: bool,
    ) -> Result<Answer, Refusal> {
        if !self.networks.is_invited(network, node) {
            return Err(Refusal::InvitationNotFound(network));
        }
        if accept {
            self.join(now, network, node)?;
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

    pub(super) fn leave_all_networks(&mut self, now: Now, node: NodeId) {
        for network in self.networks.of(node).collect::<Vec<_>>() {
            self.leave(now, network, node);
        }
        let invites = self.networks.invites.get(&node).into_iter().flatten();
        for network in invites.map(|invite| invite.network).collect::<Vec<_>>() {
            self.close_invite(network, node);
        }
    }

    /// Whether `node` has made a network, which is its own for ever.
    pub(super) fn has_made_network(&self, node: NodeId) -> bool {
        self.networks.by_id.values().any(|network| network.fact.creator == node)
    }

    fn has_room_for_network(&self, node: NodeId) -> Result<(), Refusal> {
        let full = self.networks.of(node).count() >= NETWORKS_PER_NODE_MAX;
        if full { Err(Refusal::TooMany("networks of this node")) } else { Ok(()) }
    }

    fn join(&mut self, now: Now, network: u16, node: NodeId) -> Result<(), Refusal> {
        if self.networks.is_member(network, node) {
            return Ok(());
        }
        self.has_room_for_network(node)?;
        if self.networks.find(network)?.members.len() >= MEMBERS_MAX {
            return Err(Refusal::TooMany("members of this network"));
        }
        self.networks.add(network, node);
        if self.nodes.find(node)?.life.is_present()
            && let Some(network) = self.networks.by_id.get_mut(&network)
        {
            network.online += 1;
        }
        self.changed_in(now, node, Happened::Joined, network);
        self.changes.push(Change::Joined(network, node));
        self.close_invite(network, node);
        Ok(())
    }

    fn leave(&mut self, now: Now, network: u16, node: NodeId) -> bool {
        let left = self.networks.remove(network, node);
        if left {
            if self.nodes.find(node).is_ok_and(|node| node.life.is_present())
                && let Some(network) = self.networks.by_id.get_mut(&network)
            {
                network.online -= 1;
            }
            self.changed_in(now, node, Happened::Left, network);
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
