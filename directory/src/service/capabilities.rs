//! Capability records: signed by their node, kept as they came, found by what they say.
//!
//! A record is decided on here, its signature outside like any other. The newest of a node is kept, also when it takes
//! the one before back, so that serials only grow. Searching is done outside too: this file says what to look for, and
//! picks from what was found whom the asker may see.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use wire::NodeId;
use wire::address::Address;
use wire::registry::answer::{Happened, Hit};
use wire::registry::capability::Record;
use wire::registry::names::normalise_tags;
use wire::registry::request::{QUERY_LIMIT, QUERY_LIMIT_MAX, Query};
use wire::registry::{Answer, Request, Signature};

use super::nodes::Node;
use super::reach::Acquaintance;
use super::{Caller, Now, PRESENCE_TIMEOUT, Refusal, Service};
use crate::facts::{CapabilityFact, Change, JoinRule, Searchable};
use crate::search::words::Terms;
use crate::search::{Asker, Breadth, Candidate, Found, Search};

/// How far a serial may be ahead of the clock. A node whose clock is wrong by more would lock itself out.
const SERIAL_AHEAD_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// Private nodes looked at for a question without words. Whoever shares networks with more of them names one network.
const PRIVATE_LISTED_MAX: usize = 20_000;
/// Of what was found, looked at before others have their turn: well below a millisecond.
const EXAMINED_MAX: usize = 2048;
/// Searches further down for those whom the asker may see.
const STEPS_MAX: usize = 6;
/// The score of the best.
const SCORE_MAX: u64 = 1000;

/// The last record of each node.
#[derive(Debug, Default)]
pub(super) struct Capabilities {
    by_node: HashMap<NodeId, Capability>,
    /// Public nodes that offer something, by when they were last seen.
    public: BTreeSet<(Duration, NodeId)>,
    /// What the records take of memory, about, and may.
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Capability {
    fact: CapabilityFact,
    /// Zero: not since the start.
    seen: Duration,
    public: bool,
}

impl Capabilities {
    pub(super) fn new(facts: Vec<CapabilityFact>, bytes_max: usize, is_public: impl Fn(NodeId) -> bool) -> Self {
        let mut this = Self { bytes_max, ..Self::default() };
        for fact in facts {
            let public = is_public(fact.node);
            this.put(fact, Duration::ZERO, public);
        }
        this
    }

    /// What `node` offers at present.
    pub(super) fn offered(&self, node: NodeId) -> Option<&CapabilityFact> {
        self.by_node.get(&node).map(|capability| &capability.fact).filter(|fact| !fact.withdrawn)
    }

    /// `node` has given a sign of life at `at`.
    pub(super) fn saw(&mut self, node: NodeId, at: Duration) {
        // To the second is near enough.
        self.change(node, |capability| {
            if capability.seen.as_secs() != at.as_secs() {
                capability.seen = at;
            }
        });
    }

    fn set_public(&mut self, node: NodeId, public: bool) {
        self.change(node, |capability| capability.public = public);
    }

    fn put(&mut self, fact: CapabilityFact, seen: Duration, public: bool) {
        let node = fact.node;
        let seen = self.by_node.get(&node).map_or(seen, |before| before.seen.max(seen));
        self.public.remove(&(self.by_node.get(&node).map_or(seen, |before| before.seen), node));
        let capability = Capability { fact, seen, public };
        if capability.is_listed() {
            self.public.insert((seen, node));
        }
        self.bytes += capability.fact.bytes();
        if let Some(before) = self.by_node.insert(node, capability) {
            self.bytes -= before.fact.bytes();
        }
    }

    /// Whether `fact` may take the place of the one before: also a smaller one, when memory is used up.
    fn fits(&self, fact: &CapabilityFact) -> bool {
        let before = self.by_node.get(&fact.node).map_or(0, |before| before.fact.bytes());
        fact.bytes() <= before || self.bytes - before + fact.bytes() <= self.bytes_max
    }

    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Capability)) {
        let Some(capability) = self.by_node.get_mut(&node) else { return };
        let before = (capability.seen, capability.is_listed());
        change(capability);
        let after = (capability.seen, capability.is_listed());
        if before != after {
            self.public.remove(&(before.0, node));
            if after.1 {
                self.public.insert((after.0, node));
            }
        }
    }
}

impl Capability {
    const fn is_listed(&self) -> bool {
        self.public && !self.fact.withdrawn
    }
}

/// Whom somebody who asks may see besides public nodes.
struct Circle {
    admin: bool,
    acquaintance: Option<Acquaintance>,
}

/// What to do about a query.
pub(super) enum Planned {
    Search(Search),
    Pick(Found),
    Answer(Answer),
}

impl Service {
    /// Puts a record in the place of the one before. `signature` is its own, and has been checked.
    pub(super) fn publish_capability(
        &mut self,
        now: Now,
        node: NodeId,
        text: &str,
        signature: Signature,
    ) -> Result<Answer, Refusal> {
        let record = Record::decode(text)?;
        let serial = record.serial;
        if record.node != node {
            return Err(Refusal::RecordOfAnother { record: record.node, node });
        }
        let found = self.nodes.find(node)?;
        if record.public_key != found.fact.key {
            return Err(Refusal::RecordKey(node));
        }
        let public = found.fact.public;
        let newest = now.unix_seconds.saturating_mul(1000).saturating_add(SERIAL_AHEAD_MAX_MS);
        if serial > newest {
            return Err(Refusal::RecordAhead { serial, newest });
        }
        if let Some(stored) = self.capabilities.by_node.get(&node).map(|capability| &capability.fact) {
            if serial == stored.serial && *stored.record == *text {
                return Ok(Answer::PublishCapability { node_id: node, serial });
            }
            if serial <= stored.serial {
                return Err(Refusal::RecordReplayed { serial, stored: stored.serial });
            }
        }
        let fact = CapabilityFact {
            node,
            serial,
            withdrawn: record.withdrawn,
            record: text.into(),
            tags: normalise_tags(&record.tags)?,
            signature,
        };
        if !self.capabilities.fits(&fact) {
            return Err(Refusal::RecordsFull);
        }
        // Nobody can have seen it before.
        self.saw(node, now);
        self.keep_capability(now, fact, now.monotonic, public);
        Ok(Answer::PublishCapability { node_id: node, serial })
    }

    /// What `node` has offered no longer stands: its key or its registration has ended. The serial stays.
    pub(super) fn void_capability(&mut self, now: Now, node: NodeId) {
        let Some(capability) = self.capabilities.by_node.get(&node) else { return };
        let fact =
            CapabilityFact { withdrawn: true, record: Arc::from(""), tags: Vec::new(), ..capability.fact.clone() };
        let (seen, public) = (capability.seen, capability.public);
        self.keep_capability(now, fact, seen, public);
    }

    /// The one place where what a node offers changes.
    fn keep_capability(&mut self, now: Now, fact: CapabilityFact, seen: Duration, public: bool) {
        let node = fact.node;
        let offered = self.capabilities.offered(node).is_some();
        let offers = !fact.withdrawn;
        self.changes.push(Change::Capability(Box::new(fact.clone())));
        self.capabilities.put(fact, seen, public);
        self.set_words(node);
        if offered != offers && self.nodes.find(node).is_ok_and(|node| node.life.is_present()) {
            self.presence.offers(offers);
        }
        if offered || offers {
            self.changed(now, node, if offers { Happened::Published } else { Happened::Withdrawn });
        }
    }

    /// A node's name, tags, visibility or registration has changed.
    pub(super) fn follow_node(&mut self, node: NodeId, public: bool, words_changed: bool) {
        self.capabilities.set_public(node, public);
        if words_changed {
            self.set_words(node);
        }
    }

    /// Works out anew by which words `node` is found.
    fn set_words(&mut self, node: NodeId) {
        let fact = self.nodes.find(node).ok().map(|node| &node.fact);
        let words = Searchable::of(node, fact, self.capabilities.offered(node));
        self.changes.push(Change::Searchable(Box::new(words)));
    }

    /// What has to be looked for to answer `query`, or the answer where nothing has.
    pub(super) fn plan_query(
        &mut self,
        now: Now,
        caller: &Caller<'_>,
        request: &Request,
        query: &Query,
        signed: bool,
    ) -> Result<Planned, Refusal> {
        if let Some(requester) = query.requester_id {
            self.authenticate(now, caller, request, requester, signed)?;
        }
        let asker = Asker { node: query.requester_id, admin: self.is_admin(request)? };
        let tags = normalise_tags(&query.tags)?;
        let network = query.network_id.filter(|network| *network != 0);
        if let Some(network) = network {
            self.admit_to_list(asker, network)?;
        }
        let terms = Terms::of(&query.text);
        let nothing_said = terms.is_empty() && !query.text.trim().is_empty();
        if nothing_said {
            return Ok(Planned::Answer(Answer::Query { hits: Vec::new() }));
        }
        if terms.is_empty() && (tags.is_empty() || network.is_some() || query.node_id.is_some()) {
            return Ok(Planned::Answer(self.list(now, query, asker, &tags)));
        }
        if terms.is_empty() && tags.iter().all(|tag| tag.bytes().all(|byte| byte == b'-')) {
            return Err(Refusal::TagsWithoutLetters);
        }
        Ok(Planned::Search(Search {
            terms,
            breadth: Breadth::All,
            tags,
            network,
            node: query.node_id,
            below: None,
            asker,
            narrower: Vec::new(),
            picked: Vec::new(),
            steps: 0,
            spent: Duration::ZERO,
        }))
    }

    /// Picks the answer from what was found, or says where else to look.
    pub(super) fn pick(&self, now: Now, query: &Query, found: Found) -> Result<Planned, Refusal> {
        let Found { mut search, mut candidates, more } = found;
        if let Some(requester) = search.asker.node {
            self.nodes.find(requester)?;
        }
        let circle = self.circle(search.asker);
        let (limit, worded) = (limit(query), !search.terms.is_empty());
        let rest = candidates.split_off(candidates.len().min(EXAMINED_MAX));
        let known: HashSet<NodeId> =
            search.narrower.iter().chain(&search.picked).map(|candidate| candidate.node).collect();
        let sees = |candidate: &Candidate| self.pickable(now, query, &circle, &search.tags, candidate.node);
        let fresh = candidates.into_iter().filter(|candidate| !known.contains(&candidate.node));
        let fresh = fresh.filter(|candidate| sees(candidate).is_some());
        // In the order of relevance, the first are enough; in that of time, any may be among the newest.
        let wanted = if worded { limit - known.len() } else { usize::MAX };
        let fresh: Vec<_> = fresh.take(wanted).collect();
        search.picked.extend(fresh);
        if !worded {
            search.picked.sort_by_cached_key(|candidate| self.age(candidate.node));
            search.picked.truncate(limit);
        }
        let open = search.narrower.len() + search.picked.len() < limit;
        if !rest.is_empty() && (open || !worded) {
            return Ok(Planned::Pick(Found { search, candidates: rest, more }));
        }
        if open && more.is_some() && search.steps < STEPS_MAX {
            return Ok(Planned::Search(Search { below: more, steps: search.steps + 1, ..search }));
        }
        if open && search.terms.any.len() > 1 && search.breadth == Breadth::All {
            let narrower = std::mem::take(&mut search.picked);
            return Ok(Planned::Search(Search { breadth: Breadth::Any, below: None, narrower, ..search }));
        }
        // Others may have had their turn since they were picked.
        let seen = |picked: &[Candidate]| -> Vec<(Candidate, &Node)> {
            picked
                .iter()
                .filter_map(|candidate| {
                    let node = self.pickable(now, query, &circle, &search.tags, candidate.node)?;
                    Some((*candidate, node))
                })
                .collect()
        };
        let (narrower, here) = (seen(&search.narrower), seen(&search.picked));
        if !worded {
            return Ok(Planned::Answer(self.newest_first(
                now,
                query,
                here.into_iter().map(|(_, node)| node).collect(),
            )));
        }
        // Those with all words in the upper half, so that nobody with some of them comes before.
        let split = if narrower.is_empty() { SCORE_MAX } else { SCORE_MAX / 2 };
        let upper = scored(&narrower, SCORE_MAX / 2 + 1, SCORE_MAX);
        let hits = upper.into_iter().chain(scored(&here, 1, split));
        Ok(Planned::Answer(Answer::Query {
            hits: hits.map(|(node, score)| self.hit(now, query, node, score)).collect(),
        }))
    }

    /// Everybody who offers something, the most recently seen first.
    fn list(&self, now: Now, query: &Query, asker: Asker, tags: &[String]) -> Answer {
        let circle = self.circle(asker);
        let sees = |node: NodeId| self.pickable(now, query, &circle, tags, node);
        let nodes = match (query.node_id, query.network_id) {
            (Some(node), _) => sees(node).into_iter().collect(),
            (None, Some(network)) if network != 0 => self.networks.members(network).filter_map(sees).collect(),
            _ if asker.admin => self.capabilities.by_node.keys().copied().filter_map(sees).collect(),
            _ => {
                // Once one of them is away, so are all that follow.
                let away = |seen: Duration| now.monotonic.saturating_sub(seen) >= PRESENCE_TIMEOUT;
                let public = self.capabilities.public.iter().rev();
                let public = public.take_while(|(seen, _)| query.offline || !away(*seen));
                let public = public.filter_map(|(_, node)| sees(*node)).take(limit(query));
                let private = asker.node.into_iter().flat_map(|asker| self.private_for(asker));
                let private = private.filter_map(sees).filter(|node| !node.fact.public);
                public.chain(private).collect()
            }
        };
        self.newest_first(now, query, nodes)
    }

    /// Nodes that `asker` may reach though they are private, some of them more than once.
    fn private_for(&self, asker: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let members = self.networks.of(asker).flat_map(|network| self.networks.members(network));
        let mut seen = HashSet::new();
        std::iter::once(asker)
            .chain(self.trust.trusters_of(asker))
            .chain(members)
            .take(PRIVATE_LISTED_MAX)
            .filter(move |node| seen.insert(*node))
    }

    fn newest_first(&self, now: Now, query: &Query, mut nodes: Vec<&Node>) -> Answer {
        nodes.sort_by_key(|node| self.age(node.fact.id));
        let nodes = nodes.into_iter().take(limit(query));
        Answer::Query { hits: nodes.map(|node| self.hit(now, query, node, 0)).collect() }
    }

    /// In order: the most recently seen first.
    fn age(&self, node: NodeId) -> (Reverse<Option<u64>>, NodeId) {
        (Reverse(self.nodes.find(node).ok().and_then(Node::last_seen_unix_seconds)), node)
    }

    fn circle(&self, asker: Asker) -> Circle {
        Circle { admin: asker.admin, acquaintance: asker.node.map(|node| self.acquaintance(node)) }
    }

    /// `node`, if `query` asks for such and the asker may see it.
    fn pickable(&self, now: Now, query: &Query, circle: &Circle, tags: &[String], node: NodeId) -> Option<&Node> {
        let found = self.nodes.find(node).ok()?;
        let offered = self.capabilities.offered(node);
        let said = !query.text.trim().is_empty() || !tags.is_empty();
        let tagged = |tag| found.fact.tags.contains(tag) || offered.is_some_and(|offered| offered.tags.contains(tag));
        let fits = (query.offline || found.is_online(now))
            && (said || offered.is_some())
            && query.node_id.is_none_or(|wanted| wanted == node)
            && query.network_id.is_none_or(|network| network == 0 || self.networks.is_member(network, node))
            && tags.iter().all(tagged);
        let seen = || {
            circle.admin
                || found.fact.public
                || circle.acquaintance.as_ref().is_some_and(|acquaintance| self.is_acquainted(acquaintance, node))
        };
        (fits && seen()).then_some(found)
    }

    /// Who may see who is in `network`: as with `list_nodes`.
    fn admit_to_list(&self, asker: Asker, network: u16) -> Result<(), Refusal> {
        let open = self.networks.join_rule(network)? == JoinRule::Open;
        let member = asker.node.is_some_and(|asker| self.networks.is_member(network, asker));
        if open || member || asker.admin { Ok(()) } else { Err(Refusal::MembersAlone(network)) }
    }

    fn hit(&self, now: Now, query: &Query, node: &Node, score: u32) -> Hit {
        let fact = &node.fact;
        let offered = self.capabilities.offered(fact.id);
        Hit {
            node_id: fact.id,
            address: Address { network: query.network_id.unwrap_or(0), node: fact.id },
            hostname: fact.hostname.clone(),
            score,
            online: node.is_online(now),
            last_seen: node.last_seen_unix_seconds(),
            tags: fact.tags.clone(),
            public_key: fact.key,
            record: offered.map(|offered| offered.record.to_string()),
            signature: offered.map(|offered| offered.signature),
        }
    }
}

fn limit(query: &Query) -> usize {
    usize::from(if query.limit == 0 { QUERY_LIMIT } else { query.limit.min(QUERY_LIMIT_MAX) })
}

/// Scores from `most` for the best down to `least`, in proportion to relevance.
fn scored<'a>(picked: &[(Candidate, &'a Node)], least: u64, most: u64) -> Vec<(&'a Node, u32)> {
    let best = u128::from(picked.first().map_or(1, |(candidate, _)| candidate.relevance.max(1)));
    let score = |relevance: u64| {
        let part = u128::from(relevance) * u128::from(most - least) / best;
        u32::try_from(u128::from(least) + part).unwrap_or(u32::MAX)
    };
    picked.iter().map(|(candidate, node)| (*node, score(candidate.relevance).max(1))).collect()
}
