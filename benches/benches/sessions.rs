//! The session table, and the candidate it was weighed against: a paged array indexed by node id.
//!
//! Every lookup is for another node, in an order the processor cannot foresee, so that a table larger than a cache
//! pays for it.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use benches::{Ids, Random, path};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use relay::endpoint::Path;
use relay::seqlock::SeqCell;
use relay::sessions::{Activity, Session, Sessions, Table};
use wire::NodeId;

const COUNTS: [u32; 3] = [1_000, 100_000, 1_000_000];
/// Lookups before their order repeats, at least.
const QUERIES_MIN: u32 = 1 << 16;
/// Beyond this the paged array takes more memory for sparse ids than a relay would ever be given.
const PAGED_SPARSE_MAX: u32 = 100_000;

fn session(node: NodeId) -> Session {
    Session { path: path(node), extended: false, claimed: false }
}

/// The relay's table with nodes 0 to `count`.
fn table(ids: Ids, count: u32) -> Arc<Table> {
    let table = Table::new(1, count as usize);
    let mut sessions = Sessions::new(Arc::clone(&table), 0);
    for node in (0..count).map(|index| ids.node(index)) {
        sessions.insert(node, session(node), Activity::default()).expect("the table is sized for them");
    }
    table
}

/// A paged array indexed by id: a directory of pages for the whole number space, pages from a pool of fixed size.
struct Paged {
    /// Page numbers plus one by id; 0 where no page is.
    directory: Box<[AtomicU32]>,
    pool: Box<[SeqCell<3>]>,
}

impl Paged {
    const PAGE_LEN: u32 = 256;

    fn new(ids: Ids, count: u32) -> Self {
        let page_of = |node: NodeId| node.0 / Self::PAGE_LEN;
        let mut used: Vec<u32> = (0..count).map(|index| page_of(ids.node(index))).collect();
        used.sort_unstable();
        used.dedup();
        let paged = Self {
            directory: (0..=u32::MAX / Self::PAGE_LEN).map(|_| AtomicU32::new(0)).collect(),
            pool: (0..used.len() * Self::PAGE_LEN as usize).map(|_| SeqCell::default()).collect(),
        };
        for (number, page) in (1..).zip(used) {
            paged.directory[page as usize].store(number, Ordering::Release);
        }
        for node in (0..count).map(|index| ids.node(index)) {
            paged.cell(node).expect("its page is there").write(node.0, to_words(node));
        }
        paged
    }

    fn cell(&self, node: NodeId) -> Option<&SeqCell<3>> {
        let page = self.directory[(node.0 / Self::PAGE_LEN) as usize].load(Ordering::Acquire).checked_sub(1)?;
        Some(&self.pool[(page * Self::PAGE_LEN + node.0 % Self::PAGE_LEN) as usize])
    }

    fn find(&self, node: NodeId) -> Option<[u64; 3]> {
        self.cell(node)?.read(node.0)
    }
}

fn to_words(node: NodeId) -> [u64; 3] {
    let Path { remote, local } = path(node);
    let ip = u128::from(remote.ip);
    [(ip >> 64) as u64, ip as u64, u64::from(remote.port) | u64::from(local.0) << 16]
}

/// Ids to look up: those that are there, or as many that are not.
fn queries(ids: Ids, count: u32, present: bool) -> impl FnMut() -> NodeId {
    let first = if present { 0 } else { count };
    let mut indices: Vec<u32> = (0..count.max(QUERIES_MIN)).map(|query| first + query % count).collect();
    Random::new(u64::from(count)).shuffle(&mut indices);
    let mut at = 0;
    move || {
        at = if at + 1 == indices.len() { 0 } else { at + 1 };
        ids.node(indices[at])
    }
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find");
    group.throughput(Throughput::Elements(1));
    for ids in [Ids::Dense, Ids::Sparse] {
        for count in COUNTS {
            let open = table(ids, count);
            let paged = (ids == Ids::Dense || count <= PAGED_SPARSE_MAX).then(|| Paged::new(ids, count));
            for (present, outcome) in [(true, "hit"), (false, "miss")] {
                let name = |table: &str| BenchmarkId::new(format!("{table}, {}, {outcome}", ids.name()), count);
                let mut next = queries(ids, count, present);
                assert_eq!(open.find(next()).is_some(), present);
                group.bench_function(name("open addressing"), |bencher| {
                    bencher.iter(|| open.find(black_box(next())));
                });
                let Some(paged) = &paged else { continue };
                assert_eq!(paged.find(next()).is_some(), present);
                group.bench_function(name("paged array"), |bencher| bencher.iter(|| paged.find(black_box(next()))));
            }
        }
    }
    group.finish();
}

fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("change");
    group.throughput(Throughput::Elements(1));
    for count in COUNTS {
        let table = Table::new(1, count as usize + 1);
        let mut sessions = Sessions::new(table, 0);
        for node in (0..count).map(|index| Ids::Dense.node(index)) {
            sessions.insert(node, session(node), Activity::default()).expect("the table is sized for them");
        }
        let mut next = queries(Ids::Dense, count, true);
        group.bench_function(BenchmarkId::new("find and move", count), |bencher| {
            bencher.iter(|| {
                let node = next();
                let (slot, session) = sessions.find_own(node).expect("it is there");
                sessions.update(slot, session);
            });
        });
        group.bench_function(BenchmarkId::new("remove and insert", count), |bencher| {
            bencher.iter(|| {
                let node = next();
                let (slot, session) = sessions.find_own(node).expect("it is there");
                sessions.remove(slot);
                sessions.insert(node, session, Activity::default()).is_ok()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, find, change);
criterion_main!(benches);
