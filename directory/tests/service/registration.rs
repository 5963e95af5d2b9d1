//! Numbers, keys, names, presence, and who may change what is known of a node.

use crate::*;

fn lookup(world: &mut World, from: From, node_id: NodeId) -> wire::registry::answer::Found {
    match world.outcome(from, &Operation::Lookup { node_id }.into()).answer {
        Answer::Lookup(found) => found,
        other => panic!("{other:?}"),
    }
}

fn endpoint(world: &mut World, key: &SigningKey, node: NodeId) -> String {
    match world.by(key, resolve(node, node)) {
        Answer::Resolve(resolved) => resolved.real_addr,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_has_one_number_for_ever() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (_, two) = world.node(2);
    assert_eq!((one, two), (NodeId(1), NodeId(2)));
    assert_eq!(world.node(1).1, one);
    world.restart();
    assert_eq!(world.node(2).1, two);
    assert_eq!(world.by(&alice, Operation::Deregister { node_id: one }), Answer::Deregister);
    world.restart();
    assert_eq!(world.node(3).1, NodeId(3), "the number of a node that has left is not given to another");
    assert_eq!(world.node(1).1, one);
}

#[test]
fn an_owner_does_not_take_over_anything() {
    let mut world = World::new();
    let (alice, mallory) = (key(1), key(2));
    let owned = |key: &SigningKey| Operation::Register(Register { owner: "a@x.test".into(), ..register(key) });
    let one = registered(&world.by(&alice, owned(&alice)));
    let two = registered(&world.signed(&mallory, from("203.0.113.9", 9), owned(&mallory)));
    assert_ne!(one, two);
}

#[test]
fn a_daemon_whose_heartbeat_is_unknown_is_told_to_register() {
    let mut world = World::new();
    let alice = key(1);
    let heartbeat = |node| Operation::Heartbeat { node_id: NodeId(node), report: None, bans_since: None };
    assert_eq!(error(world.by(&alice, heartbeat(7))), "node 7: node not found");
    world.node(1);
    assert_eq!(error(world.by(&key(2), heartbeat(1))), "signature verification failed");
    assert_eq!(error(world.ask(heartbeat(1))), "signature required for heartbeat");
    assert_eq!(world.by(&alice, heartbeat(1)), Answer::Heartbeat { time: world.now.unix_seconds, bans: None });
    assert_eq!(error(world.by(&alice, heartbeat(0))), "node 0: node not found");
    assert_eq!(error(world.by(&alice, heartbeat(u32::MAX))), "node 4294967295: node not found");
}

#[test]
fn keys_that_are_no_identity_are_refused() {
    let mut world = World::new();
    let with = |bytes| Operation::Register(Register { public_key: Base64(bytes), ..register(&key(1)) });
    // Points of small order fit any signature under lax rules; the last bytes are no point at all.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    for bytes in [neutral, [0; 32], [2; 32]] {
        assert_eq!(error(world.ask(with(bytes))), "invalid public_key: not an Ed25519 key");
    }
    assert_eq!(world.node(1).1, NodeId(1), "no number was used up");
}

#[test]
fn an_unsigned_registration_cannot_move_a_node_that_signs() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let before = endpoint(&mut world, &alice, one);
    assert_eq!(before, "198.51.100.1:4000");
    let moved = Register { listen_addr: "203.0.113.9:6666".into(), hostname: "evil".into(), ..register(&alice) };
    for restart in [false, true] {
        if restart {
            world.restart();
        }
        let answer = world.outcome(from("203.0.113.9", 9), &Operation::Register(moved.clone()).into()).answer;
        assert_eq!(registered(&answer), one);
        assert_eq!(endpoint(&mut world, &alice, one), before);
        assert_eq!(
            error(world.ask(Operation::ResolveHostname { hostname: "evil".into() })),
            "hostname \"evil\" not found"
        );
    }
    let forged = Request { signature: Some(Base64([7; 64])), ..Operation::Register(moved).into() };
    assert_eq!(error(world.outcome(from("203.0.113.9", 9), &forged).answer), "signature verification failed");
}

#[test]
fn a_node_that_never_signed_is_moved_only_while_it_is_not_connected_from_elsewhere() {
    let mut world = World::new();
    let alice = key(1);
    let at = |listen_addr: &str| Operation::Register(Register { listen_addr: listen_addr.into(), ..register(&alice) });
    let one = registered(&world.ask(at(":1")));
    world.by(&alice, Operation::Heartbeat { node_id: one, report: None, bans_since: None });
    world.outcome(from("203.0.113.9", 9), &at(":2").into());
    assert_eq!(endpoint(&mut world, &alice, one), "198.51.100.1:1");
    world.outcome(from(HOME, 2), &at(":3").into());
    assert_eq!(endpoint(&mut world, &alice, one), "198.51.100.1:3");
    world.service.handle_close(ConnectionId(1));
    world.outcome(from("203.0.113.9", 9), &at(":4").into());
    assert_eq!(endpoint(&mut world, &alice, one), "203.0.113.9:4");
}

#[test]
fn unknown_keys_are_limited_per_address_and_known_ones_are_not() {
    let mut world = World::new();
    for seed in 0..10 {
        world.node(seed);
    }
    let refused = error(world.by(&key(10), Operation::Register(register(&key(10)))));
    assert!(refused.starts_with("rate limited"), "{refused}");
    world.node(3);
    let elsewhere = world.signed(&key(10), from("203.0.113.9", 9), Operation::Register(register(&key(10))));
    assert_eq!(registered(&elsewhere), NodeId(11));
    world.pass(Duration::from_secs(6));
    world.node(11);
}

#[test]
fn a_full_directory_says_so() {
    let mut world = World::with(Limits { nodes_max: 2, ..Limits::default() });
    world.node(1);
    world.node(2);
    let refused = error(world.by(&key(3), Operation::Register(register(&key(3)))));
    assert_eq!(refused, "too many nodes: the directory is full");
    world.node(1);
}

#[test]
fn hostnames_are_first_come_and_survive_silence_and_restart() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    world.by(&alice, set_hostname(one, "alpha"));
    world.by(&alice, Operation::SetTags { node_id: one, tags: vec!["#web".into()] });
    assert_eq!(error(world.by(&bob, set_hostname(two, "alpha"))), "hostname \"alpha\" already in use");
    assert!(error(world.by(&bob, set_hostname(two, "Alpha"))).starts_with("invalid hostname"));
    let wanted = Operation::Register(Register { hostname: "alpha".into(), ..register(&bob) });
    match world.by(&bob, wanted) {
        Answer::Register(registered) => {
            assert_eq!(registered.hostname, None);
            assert_eq!(registered.hostname_error.unwrap(), "hostname \"alpha\" already in use");
        }
        other => panic!("{other:?}"),
    }
    world.pass(Duration::from_secs(86_400));
    world.restart();
    let find = Operation::ResolveHostname { hostname: "alpha".into() };
    let found =
        Answer::ResolveHostname { node_id: one, address: one.address(), public: false, hostname: "alpha".into() };
    assert_eq!(world.ask(find.clone()), found);
    world.by(&alice, Operation::Heartbeat { node_id: one, report: None, bans_since: None });
    assert_eq!(lookup(&mut world, from(HOME, 5), one).tags, ["web"]);
    world.by(&alice, set_hostname(one, ""));
    assert_eq!(error(world.ask(find)), "hostname \"alpha\" not found");
    world.by(&bob, set_hostname(two, "alpha"));
}

#[test]
fn presence_ends_after_five_minutes_and_takes_nothing_with_it() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    assert_eq!(world.service.figures().nodes_online, 1);
    world.pass(Duration::from_secs(299));
    assert_eq!(world.service.figures().nodes_online, 1);
    world.pass(Duration::from_secs(1));
    let figures = world.service.figures();
    assert_eq!((figures.nodes, figures.nodes_online), (1, 0));
    world.by(&alice, Operation::Heartbeat { node_id: one, report: None, bans_since: None });
    assert_eq!(world.service.figures().nodes_online, 1);
}

#[test]
fn lookup_hides_what_is_private_from_strangers_only() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    world.by(&alice, Operation::SetTags { node_id: one, tags: vec!["web".into()] });
    world.as_admin(Operation::CreateNetwork {
        node_id: one,
        name: "lab".into(),
        join_rule: "open".into(),
        token: String::new(),
    });
    let stranger = lookup(&mut world, from("203.0.113.9", 9), one);
    assert_eq!(
        (stranger.networks, stranger.tags.len(), stranger.version, stranger.real_addr),
        (vec![0], 0, None, None)
    );
    assert_eq!(stranger.public_key, public(&alice));
    let own = lookup(&mut world, from(HOME, 8), one);
    assert_eq!(
        (own.networks, own.tags.len(), own.version.as_deref(), own.real_addr),
        (vec![0, 1], 1, Some("1.18.0"), None)
    );

    world.by(&alice, Operation::SetVisibility { node_id: one, public: true });
    let stranger = lookup(&mut world, from("203.0.113.9", 9), one);
    assert_eq!(
        (stranger.networks.len(), stranger.tags.len(), stranger.real_addr.as_deref()),
        (2, 1, Some("198.51.100.1:4000"))
    );
}

#[test]
fn a_rotated_key_is_the_node_and_the_old_one_is_nobody() {
    let mut world = World::new();
    let (old, one) = world.node(1);
    let (_, two) = world.node(2);
    let new = key(9);
    let rotate = |new_public_key| Operation::RotateKey { node_id: one, new_public_key };
    assert_eq!(error(world.by(&old, rotate(public(&key(2))))), "invalid new_public_key: already in use");
    let rotated = Answer::RotateKey { node_id: one, address: one.address(), public_key: public(&new) };
    assert_eq!(world.by(&old, rotate(public(&new))), rotated);
    world.restart();
    assert_eq!(
        error(world.by(&old, Operation::Heartbeat { node_id: one, report: None, bans_since: None })),
        "signature verification failed"
    );
    assert!(
        error(world.by(&old, Operation::Register(register(&old)))).starts_with("invalid public_key: already replaced")
    );
    assert_eq!(registered(&world.by(&new, Operation::Register(register(&new)))), one);
    assert_eq!(
        error(world.by(&key(2), Operation::RotateKey { node_id: two, new_public_key: public(&old) })),
        "invalid new_public_key: already in use"
    );
    // The text that releases before 1.18.0 sign does not name the new key.
    let older = Operation::RotateKey { node_id: one, new_public_key: public(&key(10)) };
    let signature = Base64(new.sign(older.older_signed_text().unwrap().as_bytes()).to_bytes());
    let request = Request { signature: Some(signature), ..older.into() };
    assert!(matches!(world.outcome(from(HOME, 1), &request).answer, Answer::RotateKey { .. }));
}

#[test]
fn deregistering_ends_all_that_others_see() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    world.by(&alice, set_hostname(one, "alpha"));
    world.by(&alice, Operation::ReportTrust { node_id: one, peer_id: two });
    world.by(&bob, Operation::ReportTrust { node_id: two, peer_id: one });
    world.by(&alice, Operation::RequestHandshake { from_node_id: one, to_node_id: two, justification: String::new() });
    assert!(error(world.by(&bob, Operation::Deregister { node_id: one })).contains("signature"));
    let outcome = world.outcome(from(HOME, 1), &sign(&alice, Operation::Deregister { node_id: one }));
    assert_eq!((outcome.answer, outcome.effects), (Answer::Deregister, vec![Effect::Publish(one)]));
    assert_eq!(world.service.proven(one), None, "the relay is told to withdraw it");
    assert_eq!(error(world.ask(Operation::Lookup { node_id: one })), "node 1: node not found");
    assert_eq!(
        error(world.ask(Operation::ResolveHostname { hostname: "alpha".into() })),
        "hostname \"alpha\" not found"
    );
    assert_eq!(world.ask(Operation::Deregister { node_id: one }), Answer::Deregister, "again, and unsigned");
    assert_eq!(
        world.by(&bob, Operation::PollHandshakes { node_id: two }),
        Answer::PollHandshakes { requests: vec![], responses: vec![] }
    );
    assert_eq!(error(world.ask(Operation::Register(register(&alice)))), "signature required for register");
    world.node(1);
    world.restart();
    assert!(!trusts(&mut world, one, two) && !trusts(&mut world, two, one));
    assert_eq!(world.service.figures().nodes, 2);
}

#[test]
fn proven_addresses_follow_signatures_and_connections() {
    let mut world = World::new();
    let alice = key(1);
    let listening = |listen_addr: &str| Register { listen_addr: listen_addr.into(), ..register(&alice) };
    let outcome = world.outcome(from(HOME, 1), &sign(&alice, Operation::Register(listening("192.0.2.7:4000"))));
    let one = registered(&outcome.answer);
    assert_eq!(outcome.effects, [Effect::Publish(one)]);
    assert_eq!(world.proven(one), ["192.0.2.7", HOME]);

    let again = world
        .outcome(from(HOME, 1), &sign(&alice, Operation::Heartbeat { node_id: one, report: None, bans_since: None }));
    assert_eq!(again.effects, [], "nothing new to tell");
    world.by(&alice, Operation::PollHandshakes { node_id: one });
    let second = sign(&alice, Operation::PollInvites { node_id: one });
    assert_eq!(world.outcome(from("2001:db8::7", 2), &second).effects, [Effect::Publish(one)]);
    assert_eq!(world.proven(one), ["192.0.2.7", "2001:db8::7", HOME]);

    assert_eq!(world.service.handle_close(ConnectionId(1)), [Effect::Publish(one)]);
    assert_eq!(world.proven(one), ["192.0.2.7", "2001:db8::7"]);
    world.restart();
    assert_eq!(world.proven(one), ["192.0.2.7"], "only the signed registration is durable");

    world.signed(&alice, from(HOME, 1), Operation::Register(listening("0.0.0.0:4000")));
    assert_eq!(world.proven(one), [HOME], "a wildcard proves nothing");
    for last in 1..20 {
        let request = sign(&alice, Operation::Register(listening(&format!("0.0.0.0:{last}"))));
        world.outcome(from(&format!("203.0.113.{last}"), 100 + last), &request);
    }
    assert_eq!(world.proven(one), ["203.0.113.19", "203.0.113.18", "203.0.113.17", "203.0.113.16"]);
}

#[test]
fn a_signature_replayed_from_elsewhere_proves_nothing_while_the_first_connection_lives() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (home, evil) = (from(HOME, 1), from("203.0.113.9", 9));
    let heartbeat = sign(&alice, Operation::Heartbeat { node_id: one, report: None, bans_since: None });
    let registration = sign(&alice, Operation::Register(register(&alice)));
    let visibility = sign(&alice, Operation::SetVisibility { node_id: one, public: false });
    for request in [&heartbeat, &visibility] {
        world.outcome(home, request);
    }
    let replayed = world.outcome(evil, &heartbeat);
    assert_eq!(
        (replayed.answer, replayed.effects),
        (Answer::Heartbeat { time: world.now.unix_seconds, bans: None }, vec![])
    );
    world.outcome(evil, &registration);
    assert_eq!(world.proven(one), ["::1", HOME]);
    assert_eq!(endpoint(&mut world, &alice, one), "198.51.100.1:4000");
    let opened = Request { operation: Operation::SetVisibility { node_id: one, public: true }, ..visibility };
    assert!(error(world.outcome(evil, &opened).answer).starts_with("signature already in use"));

    // The same again, but the node has really moved: its old connection ends.
    world.service.handle_close(ConnectionId(1));
    assert_eq!(world.outcome(evil, &heartbeat).effects, [Effect::Publish(one)]);
    assert_eq!(world.proven(one), ["::1", "203.0.113.9"]);
    assert_eq!(endpoint(&mut world, &alice, one), "203.0.113.9:4000", "the endpoint follows");
}

/// Trust that was taken back does not come back with a copy of what once gave it, nor does a copy end a registration.
#[test]
fn acts_recorded_on_the_way_are_refused_from_elsewhere() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let (home, evil) = (from(HOME, 1), from("203.0.113.9", 9));
    let report = sign(&alice, Operation::ReportTrust { node_id: one, peer_id: two });
    world.outcome(home, &report);
    world.by(&alice, Operation::RevokeTrust { node_id: one, peer_id: two });
    assert!(error(world.outcome(evil, &report).answer).starts_with("signature already in use"));
    assert!(!trusts(&mut world, one, two));
    assert_eq!(world.service.replays().count, 1);
    assert_eq!(world.outcome(home, &report).answer, Answer::ReportTrust, "its own node may");
    assert!(trusts(&mut world, one, two));

    let request = Operation::RequestHandshake { from_node_id: two, to_node_id: one, justification: String::new() };
    let request = sign(&bob, request);
    world.outcome(home, &request);
    assert!(error(world.outcome(evil, &request).answer).starts_with("signature already in use"));

    let leave = sign(&alice, Operation::Deregister { node_id: one });
    world.outcome(home, &leave);
    world.node(1);
    assert!(error(world.outcome(evil, &leave).answer).starts_with("signature already in use"));

    // A node with two addresses at once is no replay, and one that has moved is none either.
    world.by(&alice, Operation::ReportTrust { node_id: one, peer_id: two });
    world.outcome(evil, &sign(&alice, Operation::PollInvites { node_id: one }));
    assert_eq!(world.outcome(evil, &report).answer, Answer::ReportTrust);
    world.service.handle_close(ConnectionId(1));
    assert!(matches!(world.outcome(from("203.0.113.77", 7), &request).answer, Answer::RequestHandshake { .. }));
}
