//! Traffic changes its path while it flows: to a direct one, back to the relay, after a host that moves.

use super::{DELAY, Pair, SECOND, slow};
use crate::nat::Behaviour;
use crate::seed;
use crate::world::World;

const CONE: Option<Behaviour> = Some(Behaviour::FULL_CONE);
const STRICT: Option<Behaviour> = Some(Behaviour::PORT_RESTRICTED);
const SYMMETRIC: Option<Behaviour> = Some(Behaviour::SYMMETRIC);

#[test]
fn a_transfer_moves_from_the_relay_to_the_direct_path() {
    for nats in [[STRICT, STRICT], [SYMMETRIC, CONE], [None, STRICT]] {
        let Pair { mut world, a, b, .. } = Pair::slow(20, nats);
        let flow = world.dial(a, b, [300_000, 300_000]);
        world.delivered(flow, SECOND * 30);
        let (began, ended) = (world.flows[flow].opened_at, world.flows[flow].finished_at);
        for host in [a, b] {
            let change = world.hosts[host.0].path_changes.iter().find(|change| change.direct.is_some());
            let change = change.unwrap_or_else(|| panic!("it went direct:\n{}", world.describe(flow)));
            assert!(Some(change.at) < ended, "while bytes flowed:\n{}", world.describe(flow));
            assert!(began.is_some());
        }
        world.check();
        println!("{}", world.evidence("relay to direct"));
    }
}

#[test]
fn a_transfer_outlives_its_direct_path() {
    let mut pair = Pair::slow(21, [STRICT, STRICT]);
    pair.go_direct();
    let Pair { mut world, a, b, sites } = pair;
    let flow = world.dial(a, b, [500_000, 500_000]);
    world.progressed(flow, 100_000);
    world.block(sites[0], sites[1], true);
    let cut_at = world.now;
    let fell_back = world.run_until(SECOND * 10, |world| world.direct(a, b).is_none() && world.direct(b, a).is_none());
    assert!(fell_back, "both are back at the relay:\n{}", world.describe(flow));
    let after = world.now.since(cut_at);
    world.delivered(flow, SECOND * 30);
    world.check();
    println!("{}; noticed after {after:?}", world.evidence("direct path cut"));
    assert!(after < SECOND * 4, "{after:?}");
}

#[test]
fn a_direct_path_comes_back_once_it_can() {
    let mut pair = Pair::slow(22, [STRICT, STRICT]);
    pair.go_direct();
    let Pair { mut world, a, b, sites } = pair;
    world.block(sites[0], sites[1], true);
    let flow = world.dial(a, b, [200_000, 200_000]);
    world.delivered(flow, SECOND * 30);
    world.block(sites[0], sites[1], false);
    let back_at = world.now;
    let mut direct = false;
    while !direct && world.now.since(back_at) < SECOND * 120 {
        let flow = world.dial(a, b, [100, 100]);
        world.delivered(flow, SECOND * 5);
        direct = world.run_until(SECOND, |world| world.is_direct(a, b));
    }
    assert!(direct, "it is found again:\n{}", world.describe(flow));
    println!("{}; found again after {:?}", world.evidence("direct path back"), world.now.since(back_at));
}

#[test]
fn a_transfer_outlives_the_reboot_of_a_nat() {
    for (nats, rebooted) in [([STRICT, STRICT], 0), ([STRICT, STRICT], 1), ([CONE, STRICT], 0), ([SYMMETRIC; 2], 1)] {
        let Pair { mut world, a, b, sites } = Pair::slow(23, nats);
        let flow = world.dial(a, b, [500_000, 500_000]);
        world.progressed(flow, 300_000);
        if let Some(nat) = &mut world.sites[sites[rebooted].0].nat {
            nat.reboot();
        }
        world.delivered(flow, SECOND * 60);
        world.check();
        println!("{}", world.evidence("NAT reboot"));
    }
}

#[test]
fn a_transfer_outlives_another_public_address() {
    let Pair { mut world, a, b, sites } = Pair::slow(24, [STRICT, CONE]);
    let flow = world.dial(a, b, [500_000, 500_000]);
    world.progressed(flow, 300_000);
    world.renumber(sites[0]);
    world.delivered(flow, SECOND * 60);
    world.check();
    println!("{}", world.evidence("public address changed"));
}

#[test]
fn either_side_roams_during_a_transfer() {
    for (nats, roams) in [([STRICT, STRICT], 0), ([STRICT, STRICT], 1), ([SYMMETRIC, SYMMETRIC], 0), ([None, CONE], 1)]
    {
        let mut world = World::new(seed(25), 1);
        let elsewhere = world.site(STRICT, slow(DELAY * 2));
        let Pair { mut world, a, b, .. } = Pair::with(world, nats, slow(DELAY));
        let flow = world.dial(a, b, [500_000, 500_000]);
        world.progressed(flow, 300_000);
        let moved_at = world.now;
        let before = world.flows[flow].progress();
        world.roam([a, b][roams], elsewhere);
        world.run_until(SECOND * 60, |world| world.flows[flow].progress() > before + 50_000);
        let after = world.now.since(moved_at);
        world.delivered(flow, SECOND * 60);
        world.check();
        println!("{}; flows again after {after:?}", world.evidence("roaming"));
        assert!(after < SECOND * 10, "{after:?}");
    }
}

#[test]
fn a_move_that_nobody_reports_is_noticed() {
    for nats in [[STRICT, STRICT], [SYMMETRIC, SYMMETRIC]] {
        let mut world = World::new(seed(28), 1);
        let elsewhere = world.site(STRICT, slow(DELAY * 2));
        let Pair { mut world, a, b, .. } = Pair::with(world, nats, slow(DELAY));
        let flow = world.dial(a, b, [500_000, 500_000]);
        world.progressed(flow, 300_000);
        let (moved_at, before) = (world.now, world.flows[flow].progress());
        world.roam_unnoticed(a, elsewhere);
        world.run_until(SECOND * 60, |world| world.flows[flow].progress() > before + 50_000);
        let after = world.now.since(moved_at);
        world.delivered(flow, SECOND * 60);
        world.check();
        println!("{}; flows again after {after:?}", world.evidence("roaming unnoticed"));
    }
}

#[test]
fn both_sides_roam_at_once() {
    let mut world = World::new(seed(26), 1);
    let elsewhere = [world.site(STRICT, slow(DELAY)), world.site(CONE, slow(DELAY))];
    let mut pair = Pair::with(world, [STRICT, CONE], slow(DELAY));
    pair.go_direct();
    let Pair { mut world, a, b, .. } = pair;
    let flow = world.dial(a, b, [300_000, 300_000]);
    world.progressed(flow, 100_000);
    world.roam(a, elsewhere[0]);
    world.roam(b, elsewhere[1]);
    world.delivered(flow, SECOND * 60);
    world.check();
    println!("{}", world.evidence("both roam"));
}

#[test]
fn hosts_whose_nat_mixes_up_their_ports_are_reached_again() {
    let mut world = World::new(seed(27), 1);
    let nat = Behaviour { preserves_port: true, ..Behaviour::SYMMETRIC };
    let sites = [world.site(Some(nat), slow(DELAY)), world.site(SYMMETRIC, slow(DELAY))];
    let (a, c) = (world.host(sites[0]), world.host(sites[1]));
    world.run_for(SECOND * 5);
    let b = world.host(sites[0]);
    world.await_ready();
    world.dial_until_delivered(c, a, SECOND * 5);
    // The NAT forgets all, and the other host is the first to speak: it gets the port that was the first one's.
    if let Some(nat) = &mut world.sites[sites[0].0].nat {
        nat.reboot();
    }
    world.dial_until_delivered(b, c, SECOND * 5);
    let at = world.now;
    world.dial_until_delivered(c, a, SECOND * 60);
    println!("{}; reached {:?} after", world.evidence("mixed-up ports"), world.now.since(at));
}
