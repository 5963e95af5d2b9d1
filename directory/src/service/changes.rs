//! What has happened to nodes, for those who follow it: a bounded memory of events with one sequence number, and who
//! may see which. Waiting for the next one is the driver's.
//!
//! Events are filed under the networks whose members they concern, and under the public; a question reads its own file
//! alone, and at most [`EXAMINED_MAX`] events of it. Nothing of this is on disk. Sequence numbers continue from the wall
//! clock at the start, so a cursor of an earlier process lies before all that this one remembers.

use std::collections::{BTreeSet, HashMap, VecDeque};

use wire::NodeId;
use wire::registry::answer::{Change, Happened};
use wire::registry::request::Changes;
use wire::registry::{Answer, Request};

use super::{Now, Refusal, Service};
use crate::facts::JoinRule;

/// Events remembered.
pub const EVENTS_MAX: usize = 65_536;
/// Events looked at for one answer.
pub const EXAMINED_MAX: usize = 4096;
/// Changes in one answer: some 40 KiB.
pub const CHANGES_MAX: usize = 512;
/// Cursors handed out per millisecond of the wall clock, as a power of two: more events than any directory has, and
/// small enough that JSON's floats hold every cursor until 2039.
const CURSOR_BITS: u32 = 12;

/// Who is concerned by an event, and what a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Public nodes: anyone's question.
    Public,
    /// Every node: the question of somebody known, who sees the nodes that admit it.
    Everyone,
    /// The members of a network.
    Network(u16),
}

/// Somebody whose question has been admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watcher {
    /// What it asks.
    pub topic: Topic,
    /// Who it is, proven by a signature.
    node: Option<NodeId>,
    admin: bool,
}

/// The events.
#[derive(Debug)]
pub(super) struct Feed {
    /// The last has the number `last`, the others those before.
    events: VecDeque<Event>,
    last: u64,
    public: VecDeque<u64>,
    by_network: HashMap<u16, VecDeque<u64>>,
    /// Events by which present members have joined, as far as they are remembered.
    joined: HashMap<(u16, NodeId), u64>,
    /// Topics with events since the driver asked.
    news: BTreeSet<Topic>,
}

#[derive(Debug)]
struct Event {
    what: Happened,
    node: NodeId,
    /// The network joined or left.
    network: Option<u16>,
    at: u64,
    /// The node was public.
    public: bool,
    /// The networks it is filed under.
    networks: Box<[u16]>,
}

impl Default for Feed {
    fn default() -> Self {
        // Cursor 0 means none.
        Self {
            events: VecDeque::new(),
            last: 1,
            public: VecDeque::new(),
            by_network: HashMap::new(),
            joined: HashMap::new(),
            news: BTreeSet::new(),
        }
    }
}

impl Feed {
    fn push(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.forget_oldest();
        }
        self.last += 1;
        self.news.insert(Topic::Everyone);
        if event.public {
            self.public.push_back(self.last);
            self.news.insert(Topic::Public);
        }
        for network in &event.networks {
            self.by_network.entry(*network).or_default().push_back(self.last);
            self.news.insert(Topic::Network(*network));
        }
        match (event.network, event.what) {
            (Some(network), Happened::Joined) => drop(self.joined.insert((network, event.node), self.last)),
            (Some(network), Happened::Left) => drop(self.joined.remove(&(network, event.node))),
            _ => {}
        }
        self.events.push_back(event);
    }

    fn forget_oldest(&mut self) {
        let number = self.start() + 1;
        let Some(event) = self.events.pop_front() else { return };
        if let Some(network) = event.network
            && self.joined.get(&(network, event.node)) == Some(&number)
        {
            self.joined.remove(&(network, event.node));
        }
        if event.public {
            self.public.pop_front();
        }
        for network in event.networks {
            let Some(file) = self.by_network.get_mut(&network) else { continue };
            file.pop_front();
            if file.is_empty() {
                self.by_network.remove(&network);
            }
        }
    }

    /// The cursor before the oldest event.
    fn start(&self) -> u64 {
        self.last - self.events.len() as u64
    }

    /// The events of `topic` after `cursor`, which lies within what is remembered, with their numbers.
    fn after(&self, topic: Topic, cursor: u64) -> Box<dyn Iterator<Item = (u64, &Event)> + '_> {
        let start = self.start();
        let filed = |file: &'_ VecDeque<u64>| file.partition_point(|number| *number <= cursor);
        let event = move |number: u64| self.events.get(usize::try_from(number - start - 1).ok()?);
        let file = match topic {
            Topic::Everyone => {
                return Box::new((cursor + 1..=self.last).filter_map(move |number| Some((number, event(number)?))));
            }
            Topic::Public => &self.public,
            Topic::Network(network) => match self.by_network.get(&network) {
                Some(file) => file,
                None => return Box::new(std::iter::empty()),
            },
        };
        Box::new(file.range(filed(file)..).filter_map(move |number| Some((*number, event(*number)?))))
    }
}

impl Service {
    /// Begins a sequence of changes that comes after those of earlier processes. Called once, before anything else.
    pub fn begin_changes(&mut self, unix_ms: u64) {
        self.feed.last = (unix_ms << CURSOR_BITS).max(self.feed.last);
        self.questions.begin(unix_ms / 1000);
    }

    /// The cursor of the latest event.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.feed.last
    }

    /// The topics of what has happened since the last call.
    pub fn take_news(&mut self) -> BTreeSet<Topic> {
        std::mem::take(&mut self.feed.news)
    }

    /// Something has happened to a node that exists.
    pub(super) fn changed(&mut self, now: Now, node: NodeId, what: Happened) {
        let networks = self.networks.of(node).collect();
        self.file(now, node, what, None, networks);
    }

    /// A node has joined or left a network.
    pub(super) fn changed_in(&mut self, now: Now, node: NodeId, what: Happened, network: u16) {
        self.file(now, node, what, Some(network), Box::new([network]));
    }

    fn file(&mut self, now: Now, node: NodeId, what: Happened, network: Option<u16>, networks: Box<[u16]>) {
        let public = self.nodes.find(node).is_ok_and(|node| node.fact.public);
        self.feed.push(Event { what, node, network, at: now.unix_seconds, public, networks });
    }

    /// Who asks, once the request's signature is known to be right: anyone about public nodes, somebody known about
    /// all that admit it, and about a network those who may list it.
    ///
    /// # Errors
    /// The network does not exist, or the asker may not follow it.
    pub fn watcher(&self, request: &Request, changes: &Changes) -> Result<Watcher, Refusal> {
        let admin = self.is_admin(request)?;
        let topic = match changes.network_id.filter(|network| *network != 0) {
            Some(network) => Topic::Network(network),
            None if admin || changes.requester_id.is_some() => Topic::Everyone,
            None => Topic::Public,
        };
        let watcher = Watcher { topic, node: changes.requester_id, admin };
        self.admit(&watcher)?;
        Ok(watcher)
    }

    /// What has happened after the cursor `after`, as far as `watcher` may see it; for cursor 0, the present cursor
    /// alone. Empty when there is nothing, or nothing yet: the answer's cursor then says how far was looked.
    ///
    /// # Errors
    /// The watcher may not see any of it any more.
    pub fn changes_after(&self, watcher: &Watcher, after: u64) -> Result<Answer, Refusal> {
        self.admit(watcher)?;
        let known = self.feed.start()..=self.feed.last;
        if after == 0 || !known.contains(&after) {
            return Ok(Answer::Changes { cursor: self.feed.last, reset: after != 0, changes: Vec::new() });
        }
        let after = match (watcher.topic, watcher.node) {
            (Topic::Network(network), Some(node)) if !watcher.admin => {
                after.max(self.member_since(network, node).saturating_sub(1))
            }
            _ => after,
        };
        let mut events = self.feed.after(watcher.topic, after);
        let (mut changes, mut cursor) = (Vec::new(), after);
        let sees = self.sight(watcher);
        for (number, event) in events.by_ref().take(EXAMINED_MAX) {
            cursor = number;
            if sees(number, event) {
                changes.push(self.told(event));
            }
            if changes.len() >= CHANGES_MAX {
                break;
            }
        }
        if events.next().is_none() {
            cursor = self.feed.last;
        }
        Ok(Answer::Changes { cursor, reset: false, changes })
    }

    pub(super) fn changes_since(&self, request: &Request, changes: &Changes) -> Result<Answer, Refusal> {
        self.changes_after(&self.watcher(request, changes)?, changes.after)
    }

    /// Holds for as long as a question waits: networks are left, and nodes deregister.
    fn admit(&self, watcher: &Watcher) -> Result<(), Refusal> {
        if let Some(node) = watcher.node {
            self.nodes.find(node)?;
        }
        match watcher.topic {
            Topic::Network(network) if !watcher.admin => self.may_follow(network, watcher.node),
            _ => Ok(()),
        }
    }

    /// Which events of its topic a watcher sees. What is the same for all of them is found out once.
    fn sight(&self, watcher: &Watcher) -> impl Fn(u64, &Event) -> bool + '_ {
        let Watcher { topic, node, admin } = *watcher;
        let everyone = topic == Topic::Everyone && !admin;
        let acquaintance = node.filter(|_| everyone).map(|own| self.acquaintance(own));
        move |number, event| {
            let Some(acquaintance) = &acquaintance else { return true };
            let shared =
                |network| acquaintance.shares([network]) && number >= self.member_since(network, acquaintance.own());
            event.public
                || event.node == acquaintance.own()
                || event.networks.iter().any(|network| shared(*network))
                || (event.network.is_none() && self.trusts(acquaintance, event.node))
        }
    }

    /// The first event of a network that `node`, a member, is told of: what was before it joined is not its to know,
    /// unless anybody may know it. 0 where all that is remembered came later.
    fn member_since(&self, network: u16, node: NodeId) -> u64 {
        match self.networks.join_rule(network) {
            Ok(JoinRule::Open) => 0,
            _ => self.feed.joined.get(&(network, node)).copied().unwrap_or_default(),
        }
    }

    fn told(&self, event: &Event) -> Change {
        let node = self.nodes.find(event.node).ok();
        Change {
            what: event.what,
            node_id: event.node,
            hostname: node.and_then(|node| node.fact.hostname.clone()),
            network_id: event.network,
            at: event.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_no_more_than_what_is_remembered() {
        let mut feed = Feed::default();
        for step in 0..EVENTS_MAX as u64 * 2 {
            let networks = if step.is_multiple_of(3) { Box::from([1, 2]) } else { Box::from([3]) };
            let (what, public) = (Happened::Joined, step.is_multiple_of(2));
            let node = NodeId(u32::try_from(step).unwrap());
            feed.push(Event { what, node, network: Some(3), at: step, public, networks });
        }
        let third = EVENTS_MAX / 3;
        let close = |length: usize, expected: usize| length.abs_diff(expected) <= 1;
        let length = |network| feed.by_network.get(&network).map_or(0, VecDeque::len);
        assert_eq!((feed.events.len(), feed.public.len()), (EVENTS_MAX, EVENTS_MAX / 2));
        assert!(close(length(1), third) && close(length(2), third) && close(length(3), EVENTS_MAX - third));

        let start = feed.start();
        let first = |topic| feed.after(topic, start).next().map(|(number, event)| (number - start, event.at));
        assert_eq!(first(Topic::Everyone), Some((1, EVENTS_MAX as u64)), "the one after the cursor");
        for (topic, fits) in [(Topic::Public, 2), (Topic::Network(2), 3)] {
            let events = feed.after(topic, start).map(|(_, event)| event.at);
            assert!(events.is_sorted() && feed.after(topic, start).all(|(_, event)| event.at % fits == 0));
        }
        for step in 0..EVENTS_MAX as u64 {
            let (what, node) = (Happened::Online, NodeId(1));
            feed.push(Event { what, node, network: None, at: step, public: false, networks: Box::default() });
        }
        assert!(
            feed.by_network.is_empty() && feed.joined.is_empty() && feed.public.is_empty(),
            "files of the forgotten go"
        );
    }
}
