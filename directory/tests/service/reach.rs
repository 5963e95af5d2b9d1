//! Who may resolve whom, trust and its direction, relays.

use crate::*;

fn allowed(answer: &Answer) -> bool {
    matches!(answer, Answer::Resolve(_))
}

#[test]
fn a_private_node_is_resolved_by_whom_it_trusts_and_nobody_else() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let (eve, three) = world.node(3);
    let refused = error(world.by(&bob, resolve(one, two)));
    assert_eq!(refused, "trust required: node 1 is private and does not trust node 2; send it a handshake");

    assert_eq!(world.by(&eve, Operation::ReportTrust { node_id: three, peer_id: one }), Answer::ReportTrust);
    assert!(!allowed(&world.by(&eve, resolve(one, three))), "nobody admits themselves");
    assert!(!trusts(&mut world, one, three) && trusts(&mut world, three, one));

    world.by(&alice, Operation::ReportTrust { node_id: one, peer_id: two });
    world.restart();
    assert!(allowed(&world.by(&bob, resolve(one, two))));
    assert!(!allowed(&world.by(&alice, resolve(two, one))), "the other direction is not alice's to give");
    assert!(trusts(&mut world, one, two) && !trusts(&mut world, two, one));

    assert!(error(world.by(&eve, resolve(one, two))).contains("signature"), "nobody speaks for another");
    world.by(&alice, Operation::SetVisibility { node_id: one, public: true });
    assert!(allowed(&world.by(&eve, resolve(one, three))));
    assert!(!trusts(&mut world, one, three), "visible is not trusted");
}

#[test]
fn revoking_ends_both_directions_and_what_would_revive_them() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    for _ in 0..2 {
        world.by(&alice, Operation::ReportTrust { node_id: one, peer_id: two });
        world.by(&bob, Operation::ReportTrust { node_id: two, peer_id: one });
        world
            .by(&bob, Operation::RequestHandshake { from_node_id: two, to_node_id: one, justification: String::new() });
        assert_eq!(world.by(&alice, Operation::RevokeTrust { node_id: one, peer_id: two }), Answer::RevokeTrust);
        world.restart();
        assert!(!trusts(&mut world, one, two) && !trusts(&mut world, two, one));
        let accept = Operation::RespondHandshake { node_id: one, peer_id: two, accept: true };
        assert_eq!(error(world.by(&alice, accept)), "cannot respond: no pending handshake request from node 2");
    }
    assert_eq!(
        error(world.by(&bob, Operation::RevokeTrust { node_id: two, peer_id: one })),
        "trust with node 1 not found"
    );
}

#[test]
fn trust_needs_two_nodes() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let report = |peer| Operation::ReportTrust { node_id: one, peer_id: NodeId(peer) };
    assert_eq!(error(world.by(&alice, report(1))), "invalid peer: a node cannot name itself");
    assert_eq!(error(world.by(&alice, report(9))), "node 9: node not found");
    assert_eq!(world.ask(check_trust(one, NodeId(9))), Answer::CheckTrust { trusted: false });
}

#[test]
fn a_relay_only_node_is_reached_at_the_relay_of_the_asking_connection() {
    let mut world = World::new();
    let alice = key(1);
    let wish = Register { relay_only: true, lan_addrs: vec!["10.0.0.1:4000".into()], ..register(&alice) };
    let one = registered(&world.by(&alice, Operation::Register(wish)));
    let (bob, two) = world.node(2);
    world.by(&alice, Operation::SetVisibility { node_id: one, public: true });
    world.restart();
    match world.by(&bob, resolve(one, two)) {
        Answer::Resolve(resolved) => {
            assert_eq!((resolved.real_addr.as_str(), resolved.relay_only), ("192.0.2.1:9001", true));
            assert_eq!(resolved.lan_addrs, Vec::<String>::new());
        }
        other => panic!("{other:?}"),
    }
    match world.ask(Operation::Lookup { node_id: one }) {
        Answer::Lookup(found) => assert_eq!(found.real_addr, None, "its own address stays its own"),
        other => panic!("{other:?}"),
    }
    world.relays.clear();
    assert!(error(world.by(&bob, resolve(one, two))).starts_with("relay for node 1 not found"));
}

#[test]
fn resolve_tells_key_age_and_local_addresses() {
    let mut world = World::new();
    let alice = key(1);
    let local = vec!["10.0.0.1:4000".into(), "no address".into(), "[fd00::1]:4000".into()];
    let one = registered(&world.by(&alice, Operation::Register(Register { lan_addrs: local, ..register(&alice) })));
    world.pass(Duration::from_secs(3 * 86_400));
    world.restart();
    match world.by(&alice, resolve(one, one)) {
        Answer::Resolve(resolved) => {
            assert_eq!(resolved.key_age_days, Some(3));
            assert_eq!(resolved.lan_addrs, ["10.0.0.1:4000", "[fd00::1]:4000"]);
            assert_eq!(resolved.public_key, Some(public(&alice)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn punch_needs_a_part_in_it_and_the_right_to_reach() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let (eve, three) = world.node(3);
    let punch = |requester_id| Operation::Punch { requester_id, node_a: one, node_b: two };
    assert_eq!(error(world.by(&eve, punch(three))), "invalid punch: the requester must be one of the two nodes");
    assert!(error(world.by(&alice, punch(one))).starts_with("trust required"));
    world.by(&bob, Operation::ReportTrust { node_id: two, peer_id: one });
    let endpoint = "198.51.100.1:4000".to_owned();
    let answer = Answer::Punch { node_a: one, node_a_addr: endpoint.clone(), node_b: two, node_b_addr: endpoint };
    assert_eq!(world.by(&alice, punch(one)), answer);
}

#[test]
fn beacons_are_the_own_relay_and_those_an_administrator_announces() {
    let mut world = World::new();
    let announce = |addr: &str| Operation::BeaconRegister { beacon_id: NodeId(7), addr: addr.into() };
    let list = |world: &mut World| match world.ask(Operation::BeaconList) {
        Answer::BeaconList { beacons } => beacons.into_iter().map(|beacon| beacon.addr).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(list(&mut world), ["192.0.2.1:9001"]);
    assert_eq!(error(world.ask(announce("192.0.2.10:9001"))), "admin token required for beacon_register");
    let wrong = Request { admin_token: Some("guess".into()), ..announce("192.0.2.10:9001").into() };
    assert_eq!(error(world.outcome(from(HOME, 1), &wrong).answer), "invalid admin token");
    assert!(error(world.as_admin(announce("nowhere"))).starts_with("invalid addr"));
    assert_eq!(world.as_admin(announce("192.0.2.10:9001")), Answer::BeaconRegister { beacon_id: NodeId(7) });
    assert_eq!(list(&mut world), ["192.0.2.1:9001", "192.0.2.10:9001"]);
    world.pass(Duration::from_secs(60));
    assert_eq!(list(&mut world), ["192.0.2.1:9001"], "an announcement has to be renewed");
}

#[test]
fn what_the_own_relay_understands_is_said_of_it_alone() {
    let mut world = World::new();
    world.extensions = vec!["trace".to_owned()];
    world.relay_key = Some(Base64([7; 32]));
    world.as_admin(Operation::BeaconRegister { beacon_id: NodeId(7), addr: "192.0.2.10:9001".into() });
    let Answer::BeaconList { beacons } = world.ask(Operation::BeaconList) else { panic!("no list") };
    let extensions: Vec<&[String]> = beacons.iter().map(|beacon| beacon.extensions.as_slice()).collect();
    assert_eq!(extensions, [&["trace".to_owned()][..], &[]]);
    let keys: Vec<_> = beacons.iter().map(|beacon| beacon.relay_key).collect();
    assert_eq!(keys, [Some(Base64([7; 32])), None]);
}

#[test]
fn a_relay_may_ask_whose_key_is_whose_and_who_would_be_told_of_whom() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let stranger = NodeId(77);
    assert_eq!(world.service.public_key(one), Some(alice.verifying_key().to_bytes()));
    assert_eq!(world.service.public_key(stranger), None);
    assert!(world.service.lets_resolve(one, one), "who asks for itself");
    assert!(!world.service.lets_resolve(one, two), "both are private");
    world.by(&bob, Operation::ReportTrust { node_id: two, peer_id: one });
    assert!(world.service.lets_resolve(one, two), "two trusts one");
    assert!(!world.service.lets_resolve(two, one), "which says nothing of the other way");
    world.by(&bob, Operation::RevokeTrust { node_id: two, peer_id: one });
    assert!(!world.service.lets_resolve(one, two), "trust has ended");
    world.by(&bob, Operation::SetVisibility { node_id: two, public: true });
    assert!(world.service.lets_resolve(one, two), "whoever is public is there for all");
    assert!(!world.service.lets_resolve(stranger, two), "but not for those who do not exist");
    assert!(!world.service.lets_resolve(one, stranger));
}

#[test]
fn key_expiry_is_acknowledged() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    assert_eq!(world.by(&alice, Operation::SetKeyExpiry { node_id: one }), Answer::SetKeyExpiry { node_id: one });
}
