//! Two unmodified daemons, each behind an address translator of its own, reach each other: through the relay where no
//! other way exists or none is wanted, directly where the translators allow it.

use std::thread;
use std::time::Duration;

use lab::{Daemon, DaemonFlags, Nat, Path, Site, Traffic, World, evidence, full_run, wait_until};

const PINGS: usize = 20;
const BENCH_MEGABYTES: u32 = 10;
const MEGABYTE: u64 = 1024 * 1024;
/// Daemons look for a direct path now and then; by then they have found one.
const DIRECT_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn behind_symmetric_nats_the_relay_carries_everything() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let pair = Pair::start(&world, Nat::Symmetric, Nat::Symmetric, DaemonFlags::public);
    pair.ping_and_bench_through_the_relay(&world);
}

#[test]
fn daemons_that_measure_the_beacon_keep_their_sessions() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let pair = Pair::start(&world, Nat::Symmetric, Nat::Symmetric, |flags| flags.public().beacon_rtt_probe());
    pair.ping_and_bench_through_the_relay(&world);
}

#[test]
fn relay_only_daemons_meet_behind_symmetric_nats() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let pair = Pair::start(&world, Nat::Symmetric, Nat::Symmetric, |flags| flags.public().relay_only());
    pair.ping_and_bench_through_the_relay(&world);
}

#[test]
fn relay_only_daemons_stay_on_the_relay_where_a_direct_path_exists() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let pair = Pair::start(&world, Nat::FullCone, Nat::FullCone, |flags| flags.public().fixed_port().relay_only());
    pair.ping_and_bench_through_the_relay(&world);
}

#[test]
fn behind_port_restricted_nats_the_path_is_direct() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let pair = Pair::start(&world, Nat::PortRestricted, Nat::PortRestricted, |flags| flags.public().fixed_port());
    pair.assert_all_pings_answered();
    pair.wait_direct(&world);
}

/// Every daemon pings every other kind of neighbour; the whole matrix in the long run.
#[test]
fn every_pair_of_nats() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let combinations = if full_run() { Nat::all_pairs() } else { Nat::telling_pairs() };
    let pairs = Pair::start_all(&world, &combinations, |flags| flags.public().fixed_port());

    thread::scope(|scope| {
        for pair in &pairs {
            thread::Builder::new()
                .name(format!("every_pair_of_nats {:?}-{:?}", pair.nats.0, pair.nats.1))
                .spawn_scoped(scope, || pair.assert_all_pings_answered())
                .expect("the system has threads");
        }
    });
    // One after the other, because the relay's interface counts for all.
    for pair in &pairs {
        match pair.nats.0.path_to(pair.nats.1) {
            Path::Direct => pair.wait_direct(&world),
            Path::Relayed => assert!(pair.bench(&world, 1).bytes() > 2 * MEGABYTE, "{} cannot be direct", pair.names()),
            Path::Either => drop(pair.bench(&world, 1)),
        }
    }
    evidence(format!("{} of {} pairs of NATs connected", pairs.len(), combinations.len()));
}

struct Pair {
    nats: (Nat, Nat),
    left: Daemon,
    right: Daemon,
}

impl Pair {
    fn start(world: &World, left: Nat, right: Nat, flags: impl Fn(DaemonFlags) -> DaemonFlags) -> Self {
        Self::start_all(world, &[(left, right)], flags).remove(0)
    }

    /// Starts all daemons, then waits for all: they get ready side by side.
    fn start_all(world: &World, nats: &[(Nat, Nat)], flags: impl Fn(DaemonFlags) -> DaemonFlags) -> Vec<Self> {
        let start = |name: String, site: &Site| Daemon::start(&site.host(&name), flags(DaemonFlags::named(&name)));
        let started = nats.iter().enumerate().map(|(number, &nats)| {
            let left = start(format!("left-{number}"), &world.site(nats.0));
            let right = start(format!("right-{number}"), &world.site(nats.1));
            Self { nats, left, right }
        });
        let mut pairs: Vec<_> = started.collect();
        for pair in &mut pairs {
            pair.left.wait_ready();
            pair.right.wait_ready();
        }
        pairs
    }

    fn names(&self) -> String {
        format!("{:?}-{:?}", self.nats.0, self.nats.1)
    }

    fn assert_all_pings_answered(&self) {
        let report = self.left.ping(self.right.hostname(), PINGS);
        assert_eq!(report.answered(), PINGS, "{}: {report}: {}", self.names(), report.text);
        evidence(format!("{report}"));
    }

    /// Runs a bench; what the relay's interface carried meanwhile.
    fn bench(&self, world: &World, megabytes: u32) -> Traffic {
        let before = world.relay_traffic();
        let result = self.left.bench(self.right.hostname(), megabytes);
        let answer = result.unwrap_or_else(|error| panic!("{}: bench failed: {error}", self.names()));
        let carried = world.relay_traffic() - before;
        assert_eq!(answer["complete"], true, "{}: {answer}", self.names());
        let speed = answer["total_mbps"].as_f64().unwrap_or_default();
        evidence(format!("{}: bench {megabytes} MB at {speed:.1} MB/s, relay carried {carried}", self.names()));
        carried
    }

    fn ping_and_bench_through_the_relay(&self, world: &World) {
        let before = world.relay_traffic();
        self.assert_all_pings_answered();
        evidence(format!("relay carried {} for the pings", world.relay_traffic() - before));
        let carried = self.bench(world, BENCH_MEGABYTES);
        // Everything is echoed, so the relay receives it twice.
        let payload = 2 * u64::from(BENCH_MEGABYTES) * MEGABYTE;
        assert!(carried.received_bytes > payload, "{}: the relay received {carried}, not all of it", self.names());
    }

    fn wait_direct(&self, world: &World) {
        wait_until(&format!("{} to go direct", self.names()), DIRECT_WITHIN, || {
            // Heartbeats and lookups go on; a relayed megabyte would be thirty times as much.
            (self.bench(world, 1).bytes() < MEGABYTE / 8).then_some(())
        });
        assert_eq!(self.left.relays_to(self.right.node()), Some(false), "{}", self.names());
    }
}
