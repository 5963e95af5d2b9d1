//! Recorded questions: what they are worth to others, and to a node whose clock is wrong.

use crate::*;
use directory::service::questions::CLOCKS_APART_MAX_SECONDS;
use wire::registry::answer::directory_time;
use wire::registry::request::{Changes, Query};

const ELSEWHERE: &str = "203.0.113.9";

/// Both questions, signed at this time.
fn questions(key: &SigningKey, node: NodeId, at: Option<u64>) -> [Request; 2] {
    let query = Query { requester_id: Some(node), offline: true, ..Query::default() };
    let changes = Changes { requester_id: Some(node), ..Changes::default() };
    [Operation::Query(query), Operation::Changes(changes)].map(|question| sign(key, question.to_be_signed_at(at)))
}

fn refusal(answer: Answer) -> String {
    match answer {
        Answer::Error { error } => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_recorded_question_is_worth_nothing_to_whoever_repeats_it() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    for question in questions(&alice, one, Some(world.now.unix_seconds)) {
        let asked = |world: &mut World, from| world.outcome(from, &question).answer;
        assert!(!matches!(asked(&mut world, from(HOME, 2)), Answer::Error { .. }));
        for copied in [from(ELSEWHERE, 9), from(HOME, 3)] {
            assert!(refusal(asked(&mut world, copied)).contains("signature already used"));
        }
        assert!(!matches!(asked(&mut world, from(HOME, 2)), Answer::Error { .. }), "one connection is one asker");
        // Who asked may be gone: it does not matter.
        world.service.handle_close(ConnectionId(2));
        world.service.handle_close(ConnectionId(1));
        assert!(refusal(asked(&mut world, from(ELSEWHERE, 9))).contains("signature already used"));
    }
    assert_eq!(world.service.replays().count, 6);

    let recorded = questions(&alice, one, Some(world.now.unix_seconds));
    world.pass(Duration::from_secs(1));
    world.restart();
    let error = refusal(world.outcome(from(ELSEWHERE, 9), &recorded[0]).answer);
    assert_eq!(directory_time(&error), Some(world.now.unix_seconds), "nobody remembers, so it is too old: {error}");
    let recorded = questions(&alice, one, Some(world.now.unix_seconds));
    world.pass(Duration::from_secs(CLOCKS_APART_MAX_SECONDS + 1));
    for question in &recorded {
        assert!(refusal(world.outcome(from(ELSEWHERE, 9), question).answer).contains("signature expired"));
    }
}

#[test]
fn a_question_of_another_time_is_answered_with_the_time_it_is_here() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let now = world.now.unix_seconds;
    world.pass(Duration::from_secs(CLOCKS_APART_MAX_SECONDS * 3));
    for at in [now, now + CLOCKS_APART_MAX_SECONDS * 5, 0, u64::MAX] {
        for question in questions(&alice, one, Some(at)) {
            let error = refusal(world.outcome(from(HOME, 1), &question).answer);
            let here = directory_time(&error);
            assert_eq!(here, Some(world.now.unix_seconds), "{error}");
            let Request { operation, .. } = question;
            let again = sign(&alice, operation.to_be_signed_at(here));
            assert!(!matches!(world.outcome(from(HOME, 1), &again).answer, Answer::Error { .. }));
            world.pass(Duration::from_secs(1));
        }
    }
}

#[test]
fn a_question_of_an_older_agent_counts_where_its_node_is_connected() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    for question in questions(&alice, one, None) {
        // Its questions come on connections of their own.
        assert!(!matches!(world.outcome(from(HOME, 7), &question).answer, Answer::Error { .. }));
        let error = refusal(world.outcome(from(ELSEWHERE, 9), &question).answer);
        assert!(error.contains("signature without a time"), "{error}");
    }
    // Hosts speak from several addresses of one /64.
    world.signed(&alice, from("2001:db8::1", 4), Operation::Heartbeat { node_id: one, report: None, bans_since: None });
    for question in questions(&alice, one, None) {
        assert!(!matches!(world.outcome(from("2001:db8::2", 7), &question).answer, Answer::Error { .. }));
        let error = refusal(world.outcome(from("2001:db8:0:1::1", 7), &question).answer);
        assert!(error.ends_with("; upgrade pilot-agent on that node"), "{error}");
    }
    world.service.handle_close(ConnectionId(4));
    world.service.handle_close(ConnectionId(1));
    for question in questions(&alice, one, None) {
        assert!(refusal(world.outcome(from(HOME, 7), &question).answer).contains("signature without a time"));
    }
}
