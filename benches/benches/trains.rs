//! Grouping a batch by destination, for traffic that gains nothing by it, much, and most.

use benches::{Ids, Random, path};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use relay::endpoint::Path;
use relay::train::{Car, Trains};

/// Datagrams in one batch.
const BATCH: u32 = 1024;
const BYTES: usize = 256;
/// Different batches before their order repeats.
const BATCHES: u32 = 64;

fn group(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group");
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    let mut random = Random::new(1);
    let mut to = |peers: u32| path(Ids::Dense.node(random.below(peers)));
    let total = BATCH * BATCHES;
    let mut traffic: Vec<(&str, Vec<Path>)> = Vec::new();
    for peers in [1_000, 100_000] {
        let name = if peers == 1_000 { "random, 1 k peers" } else { "random, 100 k peers" };
        traffic.push((name, (0..total).map(|_| to(peers)).collect()));
    }
    traffic.push(("runs of 16", (0..total / 16).map(|_| to(1_000)).flat_map(|to| [to; 16]).collect()));
    traffic.push(("16 active", (0..total).map(|_| to(16)).collect()));
    for (name, destinations) in &traffic {
        let mut batches = destinations.chunks_exact(BATCH as usize).cycle();
        let mut trains = Trains::new(BATCH as usize);
        let mut batch = || {
            trains.clear();
            for (to, region) in batches.next().expect("a cycle has no end").iter().zip(0u32..) {
                trains.add(*to, Car { region, bytes: 0..BYTES }, false);
            }
            // The shard walks every train once to hand it to the ring.
            trains.trains().iter().map(|train| trains.cars(train).map(|car| car.region as usize).sum::<usize>()).sum()
        };
        let sum: usize = batch();
        assert_eq!(sum, (0..BATCH as usize).sum::<usize>(), "every datagram is in one train");
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| bencher.iter(&mut batch));
    }
    group.finish();
}

criterion_group!(benches, group);
criterion_main!(benches);
