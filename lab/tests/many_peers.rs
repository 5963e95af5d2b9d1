//! One daemon with live tunnels to a thousand peers: what each costs it in memory, and what all of them cost while nobody
//! says a word. The peers are a [`Swarm`] of our nodes; the unmodified daemon goes first, for comparison and because it
//! shows that the swarm is right.

use std::time::Duration;

use lab::{Daemon, DaemonFlags, Program, Stopwatch, Swarm, World, evidence, full_run};
use wire::address::SocketAddress;

const PEERS: usize = 1000;
const PEERS_SHORT: usize = 100;
/// Daemons take a hundred new streams a second, and ten of one source.
const DIALS_A_TURN: usize = 5;
const TURN: Duration = Duration::from_millis(100);
const REGISTERED_WITHIN: Duration = Duration::from_secs(120);
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// Covers two rounds of keepalives.
const IDLE: Duration = Duration::from_secs(60);
const IDLE_SHORT: Duration = Duration::from_secs(20);
const ECHO_PORT: u16 = 7;
/// What a peer with a stream may cost ours in the thousand; in the hundred, what is there once weighs more.
const BYTES_A_PEER_MAX: u64 = 64 * 1024;
const IDLE_CPU_PERCENT_MAX: f64 = 5.0;

#[test]
fn a_thousand_peers() {
    for program in Program::contenders() {
        let Some(world) = World::open() else { return };
        let _appliance = world.appliance();
        measure(&world, program);
    }
}

fn measure(world: &World, program: Program) {
    let (peers, idle) = if full_run() { (PEERS, IDLE) } else { (PEERS_SHORT, IDLE_SHORT) };
    let flags = DaemonFlags::named("hub").program(program).public().fixed_port();
    let hub = Daemon::start_ready(&world.host("hub"), flags);
    let address = SocketAddress { address: hub.address().parse().expect("an address"), port: ECHO_PORT };

    let mut swarm = Swarm::start(&world.host("swarm"), &world.relay_host(), peers);
    let watch = Stopwatch::start();
    let all = swarm.drive_until(REGISTERED_WITHIN, |swarm| swarm.registered() == peers);
    assert!(all, "{} of {peers} have registered", swarm.registered());
    evidence(format!("{program}: {peers} nodes registered in {:.1?}", watch.elapsed()));

    let alone = hub.resident_bytes();
    let watch = Stopwatch::start();
    for first in (0..peers).step_by(DIALS_A_TURN) {
        (first..peers.min(first + DIALS_A_TURN)).for_each(|number| swarm.dial(number, address));
        swarm.drive_for(TURN);
    }
    let all = swarm.drive_until(ANSWERED_WITHIN, |swarm| swarm.answered() == peers);
    assert!(all, "{program}: {} of {peers} answered; ended: {:?}", swarm.answered(), swarm.ended());
    let (tunnels, relayed) = swarm.tunnels();
    assert_eq!(tunnels, peers, "every peer has a tunnel");
    evidence(format!("{program}: {peers} tunnels in {:.1?}, {relayed} of them relayed", watch.elapsed()));
    let each = (hub.resident_bytes() - alone) / peers as u64;

    let (watch, before) = (Stopwatch::start(), hub.cpu_time());
    swarm.drive_for(idle);
    let percent = 100.0 * (hub.cpu_time() - before).as_secs_f64() / watch.elapsed().as_secs_f64();
    evidence(format!(
        "{program}: {} KiB a peer over {} MiB alone; idle {percent:.2} % of a core",
        each / 1024,
        alone >> 20,
    ));

    swarm.ask_again();
    let all = swarm.drive_until(ANSWERED_WITHIN, |swarm| swarm.answered() == peers);
    assert!(all, "{program}: after {idle:?} {} of {peers} answered; ended: {:?}", swarm.answered(), swarm.ended());
    if program == Program::Ours {
        assert!(!full_run() || each < BYTES_A_PEER_MAX, "{each} bytes a peer");
        assert!(percent < IDLE_CPU_PERCENT_MAX, "{percent} % of a core while nobody speaks");
    }
}
