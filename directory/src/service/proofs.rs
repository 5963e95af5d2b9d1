//! Which addresses are proven to be a node's own: the host in its latest signed registration, and the addresses of
//! live connections that carried a valid signature of it. The relay trusts these when two sources claim one node.
//!
//! Signatures can be replayed for ever (section 12, weakness 9). So a signature that has already come from one address
//! proves nothing from another while a connection from the first lives; nor does it grant or end anything there.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use wire::NodeId;
use wire::registry::{Operation, Signature};

use super::{Caller, Service};
use crate::facts::NodeFact;
use crate::limits::address_unit;
use crate::relay_link::PROVEN_MAX;

/// Connections remembered per node; daemons open about four.
const CONNECTIONS_MAX: usize = 16;
/// Signatures remembered per node. The operations that prove have one text each, but for `register`.
const SIGNATURES_MAX: usize = 16;
/// Signed acts remembered per node: what they say of other nodes has many texts.
const ACTS_MAX: usize = 32;

/// A connection, told from all others that this process has seen or will see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The proofs of all nodes.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// Position `id - 1`, as the nodes themselves.
    nodes: Vec<NodeProofs>,
    by_connection: HashMap<ConnectionId, BTreeSet<NodeId>>,
}

#[derive(Debug, Default)]
struct NodeProofs {
    signed_host: Option<IpAddr>,
    /// Newest last.
    connections: VecDeque<(ConnectionId, IpAddr)>,
    /// Where each signature came from first; newest last.
    signatures: VecDeque<(Fingerprint, IpAddr)>,
    /// The same of what [`is_act`]; apart, so that their number pushes none of the first kind out.
    acts: VecDeque<(Fingerprint, IpAddr)>,
    /// What the relay has been told.
    published: Vec<IpAddr>,
}

/// The first half of a signature is as unique as the whole.
type Fingerprint = [u8; 16];

impl Proofs {
    pub(super) fn new(facts: &[NodeFact]) -> Self {
        let nodes = facts.iter().map(|fact| {
            let mut node = NodeProofs { signed_host: fact.signed_host, ..NodeProofs::default() };
            node.refresh();
            node
        });
        Self { nodes: nodes.collect(), by_connection: HashMap::new() }
    }

    pub(super) fn proven(&self, node: NodeId) -> &[IpAddr] {
        position(node).and_then(|position| self.nodes.get(position)).map_or(&[], |node| &node.published)
    }

    /// Whether a connection from `ip` that carried a signature of `node` lives.
    pub(super) fn is_from(&self, node: NodeId, ip: IpAddr) -> bool {
        self.get(node).is_some_and(|node| node.lives_at(ip))
    }

    /// The same for any address of the same host: one IPv4 address, one /64 in IPv6.
    pub(super) fn is_near(&self, node: NodeId, ip: IpAddr) -> bool {
        let unit = address_unit(ip);
        self.get(node).is_some_and(|node| node.connections.iter().any(|(_, from)| address_unit(*from) == unit))
    }

    /// Whether `connection` has carried a signature of `node`.
    pub(super) fn is_on(&self, node: NodeId, connection: ConnectionId) -> bool {
        self.get(node).is_some_and(|node| node.connections.iter().any(|(id, _)| *id == connection))
    }

    /// The nodes whose signatures `connection` has carried.
    pub(super) fn on(&self, connection: ConnectionId) -> impl Iterator<Item = NodeId> + '_ {
        self.by_connection.get(&connection).into_iter().flatten().copied()
    }

    /// Whether any connection that carried a signature of `node` lives.
    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|node| !node.connections.is_empty())
    }

    /// Whether `signature` has come from elsewhere, by a connection that lives.
    pub(super) fn is_replay(&self, node: NodeId, ip: IpAddr, signature: &Signature) -> bool {
        let fingerprint = fingerprint(signature);
        self.get(node).is_some_and(|node| {
            let mut elsewhere = node.signatures.iter().filter(|(seen, from)| *seen == fingerprint && *from != ip);
            elsewhere.any(|(_, from)| node.lives_at(*from))
        })
    }

    /// Takes note of a signature that is no replay. True when the proven addresses are others than before.
    pub(super) fn add(&mut self, node: NodeId, connection: ConnectionId, ip: IpAddr, signature: &Signature) -> bool {
        let proofs = self.entry(node);
        proofs.signatures.retain(|(seen, _)| *seen != fingerprint(signature));
        if proofs.signatures.len() >= SIGNATURES_MAX {
            proofs.signatures.pop_front();
        }
        proofs.signatures.push_back((fingerprint(signature), ip));
        let known = proofs.connections.iter().any(|(id, _)| *id == connection);
        if !known {
            if proofs.connections.len() >= CONNECTIONS_MAX {
                proofs.connections.pop_front();
            }
            proofs.connections.push_back((connection, ip));
        }
        let changed = proofs.refresh();
        if !known {
            self.by_connection.entry(connection).or_default().insert(node);
        }
        changed
    }

    /// Whether the signature of an act has come from elsewhere, by a connection that lives, and `ip` is not the node's as well.
    fn is_replayed_act(&self, node: NodeId, ip: IpAddr, signature: &Signature) -> bool {
        let fingerprint = fingerprint(signature);
        self.get(node).is_some_and(|node| {
            let mut elsewhere = node.acts.iter().filter(|(seen, from)| *seen == fingerprint && *from != ip);
            !node.lives_at(ip) && elsewhere.any(|(_, from)| node.lives_at(*from))
        })
    }

    /// Takes note of the signature of an act that is no replay.
    fn add_act(&mut self, node: NodeId, ip: IpAddr, signature: &Signature) {
        let acts = &mut self.entry(node).acts;
        acts.retain(|(seen, _)| *seen != fingerprint(signature));
        if acts.len() >= ACTS_MAX {
            acts.pop_front();
        }
        acts.push_back((fingerprint(signature), ip));
    }

    /// The host in a node's latest signed registration. True when the proven addresses are others than before.
    pub(super) fn set_signed_host(&mut self, node: NodeId, host: Option<IpAddr>) -> bool {
        let proofs = self.entry(node);
        proofs.signed_host = host;
        proofs.refresh()
    }

    /// Forgets all about a node but what it has signed to do, lest copies of that do it again once the node is back.
    pub(super) fn forget(&mut self, node: NodeId) {
        let proofs = self.entry(node);
        *proofs = NodeProofs { acts: std::mem::take(&mut proofs.acts), ..NodeProofs::default() };
    }

    /// Forgets what `connection` proved; returns the nodes whose proven addresses are others than before.
    pub(super) fn close(&mut self, connection: ConnectionId) -> Vec<NodeId> {
        let nodes = self.by_connection.remove(&connection).unwrap_or_default();
        let changed = nodes.into_iter().filter(|node| {
            let proofs = self.entry(*node);
            proofs.connections.retain(|(id, _)| *id != connection);
            proofs.refresh()
        });
        changed.collect()
    }

    fn get(&self, node: NodeId) -> Option<&NodeProofs> {
        self.nodes.get(position(node)?)
    }

    /// Only called with numbers of nodes that exist.
    fn entry(&mut self, node: NodeId) -> &mut NodeProofs {
        let position = position(node).expect("a node's number is not 0");
        if self.nodes.len() <= position {
            self.nodes.resize_with(position + 1, NodeProofs::default);
        }
        &mut self.nodes[position]
    }
}

impl NodeProofs {
    fn lives_at(&self, ip: IpAddr) -> bool {
        self.connections.iter().any(|(_, from)| *from == ip)
    }

    /// Works out the proven addresses: the signed host, then connections, newest first.
    fn refresh(&mut self) -> bool {
        let mut proven = Vec::new();
        for ip in self.signed_host.into_iter().chain(self.connections.iter().rev().map(|(_, ip)| *ip)) {
            if proven.len() < PROVEN_MAX && !proven.contains(&ip) {
                proven.push(ip);
            }
        }
        let changed = proven != self.published;
        self.published = proven;
        changed
    }
}

/// Signatures that came from another address while a connection from the first lived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replays {
    /// So many since the start.
    pub count: u64,
    /// The node and the second address of the latest.
    pub latest: Option<(NodeId, IpAddr)>,
}

impl Replays {
    pub(super) const fn note(&mut self, node: NodeId, ip: IpAddr) {
        self.count += 1;
        self.latest = Some((node, ip));
    }
}

impl Service {
    /// Signatures that somebody else has used, or a node that is behind two addresses at once.
    #[must_use]
    pub const fn replays(&self) -> Replays {
        self.replays
    }

    /// Takes what the valid `signature` of `node` proves about the caller's address. False when it is a replay.
    pub(super) fn prove(
        &mut self,
        caller: &Caller<'_>,
        node: NodeId,
        operation: &Operation,
        signature: Signature,
    ) -> bool {
        let is_act = is_act(operation);
        let is_replay = match is_act {
            true => self.proofs.is_replayed_act(node, caller.ip, &signature),
            false => self.proofs.is_replay(node, caller.ip, &signature),
        };
        if is_replay {
            self.replays.note(node, caller.ip);
            return false;
        }
        if is_act {
            self.proofs.add_act(node, caller.ip, &signature);
        } else if proves_address(operation) {
            if !self.proofs.is_from(node, caller.ip) {
                self.follow(node, caller.ip);
            }
            if self.proofs.add(node, caller.connection, caller.ip, &signature) {
                self.publish(node);
            }
        }
        true
    }
}

/// Operations with one signed text per node. Those that name a second node have many, which could push the first
/// kind out of a bounded memory and make replays of it look new.
const fn proves_address(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Register(_)
            | Operation::Heartbeat { .. }
            | Operation::PollHandshakes { .. }
            | Operation::PollInvites { .. }
            | Operation::SetHostname { .. }
            | Operation::SetTags { .. }
            | Operation::SetVisibility { .. }
            | Operation::SetTaskExec { .. }
    )
}

/// What gives others something, or ends the node's own registration: copies of it would do so again after it was taken
/// back. To take something back is no act: that has to get through whatever happens.
pub(super) const fn is_act(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::ReportTrust { .. }
            | Operation::RequestHandshake { .. }
            | Operation::RespondHandshake { .. }
            | Operation::JoinNetwork { .. }
            | Operation::InviteToNetwork { .. }
            | Operation::RespondInvite { .. }
            | Operation::Deregister { .. }
    )
}

fn fingerprint(signature: &Signature) -> Fingerprint {
    *signature.0.first_chunk().expect("a signature is longer")
}

fn position(node: NodeId) -> Option<usize> {
    node.0.checked_sub(1).map(|position| position as usize)
}
