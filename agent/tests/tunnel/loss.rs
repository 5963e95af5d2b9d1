//! Bad links: whatever they do, a packet arrives at most once, unchanged, and nodes find each other.

use std::collections::HashSet;
use std::time::Duration;

use super::world::{GOOD, Link, World, seconds};

const BAD: Link =
    Link { loss: 25, duplication: 25, delay: Duration::from_millis(20), jitter: Duration::from_millis(200) };
const SEEDS: u64 = 100;

fn payload(from: u32, number: u32) -> Vec<u8> {
    [from.to_be_bytes(), number.to_be_bytes()].concat()
}

#[test]
fn a_bad_link_repeats_nothing_and_invents_nothing() {
    let mut arrived = 0;
    for seed in 0..SEEDS {
        let mut world = World::with_seed(2, BAD, seed);
        for number in 0..100 {
            world.send(1, 2, &payload(1, number));
            world.send(2, 1, &payload(2, number));
            let pause = world.draw(100);
            world.pass(Duration::from_millis(pause));
        }
        world.pass(seconds(30));
        for (from, to) in [(1, 2), (2, 1)] {
            let received = world.take_received(to);
            let distinct: HashSet<_> = received.iter().collect();
            assert_eq!(distinct.len(), received.len(), "seed {seed}: a packet twice");
            assert!(received.iter().all(|(peer, bytes)| *peer == from && (0..100).any(|n| payload(from, n) == *bytes)));
            arrived += received.len();
        }
        assert!(world.is_connected(1, 2) && world.is_connected(2, 1), "seed {seed}");
        world.link = GOOD;
        world.pass(seconds(1));
        assert!(world.talks(1, 2), "seed {seed}");
    }
    let sent = SEEDS as usize * 200;
    assert!(arrived > sent * 65 / 100, "{arrived} of {sent}");
}

#[test]
fn restarts_on_a_bad_link_are_survived() {
    for seed in 0..SEEDS {
        let mut world = World::with_seed(2, BAD, seed);
        for _ in 0..10 {
            let (node, pause) = (1 + world.draw(2) as u32, world.draw(5_000));
            world.send(1, 2, b"x");
            world.send(2, 1, b"y");
            world.pass(Duration::from_millis(pause));
            world.start(node);
        }
        world.link = GOOD;
        world.send(1, 2, b"x");
        world.send(2, 1, b"y");
        world.pass(seconds(10));
        assert!(world.talks(1, 2), "seed {seed}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    let run = |seed| {
        let mut world = World::with_seed(3, BAD, seed);
        for (from, to) in [(1, 2), (2, 3), (3, 1), (1, 3)] {
            world.send(from, to, b"x");
            world.pass(seconds(3));
        }
        world.pass(seconds(60));
        world.tap
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
