//! Trace messages (0D): who may send one, what is noted, what is counted of the pair.

use std::time::Duration;

use relay::admission::Budget;
use relay::events::{Destination, What};
use relay::metrics::{Counter, DropReason};
use relay::server::{Action, Admission, Rules};
use relay::sessions::Grade;
use wire::NodeId;
use wire::beacon::{Message, TRACE_LEN};
use wire::trace::TraceContext;

use super::world::{BEACON, STUN, World, encode, endpoint};

const ALICE: &str = "198.18.1.1:4001";
const ALICE_V6: &str = "[2001:db8::1]:4001";
const BOB: &str = "198.18.1.2:4002";
const MALLORY: &str = "198.18.6.6:6666";

const NODE_ALICE: NodeId = NodeId(1);
const NODE_BOB: NodeId = NodeId(2);
const SAMPLED: TraceContext = TraceContext { trace_id: [0xAB; 16], span_id: [0xCD; 8], flags: TraceContext::SAMPLED };
const UNSAMPLED: TraceContext = TraceContext { flags: 0, ..SAMPLED };
/// Longer than a pair is looked at.
const AFTERWARDS: Duration = Duration::from_secs(7);

fn trace(sender: NodeId, dest: NodeId, context: TraceContext) -> Message<'static> {
    Message::Trace { sender, dest, context }
}

fn sent(peer: NodeId, context: TraceContext, found: Destination) -> What {
    What::TraceSent { peer, context, found, grade: Grade::Unproven, is_ipv6: false }
}

fn forwarded(datagrams: u32, first_us: u32, last_us: u32) -> What {
    What::TraceForwarded { peer: NODE_BOB, context: SAMPLED, datagrams, first_us, last_us }
}

/// Alice and Bob, who have sessions.
fn world(shards: usize) -> World {
    let mut world = World::with_directory(shards);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    world.take_events();
    world.take_sent();
    world
}

#[test]
fn a_trace_is_noted_for_both_and_never_answered() {
    let mut world = world(2);
    let deferred = world.counters().get(Counter::Deferred);
    assert_eq!(world.message(ALICE, trace(NODE_ALICE, NODE_BOB, SAMPLED)), Action::Defer);
    let received = What::TraceReceived { peer: NODE_ALICE, trace_id: SAMPLED.trace_id };
    let expected = [(NODE_ALICE, sent(NODE_BOB, SAMPLED, Destination::Session)), (NODE_BOB, received)];
    assert_eq!(world.take_events(), expected);
    assert_eq!(world.take_sent(), []);
    assert_eq!(world.counters().get(Counter::Deferred), deferred + 1);
}

#[test]
fn a_trace_that_nobody_records_is_only_counted() {
    let mut world = world(2);
    world.registered_at(3, "198.18.1.3:4003");
    for dest in [2, 3, 9] {
        assert_eq!(world.message(ALICE, trace(NODE_ALICE, NodeId(dest), UNSAMPLED)), Action::Defer);
    }
    world.relay(ALICE, 1, 2, b"x");
    world.pass(AFTERWARDS);
    assert_eq!(world.take_events(), []);
    assert_eq!(world.take_sent().len(), 1, "the relayed packet alone");
    assert_eq!(world.counters().get(Counter::TracesPassedOver), 3);
}

#[test]
fn a_node_cannot_fill_the_recorder_with_traces() {
    let mut world = world(1);
    let noted = |world: &mut World| {
        (0..1000).for_each(|_| assert_eq!(world.message(ALICE, trace(NODE_ALICE, NODE_BOB, SAMPLED)), Action::Defer));
        world.take_events().iter().filter(|(_, what)| matches!(what, What::TraceSent { .. })).count()
    };
    assert_eq!(noted(&mut world), 4);
    assert_eq!(world.counters().get(Counter::TracesPassedOver), 996);
    world.message(BOB, trace(NODE_BOB, NODE_ALICE, SAMPLED));
    assert_eq!(world.take_events().len(), 2, "what one sends too much costs no other");
    world.pass(Duration::from_secs(3));
    world.take_events();
    assert_eq!(noted(&mut world), 4, "in another second");
    assert_eq!(world.counters().get(Counter::EventsDropped), 0);
}

#[test]
fn traces_that_reach_another_shard_are_few_too() {
    let mut world = world(2);
    let whole = encode(trace(NODE_ALICE, NODE_BOB, SAMPLED));
    (0..100).for_each(|_| assert_eq!(world.receive_on(0, BEACON, ALICE, &whole), Action::Defer));
    let events = world.take_events();
    assert_eq!(events.iter().filter(|(_, what)| matches!(what, What::TraceSent { .. })).count(), 16);
}

#[test]
fn the_proof_and_the_family_of_the_sender_are_told() {
    let mut world = World::with_directory(2);
    world.prove(1, &["2001:db8::1"]);
    world.receive_on(
        1,
        super::world::BEACON_V6,
        ALICE_V6,
        &encode(Message::Discover { node: NODE_ALICE, extended: false }),
    );
    world.take_events();
    world.message(ALICE_V6, trace(NODE_ALICE, NODE_BOB, SAMPLED));
    let (found, grade) = (Destination::Unknown, Grade::ProvenAddress);
    let expected = What::TraceSent { peer: NODE_BOB, context: SAMPLED, found, grade, is_ipv6: true };
    assert_eq!(world.take_events()[0], (NODE_ALICE, expected));
}

#[test]
fn only_from_the_senders_endpoint() {
    let mut world = world(2);
    let mismatch = Action::Drop(DropReason::SourceMismatch);
    for sender in [NodeId(77), NodeId::UNSET, NodeId::BROADCAST, NodeId(9)] {
        assert_eq!(world.message(MALLORY, trace(sender, NODE_BOB, SAMPLED)), mismatch, "{sender:?}");
    }
    assert_eq!(world.take_events(), [], "strangers leave nothing behind");
    // As a relayed packet would, it contests the id; it is not taken in.
    assert_eq!(world.message(MALLORY, trace(NODE_ALICE, NODE_BOB, SAMPLED)), Action::Drop(DropReason::SourceContested));
    let contest = What::ContestStarted { holder: endpoint(ALICE), candidate: endpoint(MALLORY) };
    assert_eq!(world.take_events(), [(NODE_ALICE, contest)]);
}

#[test]
fn it_is_charged_to_the_source_and_to_the_sender() {
    let mut world = world(1);
    let outcomes: Vec<Action> = (0..3000).map(|_| world.message(ALICE, trace(NODE_ALICE, NODE_BOB, SAMPLED))).collect();
    assert_eq!(outcomes[2999], Action::Drop(DropReason::ControlBudget));

    let rules = Rules { sender_packets: Budget::new(1, 3), ..Rules::default() };
    let mut world = World::with_rules(rules, 1, 16);
    world.discover(ALICE, 1);
    let mut next = || world.message(ALICE, trace(NODE_ALICE, NODE_BOB, SAMPLED));
    assert_eq!([next(), next(), next(), next()][3], Action::Drop(DropReason::SenderBudget));
}

#[test]
fn a_destination_that_may_be_found_is_asked() {
    let mut world = world(1);
    world.registered_at(3, "198.18.1.3:4003");
    world.message(ALICE, trace(NODE_ALICE, NodeId(3), SAMPLED));
    world.message(ALICE, trace(NODE_ALICE, NodeId(9), SAMPLED));
    world.message(ALICE, trace(NODE_ALICE, NodeId(77), SAMPLED));
    let events = world.take_events();
    for (dest, found) in [(3, Destination::Recalled), (9, Destination::Unknown), (77, Destination::Unknown)] {
        let expected = (NODE_ALICE, sent(NodeId(dest), SAMPLED, found));
        assert!(events.contains(&expected), "{expected:?} is not in {events:?}");
    }
    assert!(events.iter().all(|(node, _)| *node != NodeId(77)), "who does not exist has no history: {events:?}");
    let asked = world.take_sent();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].to, "198.18.1.3:4003".parse().unwrap());
}

#[test]
fn what_is_relayed_of_the_pair_is_counted_for_a_while() {
    let mut world = world(2);
    world.relay(ALICE, 1, 2, b"before");
    world.message(ALICE, trace(NODE_ALICE, NODE_BOB, SAMPLED));
    let began = world.now;
    world.take_events();
    world.pass(Duration::from_millis(20));
    world.relay(ALICE, 1, 2, b"one");
    world.relay(BOB, 2, 1, b"the other way");
    world.relay(ALICE, 1, 1, b"another pair");
    world.pass(Duration::from_millis(30));
    world.relay(ALICE, 1, 2, b"two");
    world.relay(MALLORY, 1, 2, b"dropped");
    world.take_events();
    assert_eq!(world.take_events(), []);
    world.pass(AFTERWARDS);
    world.relay(ALICE, 1, 2, b"after");
    let events = world.take_events_at();
    let expected = (began, NODE_ALICE, forwarded(2, 20_000, 50_000));
    assert!(events.contains(&expected), "{expected:?} is not in {events:?}");
    assert_eq!(events.iter().filter(|(.., what)| matches!(what, What::TraceForwarded { .. })).count(), 1);
}

#[test]
fn a_pair_that_went_direct_has_none_and_a_second_trace_begins_anew() {
    let mut world = world(1);
    world.message(ALICE, trace(NODE_ALICE, NODE_BOB, SAMPLED));
    world.take_events();
    world.pass(AFTERWARDS);
    assert_eq!(world.take_events(), [(NODE_ALICE, forwarded(0, 0, 0))]);

    world.message(ALICE, trace(NODE_ALICE, NODE_BOB, SAMPLED));
    world.relay(ALICE, 1, 2, b"x");
    world.take_events();
    let second = TraceContext { trace_id: [0x11; 16], ..SAMPLED };
    world.message(ALICE, trace(NODE_ALICE, NODE_BOB, second));
    assert!(world.take_events().contains(&(NODE_ALICE, forwarded(1, 0, 0))), "what the first trace saw");
    world.pass(AFTERWARDS);
    let of_second = What::TraceForwarded { peer: NODE_BOB, context: second, datagrams: 0, first_us: 0, last_us: 0 };
    assert_eq!(world.take_events(), [(NODE_ALICE, of_second)]);
}

/// Traced pairs whose end is told, by sender.
fn ended(world: &mut World) -> Vec<NodeId> {
    world.take_events();
    world.pass(AFTERWARDS);
    let ended = world.take_events().into_iter().filter(|(_, what)| matches!(what, What::TraceForwarded { .. }));
    ended.map(|(node, _)| node).collect()
}

#[test]
fn one_sender_takes_no_others_places() {
    let mut world = world(1);
    for dest in 3..7 {
        world.message(ALICE, trace(NODE_ALICE, NodeId(dest), SAMPLED));
    }
    assert_eq!(world.counters().get(Counter::WatchesRefused), 2);
    world.message(BOB, trace(NODE_BOB, NODE_ALICE, SAMPLED));
    assert_eq!(ended(&mut world), [NODE_ALICE, NODE_ALICE, NODE_BOB]);
}

#[test]
fn many_senders_hold_a_bounded_number_of_pairs() {
    let mut world = World::with_rules(Rules::default(), 1, 256);
    for node in 1..=100 {
        world.discover(ALICE, node);
        world.message(ALICE, trace(NodeId(node), NodeId(node + 1), SAMPLED));
    }
    assert_eq!(ended(&mut world).len(), 64);
    assert_eq!(world.counters().get(Counter::WatchesRefused), 36);
}

#[test]
fn datagrams_that_another_shard_relays_are_told_by_it() {
    let mut world = world(3);
    let packet = encode(Message::Relay { sender: NODE_ALICE, dest: NODE_BOB, inner: b"x" });
    world.message(ALICE, trace(NODE_ALICE, NODE_BOB, SAMPLED));
    let began = world.now;
    world.take_events();
    world.pass(Duration::from_millis(1));
    // Merged behind those of a node of shard 0; shard 2, where Bob belongs, relays none.
    world.receive_on(0, BEACON, ALICE, &packet);
    world.receive_on(0, BEACON, ALICE, &packet);
    world.receive_on(1, BEACON, ALICE, &packet);
    world.pass(AFTERWARDS);
    let mut events = world.take_events_at();
    events.sort_by_key(|(.., what)| matches!(what, What::TraceForwarded { datagrams: 1, .. }));
    let told = |datagrams| (began, NODE_ALICE, forwarded(datagrams, 1000, 1000));
    assert_eq!(events, [told(2), told(1)]);
}

#[test]
fn a_trace_that_reaches_another_shard_is_counted_where_the_sender_belongs() {
    let mut world = world(2);
    world.receive_on(0, BEACON, ALICE, &encode(trace(NODE_ALICE, NODE_BOB, SAMPLED)));
    world.take_events();
    world.relay(ALICE, 1, 2, b"x");
    world.pass(AFTERWARDS);
    assert_eq!(world.take_events(), [(NODE_ALICE, forwarded(1, 0, 0))], "and nothing is told by shard 0");
}

#[test]
fn where_nobody_can_be_asked_nobody_is_said_to_be() {
    for shards in [1, 2] {
        let mut world = world(shards);
        world.registered_at(4, "127.0.0.1:53");
        world.message(ALICE, trace(NODE_ALICE, NodeId(4), SAMPLED));
        let expected = (NODE_ALICE, sent(NodeId(4), SAMPLED, Destination::Unknown));
        assert_eq!(world.take_events()[0], expected);
        assert_eq!(world.take_sent(), []);
    }
}

#[test]
fn what_is_no_trace_is_malformed_and_bytes_behind_one_are_ignored() {
    let mut world = world(1);
    let whole = encode(trace(NODE_ALICE, NODE_BOB, SAMPLED));
    assert_eq!(whole.len(), TRACE_LEN);
    for len in 1..whole.len() {
        assert_eq!(world.receive(ALICE, &whole[..len]), Action::Drop(DropReason::Malformed), "{len} bytes");
    }
    for zeroed in [9..25, 25..33] {
        let mut damaged = whole.clone();
        damaged[zeroed].fill(0);
        assert_eq!(world.receive(ALICE, &damaged), Action::Drop(DropReason::Malformed), "{damaged:02x?}");
    }
    assert_eq!(world.take_events(), []);
    let longer = [whole.as_slice(), b"from a later version"].concat();
    assert_eq!(world.receive(ALICE, &longer), Action::Defer);
    assert_eq!(world.receive_on(0, STUN, ALICE, &whole), Action::Drop(DropReason::Malformed), "not the STUN port's");
    assert_eq!(world.receive_on(0, BEACON, ALICE, &whole), Action::Defer);
    world.counters();
}

#[test]
fn nobody_is_checked_in_a_laboratory() {
    let mut world = World::new(Admission::Open, 1);
    world.message(MALLORY, trace(NODE_ALICE, NODE_BOB, SAMPLED));
    assert_eq!(world.take_events()[0], (NODE_ALICE, sent(NODE_BOB, SAMPLED, Destination::Unknown)));
}
