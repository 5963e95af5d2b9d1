//! Two nodes that talk while somebody between them cuts, changes, repeats and forges what he likes, on any path, and the
//! relay and the directory say anything at any time.
//!
//! A history is bytes, eight a step. Streams and datagrams carry content that tells who sent it and where in the stream
//! it stands, so whatever a node hands to its application is checked against what the other's application gave: the
//! reference is what was written. `agent/tests/model.rs` runs random histories; the fuzz target `agent_engine` lets
//! coverage choose them.

pub mod script;

#[path = "../node/world.rs"]
#[allow(dead_code, reason = "the stories of a node use more of it")]
mod world;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use agent::node::{Config, Event, StreamId, Ticket, Unanswered};
use wire::NodeId;
use wire::beacon::Message;
use wire::codec::Writer;
use wire::registry::Answer;

use script::{Source, Step};
use world::World;

/// The port that both nodes have bound.
const PORT: u16 = 1000;
/// What one history leaves open, streams and what they carry.
const STREAMS_MAX: usize = 24;
const WRITTEN_MAX: usize = 40_000;
/// The first byte of a datagram's content.
const DATAGRAM_MARK: u8 = 0xD6;

/// What one application wrote into one stream: a number of its own, then bytes that follow from it.
#[derive(Debug)]
struct Written {
    host: usize,
    len: usize,
}

/// One end of a stream, as its application sees it.
#[derive(Debug, Default)]
struct End {
    /// Which of [`Model::written`] it writes.
    writes: Option<u8>,
    /// Which it reads, known from the first byte, and how far.
    reads: Option<u8>,
    read: usize,
}

struct Model {
    world: World,
    ends: BTreeMap<(usize, StreamId), End>,
    written: Vec<Written>,
    /// Streams whose content somebody reads: nobody else may.
    read: BTreeSet<u8>,
    datagrams: BTreeSet<(usize, Vec<u8>)>,
    /// Every so many datagrams one is lost; 0 for none.
    loss: Rc<Cell<u32>>,
    restarted: [bool; 2],
    delivered: usize,
}

/// Runs one history; how many bytes came through streams.
///
/// # Panics
/// If a node does not do as it should; the panic's text says what was expected.
pub fn run(bytes: &[u8]) -> usize {
    let mut model = Model::new();
    for step in script::read(bytes) {
        model.step(&step);
        model.world.run_for(Duration::ZERO);
        model.look();
    }
    model.loss.set(0);
    model.world.directory_is_away = false;
    model.world.run_for(Duration::from_secs(20));
    model.look();
    model.delivered
}

impl Model {
    fn new() -> Self {
        let mut world = World::with_public_nodes(2);
        let loss = Rc::new(Cell::new(0));
        let (every, count) = (Rc::clone(&loss), Cell::new(0_u32));
        world.passes = Box::new(move |_, _| {
            count.set(count.get().wrapping_add(1));
            every.get() == 0 || !count.get().is_multiple_of(every.get())
        });
        for host in &mut world.hosts {
            host.node.bind(PORT).expect("a free port");
            host.events.clear();
        }
        Self {
            world,
            ends: BTreeMap::new(),
            written: Vec::new(),
            read: BTreeSet::new(),
            datagrams: BTreeSet::new(),
            loss,
            restarted: [false; 2],
            delivered: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        let now = self.world.now;
        match step {
            Step::Dial { host } => {
                let to = NodeId(2 - *host as u32).address();
                let to = wire::address::SocketAddress { address: to, port: PORT };
                if self.ends.len() < STREAMS_MAX
                    && let Ok(stream) = self.world.hosts[*host].node.dial(now, to)
                {
                    self.ends.insert((*host, stream), End::default());
                }
            }
            Step::Write { host, which, len } => self.write(*host, *which, *len),
            Step::Close { host, which, aborts } => {
                if let Some(stream) = self.stream(*host, *which) {
                    let node = &mut self.world.hosts[*host].node;
                    if *aborts { node.abort(now, stream) } else { node.close(now, stream) }
                }
            }
            Step::Datagram { host, content } => {
                let data = [&[DATAGRAM_MARK, *host as u8], &content[..]].concat();
                let to = wire::address::SocketAddress { address: NodeId(2 - *host as u32).address(), port: PORT };
                if self.world.hosts[*host].node.send_datagram(now, PORT, to, &data).is_ok() {
                    self.datagrams.insert((*host, data));
                }
            }
            Step::Pass(time) => self.world.run_for(*time),
            Step::Inject { host, which, change, source, wrapped } => {
                let Some((from, _, bytes)) = self.recorded(*which) else { return };
                let (from, mut bytes) = (*from, bytes.clone());
                // What travels to the relay comes from it as a delivery.
                if let Ok(Message::Relay { inner, .. }) = Message::decode(&bytes) {
                    bytes = inner.to_vec();
                }
                if let Some((place, bit)) = change
                    && !bytes.is_empty()
                {
                    let place = usize::from(*place) % bytes.len();
                    bytes[place] ^= 1 << (bit % 8);
                }
                self.inject(*host, *source, from, bytes, *wrapped);
            }
            Step::Bytes { host, source, wrapped, bytes } => {
                let from = self.world.hosts[1 - *host].endpoint;
                self.inject(*host, *source, from, bytes.clone(), *wrapped);
            }
            Step::Answer { host, ticket, error } => {
                let answer =
                    if *error { Ok(Answer::error(&"node not found")) } else { Err(Unanswered::Refused("no".into())) };
                self.world.hosts[*host].node.handle_answer(now, Ticket(u64::from(*ticket)), answer);
            }
            Step::Away(is_away) => self.world.directory_is_away = *is_away,
            Step::Loss(every) => self.loss.set(u32::from(*every)),
            Step::Unreachable { host, direct } => {
                let place = if *direct { self.world.hosts[1 - *host].endpoint } else { self.world.relay };
                self.world.hosts[*host].node.handle_unreachable(now, place);
            }
            Step::Restart { host } => self.restart(*host),
        }
    }

    fn recorded(&self, which: u8) -> Option<&(SocketAddr, SocketAddr, Vec<u8>)> {
        self.world.recorded.iter().rev().nth(usize::from(which) % self.world.recorded.len().max(1))
    }

    fn inject(&mut self, host: usize, source: Source, from: SocketAddr, mut bytes: Vec<u8>, wrapped: Option<u8>) {
        if let Some(sender) = wrapped {
            let mut buffer = vec![0; bytes.len() + 16];
            let mut writer = Writer::new(&mut buffer);
            Message::Deliver { sender: NodeId(u32::from(sender)), inner: &bytes }.encode(&mut writer);
            bytes = writer.written().to_vec();
        }
        let source = match source {
            Source::Same => from,
            Source::Relay => self.world.relay,
            Source::Stranger => "203.0.113.9:9999".parse().expect("an endpoint"),
        };
        let now = self.world.now;
        let received = self.world.hosts[host].node.counters().datagrams_received;
        self.world.hosts[host].node.handle_datagram(now, source, &mut bytes);
        assert_eq!(self.world.hosts[host].node.counters().datagrams_received, received + 1);
    }

    fn restart(&mut self, host: usize) {
        // A second time would start from the same chance.
        if std::mem::replace(&mut self.restarted[host], true) {
            return;
        }
        self.world.restart(host, Config { public: true, ..Config::default() });
        self.world.hosts[host].node.bind(PORT).expect("a free port");
        self.ends.retain(|(end, _), _| *end != host);
    }

    fn stream(&self, host: usize, which: u8) -> Option<StreamId> {
        let streams: Vec<_> = self.ends.keys().filter(|(end, _)| *end == host).collect();
        streams.get(usize::from(which) % streams.len().max(1)).map(|(_, stream)| *stream)
    }

    fn write(&mut self, host: usize, which: u8, len: usize) {
        let Some(stream) = self.stream(host, which) else { return };
        let end = self.ends.get_mut(&(host, stream)).expect("an end");
        let number = match end.writes {
            Some(number) => number,
            None => {
                let number = self.written.len() as u8;
                self.written.push(Written { host, len: 0 });
                *end.writes.insert(number)
            }
        };
        let written = &mut self.written[usize::from(number)];
        let until = (written.len + len).min(WRITTEN_MAX);
        let bytes: Vec<u8> = (written.len..until).map(|place| content(number, place)).collect();
        written.len += self.world.hosts[host].node.write(self.world.now, stream, &bytes);
    }

    /// Takes what the nodes hand out, all of which somebody must have given.
    fn look(&mut self) {
        for host in 0..2 {
            for event in std::mem::take(&mut self.world.hosts[host].events) {
                match event {
                    Event::Accepted { stream, port, .. } => {
                        assert_eq!(port, PORT);
                        self.ends.insert((host, stream), End::default());
                    }
                    Event::Datagram { data, port, .. } => {
                        let was_sent = self.datagrams.contains(&(1 - host, data.to_vec()));
                        assert!(was_sent && port == PORT, "a datagram that nobody has sent: {data:?}");
                    }
                    _ => {}
                }
            }
            assert!(self.world.hosts[host].node.peers().count() <= 8, "peers from nowhere");
        }
        let ends: Vec<_> = self.ends.keys().copied().collect();
        ends.into_iter().for_each(|(host, stream)| self.read(host, stream));
    }

    fn read(&mut self, host: usize, stream: StreamId) {
        let mut piece = [0; 4096];
        loop {
            let count = self.world.hosts[host].node.read(self.world.now, stream, &mut piece);
            if count == 0 {
                return;
            }
            let end = self.ends.get_mut(&(host, stream)).expect("an end");
            let number = match end.reads {
                Some(number) => number,
                None => {
                    assert!(self.read.insert(piece[0]), "what one stream carried came out of two");
                    *end.reads.insert(piece[0])
                }
            };
            let written = self.written.get(usize::from(number)).expect("somebody wrote it");
            assert_eq!(written.host, 1 - host, "written by the other");
            let expected: Vec<u8> = (end.read..end.read + count).map(|place| content(number, place)).collect();
            assert!(expected == piece[..count], "bytes that were not written, at {}", end.read);
            end.read += count;
            self.delivered += count;
            assert!(end.read <= written.len, "more than was written");
        }
    }
}

/// What stands at a place of a stream: first its number, then bytes that follow from it.
const fn content(number: u8, place: usize) -> u8 {
    if place == 0 { number } else { (place as u8).wrapping_mul(31) ^ number ^ (place >> 8) as u8 }
}
