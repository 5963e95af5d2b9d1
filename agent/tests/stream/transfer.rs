//! How fast bytes get across, by the simulated clock.

use std::time::Duration;

use agent::Time;
use agent::stream::{Algorithm, Config};

use crate::link::Conditions;
use crate::world::{Ours, World};

const MS: Duration = Duration::from_millis(1);
const GIGABIT: u64 = 1_000_000_000;

/// One transfer of `bytes`; panics unless all of it arrives within a minute.
fn transfer(
    name: &str,
    conditions: Conditions,
    config: Config,
    bytes: u64,
    seed: u64,
) -> (Duration, World<Ours, Ours>) {
    let mut world = World::new(conditions, seed, vec![(Ours::new(config, bytes), Ours::new(config, 0))]);
    let start = world.now;
    world.pairs[0].0.connect(start);
    let done = world.run(Time(60_000_000_000), |world| world.pairs[0].1.read == bytes);
    let elapsed = world.now.since(start);
    let metrics = world.pairs[0].0.stream().metrics();
    println!(
        "{name}, {:?}, seed {seed}: {:.1} MB in {:.3} s = {:.1} Mbit/s; {} sent again, {} needlessly, {} timeouts, {} overflowed",
        config.algorithm,
        bytes as f64 / 1e6,
        elapsed.as_secs_f64(),
        bytes as f64 * 8.0 / 1e6 / elapsed.as_secs_f64(),
        metrics.retransmissions,
        metrics.spurious_retransmissions,
        metrics.timeouts,
        world.there.overflowed,
    );
    assert!(done, "{name}, seed {seed}: {} of {bytes} bytes; {metrics:?}", world.pairs[0].1.read);
    (elapsed, world)
}

fn cubic() -> Config {
    Config { algorithm: Algorithm::Cubic, ..Config::default() }
}

#[test]
fn five_megabytes_over_30_ms() {
    let conditions = Conditions::clean(GIGABIT, 15 * MS);
    for config in [Config::default(), cubic()] {
        let (elapsed, world) = transfer("clean", conditions, config, 5_000_000, 1);
        assert!(elapsed < Duration::from_secs(1));
        assert_eq!(world.pairs[0].0.stream().metrics().retransmissions, 0);
    }
}

#[test]
fn five_megabytes_with_two_percent_lost() {
    let conditions = Conditions { lost_per_mille: 20, ..Conditions::clean(GIGABIT, 15 * MS) };
    for seed in 0..20 {
        let (elapsed, _) = transfer("2 % lost", conditions, Config::default(), 5_000_000, seed);
        assert!(elapsed < Duration::from_secs(2), "seed {seed}: {elapsed:?}");
    }
    transfer("2 % lost", conditions, cubic(), 5_000_000, 1);
}

#[test]
fn bandwidth_and_delay_are_followed() {
    let conditions = Conditions::clean(GIGABIT / 10, 40 * MS);
    let (elapsed, world) = transfer("100 Mbit/s, 80 ms", conditions, Config::default(), 100_000_000, 1);
    let used = world.there.carried_bytes as f64 * 8.0 / elapsed.as_secs_f64() / 1e8;
    println!("100 Mbit/s, 80 ms: {:.1} % used, the start included", used * 100.0);
    assert!(used >= 0.9);
    let sent = world.data_segments as f64 / (100_000_000.0 / 1152.0);
    assert!(sent < 1.02, "the use is not made of retransmissions: {sent}");
}

#[test]
fn reordering_is_not_loss() {
    let conditions =
        Conditions { reordered_per_mille: 100, reordering: 6 * MS, ..Conditions::clean(GIGABIT / 10, 15 * MS) };
    for seed in 0..5 {
        let (_, world) = transfer("10 % reordered", conditions, Config::default(), 10_000_000, seed);
        let again = world.pairs[0].0.stream().metrics().retransmissions;
        assert!(again * 100 < world.data_segments, "seed {seed}: {again} of {}", world.data_segments);
    }
}

#[test]
fn a_slow_link_with_a_short_queue() {
    let conditions = Conditions { queue_bytes: 8_000, ..Conditions::clean(2_000_000, 25 * MS) };
    let (elapsed, _) = transfer("2 Mbit/s, 32 ms of queue", conditions, Config::default(), 1_000_000, 1);
    assert!(elapsed < Duration::from_secs(6));
}

#[test]
fn two_streams_share_a_bottleneck() {
    let conditions = Conditions::clean(GIGABIT / 50, 15 * MS);
    for config in [Config::default(), cubic()] {
        let pair = || (Ours::new(config, u64::MAX / 2), Ours::new(config, 0));
        let mut world = World::new(conditions, 1, vec![pair(), pair()]);
        world.pairs[0].0.connect(Time(0));
        world.run(Time(2_000_000_000), |_| false);
        let joined_at = Time(2_000_000_000);
        world.now = joined_at;
        world.pairs[1].0.connect(joined_at);
        let before = world.pairs[0].1.read;
        let mut marks = vec![(before, 0)];
        for second in [12, 22, 32] {
            world.run(Time(second * 1_000_000_000), |_| false);
            marks.push((world.pairs[0].1.read, world.pairs[1].1.read));
        }
        let shares: Vec<f64> = marks
            .windows(2)
            .map(|mark| {
                let (x, y) = ((mark[1].0 - mark[0].0) as f64, (mark[1].1 - mark[0].1) as f64);
                println!("{:?}: {:.1} and {:.1} Mbit/s", config.algorithm, x * 8.0 / 1e7, y * 8.0 / 1e7);
                (x + y).powi(2) / (2.0 * (x * x + y * y))
            })
            .collect();
        let (x, y) = ((marks[3].0 - before) as f64, marks[3].1 as f64);
        let jain = (x + y).powi(2) / (2.0 * (x * x + y * y));
        println!(
            "{:?}: Jain {jain:.3} over 30 s beside a stream that was there before; by 10 s {shares:.3?}",
            config.algorithm
        );
        assert!(jain >= 0.9);
    }
}
