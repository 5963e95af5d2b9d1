//! Guessing the administrators' token.

use crate::*;

/// A request that only an administrator may make, from `ip`.
fn announce(world: &mut World, ip: &str, token: &str, exempt: bool) -> Answer {
    let operation = Operation::BeaconRegister { beacon_id: NodeId(7), addr: "192.0.2.10:9001".into() };
    let request = Request { admin_token: Some(token.into()), ..operation.into() };
    let caller = Caller {
        connection: from(ip, 0).connection,
        ip: ip.parse().unwrap(),
        exempt,
        advertised: &[],
        extensions: &[],
        relay_key: None,
    };
    match world.service.handle(world.now, &caller, &request, None) {
        Decision::Done(outcome) => outcome.answer,
        other => panic!("{other:?}"),
    }
}

const WRONG: &str = "invalid admin token";
const LIMITED: &str = "rate limited: too many wrong admin tokens from this address, try again in a minute";

#[test]
fn guesses_are_limited_per_address_and_then_the_right_token_tells_nothing() {
    let mut world = World::new();
    for _ in 0..5 {
        assert_eq!(error(announce(&mut world, "203.0.113.1", "guess", false)), WRONG);
    }
    for token in ["guess", ADMIN] {
        assert_eq!(error(announce(&mut world, "203.0.113.1", token, false)), LIMITED);
    }
    assert!(matches!(announce(&mut world, "203.0.113.2", ADMIN, false), Answer::BeaconRegister { .. }));
    let (_, node) = world.node(1);
    assert!(matches!(
        world.outcome(from("203.0.113.1", 0), &Operation::Lookup { node_id: node }.into()).answer,
        Answer::Lookup(_)
    ));
    world.pass(Duration::from_secs(60));
    assert!(matches!(announce(&mut world, "203.0.113.1", ADMIN, false), Answer::BeaconRegister { .. }));
}

#[test]
fn neither_the_right_token_nor_an_exempt_address_is_limited() {
    let mut world = World::new();
    for _ in 0..100 {
        assert!(matches!(announce(&mut world, "203.0.113.1", ADMIN, false), Answer::BeaconRegister { .. }));
        assert_eq!(error(announce(&mut world, "127.0.0.1", "guess", true)), WRONG);
    }
    assert!(matches!(announce(&mut world, "127.0.0.1", ADMIN, true), Answer::BeaconRegister { .. }));
}
