//! What others depend on goes away and comes back: relays, the directory, a process, a clock.

use super::{DELAY, Pair, SECOND, slow};
use crate::nat::Behaviour;
use crate::seed;
use crate::world::World;

const STRICT: Option<Behaviour> = Some(Behaviour::PORT_RESTRICTED);
const SYMMETRIC: Option<Behaviour> = Some(Behaviour::SYMMETRIC);

#[test]
fn a_relayed_transfer_outlives_a_restart_of_the_relay() {
    for nats in [[SYMMETRIC, SYMMETRIC], [SYMMETRIC, STRICT]] {
        let Pair { mut world, a, b, .. } = Pair::slow(30, nats);
        let flow = world.dial(a, b, [400_000, 400_000]);
        world.progressed(flow, 200_000);
        world.relays[0].up = false;
        world.run_for(SECOND * 2);
        let back_at = world.now;
        let before = world.flows[flow].progress();
        world.restart_relay(0);
        world.run_until(SECOND * 60, |world| world.flows[flow].progress() > before + 50_000);
        let after = world.now.since(back_at);
        world.delivered(flow, SECOND * 60);
        world.check();
        println!("{}; flows again after {after:?}", world.evidence("relay restart"));
        assert!(after < SECOND * 30, "{after:?}");
    }
}

#[test]
fn a_direct_transfer_does_not_need_the_relay() {
    let mut pair = Pair::slow(31, [STRICT, STRICT]);
    pair.go_direct();
    let Pair { mut world, a, b, .. } = pair;
    world.relays[0].up = false;
    let began = world.now;
    let flow = world.dial(a, b, [400_000, 400_000]);
    world.delivered(flow, SECOND * 10);
    println!("{}; took {:?}", world.evidence("direct without relay"), world.now.since(began));
}

#[test]
fn both_go_to_the_second_relay_when_the_first_is_gone() {
    let world = World::new(seed(32), 2);
    let Pair { mut world, a, b, .. } = Pair::with(world, [SYMMETRIC, SYMMETRIC], slow(DELAY));
    let used = world.hosts[a.0].node().and_then(|node| node.relay()).expect("ready");
    let flow = world.dial(a, b, [400_000, 400_000]);
    world.progressed(flow, 200_000);
    let index = world.relays.iter().position(|relay| relay.beacon() == used).expect("one of ours");
    world.relays[index].up = false;
    let gone_at = world.now;
    let before = world.flows[flow].progress();
    world.run_until(SECOND * 100, |world| world.flows[flow].progress() > before + 50_000);
    let after = world.now.since(gone_at);
    world.delivered(flow, SECOND * 100);
    for host in [a, b] {
        assert_ne!(world.hosts[host.0].node().and_then(|node| node.relay()), Some(used), "{}", world.describe(flow));
    }
    let attempts = world.dial_until_delivered(b, a, SECOND * 10);
    println!("{}; flows again after {after:?}, {attempts} dial", world.evidence("relay failover"));
    assert!(after < SECOND * 60, "{after:?}");
}

#[test]
fn an_outage_of_the_directory_is_not_noticed_by_those_who_know_each_other() {
    let mut world = World::new(seed(33), 1);
    let site = world.site(STRICT, slow(DELAY));
    let stranger = world.host(site);
    let Pair { mut world, a, b, .. } = Pair::with(world, [SYMMETRIC, STRICT], slow(DELAY));
    let flow = world.dial(a, b, [400_000, 400_000]);
    world.progressed(flow, 200_000);
    world.stop_directory();
    world.delivered(flow, SECOND * 20);
    let waiting = world.dial(a, stranger, [1000, 1000]);
    for _ in 0..5 {
        world.run_for(SECOND * 50);
        let flow = world.dial(b, a, [10_000, 10_000]);
        world.delivered(flow, SECOND * 10);
    }
    let first = if world.flows[waiting].has_failed() { "failed" } else { "waits" };
    world.start_directory();
    let back_at = world.now;
    world.dial_until_delivered(a, stranger, SECOND * 90);
    let after = world.now.since(back_at);
    world.check();
    println!("{}; the dial to a stranger {first}, works {after:?} after", world.evidence("directory outage"));
}

#[test]
fn nodes_that_start_while_the_directory_is_away_register_once_it_is_back() {
    let mut world = World::new(seed(34), 1);
    world.stop_directory();
    let site = world.site(STRICT, slow(DELAY));
    let (a, b) = (world.host(site), world.host(site));
    world.run_for(SECOND * 100);
    assert!(world.hosts[a.0].id().is_none());
    world.start_directory();
    let back_at = world.now;
    let is_registered = |world: &World| [a, b].iter().all(|host| world.hosts[host.0].id().is_some());
    assert!(world.run_until(SECOND * 90, is_registered), "they register");
    let after = world.now.since(back_at);
    world.dial_until_delivered(a, b, SECOND * 20);
    println!("{}; registered after {after:?}", world.evidence("late directory"));
}

#[test]
fn wall_clocks_may_jump() {
    let Pair { mut world, a, b, .. } = Pair::slow(35, [STRICT, SYMMETRIC]);
    let flow = world.dial(a, b, [400_000, 400_000]);
    const YEARS: i64 = 10 * 365 * 86_400;
    for (jump, progress) in [(YEARS, 100_000), (-2 * YEARS, 300_000), (0, 500_000)] {
        world.progressed(flow, progress);
        world.hosts[a.0].wall_offset = jump;
        world.hosts[b.0].wall_offset = -jump / 2;
    }
    world.delivered(flow, SECOND * 30);
    world.run_for(SECOND * 120);
    world.dial_until_delivered(b, a, SECOND * 10);
    world.check();
    println!("{}", world.evidence("wall clocks jump"));
}

#[test]
fn a_process_that_starts_anew_is_reached_again() {
    for restarted in [0, 1] {
        for nats in [[STRICT, STRICT], [SYMMETRIC, SYMMETRIC]] {
            let Pair { mut world, a, b, .. } = Pair::slow(36, nats);
            let flow = world.dial(a, b, [400_000, 400_000]);
            world.progressed(flow, 200_000);
            let id = world.hosts[[a, b][restarted].0].id();
            world.restart_process([a, b][restarted]);
            let at = world.now;
            world.await_ready();
            assert_eq!(world.hosts[[a, b][restarted].0].id(), id, "the same key, the same number");
            let attempts = world.dial_until_delivered(a, b, SECOND * 30);
            let after = world.now.since(at);
            world.dial_until_delivered(b, a, SECOND * 10);
            assert!(!world.flows[flow].is_delivered(), "the old stream does not go on with the new process");
            let ended = world.run_until(SECOND * 150, |world| world.flows[flow].has_failed());
            assert!(ended, "who still has it is told:\n{}", world.describe(flow));
            world.check();
            println!("{}; delivered {after:?} after, {attempts} dials", world.evidence("process restart"));
        }
    }
}

#[test]
fn a_host_that_slept_is_reached_again() {
    let Pair { mut world, a, b, .. } = Pair::slow(37, [STRICT, SYMMETRIC]);
    world.dial_until_delivered(a, b, SECOND * 10);
    world.suspend(b, true);
    world.run_for(SECOND * 1000);
    world.suspend(b, false);
    let woke_at = world.now;
    world.dial_until_delivered(a, b, SECOND * 60);
    println!("{}; delivered {:?} after", world.evidence("sleep"), world.now.since(woke_at));
}

#[test]
fn nodes_that_find_different_relays_reach_each_other() {
    let mut world = World::new(seed(38), 2);
    let sites = [world.site(SYMMETRIC, slow(DELAY)), world.site(SYMMETRIC, slow(DELAY))];
    let a = world.host(sites[0]);
    world.run_for(SECOND * 5);
    let used = world.hosts[a.0].node().and_then(|node| node.relay()).expect("found");
    let index = world.relays.iter().position(|relay| relay.beacon() == used).expect("one of ours");
    // The other host has no way to that one.
    world.block_relay(sites[1], index, true);
    let b = world.host(sites[1]);
    world.await_ready();
    world.dial_until_delivered(a, b, SECOND * 60);
    println!("{}", world.evidence("different relays"));
}

#[test]
fn an_hour_without_directory_and_relay_is_not_noticed_on_direct_paths() {
    let mut pair = Pair::slow(39, [STRICT, STRICT]);
    pair.go_direct();
    let Pair { mut world, a, b, sites } = pair;
    let ids = [a, b].map(|host| world.hosts[host.0].id());
    world.stop_directory();
    world.relays[0].up = false;
    for _ in 0..12 {
        world.run_for(SECOND * 290);
        assert!(world.is_direct(a, b), "the path stands");
        let flow = world.dial(b, a, [10_000, 10_000]);
        world.delivered(flow, SECOND * 10);
    }
    world.start_directory();
    world.restart_relay(0);
    let back_at = world.now;
    // Both are known again, also to the relay: one that has never met them finds them.
    let stranger = world.host(sites[0]);
    for host in [a, b] {
        world.dial_until_delivered(stranger, host, SECOND * 120);
    }
    let after = world.now.since(back_at);
    assert_eq!([a, b].map(|host| world.hosts[host.0].id()), ids, "the same numbers");
    world.check();
    println!("{}; found by strangers {after:?} after", world.evidence("an hour alone"));
}
