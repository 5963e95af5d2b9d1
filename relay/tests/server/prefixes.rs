//! What a source prefix may do, however many ids it has.

use std::time::Duration;

use relay::admission::Budget;
use relay::metrics::DropReason;
use relay::server::{Action, Admission, Rules};
use wire::NodeId;
use wire::beacon::Message;

use super::world::{BEACON, World, encode};

const BOB: &str = "198.18.1.2:4002";

/// Ids 1000 and up behind one address, each with a port of its own.
fn crowd(index: u32) -> (u32, String) {
    (1000 + index, format!("198.18.6.6:{}", 10_000 + index))
}

/// A relay that knows Bob and a crowd of `count` behind one address.
fn world(rules: Rules, count: u32) -> World {
    let mut world = World::with_rules(rules, 2, 4096);
    world.membership.set_authority(true);
    for node in (1..10).chain(1000..1000 + count) {
        world.membership.publish(NodeId(node), &[], None);
    }
    world.discover(BOB, 2);
    world.discover("198.18.1.1:4001", 1);
    for (node, place) in (0..count).map(crowd) {
        world.discover(&place, node);
    }
    world.take_sent();
    world
}

#[test]
fn many_ids_behind_one_address_share_its_budget_and_others_are_not_touched() {
    // Two shards, each of which grants the budget.
    let rules = Rules { prefix_packets: Budget::new(2_000, 400), ..Rules::default() };
    let mut world = world(rules, 100);
    let mut forwarded = 0;
    for _ in 0..100 {
        for (node, place) in (0..100).map(crowd) {
            forwarded += u32::from(matches!(world.relay(&place, node, 2, &[0; 100]), Action::Forward { .. }));
        }
        assert!(matches!(world.relay("198.18.1.1:4001", 1, 2, b"x"), Action::Forward { .. }), "another prefix");
        world.pass(Duration::from_millis(10));
    }
    let granted = 2 * (2_000 + 400);
    assert!((granted - 100..granted + granted / 5).contains(&forwarded), "{forwarded} of 10000, {granted} granted");
    assert!(world.counters().dropped(DropReason::PrefixBudget) > 4_000);
}

#[test]
fn bytes_count_as_packets_do() {
    let rules = Rules { prefix_bytes: Budget::new(1_000_000, 100_000), ..Rules::default() };
    let mut world = world(rules, 10);
    let mut bytes = 0;
    for _ in 0..100 {
        for (node, place) in (0..10).map(crowd) {
            if let Action::Forward { part, .. } = world.relay(&place, node, 2, &[0; 9_991]) {
                bytes += part.len();
            }
        }
        world.pass(Duration::from_millis(10));
    }
    assert!((2_000_000..2_700_000).contains(&bytes), "{bytes} of 10 MB; two shards grant 1.1 MB each");
}

#[test]
fn the_exempt_and_an_open_relay_have_no_such_budget() {
    let exempt = vec!["198.18.6.0/24".parse().unwrap()];
    let open = Admission::Open;
    let tight = Rules { prefix_packets: Budget::new(1, 1), prefix_bytes: Budget::new(1, 1), ..Rules::default() };
    for rules in [Rules { exempt, ..tight.clone() }, Rules { admission: open, ..tight }] {
        let mut world = world(rules, 10);
        for (node, place) in (0..10).map(crowd).cycle().take(5_000) {
            assert!(matches!(world.relay(&place, node, 2, b"x"), Action::Forward { .. }));
        }
    }
}

/// Each id stays below the run at which a sender pays for it; their address pays all the same.
#[test]
fn packets_to_nobody_use_up_the_budget_of_the_source_however_many_ids_it_has() {
    let rules = Rules { prefix_packets: Budget::new(2_000, 400), ..Rules::default() };
    let mut world = world(rules, 100);
    let unknown = |world: &mut World| {
        let drops = (0..100).map(crowd).map(|(node, place)| world.relay(&place, node, 3_000_000, b"x"));
        drops.filter(|action| *action == Action::Drop(DropReason::UnknownDestination)).count()
    };
    let before: usize = (0..10).map(|_| unknown(&mut world)).sum();
    assert!((100..=200).contains(&before), "{before} of 1000 were looked for; the rest was refused before");
    assert!(matches!(world.relay("198.18.1.1:4001", 1, 2, b"x"), Action::Forward { .. }), "another prefix");
    world.pass(Duration::from_secs(2));
    assert!(unknown(&mut world) > 0, "and after a while again");
}

#[test]
fn what_is_refused_costs_the_source_too() {
    let rules = Rules { prefix_packets: Budget::new(1_000, 200), ..Rules::default() };
    let mut world = world(rules, 0);
    let refused: Vec<_> = (0..400).map(|_| world.relay("198.18.6.6:666", 1, 2, b"x")).collect();
    // The first begins a contest; the holder lives, so none of them is let through.
    assert_eq!(refused[0], Action::Drop(DropReason::SourceContested));
    assert_eq!(refused[399], Action::Drop(DropReason::RefusedBudget));
}

/// Found by the fuzzer: they were refused for nothing, so the kernel was never told to drop them.
#[test]
fn packets_too_short_to_be_relayed_cost_the_source_too() {
    let rules = Rules { prefix_packets: Budget::new(1_000, 200), ..Rules::default() };
    let mut world = world(rules, 0);
    let refused: Vec<_> = (0..400).map(|_| world.receive("198.18.6.6:666", &[0x05, 0, 0])).collect();
    assert_eq!(refused[0], Action::Drop(DropReason::Malformed));
    assert_eq!(refused[399], Action::Drop(DropReason::RefusedBudget));
}

/// Whoever can forge sources writes a prefix's address into all it sends; the nodes there go on.
#[test]
fn forged_sources_use_up_nothing_of_what_the_nodes_there_relay() {
    let rules = Rules { prefix_packets: Budget::new(1_000, 200), ..Rules::default() };
    let mut world = world(rules, 1);
    let (node, place) = crowd(0);
    for number in 0..5_000_u32 {
        let forged = format!("198.18.6.6:{}", 20_000 + number);
        let action = world.relay(&forged, 2, 1, b"x");
        assert_ne!(action, Action::Drop(DropReason::PrefixBudget), "for which the prefix would be held back");
        world.discover(&forged, 0);
    }
    assert!(world.counters().dropped(DropReason::RefusedBudget) > 4_000);
    assert!(world.counters().dropped(DropReason::ControlBudget) > 2_000);
    let passed = (0..100).filter(|_| matches!(world.relay(&place, node, 2, b"x"), Action::Forward { .. })).count();
    assert_eq!(passed, 100);
}

#[test]
fn nothing_is_said_to_a_services_port() {
    let mut world = world(Rules::default(), 0);
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    let discover = encode(Message::Discover { node: NodeId(3), extended: false });
    for port in [0, 7, 19, 53, 123, 161, 389, 1900, 11211] {
        let from = format!("198.18.6.6:{port}");
        for datagram in [&stun, &discover] {
            let action = world.receive_on(0, BEACON, &from, datagram);
            assert_eq!(action, Action::Drop(DropReason::ServicePort), "{from}");
        }
        world.relay(&from, 3, 2, b"x");
        assert!(world.take_sent().is_empty() && world.session(3).is_none(), "{from}");
    }
    // Who registers as such is not asked whether it is there, either.
    world.registered_at(4, "198.18.6.7:53");
    world.relay("198.18.1.1:4001", 1, 4, b"x");
    assert!(world.take_sent().is_empty());
    for port in [443, 500, 1024, 5353, 9001] {
        let action = world.receive_on(0, BEACON, &format!("198.18.6.6:{port}"), &discover);
        assert!(matches!(action, Action::Reply { .. }), "port {port}");
    }
}
