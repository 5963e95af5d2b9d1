//! Strict admission: sessions for what is proven alone, introductions by the directory's word.

use std::time::Duration;

use relay::events::{Refusal, What};
use relay::metrics::{Counter, DropReason};
use relay::server::{Action, Handoff};
use wire::NodeId;
use wire::beacon::Message;

use super::world::{BEACON, World, encode, endpoint, sent};

const ALICE: &str = "198.18.1.1:4001";
const BOB: &str = "198.18.1.2:4002";
const ELSEWHERE: &str = "198.18.6.6:666";
const RELAY: &str = "198.18.0.2:9001";

/// Alice with a proven address, Bob with a signature.
fn joined(shards: usize) -> World {
    let mut world = World::strict(shards);
    world.prove(1, &["198.18.1.1"]);
    world.discover(ALICE, 1);
    world.claim(BOB, 2);
    assert_eq!((world.place(1).as_deref(), world.place(2).as_deref()), (Some(ALICE), Some(BOB)));
    world.take_sent();
    world
}

#[test]
fn what_is_not_proven_is_answered_and_never_stored() {
    let mut world = World::strict(2);
    world.take_events();
    for round in 0..3 {
        world.discover(ELSEWHERE, 1);
        let reply = sent(ELSEWHERE, BEACON, Message::DiscoverReply(ELSEWHERE.parse().unwrap()));
        assert_eq!(world.take_sent(), [reply], "round {round}");
        assert_eq!(world.place(1), None);
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.counters().get(Counter::ClaimsUnproven), 3);
    let refused = What::ClaimRefused { candidate: endpoint(ELSEWHERE), why: Refusal::Unproven };
    assert!(world.take_events().contains(&(NodeId(1), refused)));
    assert_eq!(world.relay(ELSEWHERE, 1, 2, b"x"), Action::Drop(DropReason::SourceMismatch));
    world.discover(ELSEWHERE, 77);
    assert_eq!(world.place(77), None, "nor are strangers");
}

#[test]
fn the_proven_and_the_signed_reach_each_other() {
    for shards in [1, 2, 3] {
        let mut world = joined(shards);
        assert!(matches!(world.relay(ALICE, 1, 2, b"x"), Action::Forward { .. }), "{shards} shards");
        assert!(matches!(world.relay(BOB, 2, 1, b"x"), Action::Forward { .. }));
    }
}

#[test]
fn nobody_without_proof_so_much_as_disturbs_a_holder() {
    for shard in [0, 1] {
        let mut world = joined(2);
        let forged = encode(Message::Relay { sender: NodeId(1), dest: NodeId(2), inner: b"forged" });
        for _ in 0..10 {
            world.discover(ELSEWHERE, 1);
            world.discover(ELSEWHERE, 2);
            world.receive_on(shard, BEACON, ELSEWHERE, &forged);
            world.message(ELSEWHERE, Message::PunchRequest { requester: NodeId(2), target: NodeId(1) });
            world.pass(Duration::from_secs(1));
        }
        assert_eq!(world.counters().get(Counter::ContestsStarted), 0, "not even a question");
        assert_eq!((world.place(1).as_deref(), world.place(2).as_deref()), (Some(ALICE), Some(BOB)));
        let probe = sent(ALICE, BEACON, Message::PunchCommand(RELAY.parse().unwrap()));
        assert!(!world.take_sent().contains(&probe));
    }
}

#[test]
fn an_unproven_node_that_moves_is_let_in_by_its_signature() {
    let mut world = joined(2);
    world.discover("198.18.7.7:9", 2);
    assert_eq!(world.place(2).as_deref(), Some(BOB));
    world.claim("198.18.7.7:9", 2);
    assert_eq!(world.place(2).as_deref(), Some("198.18.7.7:9"));
}

#[test]
fn a_session_lapses_with_its_proof_and_a_signed_one_does_not() {
    let mut world = joined(2);
    world.prove(1, &["198.18.5.5"]);
    world.prove(2, &["198.18.5.5"]);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    assert_eq!((world.place(1), world.place(2).as_deref()), (None, Some(BOB)));
    assert!(world.take_events().contains(&(NodeId(1), What::SessionLapsed)));
    assert_eq!(world.relay(ALICE, 1, 2, b"x"), Action::Drop(DropReason::SourceMismatch));
}

/// A daemon's packets and punches keep its session alive, and prove nothing.
#[test]
fn a_session_of_packets_alone_lapses_with_its_proof_too_but_for_one_that_is_signed() {
    let mut world = joined(2);
    let minute = |world: &mut World| {
        for _ in 0..61 {
            world.relay(ALICE, 1, 2, b"x");
            world.relay(BOB, 2, 1, b"x");
            world.pass(Duration::from_secs(1));
        }
    };
    minute(&mut world);
    assert_eq!(world.place(1).as_deref(), Some(ALICE));
    world.membership.await_authority();
    world.prove(1, &["198.18.5.5"]);
    minute(&mut world);
    assert_eq!(world.place(1).as_deref(), Some(ALICE), "a directory that is still loading may not have said all");
    world.take_events();
    world.membership.set_authority(true);
    minute(&mut world);
    assert_eq!((world.place(1), world.place(2).as_deref()), (None, Some(BOB)));
    assert!(world.take_events().contains(&(NodeId(1), What::SessionLapsed)));
}

#[test]
fn nodes_are_recalled_only_where_they_are_proven() {
    let mut world = joined(2);
    // Where it last registered is proven; where a file says that it was is not.
    world.registered_at(3, "198.18.1.3:4003");
    world.membership.publish(NodeId(4), &["198.18.1.4".parse().unwrap()], Some("198.18.9.9:4004".parse().unwrap()));
    world.relay(ALICE, 1, 3, b"x");
    world.relay(ALICE, 1, 4, b"x");
    let probed: Vec<_> = world.take_sent().into_iter().map(|sent| sent.to.to_string()).collect();
    assert_eq!(probed, ["198.18.1.3:4003"]);
    world.receive("198.18.1.3:4003", b"PILP");
    assert_eq!(world.place(3).as_deref(), Some("198.18.1.3:4003"));
}

fn punch(world: &mut World, from: &str, requester: u32, target: u32) -> Action {
    world.message(from, Message::PunchRequest { requester: NodeId(requester), target: NodeId(target) })
}

#[test]
fn two_are_introduced_where_the_directory_would_tell_the_one_of_the_other() {
    for shards in [1, 2, 3] {
        let mut world = joined(shards);
        world.directory.introduces.insert((1, 2));
        assert_eq!(punch(&mut world, ALICE, 1, 2), Action::Defer);
        let to_alice = sent(ALICE, BEACON, Message::PunchCommand(BOB.parse().unwrap()));
        let to_bob = sent(BOB, BEACON, Message::PunchCommand(ALICE.parse().unwrap()));
        assert_eq!(world.take_sent(), [to_alice, to_bob], "{shards} shards");
        world.take_events();
        assert_eq!(punch(&mut world, BOB, 2, 1), Action::Defer);
        assert!(world.take_sent().is_empty(), "the other way is not allowed");
        assert_eq!(world.counters().get(Counter::PunchesRefused), 1);
        assert_eq!(world.take_events(), [(NodeId(2), What::PunchRefused { peer: NodeId(1) })]);
        world.directory.introduces.clear();
        punch(&mut world, ALICE, 1, 2);
        assert!(world.take_sent().is_empty(), "nothing is remembered of trust that has ended");
    }
}

#[test]
fn who_asks_for_somebody_it_may_not_know_learns_not_even_whether_it_is_there() {
    let mut world = joined(2);
    world.registered_at(3, "198.18.1.3:4003");
    assert_eq!(punch(&mut world, ALICE, 1, 2), Action::Defer);
    assert_eq!(punch(&mut world, ALICE, 1, 3), Action::Defer);
    assert_eq!(punch(&mut world, ALICE, 1, 77), Action::Defer);
    assert!(world.take_sent().is_empty(), "and none of them is asked");
    assert_eq!(punch(&mut world, ELSEWHERE, 1, 2), Action::Drop(DropReason::SourceMismatch));
}

#[test]
fn an_answer_that_comes_late_is_looked_at_again() {
    let mut world = joined(2);
    world.directory.introduces.insert((1, 2));
    world.holds_questions = true;
    punch(&mut world, ALICE, 1, 2);
    world.membership.withdraw(NodeId(1));
    world.hand(Handoff::Withdraw(NodeId(1)), 1);
    world.answer();
    assert!(world.take_sent().is_empty(), "the one that asked is gone");

    let mut world = joined(2);
    world.directory.introduces.insert((1, 2));
    world.holds_questions = true;
    punch(&mut world, ALICE, 1, 2);
    world.hand(Handoff::Withdraw(NodeId(2)), 2);
    world.prove(2, &["198.18.1.2"]);
    world.membership.publish(NodeId(2), &["198.18.1.2".parse().unwrap()], Some(BOB.parse().unwrap()));
    world.answer();
    let probe = sent(BOB, BEACON, Message::PunchCommand(RELAY.parse().unwrap()));
    assert_eq!(world.take_sent(), [probe], "the other is gone, and asked where it was");
}

#[test]
fn questions_to_the_directory_have_a_budget() {
    let rules = relay::server::Rules {
        punches_per_second: 10,
        admission: relay::server::Admission::Strict,
        ..relay::server::Rules::default()
    };
    for (exempt, granted) in [(vec!["198.18.1.1/32".parse().unwrap()], 10), (Vec::new(), 2)] {
        let mut world = World::with_rules(relay::server::Rules { exempt, ..rules.clone() }, 1, 64);
        world.prove(1, &["198.18.1.1"]);
        world.prove(2, &["198.18.1.2"]);
        world.discover(ALICE, 1);
        world.discover(BOB, 2);
        let asked = (0..100).filter(|_| punch(&mut world, ALICE, 1, 2) == Action::Defer).count();
        assert_eq!(asked, granted, "an eighth, rounded up, where the source is not exempt");
        assert_eq!(world.counters().dropped(DropReason::QuestionBudget), 100 - granted as u64);
        let other = punch(&mut world, BOB, 2, 1);
        assert_eq!(other == Action::Defer, granted < 10, "what one has left is there for the others");
    }
}
