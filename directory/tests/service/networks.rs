//! Networks: who makes them, who joins them, what members gain.

use crate::*;
use wire::registry::answer::NetworkSummary;

fn create(node_id: NodeId, name: &str, join_rule: &str, token: &str) -> Operation {
    Operation::CreateNetwork { node_id, name: name.into(), join_rule: join_rule.into(), token: token.into() }
}

fn join(node_id: NodeId, network_id: u16, token: &str) -> Operation {
    Operation::JoinNetwork { node_id, network_id, token: token.into() }
}

fn invite(inviter_id: NodeId, network_id: u16, target_node_id: NodeId) -> Operation {
    Operation::InviteToNetwork { network_id, inviter_id, target_node_id }
}

fn joined(answer: &Answer) -> bool {
    matches!(answer, Answer::JoinNetwork { .. })
}

/// Makes a network on the connection on which its creator has signed.
fn made(world: &mut World, creator: NodeId, name: &str, join_rule: &str, token: &str) -> u16 {
    match world.outcome(from(HOME, 1), &create(creator, name, join_rule, token).into()).answer {
        Answer::CreateNetwork { network_id, .. } => network_id,
        other => panic!("{other:?}"),
    }
}

fn networks(world: &mut World) -> Vec<NetworkSummary> {
    match world.ask(Operation::ListNetworks) {
        Answer::ListNetworks { networks } => networks,
        other => panic!("{other:?}"),
    }
}

#[test]
fn members_reach_one_another_without_trust() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let lab = made(&mut world, one, "lab", "open", "");
    assert!(!trusts(&mut world, one, two));
    assert!(joined(&world.by(&bob, join(two, lab, ""))));
    world.restart();
    assert!(trusts(&mut world, one, two) && trusts(&mut world, two, one));
    assert!(matches!(world.by(&bob, resolve(one, two)), Answer::Resolve(_)));
    assert_eq!(
        world.by(&alice, Operation::LeaveNetwork { node_id: one, network_id: lab }),
        Answer::LeaveNetwork { network_id: lab }
    );
    world.restart();
    assert!(!trusts(&mut world, one, two));
    let again = world.by(&alice, Operation::LeaveNetwork { node_id: one, network_id: lab });
    assert_eq!(error(again), "node 1 is not a member of network 1");
}

#[test]
fn a_token_opens_its_network_and_no_other_text_does() {
    let mut world = World::new();
    let (_, one) = world.node(1);
    let (bob, two) = world.node(2);
    assert_eq!(
        error(world.as_admin(create(one, "safe", "token", ""))),
        "token required: a network with join rule token needs one"
    );
    let safe = made(&mut world, one, "safe", "token", "s3cret");
    world.restart();
    for wrong in ["", "S3cret", "s3cret "] {
        assert_eq!(error(world.by(&bob, join(two, safe, wrong))), "invalid token for network 1");
    }
    assert!(joined(&world.by(&bob, join(two, safe, "s3cret"))));
    assert!(joined(&world.by(&bob, join(two, safe, ""))), "who is in is in");
}

#[test]
fn an_invitation_is_made_by_members_and_used_once() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let (eve, three) = world.node(3);
    let club = made(&mut world, one, "club", "invite", "");
    assert_eq!(error(world.by(&bob, join(two, club, ""))), "invitation required to join network 1");
    assert_eq!(error(world.by(&eve, invite(three, club, two))), "node 3 is not a member of network 1");
    assert_eq!(
        world.by(&alice, invite(one, club, two)),
        Answer::InviteToNetwork { network_id: club, target_node_id: two, status: None }
    );
    world.restart();
    match world.by(&alice, invite(one, club, two)) {
        Answer::InviteToNetwork { status, .. } => assert_eq!(status.as_deref(), Some("already_invited")),
        other => panic!("{other:?}"),
    }
    let polled = |world: &mut World| match world.by(&bob, Operation::PollInvites { node_id: two }) {
        Answer::PollInvites { invites } => {
            invites.into_iter().map(|invite| (invite.network_id, invite.inviter_id)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(polled(&mut world), [(club, one)]);
    assert_eq!(polled(&mut world), [(club, one)], "until it is answered");
    let answer = |accept| Operation::RespondInvite { node_id: two, network_id: club, accept };
    world.by(&bob, answer(false));
    assert_eq!(polled(&mut world), []);
    assert_eq!(error(world.by(&bob, answer(true))), "invitation to network 1 not found");
    world.by(&alice, invite(one, club, two));
    assert_eq!(world.by(&bob, answer(true)), Answer::RespondInvite { accepted: true, network_id: club });
    world.restart();
    assert!(trusts(&mut world, one, two));
    assert_eq!(error(world.by(&alice, invite(one, club, two))), "node 2 is already a member of network 1");
    world.by(&bob, Operation::LeaveNetwork { node_id: two, network_id: club });
    assert!(!joined(&world.by(&bob, join(two, club, ""))), "the invitation is used up");
}

#[test]
fn networks_are_made_by_who_is_proven_to_be_who() {
    let mut world = World::new();
    let (_, one) = world.node(1);
    let stranger = world.outcome(from(HOME, 9), &create(one, "lab", "open", "").into()).answer;
    assert!(error(stranger).starts_with("create_network requires the admin token"));
    assert!(matches!(world.as_admin(create(one, "lab", "open", "")), Answer::CreateNetwork { network_id: 1, .. }));
    assert_eq!(error(world.as_admin(create(one, "lab", "open", ""))), "network name \"lab\" already in use");
    assert_eq!(
        error(world.as_admin(create(one, "x", "friends", ""))),
        "invalid join_rule: expected open, token or invite"
    );
    assert!(error(world.as_admin(create(one, "Lab", "open", ""))).starts_with("invalid hostname"));
    assert_eq!(error(world.as_admin(create(NodeId(9), "y", "open", ""))), "node 9: node not found");
    for number in 1..32 {
        made(&mut world, one, &format!("net-{number}"), "open", "");
    }
    assert_eq!(error(world.as_admin(create(one, "one-more", "open", ""))), "too many networks");
}

#[test]
fn network_zero_is_everyone() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (_, two) = world.node(2);
    assert!(!trusts(&mut world, one, two), "and shares nothing");
    for operation in [join(one, 0, ""), Operation::LeaveNetwork { node_id: one, network_id: 0 }, invite(one, 0, two)] {
        assert_eq!(
            error(world.by(&alice, operation)),
            "cannot join, leave or invite to network 0: every node is in it"
        );
    }
    let backbone = &networks(&mut world)[0];
    assert_eq!((backbone.id, backbone.name.as_str(), backbone.members), (0, "backbone", Some(2)));
    assert_eq!(
        error(world.ask(Operation::ListNodes { network_id: 0, after: None })),
        "admin token required for list_nodes"
    );
    match world.as_admin(Operation::ListNodes { network_id: 0, after: None }) {
        Answer::ListNodes { nodes, .. } => assert_eq!(nodes.len(), 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn members_are_listed_to_members() {
    let mut world = World::new();
    let (_, one) = world.node(1);
    let club = made(&mut world, one, "club", "invite", "");
    let list = |world: &mut World, from: From| {
        world.outcome(from, &Operation::ListNodes { network_id: club, after: None }.into()).answer
    };
    match list(&mut world, from(HOME, 5)) {
        Answer::ListNodes { nodes, .. } => {
            assert_eq!((nodes.len(), nodes[0].node_id, nodes[0].address.network), (1, one, club));
            assert_eq!(nodes[0].last_seen, Some(world.now.unix_seconds));
        }
        other => panic!("{other:?}"),
    }
    assert!(error(list(&mut world, from("203.0.113.9", 9))).contains("required"));
    assert_eq!(error(world.ask(Operation::ListNodes { network_id: 9, after: None })), "network 9: network not found");
}

#[test]
fn every_network_has_a_policy_that_says_nothing() {
    let mut world = World::new();
    let (_, one) = world.node(1);
    let lab = made(&mut world, one, "lab", "open", "");
    for network_id in [0, lab] {
        let policy =
            Answer::GetNetworkPolicy { network_id, max_members: 0, allowed_ports: vec![], description: String::new() };
        assert_eq!(world.ask(Operation::GetNetworkPolicy { network_id }), policy);
    }
    assert_eq!(error(world.ask(Operation::GetNetworkPolicy { network_id: 9 })), "network 9: network not found");
}
