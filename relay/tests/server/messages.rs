//! Discover, punch, relay, notify: what each is answered.

use std::time::Duration;

use relay::metrics::{Counter, DropReason};
use relay::server::{Action, Admission, Handoff};
use wire::NodeId;
use wire::beacon::Message;

use super::world::{BEACON, BEACON_2, BEACON_V6, World, encode, sent};

const ALICE: &str = "198.18.1.1:4001";
const BOB: &str = "198.18.1.2:4002";

#[test]
fn a_discover_is_answered_with_the_true_source_and_makes_a_session() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    assert_eq!(world.take_sent(), [sent(ALICE, BEACON, Message::DiscoverReply(ALICE.parse().unwrap()))]);
    assert_eq!(world.place(1).as_deref(), Some(ALICE));
}

#[test]
fn id_zero_and_unknown_ids_are_answered_and_never_stored() {
    let mut world = World::with_directory(2);
    for node in [0, 77, u32::MAX] {
        world.discover(ALICE, node);
        assert_eq!(world.take_sent().len(), 1, "node {node} is answered");
        assert_eq!(world.session(node), None, "node {node} is not stored");
    }
}

#[test]
fn without_a_directory_any_id_is_stored() {
    let mut world = World::new(Admission::Grace, 1);
    world.discover(ALICE, 77);
    assert_eq!(world.place(77).as_deref(), Some(ALICE));
}

#[test]
fn a_relayed_packet_loses_its_destination_and_nothing_else() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    world.take_sent();
    for inner in [&b"sealed"[..], b"", &[7; 4171]] {
        world.relay(ALICE, 1, 2, inner);
        assert_eq!(world.take_sent(), [sent(BOB, BEACON, Message::Deliver { sender: NodeId(1), inner })]);
    }
}

#[test]
fn who_asked_with_08_gets_the_destination_named() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    world.message(BOB, Message::Discover { node: NodeId(2), extended: true });
    world.take_sent();
    world.relay(ALICE, 1, 2, b"x");
    let expected = Message::DeliverTo { sender: NodeId(1), dest: NodeId(2), inner: b"x" };
    assert_eq!(world.take_sent(), [sent(BOB, BEACON, expected)]);
    world.discover(BOB, 2);
    world.take_sent();
    world.relay(ALICE, 1, 2, b"x");
    assert_eq!(world.take_sent(), [sent(BOB, BEACON, Message::Deliver { sender: NodeId(1), inner: b"x" })]);
}

#[test]
fn deliveries_leave_from_the_address_the_receiver_talks_to() {
    let mut world = World::with_directory(1);
    world.discover(ALICE, 1);
    let discover = encode(Message::Discover { node: NodeId(2), extended: false });
    world.receive_on(0, BEACON_2, BOB, &discover);
    let v6 = "[2001:db8::9]:4009";
    let discover = encode(Message::Discover { node: NodeId(3), extended: false });
    world.receive_on(0, BEACON_V6, v6, &discover);
    world.take_sent();
    world.relay(ALICE, 1, 2, b"x");
    world.relay(ALICE, 1, 3, b"x");
    let message = Message::Deliver { sender: NodeId(1), inner: b"x" };
    assert_eq!(world.take_sent(), [sent(BOB, BEACON_2, message), sent(v6, BEACON_V6, message)]);
}

#[test]
fn a_punch_tells_the_requester_first_and_then_the_target() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    world.take_sent();
    world.message(ALICE, Message::PunchRequest { requester: NodeId(1), target: NodeId(2) });
    let to_requester = sent(ALICE, BEACON, Message::PunchCommand(BOB.parse().unwrap()));
    let to_target = sent(BOB, BEACON, Message::PunchCommand(ALICE.parse().unwrap()));
    assert_eq!(world.take_sent(), [to_requester, to_target]);
}

#[test]
fn a_punch_needs_the_requesters_own_endpoint_and_teaches_none() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    world.take_sent();
    let punch = Message::PunchRequest { requester: NodeId(1), target: NodeId(2) };
    assert_eq!(world.message("198.18.9.9:1", punch), Action::Drop(DropReason::SourceMismatch));
    let punch = Message::PunchRequest { requester: NodeId(3), target: NodeId(2) };
    assert_eq!(world.message("198.18.9.9:1", punch), Action::Drop(DropReason::SourceMismatch));
    assert_eq!(world.take_sent(), []);
    assert_eq!(world.place(1).as_deref(), Some(ALICE));
    assert_eq!(world.session(3), None);
    let punch = Message::PunchRequest { requester: NodeId(1), target: NodeId(9) };
    assert_eq!(world.message(ALICE, punch), Action::Drop(DropReason::UnknownDestination));
}

#[test]
fn nobody_relays_in_anothers_name() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    world.take_sent();
    assert_eq!(world.relay("198.18.9.9:1", 1, 2, b"x"), Action::Drop(DropReason::SourceContested));
    assert!(!world.take_sent().iter().any(|sent| sent.to == BOB.parse().unwrap()), "and it does not arrive");
    assert_eq!(world.relay("198.18.9.9:1", 3, 2, b"x"), Action::Drop(DropReason::SourceMismatch));
    assert_eq!(world.relay(ALICE, 1, 8, b"x"), Action::Drop(DropReason::UnknownDestination));
    assert_eq!(world.relay(ALICE, 1, u32::MAX, b"x"), Action::Drop(DropReason::UnknownDestination));
    assert_eq!(world.relay(ALICE, 1, 0, b"x"), Action::Drop(DropReason::UnknownDestination));
    assert_eq!(world.take_sent(), []);
}

/// No relay takes another's word for where nodes are, whoever that is and whatever it lists.
#[test]
fn lists_of_other_relays_teach_nothing() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    world.take_sent();
    let listed = [[0, 0, 0, 2], [0, 0, 0, 3]].concat();
    for from in ["198.18.9.9:9001", BOB] {
        let action = world.message(from, Message::Sync { beacon: 7, nodes: &listed });
        assert_eq!(action, Action::Drop(DropReason::UnknownType));
    }
    assert_eq!((world.place(2).as_deref(), world.session(3)), (Some(BOB), None));
    assert_eq!(world.relay(ALICE, 1, 3, b"x"), Action::Drop(DropReason::UnknownDestination));
    assert_eq!(world.take_sent(), []);
}

#[test]
fn senders_that_share_a_socket_are_served_by_whichever_shard_meets_them() {
    let mut world = World::with_directory(2);
    let shared = "198.18.1.1:7000";
    for node in [1, 2] {
        world.message(shared, Message::Discover { node: NodeId(node), extended: true });
    }
    world.discover(BOB, 4);
    world.take_sent();
    let packet = encode(Message::Relay { sender: NodeId(1), dest: NodeId(4), inner: b"x" });
    let message = Message::Deliver { sender: NodeId(1), inner: b"x" };
    for shard in [0, 1] {
        world.receive_on(shard, BEACON, shared, &packet);
        assert_eq!(world.take_sent(), [sent(BOB, BEACON, message)], "shard {shard}");
    }
    for shard in [0, 1] {
        let discover = encode(Message::Discover { node: NodeId(3), extended: false });
        world.receive_on(shard, BEACON, "198.18.1.3:1", &discover);
        assert_eq!(world.place(3).as_deref(), Some("198.18.1.3:1"), "a discover finds its owner from shard {shard}");
    }
}

#[test]
fn a_node_with_mail_in_the_directory_is_notified_where_it_is() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    world.take_sent();
    world.hand(Handoff::Notify(NodeId(1)), 1);
    world.hand(Handoff::Notify(NodeId(2)), 2);
    assert_eq!(world.take_sent(), [sent(ALICE, BEACON, Message::Notify { kind: 1 })]);
}

#[test]
fn a_silent_session_ends_and_a_relaying_one_stays() {
    let mut world = World::with_directory(1);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    for _ in 0..12 {
        world.pass(Duration::from_secs(60));
        world.relay(ALICE, 1, 9, b"x");
    }
    assert_eq!(world.place(1).as_deref(), Some(ALICE));
    assert_eq!(world.session(2), None);
    assert_eq!(world.counters().get(Counter::SessionsExpired), 1);
}

#[test]
fn when_a_node_was_heard_can_be_read_to_some_seconds() {
    let mut world = World::with_directory(2);
    assert_eq!(world.heard_ago(1), None);
    world.discover(ALICE, 1);
    for silence_seconds in [0, 100, 7, 130] {
        world.pass(Duration::from_secs(silence_seconds));
        let silence = Duration::from_secs(silence_seconds);
        assert!(world.heard_ago(1).unwrap() >= silence, "not heard for {silence:?}");
        world.relay(ALICE, 1, 1, b"x");
        assert!(world.heard_ago(1).unwrap() < Duration::from_secs(16), "heard after {silence:?}");
    }
    world.prove(1, &["198.18.1.9"]);
    world.pass(Duration::from_secs(60));
    world.discover("198.18.1.9:9", 1);
    assert!(world.heard_ago(1).unwrap() < Duration::from_secs(16), "heard elsewhere");
}

#[test]
fn a_deregistered_node_is_gone_at_once() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    world.membership.withdraw(NodeId(1));
    world.hand(Handoff::Withdraw(NodeId(1)), 1);
    assert_eq!(world.session(1), None);
    world.discover(ALICE, 1);
    assert_eq!(world.session(1), None);
}

#[test]
fn many_unknown_destinations_cost_the_senders_budget() {
    let mut world = World::with_directory(1);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    let unknown = (0..2000).map(|_| world.relay(ALICE, 1, 9, b"x")).collect::<Vec<_>>();
    assert_eq!(unknown[0], Action::Drop(DropReason::UnknownDestination));
    assert_eq!(unknown[1999], Action::Drop(DropReason::SenderBudget));
    world.pass(Duration::from_secs(2));
    assert!(matches!(world.relay(ALICE, 1, 2, b"x"), Action::Forward { .. }));
}
