//! The facts of a directory as they follow from its changes alone, in plain lists, and who may cause which change.

use std::collections::{BTreeMap, BTreeSet};

use directory::facts::{Change, Facts, InviteFact, NetworkFact, NodeFact, RequestFact, ResponseFact, TrustFact};
use ed25519_dalek::VerifyingKey;
use wire::NodeId;
use wire::registry::{Operation, PublicKey, Request};

/// What the changes so far amount to.
#[derive(Debug, Default)]
pub struct Ledger {
    pub nodes: BTreeMap<NodeId, NodeFact>,
    /// Every key that ever was a node's, and whose.
    pub keys: BTreeMap<PublicKey, NodeId>,
    retired: BTreeMap<PublicKey, NodeId>,
    trust: BTreeSet<TrustFact>,
    requests: BTreeMap<(NodeId, NodeId), RequestFact>,
    responses: BTreeMap<(NodeId, NodeId), ResponseFact>,
    networks: BTreeMap<u16, NetworkFact>,
    members: BTreeSet<(u16, NodeId)>,
    invites: BTreeMap<(u16, NodeId), InviteFact>,
    /// Trust that its truster has signed for, and nobody has revoked since.
    granted: BTreeSet<TrustFact>,
}

/// A request, and whether its node has signed it, on this connection now or another text before.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'a> {
    pub request: &'a Request,
    /// Its signature is right, found out without the directory.
    pub is_signed: bool,
    /// Nodes whose right signatures this connection has carried.
    pub signed_here: &'a BTreeSet<NodeId>,
}

impl Ledger {
    /// Whether the request's signature is its node's.
    pub fn is_signed(&self, request: &Request) -> bool {
        let key = match &request.operation {
            Operation::Register(register) => Some(register.public_key),
            operation => operation.signer().and_then(|node| self.registered(node)).map(|fact| fact.key),
        };
        let texts = [request.operation.signed_text(), request.operation.older_signed_text()];
        let (Some(key), Some(signature)) = (key, request.signature) else { return false };
        let fits = |text: &String| {
            let key = VerifyingKey::from_bytes(&key.0);
            key.is_ok_and(|key| key.verify_strict(text.as_bytes(), &signature.0.into()).is_ok())
        };
        texts.iter().flatten().any(fits)
    }

    pub fn registered(&self, node: NodeId) -> Option<&NodeFact> {
        self.nodes.get(&node).filter(|fact| fact.registered)
    }

    /// Takes note of what a signature says, before the changes it causes.
    pub fn note_grant(&mut self, cause: &Cause<'_>) {
        let granted = match cause.request.operation {
            _ if !cause.is_signed => return,
            Operation::ReportTrust { node_id, peer_id } => (node_id, peer_id),
            Operation::RespondHandshake { node_id, peer_id, accept: true } => (node_id, peer_id),
            Operation::RequestHandshake { from_node_id, to_node_id, .. } => (from_node_id, to_node_id),
            _ => return,
        };
        self.granted.insert(TrustFact { truster: granted.0, trusted: granted.1 });
    }

    /// Takes over a change.
    ///
    /// # Panics
    /// If the request could not cause it.
    pub fn apply(&mut self, change: &Change, cause: &Cause<'_>) {
        let signer = cause.request.operation.signer().filter(|_| cause.is_signed);
        let by = |nodes: &[NodeId]| {
            assert!(signer.is_some_and(|signer| nodes.contains(&signer)), "{change:?} by {cause:?}");
        };
        match change {
            Change::Node(fact) => self.apply_node(fact, cause),
            Change::KeyRetired(key, node) => {
                by(&[*node]);
                assert!(matches!(cause.request.operation, Operation::RotateKey { .. }));
                assert_eq!(self.retired.insert(*key, *node), None, "a key is retired once");
            }
            Change::Trusted(fact) => {
                assert!(self.granted.contains(fact), "{fact:?} without the truster's signature, by {cause:?}");
                self.trust.insert(*fact);
            }
            Change::Distrusted(fact) => {
                by(&[fact.truster, fact.trusted]);
                self.trust.remove(fact);
                self.granted.remove(fact);
            }
            Change::Requested(fact) => {
                by(&[fact.from]);
                self.requests.insert((fact.from, fact.to), fact.clone());
            }
            Change::RequestClosed { from, to } => {
                by(&[*from, *to]);
                self.requests.remove(&(*from, *to));
            }
            Change::Responded(fact) => {
                by(&[fact.from]);
                self.responses.insert((fact.from, fact.to), *fact);
            }
            Change::ResponseClosed { from, to } => {
                by(&[*from, *to]);
                self.responses.remove(&(*from, *to));
            }
            Change::NetworkCreated(fact) => {
                assert!(cause.signed_here.contains(&fact.creator), "{change:?} by {cause:?}");
                assert!(self.networks.values().all(|other| other.name != fact.name), "one name, two networks");
                assert_eq!(usize::from(fact.id), self.networks.len() + 1, "numbers of networks have no gap");
                self.networks.insert(fact.id, fact.clone());
            }
            Change::Joined(network, node) => {
                let creates =
                    matches!(cause.request.operation, Operation::CreateNetwork { node_id, .. } if node_id == *node);
                if !creates {
                    by(&[*node]);
                }
                self.members.insert((*network, *node));
            }
            Change::Left(network, node) => {
                by(&[*node]);
                self.members.remove(&(*network, *node));
            }
            Change::Invited(fact) => {
                by(&[fact.inviter]);
                assert!(self.members.contains(&(fact.network, fact.inviter)), "only members invite");
                self.invites.insert((fact.network, fact.target), *fact);
            }
            Change::InviteClosed { network, target } => {
                self.invites.remove(&(*network, *target));
            }
            Change::Capability(fact) => by(&[fact.node]),
            Change::Seen(..) => self.apply_unasked(change),
            _ => {}
        }
    }

    /// Takes over a change that needs no request.
    ///
    /// # Panics
    /// If it does.
    pub fn apply_unasked(&mut self, change: &Change) {
        let Change::Seen(day, nodes) = change else { panic!("{change:?}, and nobody has asked for it") };
        for node in nodes {
            self.nodes.get_mut(node).expect("only nodes are seen").last_seen_day = Some(*day);
        }
    }

    fn apply_node(&mut self, fact: &NodeFact, cause: &Cause<'_>) {
        let Cause { request, is_signed, .. } = cause;
        match self.nodes.get(&fact.id) {
            None => {
                assert_eq!(fact.id.0 as usize, self.nodes.len() + 1, "numbers have no gap");
                let is_own =
                    matches!(&request.operation, Operation::Register(register) if register.public_key == fact.key);
                assert!(is_own, "a node begins by its registration: {cause:?}");
                assert_eq!(self.keys.insert(fact.key, fact.id), None, "a key has one number for ever");
            }
            Some(before) => {
                match &request.operation {
                    Operation::Register(register) => {
                        assert_eq!(register.public_key, before.key, "{fact:?} by {cause:?}");
                        assert!(*is_signed || !before.signs, "an unsigned registration of one who signs: {cause:?}");
                        assert_eq!(fact.key, before.key);
                    }
                    operation => {
                        assert!(*is_signed && operation.signer() == Some(fact.id), "{fact:?} by {cause:?}");
                        if fact.key != before.key {
                            assert!(matches!(operation, Operation::RotateKey { .. }));
                            assert_eq!(self.keys.insert(fact.key, fact.id), None, "a key has one number for ever");
                        }
                    }
                }
                assert!(fact.signs || !before.signs, "who has signed once always does");
            }
        }
        if let Some(hostname) = &fact.hostname {
            let is_others = |other: &&NodeFact| other.id != fact.id && other.hostname.as_ref() == Some(hostname);
            assert_eq!(self.nodes.values().find(is_others), None, "one hostname, two nodes");
        }
        self.nodes.insert(fact.id, fact.clone());
    }

    /// What a directory that starts from here is given.
    pub fn facts(&self, created_at: u64) -> Facts {
        Facts {
            created_at,
            nodes: self.nodes.values().cloned().collect(),
            retired_keys: self.retired.iter().map(|(key, node)| (*key, *node)).collect(),
            trust: self.trust.iter().copied().collect(),
            requests: self.requests.values().cloned().collect(),
            responses: self.responses.values().copied().collect(),
            networks: self.networks.values().cloned().collect(),
            members: self.members.iter().copied().collect(),
            invites: self.invites.values().copied().collect(),
            ..Facts::default()
        }
    }

    /// Compares with what a store has kept.
    ///
    /// # Panics
    /// If that is something else.
    pub fn compare(&self, mut stored: Facts) {
        let mut kept = self.facts(stored.created_at);
        for facts in [&mut stored, &mut kept] {
            facts.retired_keys.sort_unstable();
            facts.trust.sort_unstable();
            facts.members.sort_unstable();
            facts.requests.sort_unstable_by_key(|fact| (fact.from, fact.to));
            facts.responses.sort_unstable_by_key(|fact| (fact.from, fact.to));
            facts.invites.sort_unstable_by_key(|fact| (fact.network, fact.target));
            facts.capabilities.clear();
        }
        assert_eq!(stored, kept, "what is stored is what was changed");
    }
}
