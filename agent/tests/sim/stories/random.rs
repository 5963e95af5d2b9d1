//! Worlds made from a seed: hosts, NATs, links, transfers and faults as they come. `SIM_RUNS=1000` runs more of them.

use std::time::Duration;

use agent::Time;

use super::SECOND;
use crate::attacker::Attacker;
use crate::chance::Chance;
use crate::host::HostId;
use crate::link::Conditions;
use crate::nat::{Behaviour, Dependence};
use crate::runs;
use crate::world::{SiteId, World};

const WORLDS: u64 = 20;
const FIRST_SEED: u64 = 1000;
/// Faults happen within this time, and none lasts longer than [`OUTAGE_MAX_SECONDS`].
const TROUBLE: Duration = Duration::from_secs(60);
const OUTAGE_MAX_SECONDS: u64 = 10;
const RELAYS_MAX: u64 = 2;

#[derive(Clone, Copy, Debug)]
enum Fault {
    Roam(HostId, SiteId),
    Reboot(SiteId),
    Renumber(SiteId),
    Cut(SiteId, bool),
    Block(SiteId, SiteId, bool),
    RestartRelay(usize),
    RelayUp(usize, bool),
    DirectoryUp(bool),
    Wall(HostId, i64),
    Restart(HostId),
}

#[test]
fn random_worlds_lose_nothing() {
    let seeds = match std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => FIRST_SEED..FIRST_SEED + runs(WORLDS),
    };
    for seed in seeds {
        println!("seed {seed}");
        run(seed);
    }
}

#[test]
fn a_random_world_replays_exactly() {
    let seed = crate::seed(FIRST_SEED + 3);
    assert_eq!(run(seed), run(seed), "the same seed gives the same datagrams at the same times");
}

fn run(seed: u64) -> u64 {
    let mut chance = Chance::new(seed).fork(99);
    let mut world = World::new(seed, chance.between(1, RELAYS_MAX) as u8);
    let sites: Vec<SiteId> = (0..chance.between(3, 5))
        .map(|_| {
            let (behaviour, conditions) = (behaviour(&mut chance), conditions(&mut chance));
            world.site(behaviour, conditions)
        })
        .collect();
    let hosts: Vec<HostId> = (0..chance.between(2, 5)).map(|_| world.host(*chance.pick(&sites))).collect();
    let mut attacker = chance.per_mille(500).then(|| {
        let lair = world.site(None, Conditions::clean(Duration::from_millis(10)));
        let host = world.raw_host(lair);
        Attacker::new(&mut world, host, &hosts)
    });
    let ready = world.run_until(SECOND * 60, |world| {
        hosts
            .iter()
            .all(|host| world.hosts[host.0].node().is_some_and(|node| node.id().is_some() && node.relay().is_some()))
    });
    assert!(ready, "all register");

    let plan = plan(&mut chance, &world, &hosts, &sites);
    let trouble_ends = world.now + TROUBLE;
    let mut restarted: Vec<(HostId, Time)> = Vec::new();
    let mut faults = plan.iter();
    let mut next_fault = faults.next();
    let mut flows = Vec::new();
    while world.now < trouble_ends {
        while let Some((_, fault)) = next_fault.filter(|(at, _)| *at <= world.now) {
            inflict(&mut world, *fault);
            if let Fault::Restart(host) = fault {
                restarted.push((*host, world.now));
            }
            next_fault = faults.next();
        }
        if chance.per_mille(100) {
            let (from, to) = (*chance.pick(&hosts), *chance.pick(&hosts));
            let are_known = [from, to].iter().all(|host| world.hosts[host.0].id().is_some());
            if from != to && are_known && flows.len() < 12 {
                let bytes = [chance.between(1, 60_000), chance.between(1, 60_000)];
                flows.push(world.dial(from, to, bytes));
            }
        }
        if let Some(attacker) = &mut attacker {
            attacker.strike(&mut world);
        }
        world.run_for(Duration::from_millis(100));
    }
    for (_, fault) in next_fault.into_iter().chain(faults) {
        inflict(&mut world, *fault);
        if let Fault::Restart(host) = fault {
            restarted.push((*host, world.now));
        }
    }
    world.run_until(SECOND * 120, |world| {
        flows.iter().all(|flow| world.flows[*flow].is_delivered() || world.flows[*flow].has_failed())
    });
    let mut lost = 0;
    for flow in &flows {
        let state = &world.flows[*flow];
        if state.is_delivered() {
            continue;
        }
        lost += 1;
        let was_restarted = restarted.iter().any(|(host, at)| state.hosts.contains(host) && *at >= state.dialled_at);
        let never_opened = state.opened_at.is_none() && state.has_failed();
        assert!(was_restarted || never_opened, "a stream was lost:\n{}\n{plan:#?}", world.describe(*flow));
    }
    // When all is well again everyone reaches everyone.
    world.await_ready();
    for (index, from) in hosts.iter().enumerate() {
        let to = hosts[(index + 1) % hosts.len()];
        world.dial_until_delivered(*from, to, SECOND * 90);
    }
    world.check();
    let kinds = plan.len();
    println!("{}; {kinds} troubles, {} flows, {lost} lost to them", world.evidence("random"), flows.len());
    world.watch.trace()
}

fn behaviour(chance: &mut Chance) -> Option<Behaviour> {
    const DEPENDENCES: [Dependence; 3] =
        [Dependence::EndpointIndependent, Dependence::AddressDependent, Dependence::AddressAndPortDependent];
    let (mapping, filtering) = (*chance.pick(&DEPENDENCES), *chance.pick(&DEPENDENCES));
    chance.per_mille(800).then(|| Behaviour {
        mapping,
        filtering,
        lifetime: Duration::from_secs(chance.between(30, 120)),
        preserves_port: chance.per_mille(500),
        hairpins: chance.per_mille(500),
    })
}

fn conditions(chance: &mut Chance) -> Conditions {
    let delay = Duration::from_millis(chance.between(1, 60));
    Conditions {
        jitter: delay / 4,
        lost_per_mille: chance.below(20),
        duplicated_per_mille: chance.below(20),
        reordered_per_mille: chance.below(20),
        reordering: delay,
        bits_per_second: chance.between(2_000_000, 50_000_000),
        queue_bytes: chance.between(30_000, 300_000),
        mtu: *chance.pick(&[1280, 1400, 1500]),
        ..Conditions::clean(delay)
    }
}

/// What goes wrong, and when; whatever is broken is mended within [`OUTAGE_MAX_SECONDS`].
fn plan(chance: &mut Chance, world: &World, hosts: &[HostId], sites: &[SiteId]) -> Vec<(Time, Fault)> {
    let mut plan = Vec::new();
    for _ in 0..chance.between(3, 8) {
        let at = world.now + chance.up_to(TROUBLE);
        let mended = at + Duration::from_millis(chance.between(500, OUTAGE_MAX_SECONDS * 1000));
        let (host, site, other) = (*chance.pick(hosts), *chance.pick(sites), *chance.pick(sites));
        let relay = chance.below(world.relays.len() as u64) as usize;
        match chance.below(10) {
            0 => plan.push((at, Fault::Roam(host, site))),
            1 => plan.push((at, Fault::Reboot(site))),
            2 => plan.push((at, Fault::Renumber(site))),
            3 => plan.extend([(at, Fault::Cut(site, true)), (mended, Fault::Cut(site, false))]),
            4 => plan.extend([(at, Fault::Block(site, other, true)), (mended, Fault::Block(site, other, false))]),
            5 => plan.push((at, Fault::RestartRelay(relay))),
            6 => plan.extend([(at, Fault::RelayUp(relay, false)), (mended, Fault::RelayUp(relay, true))]),
            7 => plan.extend([(at, Fault::DirectoryUp(false)), (mended, Fault::DirectoryUp(true))]),
            8 => plan.push((at, Fault::Wall(host, chance.below(1 << 30).cast_signed() - (1 << 29)))),
            _ => plan.push((at, Fault::Restart(host))),
        }
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

fn inflict(world: &mut World, fault: Fault) {
    world.trace(&format!("{fault:?}"), None);
    match fault {
        Fault::Roam(host, site) => world.roam(host, site),
        Fault::Reboot(site) => {
            if let Some(nat) = &mut world.sites[site.0].nat {
                nat.reboot();
            }
        }
        Fault::Renumber(site) => world.renumber(site),
        Fault::Cut(site, cut) => world.sites[site.0].cut = cut,
        Fault::Block(one, other, blocked) => world.block(one, other, blocked),
        Fault::RestartRelay(relay) => {
            let up = world.relays[relay].up;
            world.restart_relay(relay);
            world.relays[relay].up = up;
        }
        Fault::RelayUp(relay, up) => world.relays[relay].up = up,
        Fault::DirectoryUp(true) => world.start_directory(),
        Fault::DirectoryUp(false) => world.stop_directory(),
        Fault::Wall(host, offset) => world.hosts[host.0].wall_offset = offset,
        Fault::Restart(host) => world.restart_process(host),
    }
}
