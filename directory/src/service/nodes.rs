//! Nodes: registration, lookup, keys. A key has one number for ever, and a number one owner.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use wire::NodeId;
use wire::registry::answer::{Found, Registered};
use wire::registry::request::Register;
use wire::registry::{Answer, PublicKey, Signature};

use super::collection::day_of;
use super::presence::Life;
use super::signature::is_identity;
use super::{Caller, Now, Refusal, Service};
use crate::endpoint::Listen;
use crate::enrolment::{Approval, Standing};
use crate::facts::{Change, NodeFact};

/// What `register` says of the protocol spoken here.
const PROTOCOL_VERSION: u32 = 1;
/// Bytes of the release a node may name.
const VERSION_BYTES_MAX: usize = 64;

/// A node: what is durable and what is not.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) fact: NodeFact,
    pub(super) life: Life,
}

impl Node {
    pub(super) fn is_online(&self, now: Now) -> bool {
        self.life.is_online(now)
    }

    const fn belongs(&self) -> bool {
        matches!(self.fact.standing(), Some(Standing::Approved))
    }

    pub(super) const fn last_seen_unix_seconds(&self) -> Option<u64> {
        self.life.last_seen_unix_seconds()
    }
}

/// All nodes, and the indices over them.
#[derive(Debug)]
pub(super) struct Nodes {
    /// Position `id - 1`: numbers are handed out densely and never taken back.
    by_id: Vec<Node>,
    by_key: HashMap<PublicKey, NodeId>,
    retired_keys: HashMap<PublicKey, NodeId>,
    by_hostname: HashMap<String, NodeId>,
    /// Vacant numbers.
    vacant: BTreeSet<NodeId>,
    /// Nodes of each [`Standing`].
    counts: [usize; Standing::ALL.len()],
    limit: usize,
}

impl Nodes {
    pub(super) fn new(facts: Vec<NodeFact>, retired_keys: Vec<(PublicKey, NodeId)>, limit: usize) -> Self {
        Self {
            by_key: facts.iter().map(|fact| (fact.key, fact.id)).collect(),
            retired_keys: retired_keys.into_iter().collect(),
            by_hostname: facts.iter().filter_map(|fact| Some((fact.hostname.clone()?, fact.id))).collect(),
            vacant: facts.iter().filter(|fact| fact.vacant).map(|fact| fact.id).collect(),
            counts: Standing::ALL.map(|of| facts.iter().filter(|fact| fact.standing() == Some(of)).count()),
            by_id: facts.into_iter().map(|fact| Node { fact, life: Life::default() }).collect(),
            limit,
        }
    }

    /// The registered node `id`, if it belongs. Whoever waits or is banned does not exist for others.
    pub(super) fn find(&self, id: NodeId) -> Result<&Node, Refusal> {
        let node = self.enrolled(id).ok().filter(|node| node.belongs());
        node.ok_or(Refusal::NodeNotFound(id))
    }

    /// The registered node `id`, whether it belongs or not.
    pub(super) fn enrolled(&self, id: NodeId) -> Result<&Node, Refusal> {
        self.ever(id).filter(|node| node.fact.registered).ok_or(Refusal::NodeNotFound(id))
    }

    /// The node that has or had the number `id`.
    pub(super) fn ever(&self, id: NodeId) -> Option<&Node> {
        self.by_id.get(id.0.checked_sub(1)? as usize).filter(|node| !node.fact.vacant)
    }

    /// Whether `id` waits for the administrator.
    pub(super) fn waits(&self, id: NodeId) -> bool {
        self.ever(id).is_some_and(|node| node.fact.standing() == Some(Standing::Pending))
    }

    /// Whether `id` is registered and does not belong: it waits or is banned.
    pub(super) fn is_kept_apart(&self, id: NodeId) -> bool {
        self.enrolled(id).is_ok_and(|node| !node.belongs())
    }

    /// The number that belonged to `key` until its node took another.
    pub(super) fn of_retired_key(&self, key: &PublicKey) -> Option<NodeId> {
        self.retired_keys.get(key).copied()
    }

    /// The number that belongs to `key`.
    pub(super) fn of_key(&self, key: &PublicKey) -> Option<NodeId> {
        self.by_key.get(key).copied().filter(|id| self.ever(*id).is_some())
    }

    /// Who has `hostname`, whether that node belongs or not.
    pub(super) fn holder_of(&self, hostname: &str) -> Option<NodeId> {
        self.by_hostname.get(hostname).copied()
    }

    pub(super) fn named(&self, hostname: &str) -> Option<&Node> {
        self.by_hostname.get(hostname).and_then(|id| self.find(*id).ok())
    }

    /// The nodes that belong, with higher numbers than `id`, in order.
    pub(super) fn after(&self, id: NodeId) -> impl Iterator<Item = &Node> {
        self.enrolled_after(id).filter(|node| node.belongs())
    }

    /// The registered nodes with higher numbers than `id`, in order.
    pub(super) fn enrolled_after(&self, id: NodeId) -> impl Iterator<Item = &Node> {
        self.by_id.iter().skip(id.0 as usize).filter(|node| node.fact.registered)
    }

    /// The nodes that have or had higher numbers than `id`, in order.
    pub(super) fn ever_after(&self, id: NodeId) -> impl Iterator<Item = &Node> {
        self.by_id.iter().skip(id.0 as usize).filter(|node| !node.fact.vacant)
    }

    /// The highest number that was handed out; 0 when there is none.
    pub(super) fn last_number(&self) -> NodeId {
        self.by_id.last().map_or(NodeId(0), |node| node.fact.id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.by_id.iter().filter(|node| node.belongs())
    }

    /// How many nodes have this standing.
    pub(super) const fn count(&self, standing: Standing) -> usize {
        self.counts[standing as usize]
    }

    fn recount(&mut self, before: Option<Standing>, after: Option<Standing>) {
        if let Some(before) = before {
            self.counts[before as usize] -= 1;
        }
        if let Some(after) = after {
            self.counts[after as usize] += 1;
        }
    }

    /// Gives a newcomer a number: its own of old, one that became vacant, or the next.
    fn add(&mut self, key: PublicKey, approval: Approval, now: Now) -> Result<NodeId, Refusal> {
        if !is_identity(&key) {
            return Err(Refusal::KeyInvalid);
        }
        let vacant = self.by_key.get(&key).copied().or_else(|| self.vacant.first().copied());
        let id = match vacant {
            Some(id) => id,
            None if self.by_id.len() >= self.limit => return Err(Refusal::DirectoryFull),
            None => u32::try_from(self.by_id.len() + 1).map(NodeId).map_err(|_| Refusal::DirectoryFull)?,
        };
        let fact = NodeFact { approval, ..NodeFact::new(id, key, now.unix_seconds) };
        self.recount(None, fact.standing());
        let node = Node { fact, life: Life::default() };
        if self.vacant.remove(&id) {
            let before = std::mem::replace(self.entry(id), node);
            self.by_key.remove(&before.fact.key);
        } else {
            self.by_id.push(node);
        }
        self.by_key.insert(key, id);
        Ok(id)
    }

    /// Only called with numbers that were handed out.
    pub(super) fn entry(&mut self, id: NodeId) -> &mut Node {
        &mut self.by_id[id.0 as usize - 1]
    }
}

impl Service {
    /// Changes what is known of a node. A change is only recorded when there is one; true then.
    pub(super) fn update(&mut self, id: NodeId, change: impl FnOnce(&mut NodeFact)) -> bool {
        let node = self.nodes.entry(id);
        let before = node.fact.clone();
        change(&mut node.fact);
        if node.fact == before {
            return false;
        }
        let after = node.fact.clone();
        let public = after.registered && after.public;
        self.nodes.recount(before.standing(), after.standing());
        self.enrolled.bans.follow(&before, &after);
        if after.vacant {
            self.nodes.vacant.insert(id);
        }
        // Only those who belong are found.
        let words_changed =
            (before.standing(), &before.hostname, &before.tags) != (after.standing(), &after.hostname, &after.tags);
        if after.hostname != before.hostname {
            before.hostname.map(|hostname| self.nodes.by_hostname.remove(&hostname));
            after.hostname.clone().map(|hostname| self.nodes.by_hostname.insert(hostname, id));
        }
        self.changes.push(Change::Node(Box::new(after)));
        self.follow_node(id, public, words_changed);
        true
    }

    pub(super) fn register(
        &mut self,
        now: Now,
        caller: &Caller<'_>,
        register: &Register,
        signature: Option<Signature>,
    ) -> Result<Answer, Refusal> {
        let listen = Listen::parse(&register.listen_addr).ok_or(Refusal::EndpointInvalid("listen_addr"))?;
        let id = self.register_key(now, caller, register.public_key, signature.is_some())?;
        let mut hostname = None;
        let mut hostname_error = None;
        if self.may_register(caller, id, signature) {
            let signed_host = signature.and(listen.ip());
            let last_before = self.last_endpoint(id);
            let day = signature.map(|_| day_of(now));
            self.update(id, |fact| describe(fact, caller.ip, &listen, register, day));
            if let Some(signature) = signature {
                let changed = self.proofs.set_signed_host(id, signed_host);
                let operation = wire::registry::Operation::Register(register.clone());
                let first_use = self.prove(caller, id, &operation, signature);
                debug_assert!(first_use, "replays may not register");
                if changed || self.last_endpoint(id) != last_before {
                    self.publish(id);
                }
            }
            if !register.hostname.is_empty() {
                match self.set_hostname(now, id, &register.hostname) {
                    Ok(_) => hostname = Some(register.hostname.clone()),
                    Err(refusal) => hostname_error = Some(refusal.to_string()),
                }
            }
            self.saw(id, now);
        }
        Ok(Answer::Register(Registered {
            node_id: id,
            network_id: 0,
            address: id.address(),
            public_key: register.public_key,
            hostname,
            hostname_error,
            observed_addr: Some(SocketAddr::new(caller.ip, listen.port()).to_string()),
            protocol_version: Some(PROTOCOL_VERSION),
        }))
    }

    /// The number that belongs to `key`: its own for ever, or the next one. The owner named plays no part.
    fn register_key(&mut self, now: Now, caller: &Caller<'_>, key: PublicKey, signed: bool) -> Result<NodeId, Refusal> {
        if let Some(node) = self.nodes.retired_keys.get(&key) {
            return Err(Refusal::KeyRetired(*node));
        }
        if let Some(id) = self.nodes.of_key(&key) {
            let fact = &self.nodes.entry(id).fact;
            if fact.ban.is_some() {
                return Err(Refusal::Banned(id));
            }
            let before = fact.approval;
            if before != Approval::Admitted {
                match self.approval_of(&key)? {
                    // The list has changed while it was gone.
                    Approval::None if before == Approval::Listed => {
                        self.update(id, |fact| fact.approval = before.taken_back());
                    }
                    Approval::None => {}
                    approval if approval != before => self.let_in(now, id, approval),
                    _ => {}
                }
            }
            let fact = &self.nodes.entry(id).fact;
            if !fact.registered {
                if fact.signs && !signed {
                    return Err(Refusal::SignatureRequired("register"));
                }
                if !fact.approval.is_in() {
                    self.admit_to_wait(now, caller, id)?;
                }
                self.update(id, |fact| fact.registered = true);
                self.publish(id);
            }
            return Ok(id);
        }
        let approval = self.approval_of(&key)?;
        if !caller.exempt && !self.registrations.take(now.monotonic, caller.ip) {
            return Err(Refusal::RegistrationsLimited);
        }
        if approval == Approval::None {
            self.has_room_to_wait(now, caller)?;
        }
        let id = self.nodes.add(key, approval, now)?;
        self.proofs.forget(id);
        self.enrolled_from(caller, id, approval);
        self.end_key_rule(&key);
        self.changes.push(Change::Node(Box::new(self.nodes.entry(id).fact.clone())));
        self.publish(id);
        Ok(id)
    }

    /// Whether a registration may change what is known of its node. A signed one may, unless it is replayed from
    /// elsewhere. An unsigned one may only while the node has never signed, and not against a live connection that
    /// has proven to be the node's.
    fn may_register(&mut self, caller: &Caller<'_>, id: NodeId, signature: Option<Signature>) -> bool {
        match signature {
            Some(signature) if self.proofs.is_replay(id, caller.ip, &signature) => {
                self.replays.note(id, caller.ip);
                false
            }
            Some(_) => true,
            None => {
                let signs = self.nodes.enrolled(id).is_ok_and(|node| node.fact.signs);
                !signs && (!self.proofs.is_connected(id) || self.proofs.is_from(id, caller.ip))
            }
        }
    }

    /// Moves a node's endpoint to `ip`, from which it has just signed, if the endpoint was taken from a connection
    /// that is gone.
    pub(super) fn follow(&mut self, id: NodeId, ip: IpAddr) {
        let fact = &self.nodes.entry(id).fact;
        let Ok(endpoint) = fact.endpoint.parse::<SocketAddr>() else { return };
        if fact.endpoint_follows && !self.proofs.is_from(id, endpoint.ip()) {
            self.update(id, |fact| fact.endpoint = SocketAddr::new(ip, endpoint.port()).to_string());
        }
    }

    pub(super) fn lookup(&self, caller: &Caller<'_>, id: NodeId) -> Result<Answer, Refusal> {
        let node = self.nodes.find(id).or_else(|refusal| match self.nodes.enrolled(id) {
            // Who waits may see itself.
            Ok(node) if self.nodes.waits(id) && self.proofs.is_from(id, caller.ip) => Ok(node),
            _ => Err(refusal),
        })?;
        let fact = &node.fact;
        // A daemon learns its own networks by looking itself up, on any of its connections and without a signature.
        let open = fact.public || self.proofs.is_from(id, caller.ip);
        let mut networks = vec![0];
        networks.extend(self.networks.of(id).filter(|_| open));
        Ok(Answer::Lookup(Found {
            node_id: id,
            address: id.address(),
            networks,
            public_key: fact.key,
            public: fact.public,
            polo_score: 0,
            hostname: fact.hostname.clone(),
            tags: if open { fact.tags.clone() } else { Vec::new() },
            task_exec: fact.task_exec,
            version: Some(fact.version.clone()).filter(|version| open && !version.is_empty()),
            real_addr: Some(fact.endpoint.clone()).filter(|_| fact.public && !fact.relay_only),
        }))
    }

    pub(super) fn rotate_key(&mut self, now: Now, id: NodeId, new_key: PublicKey) -> Result<Answer, Refusal> {
        let old_key = self.nodes.entry(id).fact.key;
        if new_key != old_key {
            if self.nodes.by_key.contains_key(&new_key) || self.nodes.retired_keys.contains_key(&new_key) {
                return Err(Refusal::KeyInUse);
            }
            if !is_identity(&new_key) {
                return Err(Refusal::KeyInvalid);
            }
            let approval = self.approval_of_next_key(id, &new_key)?;
            self.end_key_rule(&new_key);
            self.nodes.by_key.remove(&old_key);
            self.nodes.by_key.insert(new_key, id);
            self.nodes.retired_keys.insert(old_key, id);
            self.update(id, |fact| {
                fact.key = new_key;
                fact.key_set_at = now.unix_seconds;
                fact.approval = approval;
            });
            self.changes.push(Change::KeyRetired(old_key, id));
            // It was signed with the key that is gone.
            self.void_capability(now, id);
        }
        Ok(Answer::RotateKey { node_id: id, address: id.address(), public_key: new_key })
    }

    /// Ends a registration and all that others can see of it. The number stays with the key.
    pub(super) fn deregister(&mut self, now: Now, id: NodeId) {
        self.enrolled.waits_no_more(id);
        self.void_capability(now, id);
        self.departed(now, id);
        self.end_trust_of(id);
        self.close_handshakes_of(id);
        self.leave_all_networks(now, id);
        self.proofs.forget(id);
        self.update(id, |fact| {
            let (signs, key_set_at) = (fact.signs, fact.key_set_at);
            // What the administrator has decided, and when it was last there, outlasts it.
            *fact = NodeFact {
                registered: false,
                signs,
                approval: fact.approval,
                ban: fact.ban.take(),
                quota: fact.quota,
                last_seen_day: fact.last_seen_day,
                ..NodeFact::new(id, fact.key, key_set_at)
            };
        });
        self.publish(id);
    }
}

/// Takes over what a registration says; `signed_day` is the present where it was signed.
fn describe(fact: &mut NodeFact, caller_ip: IpAddr, listen: &Listen, register: &Register, signed_day: Option<u32>) {
    fact.endpoint = listen.endpoint(caller_ip);
    fact.endpoint_follows = listen.follows_caller();
    fact.owner.clone_from(&register.owner);
    fact.version.clone_from(&register.version);
    fact.version.retain(|character| character.is_ascii_graphic());
    fact.version.truncate(VERSION_BYTES_MAX);
    fact.lan_addrs.clone_from(&register.lan_addrs);
    fact.lan_addrs.retain(|addr| !addr.is_empty() && Listen::parse(addr).is_some());
    fact.relay_only = register.relay_only;
    if signed_day.is_some() {
        fact.signs = true;
        fact.last_seen_day = signed_day;
        fact.signed_host = listen.ip();
    }
}
