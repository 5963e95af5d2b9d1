//! The seam between the directory and a relay: who exists and from where, told to the relay; the relay's addresses,
//! told to clients. In process now, a link between hosts later.

use std::net::{IpAddr, SocketAddr};

use wire::NodeId;

use crate::enrolment::Quota;

/// Proven addresses of one node that a relay has to remember.
pub const PROVEN_MAX: usize = 4;

/// What a relay is told of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its own addresses, at most [`PROVEN_MAX`], both families.
    pub proven: Vec<IpAddr>,
    /// Where its latest signed registration says it is: where to ask for it when no session of it is left.
    pub last: Option<SocketAddr>,
    /// What it may send.
    pub quota: Quota,
}

/// What a relay offers to the directory that feeds it. Calls come from several threads, never two at once for
/// `publish` and `withdraw`.
pub trait RelayLink: Send + Sync + 'static {
    /// `node` belongs to the network, and this is known of it. Returns once every shard can see it. Called before the
    /// answer that made it true is written, whenever it changes, and at start for every stored node, before the first
    /// connection is accepted.
    fn publish(&self, node: NodeId, known: &Known);

    /// The node belongs no more: it has deregistered, or was banned or removed. Once this has returned, and its shard has
    /// read its mail, nothing of it is relayed.
    fn withdraw(&self, node: NodeId);

    /// A handshake request or response waits for the node: it should be sent a notify (`0A 01`).
    fn notify(&self, node: NodeId);

    /// `HOST:PORT` of each relay to hand to a client whose connection arrived at the address `local`.
    fn advertised(&self, local: IpAddr) -> Vec<String>;

    /// What those relays understand beyond the protocol, as [`Beacon::extensions`](wire::registry::answer::Beacon) names
    /// it.
    fn extensions(&self) -> Vec<String> {
        Vec::new()
    }

    /// By which those relays are known to nodes that sign claims for them.
    fn relay_key(&self) -> Option<[u8; 32]> {
        None
    }
}

/// The link of a directory that runs alone: nobody to tell, and relays known by configuration only.
#[derive(Clone, Debug, Default)]
pub struct NoRelay {
    /// `HOST:PORT` of each relay to hand to clients.
    pub advertise: Vec<String>,
}

impl RelayLink for NoRelay {
    fn publish(&self, _node: NodeId, _known: &Known) {}

    fn withdraw(&self, _node: NodeId) {}

    fn notify(&self, _node: NodeId) {}

    fn advertised(&self, _local: IpAddr) -> Vec<String> {
        self.advertise.clone()
    }
}
