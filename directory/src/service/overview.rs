//! Figures for people: the network at a glance, and one node in detail for its operator.

use std::net::IpAddr;

use serde::Serialize;
use wire::NodeId;
use wire::registry::capability::Record;
use wire::registry::request::Report;

use super::nodes::Node;
use super::{Now, Service};
use crate::enrolment::Standing;

/// The network at a glance. Nothing in it names a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// Registered nodes that belong.
    pub nodes: usize,
    /// Of these, present.
    pub online: usize,
    /// Present nodes that have published what they can do.
    pub capabilities: usize,
    /// Networks, the backbone first.
    pub groups: Vec<GroupFigures>,
    /// What present nodes report of their paths.
    pub paths: PathFigures,
}

/// One network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GroupFigures {
    /// Its number.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Who may join.
    pub join_rule: String,
    /// Its members.
    pub members: usize,
    /// Of these, present.
    pub online: usize,
}

/// The sum of what present nodes report; older programs report nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PathFigures {
    /// Nodes that report.
    pub reporting: usize,
    /// Peers they reach directly.
    pub direct: u64,
    /// Peers they reach through a relay.
    pub relayed: u64,
    /// Bytes they have sent directly since they started.
    pub direct_bytes: u64,
    /// Bytes they have sent through a relay since they started.
    pub relayed_bytes: u64,
}

/// A node, for its operator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeView {
    /// Its number.
    pub node_id: NodeId,
    /// Its address in the backbone.
    pub address: String,
    /// Its name.
    pub hostname: Option<String>,
    /// Whether it belongs to the network; of one that is not registered, whether it would.
    pub standing: Standing,
    /// Its tags.
    pub tags: Vec<String>,
    /// The title of its capability record.
    pub capability: Option<String>,
    /// The networks it is in.
    pub groups: Vec<String>,
    /// Whether anyone may resolve it.
    pub public: bool,
    /// Whether it is present.
    pub online: bool,
    /// Unix seconds of its last sign of life.
    pub last_seen: Option<u64>,
    /// Its release.
    pub version: String,
    /// Where peers dial it.
    pub endpoint: String,
    /// Whether that host was taken from its connection.
    pub endpoint_follows: bool,
    /// Whether it wants to be reached through the relay alone.
    pub relay_only: bool,
    /// Addresses proven to be its own.
    pub proven: Vec<IpAddr>,
    /// What it reports of itself.
    pub report: Option<Report>,
}

/// A search for nodes on its way through all of them, some at a time: see [`Service::look_further`].
#[derive(Clone, Debug)]
pub struct Lookup {
    text: String,
    limit: usize,
    /// The number that `text` is.
    exact: Option<NodeId>,
    /// Addresses need not be written out for a text that is part of none.
    may_be_address: bool,
    /// Up to here all have been looked at.
    after: NodeId,
    /// What was found, the node with the number first, then in the order of their numbers.
    pub found: Vec<NodeView>,
}

impl Lookup {
    /// A search for at most `limit` nodes, as [`Service::find_nodes`] does it.
    #[must_use]
    pub fn new(text: &str, limit: usize) -> Self {
        let text = text.trim().to_owned();
        let may_be_address = text.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte));
        let exact = text.parse().ok().map(NodeId);
        Self { text, limit, exact, may_be_address, after: NodeId(0), found: Vec::new() }
    }
}

impl Service {
    /// The network at a glance. Costs as much as there are networks, not nodes.
    #[must_use]
    pub fn overview(&self, _now: Now) -> Overview {
        Overview {
            nodes: self.nodes.count(Standing::Approved),
            online: self.presence.count(),
            capabilities: self.presence.offering(),
            groups: self.groups().collect(),
            paths: self.presence.paths(),
        }
    }

    /// Nodes whose number is `text`, or whose address, hostname, endpoint, capability title or one of whose tags has
    /// `text` in it, in any case of ASCII letters; at most `limit`, the one with that number first.
    #[must_use]
    pub fn find_nodes(&self, now: Now, text: &str, limit: usize) -> Vec<NodeView> {
        let mut lookup = Lookup::new(text, limit);
        while self.look_further(now, &mut lookup, usize::MAX) {}
        lookup.found
    }

    /// Goes on with a [`Lookup`] through the next `count` numbers; whether there are more to look at. Nodes that change
    /// between two calls are found as they are when their turn comes, and none is found twice.
    #[must_use]
    pub fn look_further(&self, now: Now, lookup: &mut Lookup, count: usize) -> bool {
        if let Some(node) =
            lookup.exact.filter(|_| lookup.after == NodeId(0)).and_then(|id| self.nodes.enrolled(id).ok())
        {
            lookup.found.push(self.view(now, node));
        }
        let last = self.nodes.last_number();
        let end = NodeId(u32::try_from(count).map_or(last.0, |count| lookup.after.0.saturating_add(count).min(last.0)));
        let nodes = self.nodes.enrolled_after(lookup.after).take_while(|node| node.fact.id <= end);
        let matching = nodes.filter(|node| Some(node.fact.id) != lookup.exact && self.matches(node, lookup));
        let room = lookup.limit.saturating_sub(lookup.found.len());
        let found: Vec<NodeView> = matching.take(room).map(|node| self.view(now, node)).collect();
        lookup.found.extend(found);
        lookup.found.truncate(lookup.limit);
        lookup.after = end;
        end < last && lookup.found.len() < lookup.limit
    }

    pub(super) fn view(&self, now: Now, node: &Node) -> NodeView {
        let fact = &node.fact;
        NodeView {
            node_id: fact.id,
            address: fact.id.address().to_string(),
            hostname: fact.hostname.clone(),
            standing: self.standing_of(fact),
            tags: fact.tags.clone(),
            capability: self.title(fact.id),
            groups: self.groups_of(fact.id).map(str::to_owned).collect(),
            public: fact.public,
            online: node.is_online(now),
            last_seen: node.last_seen_unix_seconds(),
            version: fact.version.clone(),
            endpoint: fact.endpoint.clone(),
            endpoint_follows: fact.endpoint_follows,
            relay_only: fact.relay_only,
            proven: self.proofs.proven(fact.id).to_vec(),
            report: node.life.report(),
        }
    }

    /// Whether `text` is in what people know a node by; an empty text is in everything.
    fn matches(&self, node: &Node, lookup: &Lookup) -> bool {
        let (fact, text) = (&node.fact, lookup.text.as_str());
        // Most records do not have it anywhere, and need not be read.
        let in_record = || self.capabilities.offered(fact.id).is_some_and(|offered| has(&offered.record, text));
        has(fact.hostname.as_deref().unwrap_or_default(), text)
            || fact.tags.iter().any(|tag| has(tag, text))
            || has(&fact.endpoint, text)
            || (lookup.may_be_address && has(&fact.id.address().to_string(), text))
            || (in_record() && self.title(fact.id).is_some_and(|title| has(&title, text)))
    }

    /// The title of what a node offers.
    fn title(&self, node: NodeId) -> Option<String> {
        let offered = self.capabilities.offered(node)?;
        Record::decode(&offered.record).ok().map(|record| record.title)
    }
}

/// Whether `text` is part of `whole`, in any case of ASCII letters.
fn has(whole: &str, text: &str) -> bool {
    text.is_empty() || whole.as_bytes().windows(text.len()).any(|part| part.eq_ignore_ascii_case(text.as_bytes()))
}
