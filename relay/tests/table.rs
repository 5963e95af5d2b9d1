//! The session table against a map from the standard library: random histories of one shard's part, compared after
//! every step; and against a reader that watches slots change hands. What holds in every interleaving is checked by the
//! loom models in the library.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use relay::Time;
use relay::endpoint::{LocalId, Path};
use relay::sessions::{Activity, Full, Session, Sessions, Table, slots_per_shard};
use wire::NodeId;

const SHARDS: usize = 2;
const SESSIONS_MAX: usize = 40;
/// Slots looked at for one id, as the table documents.
const PROBES_MAX: u32 = 128;

/// A session that tells whose it is: the node's id is in its address, `version` is its port.
fn session(node: NodeId, version: u16) -> Session {
    let ip = Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(node.0) << 16 | u128::from(node.0));
    let remote = SocketAddr::from((ip, version)).into();
    Session {
        path: Path { remote, local: LocalId(version % 7) },
        extended: version % 2 == 1,
        claimed: version % 3 == 1,
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Begins the node's session, or replaces it.
    Put(NodeId, u16),
    Remove(NodeId),
    /// Looks at so many slots and ends what is older than the second number.
    Sweep(usize, u64),
}

/// Ids of shard 1: dense ones, ones that all have the same home, and ones from the far end of the number space.
fn node() -> impl Strategy<Value = NodeId> {
    let homes = slots_per_shard(SHARDS, SESSIONS_MAX) as u32 * 3 / 4;
    prop_oneof![
        4 => (0..40u32).prop_map(|index| 2 * index + 1),
        3 => (0..40u32).prop_map(move |index| 2 * homes * index + 2 * (homes - 1) + 1),
        1 => (0..40u32).prop_map(|index| u32::MAX - 2 - 2 * index),
    ]
    .prop_map(NodeId)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (node(), any::<u16>()).prop_map(|(node, version)| Step::Put(node, version)),
        3 => node().prop_map(Step::Remove),
        1 => (0..60usize, 0..400u64).prop_map(|(count, older)| Step::Sweep(count, older)),
    ]
}

/// The table and what it should hold.
struct Pair {
    table: Arc<Table>,
    sessions: Sessions,
    model: BTreeMap<NodeId, (Session, Time)>,
}

impl Pair {
    fn new() -> Self {
        let table = Table::new(SHARDS, SESSIONS_MAX);
        Self { sessions: Sessions::new(Arc::clone(&table), 1), table, model: BTreeMap::new() }
    }

    fn apply(&mut self, step: Step, now: Time) {
        match step {
            Step::Put(node, version) => self.put(node, session(node, version), now),
            Step::Remove(node) => {
                let found = self.sessions.find_own(node);
                assert_eq!(found.is_some(), self.model.remove(&node).is_some());
                if let Some((slot, _)) = found {
                    self.sessions.remove(slot);
                }
            }
            Step::Sweep(count, older) => self.sweep(count, Time(older)),
        }
    }

    fn put(&mut self, node: NodeId, session: Session, now: Time) {
        match self.sessions.find_own(node) {
            Some((slot, _)) => {
                self.sessions.update(slot, session);
                self.sessions.activity(slot).seen = now;
            }
            None => {
                let full = self.model.len() >= self.sessions.slots() * 3 / 4;
                let inserted = self.sessions.insert(node, session, Activity { seen: now, ..Activity::default() });
                assert_eq!(inserted.err(), full.then_some(Full));
                if full {
                    return;
                }
            }
        }
        self.model.insert(node, (session, now));
    }

    fn sweep(&mut self, count: usize, older: Time) {
        let model = &mut self.model;
        let ended = self.sessions.sweep(count, |node, _, activity| {
            let (_, seen) = model[&node];
            assert_eq!(activity.seen, seen, "a session keeps its own activity");
            seen < older && model.remove(&node).is_some()
        });
        if count >= self.sessions.slots() {
            assert!(self.model.values().all(|(_, seen)| *seen >= older), "a full round leaves nothing that expired");
        }
        assert!(ended <= count);
    }

    fn check(&mut self, node: NodeId) {
        let expected = self.model.get(&node).map(|(session, _)| *session);
        assert_eq!(self.table.find(node), expected, "what other shards see of {node:?}");
        let own = self.sessions.find_own(node);
        assert_eq!(own.map(|(_, session)| session), expected);
        if let Some((slot, _)) = own {
            assert_eq!(self.sessions.activity(slot).seen, self.model[&node].1);
        }
    }

    fn check_all(&mut self) {
        assert_eq!(self.sessions.live(), self.model.len());
        for node in self.model.keys().copied().collect::<Vec<_>>() {
            self.check(node);
            assert_eq!(self.table.find(NodeId(node.0 - 1)), None, "the other shard's part is untouched");
        }
    }
}

proptest! {
    #[test]
    fn the_table_holds_what_a_map_would(steps in prop::collection::vec(step(), 1..400), probe in node()) {
        let mut pair = Pair::new();
        for (now, step) in (0..).map(Time).zip(steps) {
            pair.apply(step, now);
            pair.check(probe);
            pair.check_all();
        }
    }
}

#[test]
fn colliding_ids_are_found_as_far_as_the_search_goes_and_refused_beyond() {
    let table = Table::new(1, 1000);
    let mut sessions = Sessions::new(Arc::clone(&table), 0);
    let homes = sessions.slots() as u32 * 3 / 4;
    let colliding = |index: u32| NodeId(7 + homes * index);
    for index in 0..PROBES_MAX {
        sessions.insert(colliding(index), session(colliding(index), 1), Activity::default()).unwrap();
    }
    let beyond = colliding(PROBES_MAX);
    assert_eq!(sessions.insert(beyond, session(beyond, 1), Activity::default()), Err(Full));
    assert!((0..PROBES_MAX).all(|index| table.find(colliding(index)) == Some(session(colliding(index), 1))));
    let (slot, _) = sessions.find_own(colliding(3)).unwrap();
    sessions.remove(slot);
    assert!(sessions.insert(beyond, session(beyond, 1), Activity::default()).is_ok(), "a free slot is used again");
    assert_eq!(table.find(colliding(3)), None);
    assert_eq!(table.find(beyond), Some(session(beyond, 1)));
}

#[test]
fn sparse_ids_find_room_among_dense_ones() {
    let table = Table::new(1, 4096);
    let mut sessions = Sessions::new(Arc::clone(&table), 0);
    let dense = (1..=2048).map(NodeId);
    // An odd factor permutes the numbers of 32 bits.
    let sparse = (1..=512u32).map(|index| NodeId(index.wrapping_mul(0x9E37_79B1)));
    for node in dense.chain(sparse) {
        assert!(sessions.insert(node, session(node, 1), Activity::default()).is_ok(), "no room for {node:?}");
        assert_eq!(table.find(node), Some(session(node, 1)));
    }
}

#[test]
fn every_promised_session_fits_with_dense_ids() {
    for shards in [1, 2, 3, 8] {
        for sessions_max in [1, 7, 1000, 4096] {
            let table = Table::new(shards, sessions_max);
            for shard in 0..shards {
                let mut sessions = Sessions::new(Arc::clone(&table), shard);
                let share = sessions_max.div_ceil(shards) as u32;
                for index in 1..=share {
                    let node = NodeId(index * shards as u32 + shard as u32);
                    sessions.insert(node, session(node, 1), Activity::default()).unwrap_or_else(|Full| {
                        panic!("{shards} shards, {sessions_max} sessions: no {index} of {share}")
                    });
                }
            }
        }
    }
}

#[test]
fn a_reader_never_gets_another_nodes_endpoint() {
    const ROUNDS: u32 = 200_000;
    let table = Table::new(1, 16);
    let mut sessions = Sessions::new(Arc::clone(&table), 0);
    let homes = sessions.slots() as u32 * 3 / 4;
    // Three nodes with one home share the first slots in turn.
    let nodes = [1, 1 + homes, 1 + 2 * homes].map(NodeId);
    let done = AtomicBool::new(false);
    let (seen, _) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = [0u64; 3];
            while !done.load(Ordering::Relaxed) {
                for (node, seen) in nodes.into_iter().zip(&mut seen) {
                    if let Some(found) = table.find(node) {
                        assert_eq!(
                            found,
                            session(node, found.path.remote.port),
                            "a packet to {node:?} would go astray"
                        );
                        *seen += 1;
                    }
                }
            }
            seen
        });
        let writer = scope.spawn(|| {
            for round in 0..ROUNDS {
                let node = nodes[round as usize % nodes.len()];
                match sessions.find_own(node) {
                    Some((slot, _)) => sessions.remove(slot),
                    None => {
                        let activity =
                            Activity { seen: Time::default() + Duration::from_secs(1), ..Activity::default() };
                        sessions.insert(node, session(node, round as u16), activity).unwrap();
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        (reader.join().unwrap(), writer.join().unwrap())
    });
    assert!(seen.iter().sum::<u64>() > 0, "the reader has met sessions");
}

/// Who follows the changes ends up with what the table holds, however much happened in between.
#[test]
fn changes_tell_of_every_slot_once_and_of_what_it_holds_last() {
    let table = relay::sessions::Table::new(1, 64);
    let mut sessions = relay::sessions::Sessions::new(table, 0);
    sessions.note_changes();
    let path = |port| relay::Path {
        remote: relay::Endpoint { ip: std::net::Ipv6Addr::LOCALHOST, port },
        local: relay::endpoint::LocalId(0),
    };
    let session = |port| relay::sessions::Session { path: path(port), extended: false, claimed: false };
    let slots: Vec<_> = (1..=3)
        .map(|node| sessions.insert(wire::NodeId(node), session(1), relay::sessions::Activity::default()).unwrap())
        .collect();
    for port in 2..100 {
        sessions.update(slots[0], session(port));
    }
    sessions.remove(slots[1]);
    sessions.set_grade(slots[2], relay::sessions::Grade::ProvenAddress);
    assert_eq!(sessions.changes(), 3, "each slot once");
    let held: Vec<_> = std::iter::from_fn(|| sessions.poll_change()).map(|change| change.held).collect();
    let first = held[0].unwrap();
    assert_eq!((first.node, first.session), (wire::NodeId(1), session(99)));
    assert!(held[1].is_none());
    assert_eq!(held[2].unwrap().activity.grade, relay::sessions::Grade::ProvenAddress);
    // The same again is no change; another grain of hearing is one.
    sessions.set_grade(slots[2], relay::sessions::Grade::ProvenAddress);
    sessions.note_heard(slots[2], relay::Time(1));
    assert_eq!(sessions.changes(), 0);
    sessions.note_heard(slots[2], relay::Time(60_000_000_000));
    assert_eq!(sessions.changes(), 1);
}
