//! Networks: who makes them, who joins them, what members gain.

use crate::*;
use directory::facts::{Change, JoinRule, NetworkFact, NodeFact};
use wire::registry::MESSAGE_BYTES_MAX;
use wire::registry::answer::{Member, NetworkSummary};
use wire::registry::names::check_group_name;

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
    assert_eq!(error(world.as_admin(create(one, "LAB", "open", ""))), "network name \"LAB\" already in use");
    assert_eq!(error(world.as_admin(create(NodeId(9), "y", "open", ""))), "node 9: node not found");
    for number in 1..32 {
        made(&mut world, one, &format!("net-{number}"), "open", "");
    }
    assert_eq!(error(world.as_admin(create(one, "one-more", "open", ""))), "too many networks");
}

#[test]
fn who_is_in_too_many_networks_makes_none() {
    let mut world = World::new();
    let (makers, (_, three)) = ([world.node(1).1, world.node(2).1], world.node(3));
    for number in 0..64 {
        let network_id = made(&mut world, makers[number / 32], &format!("net-{number}"), "open", "");
        assert!(joined(&world.as_admin(join(three, network_id, ""))));
    }
    assert_eq!(error(world.as_admin(create(three, "own", "open", ""))), "too many networks of this node");
    let fourth = world.node(4).1;
    made(&mut world, fourth, "own", "open", "");
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

#[test]
fn names_of_groups_are_kept_as_written_and_compared_without_regard_to_case() {
    let mut world = World::new();
    let (_, one) = world.node(1);
    for name in ["RESEARCH", "TRAVEL", "trading-2", "7"] {
        made(&mut world, one, name, "open", "");
    }
    world.restart();
    let names: Vec<_> = networks(&mut world).into_iter().map(|network| network.name).collect();
    assert_eq!(names, ["backbone", "RESEARCH", "TRAVEL", "trading-2", "7"]);
    for (name, text) in [
        ("research", "network name \"research\" already in use"),
        ("Trading-2", "network name \"Trading-2\" already in use"),
        ("BACKBONE", "invalid group name: localhost, backbone and broadcast are reserved"),
        ("Broadcast", "invalid group name: localhost, backbone and broadcast are reserved"),
        ("-x", "invalid group name: 1 to 63 letters, digits and hyphens, no hyphen at either end"),
        ("x-", "invalid group name: 1 to 63 letters, digits and hyphens, no hyphen at either end"),
        ("", "invalid group name: 1 to 63 letters, digits and hyphens, no hyphen at either end"),
        ("Straße", "invalid group name: 1 to 63 letters, digits and hyphens, no hyphen at either end"),
        ("a b", "invalid group name: 1 to 63 letters, digits and hyphens, no hyphen at either end"),
        ("A\u{1b}[31m", "invalid group name: 1 to 63 letters, digits and hyphens, no hyphen at either end"),
    ] {
        assert_eq!(error(world.as_admin(create(one, name, "open", ""))), text);
    }
    assert!(check_group_name(&"A".repeat(63)).is_ok() && check_group_name(&"A".repeat(64)).is_err());
}

#[test]
fn a_group_outlives_its_members_and_its_creator_may_come_back() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let leave = |node_id, network_id| Operation::LeaveNetwork { node_id, network_id };
    let club = made(&mut world, one, "CLUB", "invite", "");
    let safe = made(&mut world, one, "SAFE", "token", "s3cret");
    world.by(&alice, invite(one, club, two));
    assert!(joined(&world.by(&bob, join(two, club, ""))), "an invitation opens it as well as an answer to it");

    world.by(&alice, leave(one, club));
    assert!(!trusts(&mut world, one, two));
    assert_eq!(error(world.by(&alice, invite(one, club, two))), "node 1 is not a member of network 1");
    world.by(&bob, leave(two, club));
    world.by(&alice, leave(one, safe));
    world.restart();
    let sizes = |world: &mut World| networks(world)[1..].iter().map(|network| network.members).collect::<Vec<_>>();
    assert_eq!(sizes(&mut world), [Some(0), Some(0)]);
    assert_eq!(error(world.by(&bob, join(two, club, ""))), "invitation required to join network 1");
    assert_eq!(error(world.as_admin(create(two, "club", "open", ""))), "network name \"club\" already in use");

    assert!(joined(&world.by(&alice, join(one, club, ""))) && joined(&world.by(&alice, join(one, safe, ""))));
    world.by(&alice, Operation::Deregister { node_id: one });
    world.restart();
    assert_eq!(sizes(&mut world), [Some(0), Some(0)]);
    world.node(1);
    assert_eq!(sizes(&mut world), [Some(0), Some(0)], "registering again brings nobody back into a group");
    assert!(joined(&world.by(&alice, join(one, club, ""))));
}

#[test]
fn deregistering_takes_back_invitations_too() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let club = made(&mut world, one, "CLUB", "invite", "");
    world.by(&alice, invite(one, club, two));
    world.by(&bob, Operation::Deregister { node_id: two });
    world.node(2);
    assert_eq!(world.by(&bob, Operation::PollInvites { node_id: two }), Answer::PollInvites { invites: vec![] });
    assert_eq!(error(world.by(&bob, join(two, club, ""))), "invitation required to join network 1");
}

/// A directory in which nodes 1 to `members` are in network 1; node 1 is that of `key(1)`.
fn crowded(members: u32, rule: JoinRule) -> World {
    let mut world = World::new();
    let node = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        let identity = if number == 1 { public(&key(1)) } else { Base64(bytes) };
        NodeFact {
            hostname: Some(format!("member-{number:0>56}")),
            tags: (0..10).map(|tag| format!("{tag:a>32}")).collect(),
            public: true,
            endpoint: "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".into(),
            ..NodeFact::new(NodeId(number), identity, world.now.unix_seconds)
        }
    };
    let network = NetworkFact {
        id: 1,
        name: "RESEARCH".into(),
        join_rule: rule,
        token_digest: None,
        creator: NodeId(1),
        created_at: world.now.unix_seconds,
    };
    let nodes = (1..=members).map(|number| Change::Node(Box::new(node(number))));
    let joined = (1..=members).map(|number| Change::Joined(1, NodeId(number)));
    let changes: Vec<_> = nodes.chain([Change::NetworkCreated(network)]).chain(joined).collect();
    world.store.commit(&changes).unwrap();
    world.restart();
    world
}

/// Pages of members, each as it would travel.
fn pages(ask: &mut impl FnMut(Option<NodeId>) -> Answer) -> Vec<Vec<Member>> {
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let mut message = Vec::new();
        wire::registry::push_message(&mut message, &ask(after));
        assert!(message.len() <= MESSAGE_BYTES_MAX, "{} bytes", message.len());
        let Answer::ListNodes { nodes, more } = Answer::decode(&message[4..]).unwrap() else { panic!("no members") };
        after = nodes.last().map(|member| member.node_id);
        pages.push(nodes);
        if !more {
            return pages;
        }
    }
}

#[test]
fn ten_thousand_members_are_listed_in_pages_that_fit() {
    let mut world = crowded(10_000, JoinRule::Open);
    for network_id in [1, 0] {
        let mut ask = |after| world.as_admin(Operation::ListNodes { network_id, after });
        let pages = pages(&mut ask);
        let ids: Vec<u32> = pages.iter().flatten().map(|member| member.node_id.0).collect();
        assert_eq!(ids, (1..=10_000).collect::<Vec<_>>());
        assert!((2..10).contains(&pages.len()), "{} pages", pages.len());
    }
    let end = world.as_admin(Operation::ListNodes { network_id: 1, after: Some(NodeId(u32::MAX)) });
    assert_eq!(end, Answer::ListNodes { nodes: vec![], more: false });
}

#[test]
fn a_group_of_ten_thousand_is_full_and_serves_its_members() {
    let mut world = crowded(10_000, JoinRule::Open);
    let alice = key(1);
    world.beat(&alice, NodeId(1));
    assert!(trusts(&mut world, NodeId(10_000), NodeId(1)));
    let Answer::Resolve(_) = world.by(&alice, resolve(NodeId(9999), NodeId(1))) else { panic!("not reached") };
    let network = &networks(&mut world)[1];
    assert_eq!((network.members, network.online), (Some(10_000), Some(1)));
    world.as_admin(Operation::LeaveNetwork { node_id: NodeId(5000), network_id: 1 });
    assert!(joined(&world.as_admin(join(NodeId(5000), 1, ""))));

    let mut fuller = crowded(10_000, JoinRule::Open);
    let (bob, two) = fuller.node(2);
    assert_eq!(error(fuller.by(&bob, join(two, 1, ""))), "too many members of this network");
}

#[test]
fn as_many_networks_as_there_can_be_fit_into_one_answer() {
    let mut world = World::new();
    world.node(1);
    world.node(2);
    let network = |id| NetworkFact {
        id,
        name: format!("{id:A>63}"),
        join_rule: JoinRule::Invite,
        token_digest: None,
        creator: NodeId(1),
        created_at: world.now.unix_seconds,
    };
    let changes: Vec<_> = (1..=4096).map(|id| Change::NetworkCreated(network(id))).collect();
    world.store.commit(&changes).unwrap();
    world.restart();
    let mut message = Vec::new();
    wire::registry::push_message(&mut message, &world.ask(Operation::ListNetworks));
    let Answer::ListNetworks { networks } = Answer::decode(&message[4..]).unwrap() else { panic!("no list") };
    assert_eq!(networks.len(), 4097);
    assert!(message.len() <= MESSAGE_BYTES_MAX);
    assert_eq!(error(world.as_admin(create(NodeId(2), "one-more", "open", ""))), "too many networks");
}

#[test]
fn one_address_cannot_take_all_networks_with_many_keys() {
    let mut world = World::with(Limits { registrations_per_ip_per_minute: 1000, ..Limits::default() });
    let make = |world: &mut World, seed: u8, name: &str, ip: &str| {
        let key = key(seed);
        let node_id = registered(&world.signed(&key, from(ip, u64::from(seed)), Operation::Register(register(&key))));
        let operation =
            Operation::CreateNetwork { node_id, name: name.into(), join_rule: "open".into(), token: String::new() };
        world.outcome(from(ip, u64::from(seed)), &operation.into()).answer
    };
    let made = (0..150).filter(|index| {
        let answer = make(&mut world, 1 + index / 25, &format!("group-{index}"), HOME);
        matches!(answer, Answer::CreateNetwork { .. })
    });
    assert_eq!(made.count(), 128);
    let refused = error(make(&mut world, 1, "one-more", HOME));
    assert!(refused.starts_with("rate limited: too many new networks"), "{refused}");
    assert!(matches!(make(&mut world, 9, "elsewhere", "203.0.113.9"), Answer::CreateNetwork { .. }));
    let (_, creator) = world.node(1);
    let named = |name: &str| Operation::CreateNetwork {
        node_id: creator,
        name: name.into(),
        join_rule: "open".into(),
        token: String::new(),
    };
    assert!(matches!(world.as_admin(named("by-the-administrator")), Answer::CreateNetwork { .. }));
    world.pass(Duration::from_secs(86_400));
    assert!(matches!(make(&mut world, 1, "tomorrow", HOME), Answer::CreateNetwork { .. }));
}

#[test]
fn after_the_highest_number_of_a_network_comes_the_lowest_free_one() {
    let mut world = World::new();
    let (_, one) = world.node(1);
    assert_eq!(made(&mut world, one, "first", "open", ""), 1);
    let imported = NetworkFact {
        id: u16::MAX,
        name: "imported".into(),
        join_rule: JoinRule::Open,
        token_digest: None,
        creator: one,
        created_at: world.now.unix_seconds,
    };
    world.store.commit(&[Change::NetworkCreated(imported)]).unwrap();
    world.restart();
    world.node(1);
    assert_eq!(made(&mut world, one, "second", "open", ""), 2);
}

#[test]
fn invitations_of_the_banned_are_not_shown() {
    let mut world = World::new();
    let ((alice, one), (bob, two)) = (world.node(1), world.node(2));
    let club = made(&mut world, one, "club", "invite", "");
    world.by(&alice, invite(one, club, two));
    let shown = |world: &mut World| match world.by(&bob, Operation::PollInvites { node_id: two }) {
        Answer::PollInvites { invites } => invites.len(),
        other => panic!("{other:?}"),
    };
    world.act("1", &Act::Ban { reason: String::new() }).unwrap();
    assert_eq!(shown(&mut world), 0);
    world.act("1", &Act::Unban).unwrap();
    assert_eq!(shown(&mut world), 1);
}
