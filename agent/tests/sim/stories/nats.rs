//! Every pair of NATs, two hosts behind one, and how soon the first answer is there.

use std::time::Duration;

use super::{Pair, SECOND};
use crate::brokering::{NATS, is_punchable};
use crate::link::Conditions;
use crate::nat::{Behaviour, Dependence};
use crate::seed;
use crate::world::World;

/// What a cold dial may take beside its round trips.
const COLD_DIAL_BASE: Duration = Duration::from_millis(300);
const COLD_DIAL_ROUND_TRIPS: u32 = 6;
/// From a cold dial to the direct path, where every host is 20 ms from the internet.
const DIRECT_MAX: Duration = Duration::from_millis(250);
/// Datagrams of two hosts and their relay in 20 s without traffic: two campaigns, keepalives.
const SILENCE_MAX: u64 = 300;

#[test]
fn every_pair_of_nats_connects_and_goes_direct_where_it_can() {
    let mut line = String::new();
    for (one_name, one) in NATS {
        for (other_name, other) in NATS {
            let mut pair = Pair::new(10, [one, other]);
            let Pair { world, a, b, .. } = &mut pair;
            let (a, b) = (*a, *b);
            let flow = world.dial(a, b, [20_000, 20_000]);
            world.delivered(flow, SECOND * 10);
            let direct = world.run_until(SECOND * 20, |world| world.is_direct(a, b));
            assert_eq!(direct, is_punchable(one, other), "{one_name} to {other_name}\n{}", world.describe(flow));
            if !direct {
                assert!(world.direct(a, b).is_none() && world.direct(b, a).is_none(), "no half direct path");
            }
            let flow = world.dial(b, a, [20_000, 20_000]);
            world.delivered(flow, SECOND * 10);
            world.check();
            let change = world.hosts[a.0].path_changes.iter().find(|change| change.direct.is_some());
            line += &match change {
                Some(change) => {
                    let after = change.at.since(world.flows[0].dialled_at);
                    assert!(after < DIRECT_MAX, "{one_name} to {other_name}: {after:?}\n{}", world.describe(flow));
                    format!("\n  {one_name} to {other_name}: direct after {} ms", after.as_millis())
                }
                None => format!("\n  {one_name} to {other_name}: relayed"),
            };
        }
    }
    println!("NAT pairs, 20 ms to the internet:{line}");
}

#[test]
fn a_cold_dial_is_answered_soon() {
    let delay = Duration::from_millis(30);
    let limit = COLD_DIAL_BASE + delay * 4 * COLD_DIAL_ROUND_TRIPS;
    for (name, nats) in [
        ("symmetric", [Some(Behaviour::SYMMETRIC); 2]),
        ("port-restricted", [Some(Behaviour::PORT_RESTRICTED); 2]),
        ("none", [None, None]),
    ] {
        let Pair { mut world, a, b, .. } = Pair::with(World::new(seed(11), 1), nats, Conditions::clean(delay));
        world.run_for(SECOND * 30);
        let flow = world.dial(a, b, [16, 16]);
        world.delivered(flow, SECOND * 10);
        let flow = &world.flows[flow];
        let after = flow.answered_at.map(|at| at.since(flow.dialled_at)).expect("delivered");
        println!("cold dial between two NATs ({name}), 30 ms one way: answered after {after:?}, limit {limit:?}");
        assert!(after < limit, "{name}: {after:?}");
    }
}

#[test]
fn a_nat_with_a_short_lifetime_is_kept_open() {
    let nat = |behaviour| Some(Behaviour { lifetime: SECOND * 30, ..behaviour });
    let mut pair = Pair::new(12, [nat(Behaviour::PORT_RESTRICTED), nat(Behaviour::SYMMETRIC)]);
    // Nobody speaks for minutes; then the relay still reaches both.
    pair.world.run_for(SECOND * 200);
    for (from, to) in [(pair.a, pair.b), (pair.b, pair.a)] {
        let flow = pair.world.dial(from, to, [1000, 1000]);
        pair.world.delivered(flow, SECOND * 5);
        pair.world.run_for(SECOND * 100);
    }
    println!("{}", pair.world.evidence("NAT lifetime 30 s"));
}

#[test]
fn hosts_behind_one_nat_meet_in_their_lan() {
    let mut world = World::new(seed(13), 1);
    let site = world.site(Some(Behaviour::SYMMETRIC), Conditions::clean(super::DELAY));
    let (a, b) = (world.host(site), world.host(site));
    world.await_ready();
    let flow = world.dial(a, b, [50_000, 50_000]);
    world.delivered(flow, SECOND * 10);
    let near = world.run_until(SECOND * 10, |world| {
        world.direct(a, b) == Some(world.hosts[b.0].socket()) && world.direct(b, a) == Some(world.hosts[a.0].socket())
    });
    assert!(near, "they meet at their private addresses:\n{}", world.describe(flow));
    println!("{}", world.evidence("one LAN"));
}

#[test]
fn hosts_kept_apart_in_their_lan_meet_by_hairpin() {
    for hairpins in [true, false] {
        let mut world = World::new(seed(14), 1);
        let site = world.site(Some(Behaviour { hairpins, ..Behaviour::FULL_CONE }), Conditions::clean(super::DELAY));
        world.sites[site.0].isolated = true;
        let (a, b) = (world.host(site), world.host(site));
        world.await_ready();
        let flow = world.dial(a, b, [50_000, 50_000]);
        world.delivered(flow, SECOND * 10);
        let direct = world.run_until(SECOND * 10, |world| world.is_direct(a, b));
        assert_eq!(direct, hairpins, "{}", world.describe(flow));
        let flow = world.dial(a, b, [50_000, 50_000]);
        world.delivered(flow, SECOND * 10);
        println!("{}", world.evidence(if hairpins { "hairpin" } else { "isolated hosts" }));
    }
}

/// Both hosts get another outer port for each endpoint of the other's, and neither NAT cares about the port of what comes
/// in: each probe shows the other side an endpoint it has not seen.
fn breeds_endpoints(one: Behaviour, other: Behaviour) -> bool {
    let changes = |nat: Behaviour| nat.mapping == Dependence::AddressAndPortDependent;
    let cares = |nat: Behaviour| nat.filtering == Dependence::AddressAndPortDependent;
    changes(one) && changes(other) && !cares(one) && !cares(other)
}

/// Runs the pairs of mapping and filtering that are chosen, and awaits rest.
fn come_to_rest(chosen: impl Fn(Behaviour, Behaviour) -> bool) {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    const DEPENDENCES: [Dependence; 3] = [EndpointIndependent, AddressDependent, AddressAndPortDependent];
    let nats: Vec<_> =
        DEPENDENCES.iter().flat_map(|mapping| DEPENDENCES.map(|f| Behaviour::new(*mapping, f))).collect();
    let pairs = nats.iter().enumerate().flat_map(|(index, one)| nats[index..].iter().map(move |other| (*one, *other)));
    let (mut count, mut direct, mut most) = (0, 0, 0);
    for (one, other) in pairs.filter(|(one, other)| chosen(*one, *other)) {
        let mut pair = Pair::new(15, [Some(one), Some(other)]);
        let flow = pair.world.dial(pair.a, pair.b, [1000, 1000]);
        pair.world.delivered(flow, SECOND * 10);
        let before = pair.world.watch.datagrams;
        pair.world.run_for(SECOND * 20);
        let sent = pair.world.watch.datagrams - before;
        let names = format!("{:?}/{:?} to {:?}/{:?}", one.mapping, one.filtering, other.mapping, other.filtering);
        assert!(sent < SILENCE_MAX, "{names}: {sent} datagrams in 20 s of silence:\n{}", pair.world.describe(flow));
        let is_direct = pair.world.is_direct(pair.a, pair.b);
        assert_eq!(is_direct, is_punchable(Some(one), Some(other)), "{names}\n{}", pair.world.describe(flow));
        (count, direct, most) = (count + 1, direct + u32::from(is_direct), most.max(sent));
    }
    println!("{count} pairs of mapping and filtering: {direct} direct; at most {most} datagrams in 20 s of silence");
}

#[test]
fn every_mapping_with_every_filter_comes_to_rest() {
    come_to_rest(|one, other| !breeds_endpoints(one, other));
}

#[test]
fn nats_that_breed_endpoints_come_to_rest_as_well() {
    come_to_rest(breeds_endpoints);
}
