//! What the snapshot of another registry (section 6.5) means here, so that a running fleet keeps its addresses.
//!
//! ```text
//! JSON ──► snapshot: entries as they are ──► plan: facts, and what cannot be taken and why ──► one commit
//! ```
//!
//! Numbers here are handed out densely and for ever, those of a snapshot have gaps: nodes that the other registry has
//! forgotten. A key that its index still has keeps its number, as it did there, and takes it with a signature; any other
//! number below the highest is put out of use for good, so that nobody inherits the trust that others may still have in it.

mod snapshot;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Serialize;
use sha2::{Digest, Sha256};
use wire::NodeId;
use wire::registry::names::{check_group_name, check_hostname, normalise_tags};
use wire::registry::{Base64, PublicKey};

use self::snapshot::Entry;
use crate::endpoint::Listen;
use crate::facts::{Change, Facts, JoinRule, NetworkFact, NodeFact, RequestFact, ResponseFact, Searchable, TrustFact};
use crate::service::is_identity;
use crate::store::Store;

const SECONDS_PER_DAY: u64 = 86_400;
/// Handshake requests that wait for one node, as the service bounds them.
const REQUESTS_MAX: usize = 100;
/// Bytes of why somebody asks.
const JUSTIFICATION_BYTES_MAX: usize = 1024;
/// Bytes of an owner or a release.
const TEXT_BYTES_MAX: usize = 256;

/// What a snapshot comes to.
#[derive(Debug, Default)]
pub struct Plan {
    /// What is written, in this order.
    pub changes: Vec<Change>,
    /// What is not, and why.
    pub invalid: Vec<Invalid>,
    /// How much of each.
    pub summary: Summary,
}

/// An entry, or a part of one, that cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invalid {
    /// What, such as `node 7`.
    pub what: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.reason)
    }
}

/// Counts of what is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Registered nodes.
    pub nodes: usize,
    /// Of these, with a hostname.
    pub hostnames: usize,
    /// Of these, with tags.
    pub tagged: usize,
    /// Of these, public.
    pub public: usize,
    /// Numbers kept for keys whose nodes are not registered.
    pub kept_for_keys: usize,
    /// Numbers that nobody gets any more.
    pub unused_numbers: usize,
    /// Pairs that trust each other.
    pub trust_pairs: usize,
    /// Networks.
    pub networks: usize,
    /// Memberships.
    pub members: usize,
    /// Handshake requests without an answer.
    pub requests: usize,
    /// Answers that were not read yet.
    pub responses: usize,
}

/// Makes the plan for the JSON text of a snapshot. At most `nodes_max` numbers are handed out.
///
/// # Errors
/// The text is no snapshot at all, or has more numbers than there may be.
pub fn plan(text: &[u8], now_unix_seconds: u64, nodes_max: usize) -> anyhow::Result<Plan> {
    let snapshot = snapshot::read(text)?;
    let mut planner = Planner { now: now_unix_seconds, nodes_max, ..Planner::default() };
    planner.nodes(&snapshot.nodes);
    planner.keys(&snapshot.keys);
    planner.networks(&snapshot.networks);
    planner.trust(&snapshot.trust);
    planner.requests(&snapshot.requests);
    planner.responses(&snapshot.responses);
    planner.finish(snapshot.next_node)
}

/// Writes `plan` into the directory of `data_dir`, which must be empty, in one commit.
///
/// # Errors
/// The folder cannot be used or is in use, has nodes already, or the disk is full; nothing has changed then.
pub fn write(plan: &Plan, data_dir: &Path, now_unix_seconds: u64) -> anyhow::Result<()> {
    let mut store = Store::open(data_dir, now_unix_seconds)?;
    let facts = store.load()?;
    if facts != (Facts { created_at: facts.created_at, ..Facts::default() }) {
        bail!(
            "the directory in {} has {} nodes already, whose numbers would be taken twice; import into an empty folder, \
             named with --data-dir",
            data_dir.display(),
            facts.nodes.len()
        );
    }
    store.commit(&plan.changes).context("cannot write what was imported; nothing has changed")
}

#[derive(Debug, Default)]
struct Planner {
    now: u64,
    nodes_max: usize,
    nodes: BTreeMap<NodeId, NodeFact>,
    by_key: HashMap<PublicKey, NodeId>,
    hostnames: HashMap<String, NodeId>,
    /// Networks that nodes say they are in.
    said: BTreeSet<(u16, NodeId)>,
    /// What comes after the nodes, in this order.
    later: Vec<Change>,
    invalid: Vec<Invalid>,
    summary: Summary,
}

impl Planner {
    fn refuse(&mut self, what: impl fmt::Display, reason: impl fmt::Display) {
        self.invalid.push(Invalid { what: what.to_string(), reason: reason.to_string() });
    }

    fn nodes(&mut self, entries: &[Entry]) {
        for entry in entries {
            match self.node(entry) {
                Ok(()) => {}
                Err(reason) => self.refuse(format_args!("node {}", entry.label()), reason),
            }
        }
    }

    fn node(&mut self, entry: &Entry) -> Result<(), String> {
        let id = entry.node(&["id", "node_id"])?;
        if id.0 == 0 || id.0 as usize > self.nodes_max {
            return Err(format!("numbers lie between 1 and {}", self.nodes_max));
        }
        if self.nodes.contains_key(&id) {
            return Err("there is another entry with this number".to_owned());
        }
        let key = entry.key(&["public_key", "key"])?;
        self.admit(key)?;
        let mut fact = NodeFact::new(id, key, self.now);
        // It belongs to a fleet that runs: no stranger that a new directory forgets after a day.
        fact.last_seen_day = self.today();
        let what = format!("node {}", id.0);
        fact.public = entry.flag("public") || entry.text(&["visibility"]).is_some_and(|text| text == "public");
        fact.task_exec = entry.flag("task_exec");
        fact.relay_only = entry.flag("relay_only");
        fact.owner = entry.text(&["owner"]).unwrap_or_default();
        fact.version = entry.text(&["version"]).unwrap_or_default();
        for (text, name) in [(&mut fact.owner, "owner"), (&mut fact.version, "version")] {
            if text.len() > TEXT_BYTES_MAX {
                text.clear();
                self.refuse(&what, format_args!("{name} left out, as it is longer than {TEXT_BYTES_MAX} bytes"));
            }
        }
        // Taken from connections to the other registry, if it was an older one: it follows the node.
        if let Some(endpoint) = entry.text(&["real_addr", "endpoint"]).filter(|endpoint| !endpoint.is_empty()) {
            match Listen::parse(&endpoint) {
                Some(_) => (fact.endpoint, fact.endpoint_follows) = (endpoint, true),
                None => self.refuse(&what, format_args!("endpoint {endpoint:?} left out, as it is none")),
            }
        }
        fact.lan_addrs = entry.texts("lan_addrs");
        fact.lan_addrs.retain(|address| !address.contains(char::is_whitespace) && Listen::parse(address).is_some());
        match normalise_tags(&entry.texts("tags")) {
            Ok(tags) => fact.tags = tags,
            Err(error) => self.refuse(&what, format_args!("tags left out: {error}")),
        }
        if let Some(hostname) = entry.text(&["hostname"]).filter(|hostname| !hostname.is_empty()) {
            match (check_hostname(&hostname), self.hostnames.get(&hostname)) {
                (Err(error), _) => self.refuse(&what, format_args!("hostname {hostname:?} left out: {error}")),
                (Ok(()), Some(other)) => {
                    let reason = format!("hostname {hostname:?} left out, as node {} has it", other.0);
                    self.refuse(&what, reason);
                }
                (Ok(()), None) => {
                    self.hostnames.insert(hostname.clone(), id);
                    fact.hostname = Some(hostname);
                }
            }
        }
        for network in entry.numbers("networks") {
            match u16::try_from(network) {
                Ok(0) => {}
                Ok(network) => drop(self.said.insert((network, id))),
                Err(_) => self.refuse(&what, format_args!("{network} is no network")),
            }
        }
        self.by_key.insert(key, id);
        self.nodes.insert(id, fact);
        Ok(())
    }

    /// Whether `key` can be that of one more node.
    fn admit(&self, key: PublicKey) -> Result<(), String> {
        match self.by_key.get(&key) {
            Some(other) => Err(format!("node {} has the same key", other.0)),
            None if !is_identity(&key) => Err("the key is none of Ed25519".to_owned()),
            None => Ok(()),
        }
    }

    /// Keys that were given a number once: theirs when they come back, or those that nodes have replaced.
    fn keys(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Err(reason) = self.kept_key(entry) {
                self.refuse(format_args!("key {}", entry.label()), reason);
            }
        }
    }

    fn kept_key(&mut self, entry: &Entry) -> Result<(), String> {
        let (key, id) = entry.key_and_node()?;
        if self.by_key.get(&key) == Some(&id) {
            return Ok(());
        }
        if id.0 == 0 || id.0 as usize > self.nodes_max {
            return Err(format!("numbers lie between 1 and {}", self.nodes_max));
        }
        self.admit(key)?;
        match self.nodes.get(&id) {
            // Which of the two is newer, nobody can tell.
            Some(other) if !other.registered => return Err(format!("key {} has node {} already", other.key, id.0)),
            Some(_) => self.later.push(Change::KeyRetired(key, id)),
            None => {
                // Others may still trust the number: a stranger who knows the key must not come back in its place, and
                // silence must not free it.
                let (signs, last_seen_day) = (true, self.today());
                let fact = NodeFact { registered: false, signs, last_seen_day, ..NodeFact::new(id, key, self.now) };
                self.nodes.insert(id, fact);
            }
        }
        self.by_key.insert(key, id);
        Ok(())
    }

    /// The day on which all were there.
    fn today(&self) -> Option<u32> {
        u32::try_from(self.now / SECONDS_PER_DAY).ok()
    }

    fn registered(&self, id: NodeId) -> Result<NodeId, String> {
        let found = self.nodes.get(&id).is_some_and(|fact| fact.registered);
        if found { Ok(id) } else { Err(format!("node {} is not among the nodes", id.0)) }
    }

    fn networks(&mut self, entries: &[Entry]) {
        let mut names = HashSet::new();
        let mut taken = BTreeMap::new();
        for entry in entries {
            match self.network(entry, &names) {
                Ok(None) => {}
                Ok(Some((fact, members))) if !taken.contains_key(&fact.id) => {
                    names.insert(fact.name.to_ascii_lowercase());
                    taken.insert(fact.id, (fact, members));
                }
                Ok(Some(_)) => {
                    self.refuse(format_args!("network {}", entry.label()), "there is another with this number")
                }
                Err(reason) => self.refuse(format_args!("network {}", entry.label()), reason),
            }
        }
        for (network, node) in std::mem::take(&mut self.said) {
            match taken.get_mut(&network) {
                Some((_, members)) => drop(members.insert(node)),
                None => self.refuse(
                    format_args!("node {}", node.0),
                    format_args!("is in network {network}, which is not among the networks"),
                ),
            }
        }
        for (id, (fact, members)) in taken {
            self.summary.networks += 1;
            self.summary.members += members.len();
            self.later.push(Change::NetworkCreated(fact));
            self.later.extend(members.into_iter().map(|node| Change::Joined(id, node)));
        }
    }

    /// A network and its members; `None` for the backbone, where everyone is.
    fn network(
        &mut self,
        entry: &Entry,
        names: &HashSet<String>,
    ) -> Result<Option<(NetworkFact, BTreeSet<NodeId>)>, String> {
        let id = entry.number(&["id", "network_id"])?;
        let id = u16::try_from(id).map_err(|_| format!("{id} is no number of a network"))?;
        if id == 0 {
            return Ok(None);
        }
        let name = entry.text(&["name"]).unwrap_or_default();
        check_group_name(&name).map_err(|error| error.to_string())?;
        if names.contains(&name.to_ascii_lowercase()) {
            return Err(format!("there is another network called {name}"));
        }
        let token = entry.text(&["token"]).filter(|token| !token.is_empty());
        let rule = entry.text(&["join_rule"]).filter(|rule| !rule.is_empty()).unwrap_or_else(|| "open".to_owned());
        let join_rule: JoinRule =
            rule.parse().map_err(|()| format!("join rule {rule:?} is none of open, token, invite"))?;
        if join_rule == JoinRule::Token && token.is_none() {
            return Err("it is joined with a token, and has none".to_owned());
        }
        let mut members = BTreeSet::new();
        for member in entry.numbers("members") {
            match u32::try_from(member)
                .map_err(|_| format!("{member} is no node"))
                .and_then(|id| self.registered(NodeId(id)))
            {
                Ok(node) => drop(members.insert(node)),
                Err(reason) => self.refuse(format_args!("network {id}"), format_args!("a member left out: {reason}")),
            }
        }
        let said = self.said.range((id, NodeId(0))..=(id, NodeId(u32::MAX))).map(|(_, node)| *node);
        let creator = entry.node(&["creator", "created_by", "owner_id"]).and_then(|id| self.registered(id)).ok();
        // Whoever was there first has made it, as far as anybody can tell.
        let creator = creator.or_else(|| members.iter().copied().chain(said).min());
        let creator = creator.ok_or("nobody is in it, so nobody could ever invite or be asked")?;
        Ok(Some((
            NetworkFact {
                id,
                name,
                join_rule,
                token_digest: token.filter(|_| join_rule == JoinRule::Token).map(|token| Sha256::digest(token).into()),
                creator,
                created_at: self.now,
            },
            members,
        )))
    }

    /// A pair trusts each other, so each lets the other reach it.
    fn trust(&mut self, entries: &[Entry]) {
        let mut known = HashSet::new();
        for entry in entries {
            let pair = entry.pair().and_then(|(one, other)| Ok((self.registered(one)?, self.registered(other)?)));
            match pair {
                Ok((one, other)) if one == other => {
                    self.refuse(format_args!("trust {}", entry.label()), "a node with itself")
                }
                Ok((one, other)) => {
                    if known.insert((one.min(other), one.max(other))) {
                        self.summary.trust_pairs += 1;
                        self.later.push(Change::Trusted(TrustFact { truster: one, trusted: other }));
                        self.later.push(Change::Trusted(TrustFact { truster: other, trusted: one }));
                    }
                }
                Err(reason) => self.refuse(format_args!("trust {}", entry.label()), reason),
            }
        }
    }

    fn requests(&mut self, entries: &[Entry]) {
        let mut waiting: HashMap<NodeId, usize> = HashMap::new();
        let mut known = HashSet::new();
        for entry in entries {
            match self.request(entry) {
                Ok(fact) if !known.insert((fact.from, fact.to)) => {}
                Ok(fact) => {
                    let count = waiting.entry(fact.to).or_default();
                    *count += 1;
                    if *count > REQUESTS_MAX {
                        let what = format!("request {}", entry.label());
                        self.refuse(what, format_args!("more than {REQUESTS_MAX} wait for one node"));
                    } else {
                        self.summary.requests += 1;
                        self.later.push(Change::Requested(fact));
                    }
                }
                Err(reason) => self.refuse(format_args!("request {}", entry.label()), reason),
            }
        }
    }

    fn request(&self, entry: &Entry) -> Result<RequestFact, String> {
        let to = self.registered(entry.owner_or(&["to_node_id", "to"])?)?;
        let from = self.registered(entry.node(&["from_node_id", "from", "node_id"])?)?;
        let justification = entry.text(&["justification"]).unwrap_or_default();
        if justification.len() > JUSTIFICATION_BYTES_MAX {
            return Err(format!("its justification is longer than {JUSTIFICATION_BYTES_MAX} bytes"));
        }
        Ok(RequestFact { from, to, justification, at: self.now })
    }

    fn responses(&mut self, entries: &[Entry]) {
        let mut known = HashSet::new();
        for entry in entries {
            let response = || {
                let to = self.registered(entry.owner_or(&["to_node_id", "to"])?)?;
                let from = self.registered(entry.node(&["from_node_id", "from", "peer_id", "node_id"])?)?;
                let accept = entry.flag("accept") || entry.flag("accepted") || entry.flag("approved");
                Ok::<_, String>(ResponseFact { from, to, accept, at: self.now })
            };
            match response() {
                Ok(fact) if !known.insert((fact.from, fact.to)) => {}
                Ok(fact) => {
                    self.summary.responses += 1;
                    self.later.push(Change::Responded(fact));
                }
                Err(reason) => self.refuse(format_args!("response {}", entry.label()), reason),
            }
        }
    }

    /// Fills the gaps up to the highest number that was handed out.
    fn finish(mut self, next_node: Option<u64>) -> anyhow::Result<Plan> {
        let highest = self.nodes.last_key_value().map_or(0, |(id, _)| id.0);
        let handed_out = next_node.unwrap_or(0).saturating_sub(1).max(u64::from(highest));
        let Some(handed_out) = u32::try_from(handed_out).ok().filter(|last| *last as usize <= self.nodes_max) else {
            bail!("the snapshot has handed out {handed_out} numbers; a directory has {} at most", self.nodes_max);
        };
        let mut changes = Vec::with_capacity(handed_out as usize + self.later.len());
        for id in (1..=handed_out).map(NodeId) {
            let fact = self.nodes.remove(&id).unwrap_or_else(|| unused(id, self.now));
            match (fact.registered, self.by_key.contains_key(&fact.key)) {
                (true, _) => self.summary.nodes += 1,
                (false, true) => self.summary.kept_for_keys += 1,
                (false, false) => self.summary.unused_numbers += 1,
            }
            self.summary.hostnames += usize::from(fact.hostname.is_some());
            self.summary.tagged += usize::from(!fact.tags.is_empty());
            self.summary.public += usize::from(fact.public);
            changes.push(Change::Node(Box::new(fact)));
        }
        let searchable: Vec<Change> = changes.iter().filter_map(searchable).collect();
        changes.append(&mut self.later);
        changes.extend(searchable);
        Ok(Plan { changes, invalid: self.invalid, summary: self.summary })
    }
}

/// The words a node is found by.
fn searchable(change: &Change) -> Option<Change> {
    let Change::Node(fact) = change else { return None };
    let words = Searchable {
        node: fact.id,
        title: String::new(),
        tags: fact.tags.join(" "),
        hostname: fact.hostname.clone().unwrap_or_default(),
        text: String::new(),
    };
    (!words.is_empty()).then(|| Change::Searchable(Box::new(words)))
}

/// A number that nobody gets: its key fits no signature, and without one it cannot register.
fn unused(id: NodeId, now: u64) -> NodeFact {
    let key = |attempt: u32| Base64(Sha256::digest(format!("pilot-relay:unused:{}:{attempt}", id.0)).into());
    let key = (0..).map(key).find(|key| !is_identity(key)).expect("every second text is no point of the curve");
    NodeFact { registered: false, signs: true, ..NodeFact::new(id, key, now) }
}

#[cfg(test)]
mod tests;
