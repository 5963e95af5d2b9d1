//! Our agent behind every kind of address translator: toward another of ours, and toward the unmodified daemon from both
//! sides. One line for each pair: the path, how long the first answer took, and how fast bytes went.

use std::thread;
use std::time::Duration;

use lab::{Daemon, DaemonFlags, Nat, Path, Program, Stopwatch, World, evidence, full_run, wait_until};

const MEGABYTE: u64 = 1024 * 1024;
const BENCH_MEGABYTES: u32 = 4;
/// The promise speaks of milliseconds; several daemons and their tools share a slow machine here.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Two of ours go direct at once; an unmodified daemon looks for a direct path now and then.
const DIRECT_WITHIN_OURS: Duration = Duration::from_secs(20);
const DIRECT_WITHIN_MIXED: Duration = Duration::from_secs(60);

#[test]
fn ours_to_ours() {
    run(Program::Ours, Program::Ours);
}

#[test]
fn ours_to_theirs() {
    run(Program::Ours, Program::Pilot1_18);
}

#[test]
fn theirs_to_ours() {
    run(Program::Pilot1_18, Program::Ours);
}

/// The harness itself, with programs that are known to do all this.
#[test]
fn theirs_to_theirs() {
    if full_run() || Program::Ours.is_available() {
        return evidence("every pair of unmodified daemons is `every_pair_of_nats`");
    }
    run(Program::Pilot1_18, Program::Pilot1_18);
}

fn run(left: Program, right: Program) {
    let Some(world) = World::open() else { return };
    if !left.is_available() || !right.is_available() {
        return;
    }
    let _appliance = world.appliance();
    let nats = if full_run() { Nat::all_pairs() } else { Nat::telling_pairs() };
    let pairs = start_all(&world, &nats, (left, right));

    // Nobody has talked to anybody yet: every dial is a cold one, and they come all at once.
    thread::scope(|scope| {
        for pair in &pairs {
            thread::Builder::new()
                .name(format!("matrix {}", pair.name()))
                .spawn_scoped(scope, || pair.dial_cold())
                .expect("the system has threads");
        }
    });
    // One after the other, because the relay's interface counts for all.
    pairs.iter().for_each(|pair| pair.assert_path(&world));
    evidence(format!("{left} to {right}: {} pairs of NATs", pairs.len()));
}

struct Pair {
    nats: (Nat, Nat),
    left: Daemon,
    right: Daemon,
}

/// Starts all daemons, then waits for all: they get ready side by side.
fn start_all(world: &World, nats: &[(Nat, Nat)], programs: (Program, Program)) -> Vec<Pair> {
    let start = |name: String, nat: Nat, program: Program| {
        let flags = DaemonFlags::named(&name).program(program).public().fixed_port();
        Daemon::start(&world.site(nat).host(&name), flags)
    };
    let started = nats.iter().enumerate().map(|(number, &nats)| Pair {
        nats,
        left: start(format!("left-{number}"), nats.0, programs.0),
        right: start(format!("right-{number}"), nats.1, programs.1),
    });
    let mut pairs: Vec<_> = started.collect();
    for pair in &mut pairs {
        pair.left.wait_ready();
        pair.right.wait_ready();
    }
    pairs
}

impl Pair {
    fn name(&self) -> String {
        let (left, right) = self.nats;
        format!("{left:?} {} to {right:?} {}", self.left.program(), self.right.program())
    }

    fn dial_cold(&self) {
        let took = self.left.time_to_reach(self.right.hostname(), FIRST_ANSWER_WITHIN);
        evidence(format!("first answer after {took:.2?}"));
    }

    fn assert_path(&self, world: &World) {
        let expected = self.nats.0.path_to(self.nats.1);
        let relayed = match expected {
            Path::Direct => {
                let ours = [&self.left, &self.right].iter().all(|daemon| daemon.program() == Program::Ours);
                let within = if ours { DIRECT_WITHIN_OURS } else { DIRECT_WITHIN_MIXED };
                let watch = Stopwatch::start();
                wait_until(&format!("{} to go direct", self.name()), within, || {
                    (!self.bench_is_relayed(world, 1)).then_some(())
                });
                evidence(format!("{}: direct after {:.1?} more", self.name(), watch.elapsed()));
                self.bench_is_relayed(world, BENCH_MEGABYTES)
            }
            Path::Relayed | Path::Either => self.bench_is_relayed(world, BENCH_MEGABYTES),
        };
        match expected {
            Path::Direct => assert!(!relayed, "{} was direct and is no more", self.name()),
            Path::Relayed => assert!(relayed, "{} cannot be direct", self.name()),
            Path::Either => {}
        }
        // Where both are possible, the two sides may go direct one after the other, and the path may just be changing.
        if !matches!(expected, Path::Either) {
            let told = self.left.relays_to(self.right.node());
            assert_eq!(told, Some(relayed), "{}: what {} tells of the path", self.name(), self.left);
        }
    }

    /// Runs a bench; whether the relay carried it.
    fn bench_is_relayed(&self, world: &World, megabytes: u32) -> bool {
        let before = world.relay_traffic();
        let answer = self.left.bench(self.right.hostname(), megabytes);
        let answer = answer.unwrap_or_else(|error| panic!("{}: bench: {error}", self.name()));
        let carried = (world.relay_traffic() - before).bytes();
        assert_eq!(answer["complete"], true, "{}: {answer}", self.name());
        // Heartbeats and lookups go on beside a direct one; a relayed one comes in and goes out, there and back.
        let relayed = carried > u64::from(megabytes) * MEGABYTE / 2;
        if megabytes == BENCH_MEGABYTES {
            let speed = answer["total_mbps"].as_f64().unwrap_or_default();
            let path = if relayed { "relayed" } else { "direct" };
            evidence(format!("{}: {path}, {megabytes} MB there and back at {speed:.2} MB/s", self.name()));
        }
        relayed
    }
}
