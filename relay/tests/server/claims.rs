//! Who holds an id: squatters, roaming, neighbours, short-lived sockets. Each story ends with the owner served within
//! two seconds.

use std::time::Duration;

use relay::metrics::{Counter, DropReason};
use relay::server::{Action, Admission, Rules};
use wire::NodeId;
use wire::beacon::Message;

use super::world::{BEACON, World, encode, sent};

const OWNER: &str = "198.18.1.1:4001";
const SQUATTER: &str = "198.18.6.6:666";
const RELAY: &str = "198.18.0.2:9001";

/// The sign of life an unmodified daemon gives when a punch command arrives.
fn answer_probe(world: &mut World, holder: &str) -> Action {
    world.receive(holder, b"PILP")
}

/// Whether the relay has just asked `holder` for a sign of life.
fn probed(world: &mut World, holder: &str) -> bool {
    let probe = sent(holder, BEACON, Message::PunchCommand(RELAY.parse().unwrap()));
    world.take_sent().contains(&probe)
}

#[test]
fn an_owner_with_proof_displaces_a_squatter_at_once() {
    let mut world = World::with_directory(2);
    world.discover(SQUATTER, 1);
    assert_eq!(world.place(1).as_deref(), Some(SQUATTER));
    world.prove(1, &["198.18.1.1"]);
    world.discover(OWNER, 1);
    assert_eq!(world.place(1).as_deref(), Some(OWNER));
}

#[test]
fn a_squatter_that_comes_later_gets_an_answer_but_not_the_id() {
    let mut world = World::with_directory(2);
    world.prove(1, &["198.18.1.1"]);
    world.discover(OWNER, 1);
    world.take_sent();
    for _ in 0..10 {
        world.discover(SQUATTER, 1);
        let sent_now = world.take_sent();
        assert!(sent_now.contains(&sent(SQUATTER, BEACON, Message::DiscoverReply(SQUATTER.parse().unwrap()))));
        answer_probe(&mut world, OWNER);
        world.pass(Duration::from_secs(2));
        assert_eq!(world.place(1).as_deref(), Some(OWNER));
        world.take_sent();
    }
    assert_eq!(world.relay(SQUATTER, 1, 2, b"x"), Action::Drop(DropReason::SourceContested));
}

#[test]
fn an_owner_that_roams_in_the_middle_of_a_transfer_is_served_within_two_seconds() {
    for shard in [0, 1] {
        let mut world = World::with_directory(2);
        world.prove(1, &["198.18.1.1"]);
        world.discover(OWNER, 1);
        world.discover("198.18.1.2:4002", 2);
        let roamed = "198.18.7.7:9";
        let packet = encode(Message::Relay { sender: NodeId(1), dest: NodeId(2), inner: b"x" });
        assert!(matches!(world.receive_on(shard, BEACON, roamed, &packet), Action::Drop(_)));
        world.pass(Duration::from_secs(2));
        assert!(matches!(world.receive_on(shard, BEACON, roamed, &packet), Action::Forward { .. }), "shard {shard}");
        assert_eq!(world.place(1).as_deref(), Some(roamed));
    }
}

#[test]
fn a_live_owner_without_proof_keeps_the_id_by_answering() {
    let mut world = World::with_directory(2);
    world.discover(OWNER, 1);
    world.take_sent();
    world.discover(SQUATTER, 1);
    assert!(probed(&mut world, OWNER));
    assert_eq!(answer_probe(&mut world, OWNER), Action::Defer);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.place(1).as_deref(), Some(OWNER));
    assert_eq!(world.counters().get(Counter::ContestsHeld), 1);
}

#[test]
fn any_packet_of_the_holder_is_a_sign_of_life() {
    for story in 0..3 {
        let mut world = World::with_directory(2);
        world.discover(OWNER, 1);
        world.discover("198.18.1.2:4002", 2);
        world.discover(SQUATTER, 1);
        match story {
            0 => world.discover(OWNER, 1),
            1 => world.relay(OWNER, 1, 2, b"x"),
            _ => world.message(OWNER, Message::PunchRequest { requester: NodeId(1), target: NodeId(2) }),
        };
        world.pass(Duration::from_secs(5));
        assert_eq!(world.place(1).as_deref(), Some(OWNER), "story {story}");
    }
}

#[test]
fn a_new_address_of_an_equal_wins_after_two_unanswered_tries() {
    let mut world = World::with_directory(2);
    world.discover(OWNER, 1);
    world.take_sent();
    let roamed = "198.18.1.77:9";
    world.discover(roamed, 1);
    assert!(probed(&mut world, OWNER), "first try");
    world.pass(Duration::from_millis(600));
    assert!(probed(&mut world, OWNER), "second try");
    assert_eq!(world.place(1).as_deref(), Some(OWNER));
    world.pass(Duration::from_millis(500));
    assert_eq!(world.place(1).as_deref(), Some(roamed));
    assert_eq!(world.counters().get(Counter::ContestsWon), 1);
}

#[test]
fn a_round_trip_probe_from_a_short_lived_socket_does_not_move_the_session() {
    let mut world = World::with_directory(2);
    world.prove(1, &["198.18.1.1"]);
    world.discover(OWNER, 1);
    world.take_sent();
    world.discover("198.18.1.1:55555", 1);
    let reply = sent("198.18.1.1:55555", BEACON, Message::DiscoverReply("198.18.1.1:55555".parse().unwrap()));
    assert!(world.take_sent().contains(&reply));
    answer_probe(&mut world, OWNER);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.place(1).as_deref(), Some(OWNER));
}

#[test]
fn a_rebound_port_at_a_proven_address_is_served_within_two_seconds() {
    let mut world = World::with_directory(2);
    world.prove(1, &["198.18.1.1"]);
    world.discover(OWNER, 1);
    world.discover("198.18.1.2:4002", 2);
    let rebound = "198.18.1.1:4999";
    assert_eq!(world.relay(rebound, 1, 2, b"x"), Action::Drop(DropReason::SourceContested));
    world.pass(Duration::from_millis(1100));
    assert!(matches!(world.relay(rebound, 1, 2, b"x"), Action::Forward { .. }));
}

#[test]
fn a_relay_from_a_proven_address_makes_the_session() {
    let mut world = World::with_directory(2);
    world.prove(1, &["198.18.1.1"]);
    world.discover("198.18.1.2:4002", 2);
    assert!(matches!(world.relay(OWNER, 1, 2, b"x"), Action::Forward { .. }));
    assert_eq!(world.place(1).as_deref(), Some(OWNER));
}

#[test]
fn neighbours_behind_one_address_hold_their_own_ids() {
    let mut world = World::with_directory(2);
    let (one, two) = ("198.18.1.1:4001", "198.18.1.1:4002");
    world.prove(1, &["198.18.1.1"]);
    world.prove(2, &["198.18.1.1"]);
    world.discover(one, 1);
    world.discover(two, 2);
    world.discover(two, 1);
    answer_probe(&mut world, one);
    world.pass(Duration::from_secs(3));
    assert_eq!((world.place(1).as_deref(), world.place(2).as_deref()), (Some(one), Some(two)));
    assert_eq!(world.relay(two, 1, 2, b"forged"), Action::Drop(DropReason::SourceContested));
    answer_probe(&mut world, one);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.place(1).as_deref(), Some(one));
}

#[test]
fn a_proven_holder_that_fell_silent_yields_to_a_lower_candidate_only_after_four_tries() {
    let mut world = World::with_directory(2);
    world.prove(1, &["198.18.1.1"]);
    world.discover(OWNER, 1);
    world.discover("198.18.1.77:9", 1);
    world.pass(Duration::from_millis(600));
    assert_eq!(world.place(1).as_deref(), Some(OWNER));
    let probe = sent(OWNER, BEACON, Message::PunchCommand(RELAY.parse().unwrap()));
    assert_eq!(world.take_sent().iter().filter(|sent| **sent == probe).count(), 4);
    world.pass(Duration::from_millis(200));
    assert_eq!(world.place(1).as_deref(), Some("198.18.1.77:9"));
}

#[test]
fn a_holder_that_loses_its_proof_is_one_among_equals() {
    let mut world = World::with_directory(2);
    world.prove(1, &["198.18.1.1"]);
    world.discover(OWNER, 1);
    world.prove(1, &["198.18.1.77"]);
    world.discover("198.18.1.77:9", 1);
    assert_eq!(world.place(1).as_deref(), Some("198.18.1.77:9"));
}

#[test]
fn a_probe_answer_counts_on_whichever_shard_it_arrives() {
    let mut world = World::with_directory(4);
    for node in [1, 2, 3, 4] {
        let owner = format!("198.18.1.{node}:4001");
        world.discover(&owner, node);
        world.discover(SQUATTER, node);
        for shard in 0..4 {
            world.receive_on(shard, BEACON, &owner, b"PILP");
        }
        world.pass(Duration::from_secs(3));
        assert_eq!(world.place(node), Some(owner));
    }
}

#[test]
fn probes_nobody_asked_for_are_dropped() {
    let mut world = World::with_directory(2);
    assert_eq!(answer_probe(&mut world, OWNER), Action::Drop(DropReason::UnsolicitedProbe));
    world.discover(OWNER, 1);
    assert_eq!(answer_probe(&mut world, OWNER), Action::Drop(DropReason::UnsolicitedProbe));
    world.discover(SQUATTER, 1);
    assert_eq!(answer_probe(&mut world, "198.18.8.8:1"), Action::Drop(DropReason::UnsolicitedProbe));
}

#[test]
fn an_attacker_with_a_claim_under_way_does_not_keep_the_rebound_owner_out() {
    let mut world = World::with_directory(2);
    world.prove(1, &["198.18.1.1"]);
    world.discover(OWNER, 1);
    world.discover(SQUATTER, 1);
    let rebound = "198.18.1.1:4999";
    world.discover(rebound, 1);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.place(1).as_deref(), Some(rebound));
}

#[test]
fn whoever_took_over_a_silent_holders_endpoint_cannot_hold_the_id_for_it() {
    let mut world = World::with_directory(2);
    world.prove(1, &["198.18.1.1"]);
    world.discover(OWNER, 1);
    world.pass(Duration::from_secs(160));
    world.discover("198.18.1.1:4999", 1);
    answer_probe(&mut world, OWNER);
    assert_eq!(world.place(1).as_deref(), Some("198.18.1.1:4999"));
}

/// A NAT has forgotten its ports: node 2 got the one that was node 1's, which came back on another.
const NEIGHBOUR: &str = "198.18.1.1:4002";
const COME_BACK: &str = "198.18.1.1:4999";

fn mixed_up(shards: usize) -> World {
    let mut world = World::with_directory(shards);
    world.discover(OWNER, 1);
    world.discover(NEIGHBOUR, 2);
    world.pass(Duration::from_secs(1));
    world.discover(OWNER, 2);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.place(2).as_deref(), Some(OWNER));
    world.take_sent();
    world
}

#[test]
fn a_neighbour_that_was_given_the_holders_port_does_not_answer_for_it() {
    for shards in [1, 2, 3] {
        let mut world = mixed_up(shards);
        world.discover(COME_BACK, 1);
        assert!(probed(&mut world, OWNER), "whoever is there is asked");
        answer_probe(&mut world, OWNER);
        assert!(probed(&mut world, COME_BACK), "as a neighbour is there, the candidate is asked");
        answer_probe(&mut world, OWNER);
        assert_eq!(world.place(1).as_deref(), Some(OWNER));
        answer_probe(&mut world, COME_BACK);
        assert_eq!(world.place(1).as_deref(), Some(COME_BACK));
        assert_eq!(world.place(2).as_deref(), Some(OWNER));
        assert!(matches!(world.relay(COME_BACK, 1, 2, b"x"), Action::Forward { .. }));
        world.pass(Duration::from_secs(3));
        assert_eq!(world.place(1).as_deref(), Some(COME_BACK), "{shards} shards");
        assert_eq!(world.counters().get(Counter::ContestsWon), 2);
    }
}

#[test]
fn two_neighbours_whose_ports_were_exchanged_find_their_new_places() {
    for shards in [1, 2] {
        let mut world = World::with_directory(shards);
        world.discover(OWNER, 1);
        world.discover(NEIGHBOUR, 2);
        for _ in 0..3 {
            world.pass(Duration::from_secs(2));
            for (node, place) in [(2, OWNER), (1, NEIGHBOUR)] {
                world.discover(place, node);
                for _ in 0..3 {
                    answer_probe(&mut world, OWNER);
                    answer_probe(&mut world, NEIGHBOUR);
                }
            }
        }
        assert_eq!(world.place(1).as_deref(), Some(NEIGHBOUR), "{shards} shards");
        assert_eq!(world.place(2).as_deref(), Some(OWNER), "{shards} shards");
    }
}

#[test]
fn a_forged_word_from_the_holders_endpoint_alone_gains_nobody_the_id() {
    for story in 0..4 {
        let mut world = mixed_up(2);
        let thief = if story == 0 { SQUATTER } else { COME_BACK };
        if story == 1 {
            world.discover(OWNER, 1);
        }
        world.discover(thief, 1);
        answer_probe(&mut world, OWNER);
        match story {
            0 => assert!(!probed(&mut world, thief), "the thief is at another address"),
            1 => assert!(!probed(&mut world, thief), "the holder has spoken since"),
            2 => {
                world.relay(OWNER, 1, 2, b"the holder is heard");
                assert_eq!(answer_probe(&mut world, thief), Action::Drop(DropReason::UnsolicitedProbe));
            }
            _ => assert!(probed(&mut world, thief), "the thief has forged this source too and does not hear"),
        }
        world.pass(Duration::from_secs(3));
        assert_eq!(world.place(1).as_deref(), Some(OWNER), "story {story}");
        assert_eq!(world.counters().get(Counter::ContestsHeld), 1, "story {story}");
        world.discover(thief, 1);
        assert!(probed(&mut world, OWNER), "story {story}: the matter is closed and may be opened again");
    }
}

#[test]
fn nodes_that_share_a_socket_answer_for_each_other() {
    let mut world = World::with_directory(2);
    let share = |world: &mut World, node| {
        world.message(OWNER, Message::Discover { node: NodeId(node), extended: true });
        world.pass(Duration::from_secs(2));
    };
    share(&mut world, 1);
    share(&mut world, 2);
    world.discover(COME_BACK, 1);
    answer_probe(&mut world, OWNER);
    answer_probe(&mut world, COME_BACK);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.place(1).as_deref(), Some(OWNER));
}

#[test]
fn an_open_relay_believes_the_last_claim() {
    let mut world = World::new(Admission::Open, 2);
    world.discover(OWNER, 1);
    world.discover(SQUATTER, 1);
    assert_eq!(world.place(1).as_deref(), Some(SQUATTER));
    assert!(matches!(world.relay("198.18.8.8:8", 5, 1, b"x"), Action::Forward { .. }));
}

#[test]
fn a_full_table_answers_and_refuses_then_evicts_the_unproven_and_silent() {
    let rules = Rules { admission: Admission::Grace, ..Rules::default() };
    let mut world = World::with_rules(rules, 1, 64);
    for node in 1..=200 {
        world.discover(&format!("198.18.1.1:{}", 4000 + node), node);
    }
    let stored = (1..=200).filter(|node| world.session(*node).is_some()).count();
    assert!((60..=70).contains(&stored), "{stored} of a capacity of 64");
    assert_eq!(world.take_sent().len(), 200);
    assert!(world.counters().get(Counter::ClaimsNoRoom) > 100);
    world.pass(Duration::from_secs(120));
    world.discover("198.18.2.2:1", 500);
    assert_eq!(world.place(500).as_deref(), Some("198.18.2.2:1"));
}
