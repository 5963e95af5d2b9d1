//! Figures for people: the network at a glance, and one node in detail for its operator.

use std::net::IpAddr;

use serde::Serialize;
use wire::NodeId;
use wire::registry::capability::Record;
use wire::registry::request::Report;

use super::nodes::Node;
use super::{Now, Service};

/// The network at a glance. Nothing in it names a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// Registered nodes.
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

impl Service {
    /// The network at a glance. Costs as much as there are networks, not nodes.
    #[must_use]
    pub fn overview(&self, _now: Now) -> Overview {
        Overview {
            nodes: self.nodes.registered_count(),
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
        let text = text.trim();
        let exact = text.parse().ok().and_then(|id| self.nodes.find(NodeId(id)).ok());
        let exact_id = exact.map(|node| node.fact.id);
        let others = self.nodes.iter().filter(|node| Some(node.fact.id) != exact_id && self.matches(node, text));
        exact.into_iter().chain(others).take(limit).map(|node| self.view(now, node)).collect()
    }

    fn view(&self, now: Now, node: &Node) -> NodeView {
        let fact = &node.fact;
        NodeView {
            node_id: fact.id,
            address: fact.id.address().to_string(),
            hostname: fact.hostname.clone(),
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
    fn matches(&self, node: &Node, text: &str) -> bool {
        let fact = &node.fact;
        // Most records do not have it anywhere, and need not be read.
        let in_record = || self.capabilities.offered(fact.id).is_some_and(|offered| has(&offered.record, text));
        has(fact.hostname.as_deref().unwrap_or_default(), text)
            || fact.tags.iter().any(|tag| has(tag, text))
            || has(&fact.endpoint, text)
            || has(&fact.id.address().to_string(), text)
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
