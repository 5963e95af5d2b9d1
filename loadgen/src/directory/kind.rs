//! The kinds of requests that are timed, prepared before the load begins so that nothing is signed during it, and what
//! a right answer to each is.

use clap::ValueEnum;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};
use wire::NodeId;
use wire::registry::answer::Hit;
use wire::registry::capability::{Record, signed_text};
use wire::registry::request::Query;
use wire::registry::{self, Answer, Operation, Request};

use super::population::{Population, signed};
use super::vocabulary::Dice;

/// Requests prepared for one load; where only questions are asked they are repeated in turn.
pub const PREPARED_MAX: u64 = 60_000;
/// A longer error is cut.
const ERROR_CHARS_MAX: usize = 120;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What is publicly known of a node; not signed
    Lookup,
    /// The node behind a name; not signed
    ResolveHostname,
    /// Where a node is; signed by whoever asks
    Resolve,
    /// A sign of life; signed
    Heartbeat,
    /// Who can do what one to three words say, ten hits; not signed
    Query,
    /// The same, signed by whoever asks
    SignedQuery,
    /// 40 % heartbeats, 20 % lookups, 20 % resolves, 10 % names, 10 % signed queries
    Mix,
    /// A new capability record in the place of a node's older one; signed and stored
    Publish,
    /// A node that was never there; signed and stored, so the directory grows
    Register,
}

impl Kind {
    /// All, those that change nothing first.
    pub const ALL: [Self; 9] = [
        Self::Lookup,
        Self::ResolveHostname,
        Self::Resolve,
        Self::Heartbeat,
        Self::Query,
        Self::SignedQuery,
        Self::Mix,
        Self::Publish,
        Self::Register,
    ];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::ResolveHostname => "resolve-hostname",
            Self::Resolve => "resolve",
            Self::Heartbeat => "heartbeat",
            Self::Query => "query",
            Self::SignedQuery => "signed-query",
            Self::Mix => "mix",
            Self::Publish => "publish",
            Self::Register => "register",
        }
    }

    /// Whether each request is made once only, since a second one would change nothing.
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Publish | Self::Register)
    }

    /// Whether it asks for records.
    #[must_use]
    pub const fn needs_records(self) -> bool {
        matches!(self, Self::Query | Self::SignedQuery | Self::Publish)
    }
}

/// A request, ready to be written.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// With its length in front.
    pub framed: Box<[u8]>,
    /// Which of the worker's connections it has to take: that of the node which signs it.
    pub connection: usize,
    /// What has to come back.
    pub expected: Expected,
}

/// What a right answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The answer's type on the wire.
    kind: &'static str,
    /// The node it is about, if it is about one.
    node: Option<NodeId>,
}

/// The nodes that a worker speaks for, and whom it may ask about.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// All nodes.
    pub population: &'a Population,
    /// Their numbers, by index.
    pub ids: &'a [NodeId],
    /// Connections in all; a node has its home on connection `index % connections`.
    pub connections: usize,
    /// The worker, who has the connections `worker`, `worker + workers` and so on.
    pub worker: usize,
    /// Workers.
    pub workers: usize,
}

/// What must not repeat from one load to the next.
#[derive(Clone, Copy, Debug)]
pub struct Novelty<'a> {
    /// Nodes that nobody knows yet.
    pub strangers: &'a Population,
    /// The first of them that is free.
    pub stranger_first: u32,
    /// Higher than the serial of any record so far.
    pub serial_first: u64,
}

impl Known<'_> {
    /// Prepares `count` requests of `kind`; `dice` choose who asks what.
    #[must_use]
    pub fn prepare(&self, kind: Kind, count: u64, dice: &mut Dice, novelty: &Novelty<'_>) -> Vec<Prepared> {
        (0..count).map(|number| self.prepare_one(kind, number, dice, novelty)).collect()
    }

    fn prepare_one(&self, kind: Kind, number: u64, dice: &mut Dice, novelty: &Novelty<'_>) -> Prepared {
        let kind = match kind {
            Kind::Mix => match dice.below(10) {
                0..4 => Kind::Heartbeat,
                4..6 => Kind::Lookup,
                6..8 => Kind::Resolve,
                8 => Kind::ResolveHostname,
                _ => Kind::SignedQuery,
            },
            kind => kind,
        };
        let (connection, asking) = self.draw_own(dice);
        let other = dice.below(self.ids.len() as u32);
        let (asking_id, other_id) = (self.ids[asking as usize], self.ids[other as usize]);
        let sign = |operation| signed(&self.population.key(asking), operation);
        let query = |dice: &mut Dice, requester_id| {
            Operation::Query(Query { requester_id, text: self.population.vocabulary.wanted(dice), ..Query::default() })
        };
        let (request, node): (Request, _) = match kind {
            Kind::Lookup => (Operation::Lookup { node_id: other_id }.into(), Some(other_id)),
            Kind::ResolveHostname => {
                (Operation::ResolveHostname { hostname: self.population.hostname(other) }.into(), Some(other_id))
            }
            Kind::Resolve => (sign(Operation::Resolve { node_id: other_id, requester_id: asking_id }), Some(other_id)),
            Kind::Heartbeat => {
                (sign(Operation::Heartbeat { node_id: asking_id, report: None, bans_since: None }), None)
            }
            Kind::Query => (query(dice, None).into(), None),
            Kind::SignedQuery => (sign(query(dice, Some(asking_id))), None),
            Kind::Publish => {
                let serial = novelty.serial_first + number;
                (self.population.publish(asking, asking_id, serial), Some(asking_id))
            }
            Kind::Register => {
                let first = novelty.stranger_first + self.worker as u32;
                (novelty.strangers.register(first + number as u32 * self.workers as u32), None)
            }
            Kind::Mix => unreachable!("drawn above"),
        };
        let mut framed = Vec::new();
        registry::push_message(&mut framed, &request);
        let expected = Expected { kind: answer_type(&request.operation), node };
        Prepared { framed: framed.into(), connection, expected }
    }

    /// A connection of this worker, by its position among them, and a node at home there.
    fn draw_own(&self, dice: &mut Dice) -> (usize, u32) {
        let own = (self.connections - self.worker).div_ceil(self.workers);
        let position = dice.below(own as u32) as usize;
        let first = self.worker + position * self.workers;
        let at_home = (self.ids.len() - first).div_ceil(self.connections);
        (position, first as u32 + dice.below(at_home as u32) * self.connections as u32)
    }
}

/// What an answer that was looked at closely showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is the right one.
    Right,
    /// It is the right one, and has so many hits.
    Hits(usize),
}

impl Expected {
    /// Whether `message` begins as an answer of the right type: all that is looked at when the load is high.
    #[must_use]
    pub fn is_likely(&self, message: &[u8]) -> bool {
        let rest = message.strip_prefix(br#"{"type":""#).and_then(|rest| rest.strip_prefix(self.kind.as_bytes()));
        rest.is_some_and(|rest| rest.starts_with(b"\""))
    }

    /// Reads the whole of `message`, and checks the signature of the first hit.
    ///
    /// # Errors
    /// What is wrong: the directory's own error text, cleaned of numbers, or ours.
    pub fn inspect(&self, message: &[u8]) -> Result<Seen, String> {
        let answer = Answer::decode(message).map_err(|error| clean(&error.to_string()))?;
        let about = match &answer {
            Answer::Error { error } => return Err(clean(error)),
            Answer::Lookup(found) => Some(found.node_id),
            Answer::Resolve(resolved) => Some(resolved.node_id),
            Answer::ResolveHostname { node_id, .. } | Answer::PublishCapability { node_id, .. } => Some(*node_id),
            Answer::Query { hits } => {
                let first = hits.first().map_or(Ok(()), check_hit);
                return first.map(|()| Seen::Hits(hits.len()));
            }
            _ => None,
        };
        match self.node {
            Some(node) if about != Some(node) => Err("the answer is about another node".to_owned()),
            _ if self.is_likely(message) => Ok(Seen::Right),
            _ => Err("the answer is of another type".to_owned()),
        }
    }
}

/// Whether the node itself has signed what a hit says.
fn check_hit(hit: &Hit) -> Result<(), String> {
    let (Some(record), Some(signature)) = (&hit.record, &hit.signature) else {
        return if hit.record.is_some() { Err("a hit's record has no signature".to_owned()) } else { Ok(()) };
    };
    let decoded = Record::decode(record).map_err(|error| clean(&error.to_string()))?;
    let text = signed_text(hit.node_id, record);
    let fits = VerifyingKey::from_bytes(&hit.public_key.0)
        .is_ok_and(|key| key.verify_strict(text.as_bytes(), &signature.0.into()).is_ok());
    match fits && decoded.node == hit.node_id && decoded.public_key == hit.public_key {
        true => Ok(()),
        false => Err("a hit's record is not signed by its node".to_owned()),
    }
}

/// An error as it is counted: numbers differ from node to node, control characters are not for terminals.
fn clean(text: &str) -> String {
    let mut clean = String::new();
    for character in text.chars().filter(|character| !character.is_control()).take(ERROR_CHARS_MAX) {
        match character {
            '0'..='9' if clean.ends_with('#') => {}
            '0'..='9' => clean.push('#'),
            other => clean.push(other),
        }
    }
    clean
}

/// The type of the answer to `operation`.
const fn answer_type(operation: &Operation) -> &'static str {
    match operation {
        Operation::Register(_) => "register_ok",
        Operation::Heartbeat { .. } => "heartbeat_ok",
        Operation::Lookup { .. } => "lookup_ok",
        Operation::Resolve { .. } => "resolve_ok",
        Operation::ResolveHostname { .. } => "resolve_hostname_ok",
        Operation::PublishCapability { .. } => "publish_capability_ok",
        Operation::Query(_) => "query_ok",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [NodeId; 7] = [NodeId(11), NodeId(12), NodeId(13), NodeId(14), NodeId(15), NodeId(16), NodeId(17)];

    fn prepared(kind: Kind, worker: usize) -> Vec<(Prepared, Operation)> {
        let (population, strangers) = (Population::new(1), Population::new(2));
        let known = Known { population: &population, ids: &IDS, connections: 5, worker, workers: 2 };
        let novelty = Novelty { strangers: &strangers, stranger_first: 10, serial_first: 100 };
        let prepared = known.prepare(kind, 60, &mut Dice::new(1, 1), &novelty);
        let decode = |prepared: Prepared| {
            let (message, rest) = registry::split_message(&prepared.framed).unwrap().unwrap();
            assert!(rest.is_empty());
            let operation = Request::decode(message).unwrap().operation;
            (prepared, operation)
        };
        prepared.into_iter().map(decode).collect()
    }

    #[test]
    fn a_node_signs_on_its_own_connection_alone() {
        for worker in [0, 1] {
            for (prepared, operation) in prepared(Kind::Heartbeat, worker) {
                let index = operation.signer().unwrap().0 as usize - 11;
                assert_eq!(index % 5, worker + prepared.connection * 2, "{operation:?}");
            }
        }
    }

    #[test]
    fn writes_do_not_repeat() {
        for kind in [Kind::Publish, Kind::Register] {
            let mut all: Vec<_> = [0, 1].into_iter().flat_map(|worker| prepared(kind, worker)).collect();
            let count = all.len();
            all.sort_by(|(a, _), (b, _)| a.framed.cmp(&b.framed));
            all.dedup_by(|(a, _), (b, _)| a.framed == b.framed);
            assert_eq!(all.len(), count, "{kind:?}");
        }
    }

    #[test]
    fn a_mix_has_a_bit_of_everything() {
        let names: std::collections::BTreeSet<_> =
            prepared(Kind::Mix, 0).iter().map(|(_, operation)| operation.name()).collect();
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            ["heartbeat", "lookup", "query", "resolve", "resolve_hostname"]
        );
    }

    #[test]
    fn answers_are_judged() {
        let about = |node| Expected { kind: "resolve_hostname_ok", node: Some(NodeId(node)) };
        let answer =
            br#"{"type":"resolve_hostname_ok","node_id":7,"address":"0:0000.0000.0007","public":true,"hostname":"a"}"#;
        assert!(about(7).is_likely(answer) && !about(7).is_likely(b"{\"type\":\"resolve_hostname_okay\"}"));
        assert_eq!(about(7).inspect(answer), Ok(Seen::Right));
        assert_eq!(about(8).inspect(answer), Err("the answer is about another node".to_owned()));
        let refused = "{\"type\":\"error\",\"error\":\"node 123: \\u001b[2Jnode not found\"}";
        assert_eq!(about(7).inspect(refused.as_bytes()), Err("node #: [#Jnode not found".to_owned()));
        let heartbeat = Expected { kind: "heartbeat_ok", node: None };
        assert_eq!(heartbeat.inspect(answer), Err("the answer is of another type".to_owned()));
    }

    #[test]
    fn a_hit_must_be_signed_by_its_node() {
        let population = Population::new(1);
        let hit = |forged: bool| {
            let Request { operation, signature, .. } = population.publish(0, NodeId(7), 1);
            let Operation::PublishCapability { mut record, .. } = operation else { panic!("{operation:?}") };
            if forged {
                record = record.replacen("\"version\":\"1.0\"", "\"version\":\"1.1\"", 1);
            }
            serde_json::json!({"type": "query_ok", "hits": [{"node_id": 7, "address": "0:0000.0000.0007",
                "score": 1000, "online": true, "record": record, "signature": signature.unwrap().to_string(),
                "public_key": wire::registry::Base64(population.key(0).verifying_key().to_bytes()).to_string()}]})
            .to_string()
        };
        let expected = Expected { kind: "query_ok", node: None };
        assert_eq!(expected.inspect(hit(false).as_bytes()), Ok(Seen::Hits(1)));
        assert_eq!(expected.inspect(hit(true).as_bytes()), Err("a hit's record is not signed by its node".to_owned()));
    }
}
