//! Handshakes that travel through the directory.

use crate::*;
use wire::registry::answer::{Delivered, HandshakeResponse};

const DELIVERED: Answer = Answer::RequestHandshake { status: Delivered::Delivered };

fn request(from_node_id: NodeId, to_node_id: NodeId) -> Operation {
    Operation::RequestHandshake { from_node_id, to_node_id, justification: "please".into() }
}

fn respond(node_id: NodeId, peer_id: NodeId, accept: bool) -> Operation {
    Operation::RespondHandshake { node_id, peer_id, accept }
}

/// Who asks, and what was answered, by whom.
fn poll(world: &mut World, key: &SigningKey, node_id: NodeId) -> (Vec<NodeId>, Vec<(NodeId, bool)>) {
    match world.by(key, Operation::PollHandshakes { node_id }) {
        Answer::PollHandshakes { requests, responses } => (
            requests.into_iter().map(|request| request.from_node_id).collect(),
            responses
                .into_iter()
                .map(|HandshakeResponse { from_node_id, accept, .. }| (from_node_id, accept))
                .collect(),
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_accepted_request_makes_trust_in_both_directions() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let asked = world.outcome(from(HOME, 1), &sign(&bob, request(two, one)));
    assert_eq!((asked.answer, asked.effects), (DELIVERED, vec![Effect::Notify(one)]));
    assert!(!trusts(&mut world, two, one), "a request alone opens nothing");
    world.restart();
    assert_eq!(poll(&mut world, &alice, one), (vec![two], vec![]));
    assert_eq!(poll(&mut world, &alice, one), (vec![], vec![]), "reading empties the inbox");

    let answered = world.outcome(from(HOME, 1), &sign(&alice, respond(one, two, true)));
    assert_eq!(answered.effects, [Effect::Notify(two)]);
    world.restart();
    assert!(trusts(&mut world, one, two) && trusts(&mut world, two, one));
    assert_eq!(poll(&mut world, &bob, two), (vec![], vec![(one, true)]));
    world.restart();
    assert_eq!(poll(&mut world, &bob, two), (vec![], vec![]));
    assert_eq!(poll(&mut world, &alice, one), (vec![], vec![]));
}

#[test]
fn a_report_answers_a_request_on_file_too() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    world.by(&bob, request(two, one));
    poll(&mut world, &alice, one);
    world.by(&alice, Operation::ReportTrust { node_id: one, peer_id: two });
    assert!(trusts(&mut world, one, two) && trusts(&mut world, two, one));
    let accepted = Answer::RespondHandshake { peer_id: two, accept: true };
    // Daemons send both, and repeat the response.
    assert_eq!(world.by(&alice, respond(one, two, true)), accepted);
    assert_eq!(world.by(&alice, respond(one, two, true)), accepted);
    assert_eq!(poll(&mut world, &bob, two), (vec![], vec![(one, true)]));
}

#[test]
fn nobody_is_told_of_an_acceptance_they_never_asked_for() {
    let mut world = World::new();
    let (_, one) = world.node(1);
    let (eve, three) = world.node(2);
    world.by(&eve, Operation::ReportTrust { node_id: three, peer_id: one });
    let refused = error(world.by(&eve, respond(three, one, true)));
    assert_eq!(refused, "cannot respond: no pending handshake request from node 1");
    assert_eq!(poll(&mut world, &key(1), one), (vec![], vec![]));
}

#[test]
fn a_rejected_request_is_answered_and_gone() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    world.by(&bob, request(two, one));
    assert_eq!(world.by(&alice, respond(one, two, false)), Answer::RespondHandshake { peer_id: two, accept: false });
    assert_eq!(poll(&mut world, &bob, two), (vec![], vec![(one, false)]));
    assert!(!trusts(&mut world, one, two) && !trusts(&mut world, two, one));
    assert!(error(world.by(&alice, respond(one, two, true))).contains("no pending handshake request"));
    world.by(&alice, respond(one, two, false));
    assert_eq!(poll(&mut world, &bob, two), (vec![], vec![]), "rejecting nothing tells nobody");
}

#[test]
fn one_request_waits_per_sender_and_repeats_once_read() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    assert_eq!(world.by(&bob, request(two, one)), DELIVERED);
    assert_eq!(error(world.by(&bob, request(two, one))), "handshake request from node 2 already pending at node 1");
    poll(&mut world, &alice, one);
    assert_eq!(world.by(&bob, request(two, one)), DELIVERED);
    assert_eq!(poll(&mut world, &alice, one).0, [two]);
    world.restart();
    assert_eq!(poll(&mut world, &alice, one).0, [two], "unanswered, so handed out again by a new process");
    assert_eq!(error(world.by(&bob, request(two, two))), "invalid peer: a node cannot name itself");
    assert_eq!(error(world.by(&bob, request(two, NodeId(9)))), "node 9: node not found");
}

#[test]
fn an_inbox_holds_a_hundred_and_prefers_the_unread() {
    let mut world = World::with(Limits { registrations_per_ip_per_minute: 1000, ..Limits::default() });
    let (alice, one) = world.node(0);
    let senders: Vec<_> = (1..=102).map(|seed| world.node(seed)).collect();
    for (sender, node) in &senders[..100] {
        assert_eq!(world.by(sender, request(*node, one)), DELIVERED);
    }
    let (late, last) = &senders[100];
    assert_eq!(error(world.by(late, request(*last, one))), "too many handshake requests pending at node 1");
    assert_eq!(poll(&mut world, &alice, one).0.len(), 100);
    assert_eq!(world.by(late, request(*last, one)), DELIVERED);
    assert_eq!(poll(&mut world, &alice, one).0, [*last]);
    let (_, first) = &senders[0];
    assert!(error(world.by(&alice, respond(one, *first, true))).contains("no pending"), "the oldest read one gave way");
    assert_eq!(world.store.load().unwrap().requests.len(), 100);
}

#[test]
fn nothing_is_told_of_the_banned_nor_to_those_who_wait_and_nothing_is_lost() {
    use directory::enrolment::Enrolment;

    let policy = |seeds: &[u8]| Policy {
        enrolment: Enrolment::Allowlist,
        listed: seeds.iter().map(|seed| public(&key(*seed))).collect(),
        ..Policy::default()
    };
    let mut world = World::under(policy(&[1, 2]), Limits::default());
    let ((alice, one), (bob, two)) = (world.node(1), world.node(2));
    let ban = Act::Ban { reason: String::new() };
    world.by(&bob, request(two, one));
    world.act("2", &ban).unwrap();
    assert_eq!(poll(&mut world, &alice, one), (vec![], vec![]));
    world.act("2", &Act::Unban).unwrap();
    world.service.set_policy(world.now, policy(&[2]));
    assert_eq!(poll(&mut world, &alice, one), (vec![], vec![]), "it waits");
    world.service.set_policy(world.now, policy(&[1, 2]));
    assert_eq!(poll(&mut world, &alice, one), (vec![two], vec![]));

    world.by(&alice, respond(one, two, true));
    world.act("1", &ban).unwrap();
    assert_eq!(poll(&mut world, &bob, two), (vec![], vec![]));
    world.act("1", &Act::Unban).unwrap();
    assert_eq!(poll(&mut world, &bob, two), (vec![], vec![(one, true)]));

    world.by(&bob, request(two, one));
    world.by(&alice, respond(one, two, true));
    world.by(&alice, Operation::Deregister { node_id: one });
    assert_eq!(poll(&mut world, &bob, two), (vec![], vec![]), "what it has answered goes with it");
    assert_eq!(world.store.load().unwrap().responses, []);
}
