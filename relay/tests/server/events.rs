//! What befalls a node is noted: once, with the facts, and never for a stranger.

use std::time::Duration;

use relay::admission::Budget;
use relay::events::{Refusal, What};
use relay::metrics::Counter;
use relay::server::{Admission, Handoff, Rules};
use relay::sessions::Grade;
use wire::NodeId;
use wire::beacon::Message;

use super::world::{World, endpoint};

const ALICE: &str = "198.18.1.1:4001";
const ALICE_MOVED: &str = "198.18.1.1:4444";
const BOB: &str = "198.18.1.2:4002";
const MALLORY: &str = "198.18.6.6:6666";

const NODE_ALICE: NodeId = NodeId(1);
const NODE_BOB: NodeId = NodeId(2);

fn started(at: &str, grade: Grade) -> What {
    What::SessionStarted { at: endpoint(at), grade }
}

#[test]
fn a_session_from_its_beginning_to_its_end() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    assert_eq!(world.take_events(), [(NODE_ALICE, started(ALICE, Grade::Unproven))]);
    world.discover(ALICE, 1);
    world.relay(ALICE, 1, 1, b"x");
    assert_eq!(world.take_events(), [], "nothing has happened");

    world.prove(1, &["198.18.1.1"]);
    world.discover("198.18.1.1:4001", 1);
    world.pass(Duration::from_secs(151));
    world.discover(ALICE_MOVED, 1);
    let moved = What::SessionMoved { from: endpoint(ALICE), to: endpoint(ALICE_MOVED) };
    assert_eq!(world.take_events(), [(NODE_ALICE, moved)]);

    world.pass(Duration::from_secs(700));
    assert_eq!(world.take_events(), [(NODE_ALICE, What::SessionExpired)]);
    world.discover(BOB, 2);
    world.membership.withdraw(NODE_BOB);
    world.hand(Handoff::Withdraw(NODE_BOB), 2);
    let events = world.take_events();
    assert_eq!(events, [(NODE_BOB, started(BOB, Grade::Unproven)), (NODE_BOB, What::SessionWithdrawn)]);
    world.hand(Handoff::Withdraw(NODE_BOB), 2);
    assert_eq!(world.take_events(), [], "it had no session");
}

#[test]
fn a_contest_that_the_holder_wins_and_one_that_it_loses() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    world.take_events();
    world.discover(MALLORY, 1);
    world.receive(ALICE, b"PILP");
    let begun = What::ContestStarted { holder: endpoint(ALICE), candidate: endpoint(MALLORY) };
    assert_eq!(world.take_events(), [(NODE_ALICE, begun), (NODE_ALICE, What::ContestHeld)]);

    world.discover(MALLORY, 1);
    world.pass(Duration::from_secs(2));
    let won = What::ContestWon { candidate: endpoint(MALLORY) };
    let moved = What::SessionMoved { from: endpoint(ALICE), to: endpoint(MALLORY) };
    assert_eq!(world.take_events(), [(NODE_ALICE, begun), (NODE_ALICE, won), (NODE_ALICE, moved)]);
}

#[test]
fn a_full_table_refuses_and_says_so() {
    let mut world = World::with_rules(Rules { admission: Admission::Grace, ..Rules::default() }, 1, 1);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    let refused = What::ClaimRefused { candidate: endpoint(BOB), why: Refusal::NoRoom };
    assert_eq!(world.take_events()[1..], [(NODE_BOB, refused)]);
}

#[test]
fn a_punch_is_told_of_both_and_one_to_nobody_of_who_asked() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    world.take_events();
    world.message(ALICE, Message::PunchRequest { requester: NODE_ALICE, target: NODE_BOB });
    let brokered = What::PunchBrokered { peer: NODE_BOB, at: endpoint(BOB) };
    let punched = What::PunchedBy { peer: NODE_ALICE, at: endpoint(ALICE) };
    assert_eq!(world.take_events(), [(NODE_ALICE, brokered), (NODE_BOB, punched)]);
    world.message(ALICE, Message::PunchRequest { requester: NODE_ALICE, target: NodeId(9) });
    assert_eq!(world.take_events(), [(NODE_ALICE, What::PunchUnknown { peer: NodeId(9) })]);
    world.hand(Handoff::Notify(NODE_BOB), 2);
    assert_eq!(world.take_events(), [(NODE_BOB, What::NotifySent { at: endpoint(BOB) })]);
}

#[test]
fn a_node_that_is_wanted_is_asked_and_found() {
    let mut world = World::with_directory(1);
    world.discover(ALICE, 1);
    world.registered_at(2, BOB);
    world.take_events();
    world.relay(ALICE, 1, 2, b"x");
    let unknown = What::DestinationUnknown { dest: NODE_BOB };
    let asked = What::RecallStarted { at: endpoint(BOB) };
    assert_eq!(world.take_events(), [(NODE_ALICE, unknown), (NODE_BOB, asked)]);
    world.receive(BOB, b"PILP");
    let recalled = What::SessionRecalled { at: endpoint(BOB) };
    assert_eq!(world.take_events(), [(NODE_BOB, recalled), (NODE_BOB, started(BOB, Grade::ProvenAddress))]);
}

fn to_nobody(world: &mut World, packets: usize) {
    for _ in 0..packets {
        world.relay(ALICE, 1, 9, b"x");
    }
}

#[test]
fn what_packets_can_cause_is_noted_once_a_second() {
    let rules = Rules { sender_packets: Budget::new(10, 20), ..Rules::default() };
    let mut world = World::with_rules(rules, 1, 16);
    world.membership.set_authority(true);
    world.membership.publish(NODE_ALICE, &[], None);
    world.discover(ALICE, 1);
    world.take_events();
    to_nobody(&mut world, 5);
    assert_eq!(world.take_events(), [(NODE_ALICE, What::DestinationUnknown { dest: NodeId(9) })], "the first of a run");
    world.pass(Duration::from_secs(2));
    to_nobody(&mut world, 500);
    assert_eq!(world.take_events(), [(NODE_ALICE, What::BudgetExhausted)]);
    world.pass(Duration::from_secs(1));
    to_nobody(&mut world, 500);
    assert_eq!(world.take_events(), [(NODE_ALICE, What::BudgetExhausted)]);
}

#[test]
fn strangers_have_no_history() {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    world.take_events();
    for node in [0, 77, u32::MAX] {
        world.discover(MALLORY, node);
        world.relay(MALLORY, node, 1, b"x");
        world.message(MALLORY, Message::PunchRequest { requester: NodeId(node), target: NODE_ALICE });
    }
    world.message(ALICE, Message::PunchRequest { requester: NODE_ALICE, target: NodeId(77) });
    assert_eq!(world.take_events(), [(NODE_ALICE, What::PunchUnknown { peer: NodeId(77) })]);
}

#[test]
fn what_nobody_fetches_is_dropped_and_counted() {
    let mut world = World::new(Admission::Open, 1);
    for node in 1..=900 {
        world.discover(ALICE, node);
        world.discover(BOB, node);
    }
    let kept = world.take_events().len() as u64;
    let dropped = world.counters().get(Counter::EventsDropped);
    assert!(kept < 1800 && dropped > 0, "{kept} kept, {dropped} dropped");
    assert_eq!(kept + dropped, 1800, "900 sessions began and moved");
}
