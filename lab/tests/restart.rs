//! The relay is succeeded while everybody talks: no datagram is lost, no tunnel notices.
//!
//! Numbered datagrams go from one node to another at a steady rate, due at fixed times whatever happens. Beside them two
//! unmodified daemons and two of ours, behind translators that leave them nothing but the relay, keep asking each other.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use lab::{Daemon, DaemonFlags, Nat, Peer, Program, Stopwatch, World, evidence, full_run};

const RESTARTS: usize = 3;
const RESTARTS_FULL: usize = 20;
/// What a debug build and a generator carry together on two shared cores; speed is shown by `loadgen`.
const PACKETS_PER_SECOND: u64 = 5_000;
/// Datagrams due at the same moment are so far apart.
const TICK: Duration = Duration::from_millis(2);
const BETWEEN_RESTARTS: Duration = Duration::from_millis(700);
/// How long after the last one the first that is missing is lost.
const LAST_WITHIN: Duration = Duration::from_secs(5);
const REACHED_WITHIN: Duration = Duration::from_secs(60);
/// A tunnel that has noticed nothing answers at once; one that has to be made anew takes seconds with the unmodified daemon.
const STILL_REACHED_WITHIN: Duration = Duration::from_secs(5);
/// Type and sender before what a delivery carries.
const DELIVERY_HEADER: usize = 5;

#[test]
fn successors_lose_nothing_and_tunnels_stay() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let pairs: Vec<(Daemon, Daemon)> = Program::available().into_iter().map(|program| pair(&world, program)).collect();
    let (from, to) = (world.host("from"), world.host("to"));
    let (sender, receiver) = (Peer::join(&from, "from"), Peer::join(&to, "to"));
    assert!(sender.reaches(&receiver, b"first of all", Duration::from_secs(5)));
    let stop = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    let restarts = if full_run() { RESTARTS_FULL } else { RESTARTS };
    let watch = Stopwatch::start();
    let (arrivals, gaps) = thread::scope(|scope| {
        scope.spawn(|| send(&sender, receiver.node(), watch, &stop, &sent));
        let arrivals = scope.spawn(|| receive(receiver.socket(), watch, &stop, &sent));
        let mut gaps = Vec::new();
        for round in 1..=restarts {
            thread::park_timeout(BETWEEN_RESTARTS);
            let told = appliance.upgrade();
            let inherited = &told["after"]["inherited"];
            assert_eq!(inherited["kernel_drops"], 0, "round {round}: {told}");
            assert_eq!(inherited["sessions"], told["before"]["sessions"], "round {round}: {told}");
            gaps.push(inherited["gap_ms"].as_f64().expect("a gap has a length"));
            for (one, other) in &pairs {
                let took = one.time_to_reach(other.hostname(), STILL_REACHED_WITHIN);
                assert!(took < STILL_REACHED_WITHIN, "{}: {took:?}", one.program());
            }
        }
        thread::park_timeout(BETWEEN_RESTARTS);
        stop.store(true, Ordering::Release);
        (arrivals.join().expect("the receiver does not panic"), gaps)
    });
    let sent = sent.load(Ordering::Acquire);
    let outcome = Outcome::of(&arrivals, sent);
    evidence(format!(
        "{restarts} restarts at {PACKETS_PER_SECOND} a second: sent {sent}, lost {}, twice {}, out of order {}; p50 {:.2?}, \
         p99 {:.2?}, longest {:.1?}; gaps {gaps:.1?} ms",
        outcome.lost, outcome.twice, outcome.reordered, outcome.p50, outcome.p99, outcome.longest
    ));
    assert_eq!((outcome.lost, outcome.twice), (0, 0));
    assert_eq!(appliance.metrics().sum("pilot_relay_kernel_drops_total"), 0);
    assert!(appliance.settled_accounting().balances());
    for (one, other) in &pairs {
        assert_eq!(one.ping(other.hostname(), 3).answered(), 3, "{}", one.program());
    }
}

fn pair(world: &World, program: Program) -> (Daemon, Daemon) {
    let name = |side: &str| format!("{program}-{side}").replace('.', "");
    let start = |side: &str| {
        let flags = DaemonFlags::named(&name(side)).program(program).public();
        let mut daemon = Daemon::start(&world.site(Nat::Symmetric).host(&name(side)), flags);
        daemon.wait_ready();
        daemon
    };
    let (one, other) = (start("one"), start("other"));
    one.time_to_reach(other.hostname(), REACHED_WITHIN);
    (one, other)
}

/// Sends numbers, each when it is due.
fn send(sender: &Peer, dest: u32, watch: Stopwatch, stop: &AtomicBool, sent: &AtomicU64) {
    let mut number = 0u64;
    while !stop.load(Ordering::Acquire) {
        let now = watch.elapsed();
        while due(number) <= now {
            sender.relay(dest, &number.to_be_bytes());
            number += 1;
        }
        sent.store(number, Ordering::Release);
        thread::park_timeout(TICK);
    }
}

fn due(number: u64) -> Duration {
    Duration::from_nanos(number * 1_000_000_000 / PACKETS_PER_SECOND)
}

/// The numbers that arrive, with when.
fn receive(socket: &UdpSocket, watch: Stopwatch, stop: &AtomicBool, sent: &AtomicU64) -> Vec<(u64, Duration)> {
    socket.set_read_timeout(Some(TICK * 10)).expect("a socket has a timeout");
    let mut arrivals = Vec::new();
    let mut bytes = [0; 2048];
    let mut last = watch.elapsed();
    loop {
        match socket.recv(&mut bytes) {
            Ok(len) => {
                last = watch.elapsed();
                if let Some(number) = bytes[..len].get(DELIVERY_HEADER..).and_then(|inner| inner.try_into().ok()) {
                    arrivals.push((u64::from_be_bytes(number), last));
                }
            }
            Err(_) if stop.load(Ordering::Acquire) => {
                let all = arrivals.len() as u64 >= sent.load(Ordering::Acquire);
                if all || watch.elapsed() - last > LAST_WITHIN {
                    return arrivals;
                }
            }
            Err(_) => {}
        }
    }
}

/// What became of all that was sent.
struct Outcome {
    lost: u64,
    twice: u64,
    reordered: u64,
    p50: Duration,
    p99: Duration,
    longest: Duration,
}

impl Outcome {
    fn of(arrivals: &[(u64, Duration)], sent: u64) -> Self {
        let mut seen = vec![0u64; usize::try_from(sent).expect("it fits")];
        let mut waits = Vec::new();
        let (mut reordered, mut highest) = (0, 0);
        for &(number, at) in arrivals {
            seen[usize::try_from(number).expect("it fits")] += 1;
            reordered += u64::from(number < highest);
            highest = highest.max(number);
            waits.push(at.saturating_sub(due(number)));
        }
        waits.sort_unstable();
        let at = |share: usize| waits.get(waits.len() * share / 100).copied().unwrap_or_default();
        Self {
            lost: seen.iter().filter(|count| **count == 0).count() as u64,
            twice: seen.iter().map(|count| count.saturating_sub(1)).sum(),
            reordered,
            p50: at(50),
            p99: at(99),
            longest: waits.last().copied().unwrap_or_default(),
        }
    }
}
