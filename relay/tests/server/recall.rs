//! After a restart no session is left. Daemons say where they are only once a minute; the relay asks those that are
//! wanted where they were before, or last registered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use relay::metrics::{Counter, DropReason};
use relay::server::Action;
use wire::NodeId;
use wire::beacon::Message;

use super::world::{BEACON, BEACON_V6, World, sent};

const ALICE: &str = "198.18.1.1:4001";
const BOB: &str = "198.18.1.2:4002";
const RELAY: &str = "198.18.0.2:9001";

fn restarted(shards: usize) -> World {
    let world = World::with_directory(shards);
    world.registered_at(1, ALICE);
    world.registered_at(2, BOB);
    world
}

#[test]
fn two_silent_nodes_reach_each_other_within_a_round_trip() {
    for shards in [1, 2] {
        let mut world = restarted(shards);
        assert_eq!(world.relay(ALICE, 1, 2, b"x"), Action::Drop(DropReason::UnknownDestination));
        let probe = sent(BOB, BEACON, Message::PunchCommand(RELAY.parse().unwrap()));
        assert_eq!(world.take_sent(), [probe]);
        assert_eq!(world.receive(BOB, b"PILP"), Action::Defer);
        assert!(matches!(world.relay(ALICE, 1, 2, b"x"), Action::Forward { .. }));
        assert_eq!(world.counters().get(Counter::SessionsRecalled), 1);
    }
}

#[test]
fn where_a_node_was_before_the_restart_counts_more_than_what_it_registered() {
    let mut world = restarted(1);
    let tunnel = "198.18.1.2:50401";
    let before = HashMap::from([(NodeId(2), tunnel.parse::<SocketAddr>().unwrap().into())]);
    world.membership.remember(before);
    world.relay(ALICE, 1, 2, b"x");
    assert_eq!(world.take_sent(), [sent(tunnel, BEACON, Message::PunchCommand(RELAY.parse().unwrap()))]);
    world.receive(tunnel, b"PILP");
    assert_eq!(world.place(2).as_deref(), Some(tunnel));
}

#[test]
fn a_node_that_is_gone_is_asked_twice_and_stays_unknown() {
    let mut world = restarted(1);
    for _ in 0..20 {
        world.relay(ALICE, 1, 2, b"x");
    }
    world.pass(Duration::from_secs(3));
    assert_eq!(world.take_sent().len(), 2);
    assert_eq!(world.session(2), None);
    world.relay(ALICE, 1, 2, b"x");
    assert_eq!(world.take_sent().len(), 1, "it is asked again when it is wanted again");
}

#[test]
fn an_answer_from_elsewhere_recalls_nobody() {
    let mut world = restarted(1);
    world.relay(ALICE, 1, 2, b"x");
    assert_eq!(world.receive("198.18.6.6:666", b"PILP"), Action::Drop(DropReason::UnsolicitedProbe));
    assert_eq!(world.session(2), None);
}

#[test]
fn a_node_that_comes_by_itself_meanwhile_keeps_what_it_said() {
    let mut world = restarted(1);
    world.relay(ALICE, 1, 2, b"x");
    let moved = "198.18.1.2:4999";
    world.message(moved, Message::Discover { node: NodeId(2), extended: true });
    world.receive(BOB, b"PILP");
    assert_eq!(world.place(2).as_deref(), Some(moved));
}

#[test]
fn nodes_are_asked_from_an_address_of_their_family_and_never_on_this_host() {
    let mut world = restarted(1);
    world.registered_at(3, "[2001:db8::33]:4003");
    world.registered_at(4, "127.0.0.1:53");
    world.registered_at(5, "[::1]:53");
    world.discover(ALICE, 1);
    world.take_sent();
    (3..=5).for_each(|node| {
        world.relay(ALICE, 1, node, b"x");
    });
    let probe = Message::PunchCommand("[2001:db8::2]:9001".parse().unwrap());
    assert_eq!(world.take_sent(), [sent("[2001:db8::33]:4003", BEACON_V6, probe)]);
}

#[test]
fn a_punch_request_from_a_proven_address_is_a_sign_of_life_too() {
    let mut world = restarted(1);
    world.discover(ALICE, 1);
    world.take_sent();
    let tunnel = "198.18.1.2:50401";
    world.message(tunnel, Message::PunchRequest { requester: NodeId(2), target: NodeId(1) });
    assert_eq!(world.place(2).as_deref(), Some(tunnel));
    assert_eq!(world.take_sent().len(), 2, "and the punch is brokered");
    let elsewhere = "198.18.1.2:50999";
    let punch = Message::PunchRequest { requester: NodeId(2), target: NodeId(1) };
    assert_eq!(world.message(elsewhere, punch), Action::Drop(DropReason::SourceMismatch));
    assert_eq!(world.place(2).as_deref(), Some(tunnel), "it moves nothing");
}

#[test]
fn a_neighbour_that_was_given_the_port_does_not_answer_for_a_node_that_is_wanted() {
    for extended in [false, true] {
        let mut world = restarted(2);
        world.message(BOB, Message::Discover { node: NodeId(3), extended });
        world.relay(ALICE, 1, 2, b"x");
        assert_eq!(world.receive(BOB, b"PILP"), Action::Defer);
        assert_eq!(world.session(2).is_some(), extended, "but one that shares the socket does");
    }
    let mut world = restarted(2);
    world.discover(BOB, 3);
    world.discover("198.18.1.2:4003", 3);
    world.pass(Duration::from_secs(2));
    world.relay(ALICE, 1, 2, b"x");
    world.receive(BOB, b"PILP");
    assert_eq!(world.place(2).as_deref(), Some(BOB), "nor does one that has left keep it away");
}

#[test]
fn a_recall_under_way_does_not_decide_a_later_contest() {
    let mut world = restarted(1);
    world.relay(ALICE, 1, 2, b"x");
    let (moved, rival) = ("198.18.1.2:4999", "198.18.6.6:666");
    world.discover(moved, 2);
    world.discover(rival, 2);
    world.relay(moved, 2, 1, b"the holder is heard");
    world.pass(Duration::from_secs(3));
    assert_eq!(world.place(2).as_deref(), Some(moved));
}

#[test]
fn asking_for_many_absent_nodes_does_not_keep_others_from_moving() {
    let mut world = World::with_directory(1);
    for node in 10..3000 {
        world.registered_at(node, &format!("198.18.2.{}:{node}", node % 250));
    }
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    for node in 10..3000 {
        world.relay(ALICE, 1, node, b"x");
    }
    world.take_sent();
    world.discover("198.18.1.2:4999", 2);
    world.pass(Duration::from_millis(1100));
    assert_eq!(world.place(2).as_deref(), Some("198.18.1.2:4999"));
}

#[test]
fn the_broadcast_id_is_nobody() {
    let mut world = restarted(1);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    world.hand(relay::server::Handoff::Withdraw(NodeId(2)), 2);
    let punch = Message::PunchRequest { requester: NodeId(1), target: NodeId(u32::MAX) };
    assert_eq!(world.message(ALICE, punch), Action::Drop(DropReason::UnknownDestination));
}
