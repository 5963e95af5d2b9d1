//! Packets to nobody: what they cost, how long that lasts, and what it leaves to others.

use std::time::Duration;

use relay::admission::Budget;
use relay::metrics::DropReason;
use relay::server::{Action, Rules};
use wire::NodeId;

use super::world::World;

const ALICE: &str = "198.18.1.1:4001";
/// Behind Alice's address.
const NEIGHBOUR: &str = "198.18.1.1:4003";
const BOB: &str = "198.18.1.2:4002";
/// No such node.
const NOBODY: u32 = 3_000_000;

/// Packets a second.
const BUDGET: usize = 10_000;
const BURST: usize = BUDGET / 5;
/// So short that at its rate a budget grows by one packet.
const STEP: Duration = Duration::from_micros(100);
const STEPS_PER_SECOND: usize = 10_000;
/// A packet to nobody costs a sender that sends it after many others, and a prefix, so many.
const COST: usize = 17;
const PREFIX_COST: usize = 5;

/// One shard with Alice, Bob and a neighbour of Alice's, and these budgets of senders and prefixes.
fn world(sender: usize, prefix: usize) -> World {
    let budget = |per_second: usize| Budget::new(per_second as u64, per_second as u64 / 5);
    let rules = Rules { sender_packets: budget(sender), prefix_packets: budget(prefix), ..Rules::default() };
    let mut world = World::with_rules(rules, 1, 4096);
    world.membership.set_authority(true);
    for (node, place) in [(1, ALICE), (2, BOB), (3, NEIGHBOUR)] {
        world.membership.publish(NodeId(node), &[], None);
        world.discover(place, node);
    }
    world.take_sent();
    world
}

/// What became of a second of packets, `per_second` of them, one step after the other.
#[derive(Debug, Default, PartialEq, Eq)]
struct Second {
    forwarded: usize,
    looked_for: usize,
    refused: usize,
}

/// `whose` says for each packet who sends it from where, and to whom.
fn second(world: &mut World, per_second: usize, mut whose: impl FnMut(usize) -> (u32, String, u32)) -> Second {
    let mut seen = Second::default();
    for step in 0..STEPS_PER_SECOND {
        for number in step * per_second / STEPS_PER_SECOND..(step + 1) * per_second / STEPS_PER_SECOND {
            let (sender, place, dest) = whose(number);
            match world.relay(&place, sender, dest, b"x") {
                Action::Forward { .. } => seen.forwarded += 1,
                Action::Drop(DropReason::UnknownDestination) => seen.looked_for += 1,
                Action::Drop(DropReason::SenderBudget | DropReason::PrefixBudget) => seen.refused += 1,
                other => panic!("{other:?}"),
            }
        }
        world.pass(STEP);
    }
    seen
}

fn flood(world: &mut World, per_second: usize) -> Second {
    second(world, per_second, |_| (1, ALICE.to_owned(), NOBODY))
}

/// Within a twentieth.
#[track_caller]
fn assert_about(value: usize, expected: usize, what: &str) {
    let off = value.abs_diff(expected);
    assert!(off <= expected / 20 + 1, "{what}: {value}, not about {expected}");
}

#[test]
fn a_flood_to_nobody_gets_a_seventeenth_of_the_senders_budget_as_long_as_it_lasts() {
    for per_second in [BUDGET, BUDGET + BUDGET / 2, 4 * BUDGET] {
        let mut world = world(BUDGET, 100 * BUDGET);
        let first = flood(&mut world, per_second);
        assert!(first.looked_for < 40 + (BUDGET + BURST) / COST, "{per_second}/s, the first second: {first:?}");
        for number in 2..=4 {
            let seen = flood(&mut world, per_second);
            assert_about(seen.looked_for, BUDGET / COST, &format!("{per_second}/s, second {number}"));
        }
    }
}

/// Below the budget too: what counts is what the packets cost.
#[test]
fn a_run_to_nobody_is_served_whole_up_to_a_seventeenth_of_the_budget() {
    let mut world = world(BUDGET, 100 * BUDGET);
    for _ in 0..3 {
        let seen = flood(&mut world, BUDGET / COST - 1);
        assert_eq!((seen.looked_for, seen.refused), (BUDGET / COST - 1, 0));
    }
    for _ in 0..3 {
        flood(&mut world, BUDGET / 2);
    }
    assert_about(flood(&mut world, BUDGET / 2).looked_for, BUDGET / COST, "half the budget");
}

/// Ten ids in turn, each with a budget that it never uses up.
#[test]
fn a_flood_to_nobody_from_many_ids_gets_a_fifth_of_the_budget_of_their_prefix() {
    let crowd = |number: usize| (1000 + number as u32 % 10, format!("198.18.6.6:{}", 10_000 + number % 10));
    for per_second in [BUDGET, BUDGET + BUDGET / 2, 4 * BUDGET] {
        let mut world = world(100 * BUDGET, BUDGET);
        for (node, place) in (0..10).map(crowd) {
            world.membership.publish(NodeId(node), &[], None);
            world.discover(&place, node);
        }
        for number in 1..=4 {
            let seen = second(&mut world, per_second, |number| {
                let (node, place) = crowd(number);
                (node, place, NOBODY)
            });
            let burst = if number == 1 { BURST / PREFIX_COST } else { 0 };
            let what = format!("{per_second}/s, second {number}");
            assert_about(seen.looked_for, BUDGET / PREFIX_COST + burst, &what);
        }
        assert!(matches!(world.relay(ALICE, 1, 2, b"x"), Action::Forward { .. }), "another prefix");
    }
}

/// Every tenth packet goes to a peer that has vanished: such a node may send its whole budget, and its prefix, of which
/// ten packets take fourteen, ten fourteenths of that.
#[test]
fn a_node_some_of_whose_peers_have_vanished_is_refused_nothing() {
    let mixed = |number: usize| (1, ALICE.to_owned(), if number.is_multiple_of(10) { NOBODY } else { 2 });
    for (sender, prefix, per_second) in [(BUDGET, 100 * BUDGET, BUDGET), (100 * BUDGET, BUDGET, BUDGET * 10 / 14 - 10)]
    {
        let mut world = world(sender, prefix);
        for _ in 0..4 {
            let seen = second(&mut world, per_second, mixed);
            assert_eq!((seen.looked_for, seen.refused), (per_second.div_ceil(10), 0), "{seen:?}");
        }
    }
}

/// What is owed does not grow with the flood.
#[test]
fn a_sender_relays_again_seventeen_packets_time_after_its_flood() {
    let mut world = world(BUDGET, 100 * BUDGET);
    for _ in 0..3 {
        flood(&mut world, 4 * BUDGET);
    }
    let silence = Duration::from_secs(1) / BUDGET as u32 * COST as u32;
    world.pass(silence);
    assert!(matches!(world.relay(ALICE, 1, 2, b"x"), Action::Forward { .. }), "after {silence:?}");
    let seen = second(&mut world, BUDGET - 1, |_| (1, ALICE.to_owned(), 2));
    assert_eq!((seen.forwarded, seen.refused), (BUDGET - 1, 0), "at its rate from then on");
}

/// A peer that vanishes in the middle of a transfer and comes back.
#[test]
fn a_transfer_goes_on_as_soon_as_its_peer_is_back() {
    let mut world = world(BUDGET, 100 * BUDGET);
    world.membership.publish(NodeId(4), &[], None);
    let per_second = BUDGET / 2;
    let transfer = |_| (1, ALICE.to_owned(), 4);
    let vanished = second(&mut world, per_second, transfer);
    assert!(vanished.refused > per_second / 2, "{vanished:?}");
    world.discover("198.18.1.4:4004", 4);
    world.take_sent();
    let back = second(&mut world, per_second, transfer);
    assert!(back.refused <= COST && back.looked_for == 0, "{back:?}");
}

/// As far as anybody can tell, who forges Alice's endpoint and id is Alice. Her neighbours pay for no more of it than her
/// budget lets through.
#[test]
fn a_flood_in_one_nodes_name_leaves_its_neighbours_their_prefixs_budget() {
    // In each turn the flood is first.
    const TURNS_PER_SECOND: usize = 1_000;
    let mut world = world(BUDGET, 2 * BUDGET);
    for _ in 0..3 {
        let mut refused = 0;
        for _ in 0..TURNS_PER_SECOND {
            for _ in 0..10 * BUDGET / TURNS_PER_SECOND {
                world.relay(ALICE, 1, NOBODY, b"x");
            }
            for _ in 0..BUDGET / TURNS_PER_SECOND {
                refused += usize::from(!matches!(world.relay(NEIGHBOUR, 3, 2, b"x"), Action::Forward { .. }));
            }
            world.pass(Duration::from_secs(1) / TURNS_PER_SECOND as u32);
        }
        assert_eq!(refused, 0, "of a budget of its own");
    }
}

/// Her own packets to somebody end the run.
#[test]
fn a_node_that_sends_to_somebody_is_not_fined_for_a_few_packets_in_its_name() {
    let mut world = world(BUDGET, 100 * BUDGET);
    let forged_and_own = |number: usize| (1, ALICE.to_owned(), if number.is_multiple_of(20) { 2 } else { NOBODY });
    for _ in 0..3 {
        let seen = second(&mut world, BUDGET - 1, forged_and_own);
        assert_eq!((seen.forwarded, seen.refused), (BUDGET / 20, 0));
    }
}
