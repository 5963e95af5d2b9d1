//! The appliance under attack: floods of every type, forged sources, recordings played again, malformed STUN, fragments,
//! slow and endless connections. Meanwhile two honest nodes relay to each other; afterwards every datagram is accounted
//! for, shard by shard, the directory answers, and memory has not grown.
//!
//! The table it prints says what each attack did to the honest ones.

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::{
    Appliance, DirectoryClient, Host, Metrics, Peer, RELAY_V4, Stopwatch, World, evidence, full_run, loadgen,
    wait_until,
};
use serde_json::Value;

const SEND_INTERVAL: Duration = Duration::from_millis(2);
/// The last packets may be on their way so long.
const LAST_DELIVERY_WITHIN: Duration = Duration::from_millis(500);
const CALM: Duration = Duration::from_secs(2);
/// Datagrams a second of the bounded run; the full one sends what a processor can.
const BOUNDED_PPS: &str = "20000";
/// What the honest pair may lose during one attack, in per cent: the first moments of a flood that is still unknown.
const LOSS_PERCENT_MAX: f64 = 2.0;
const LOSS_PERCENT_MAX_FULL: f64 = 15.0;
const DIRECTORY_ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const GROWTH_BYTES_MAX: u64 = 96 << 20;

/// Attacks over UDP, from a host of their own, and what they need besides.
const OVER_UDP: [&str; 11] =
    ["heavy", "unknown", "contest", "types", "stun", "tunnel", "empty", "huge", "spoof", "fragments", "replay"];
/// Attacks over TCP on the directory.
const ON_DIRECTORY: [&str; 7] =
    ["slow-loris", "connect-flood", "half-open", "tls-garbage", "giant-length", "deep-json", "idle"];
/// Attacks on the admin address, from the relay's own host.
const ON_ADMIN: [&str; 4] = ["http", "slow-loris", "tls-garbage", "connect-flood"];

#[test]
fn every_attack_is_survived_and_accounted_for_while_honest_nodes_are_served() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let pair = Pair::join(&world);
    let (attacker, newcomer) = (world.host("attacker"), world.host("newcomer"));
    let node = register(&attacker, "attacker").expect("the attacker is a node like any other");
    let capture = tempfile::NamedTempFile::new().expect("the temporary folder is writable");
    fs::write(capture.path(), pair.recording()).expect("the temporary folder is writable");
    let rate = if full_run() { "0" } else { BOUNDED_PPS };
    let seconds = if full_run() { "10" } else { "1" };
    let last = node.to_string();

    let (_, calm) = pair.relay_while(|| pause(CALM));
    evidence(format!(
        "{:24} {:>9} {:>9} {:>8} {:>10} {:>10}",
        "attack", "sent", "refused", "loss %", "p99 ms", "answers ms"
    ));
    evidence(format!("{:24} {:>9} {:>9} {:>8.2} {:>10.2}", "none", "", "", calm.loss_percent(), calm.p99_ms()));
    let memory_before = appliance.resident_bytes();

    let mut attack = |name: String, host: &Host, arguments: Vec<String>| {
        let (report, honest) = pair.relay_while(|| run(host, &arguments));
        assert!(appliance.is_running(), "{name}: the appliance is gone:\n{}", appliance.log_tail());
        let watch = Stopwatch::start();
        wait_until("the directory to answer", DIRECTORY_ANSWERS_WITHIN, || register(&newcomer, "newcomer"));
        evidence(format!(
            "{name:24} {:>9} {:>9} {:>8.2} {:>10.2} {:>10}",
            report["sent"],
            report["refused"],
            honest.loss_percent(),
            honest.p99_ms(),
            watch.elapsed().as_millis()
        ));
        assert_accounted_for(&appliance, &name);
        let loss_max = if full_run() { LOSS_PERCENT_MAX_FULL } else { LOSS_PERCENT_MAX };
        assert!(honest.loss_percent() <= loss_max, "{name}: honest nodes lost {} of {}", honest.lost(), honest.sent);
    };
    let common = |kind: &str| ["attack", "--kind", kind, "--seconds", seconds, "--json"].map(str::to_owned).to_vec();
    for kind in OVER_UDP {
        let relay = format!("{RELAY_V4}:9001");
        let mut arguments = common(kind);
        // A relay to itself, which costs nobody else; elsewhere the last id that exists.
        let more = ["--relay", &relay, "--rate", rate, "--node", &last, "--dest", &last];
        arguments.extend(more.map(str::to_owned));
        if kind == "replay" {
            arguments.extend(["--capture".to_owned(), capture.path().display().to_string()]);
        }
        attack(kind.to_owned(), &attacker, arguments);
    }
    for kind in ["types", "stun"] {
        let relay = format!("{RELAY_V4}:3478");
        attack(
            format!("{kind} on STUN's port"),
            &attacker,
            [common(kind), ["--relay", &relay, "--rate", rate].map(str::to_owned).to_vec()].concat(),
        );
    }
    for kind in ON_DIRECTORY {
        let target = format!("{RELAY_V4}:9000");
        let arguments = [common(kind), ["--target", &target, "--rate", rate].map(str::to_owned).to_vec()].concat();
        attack(format!("{kind} on the directory"), &attacker, arguments);
    }
    for kind in ON_ADMIN {
        let arguments = [common(kind), ["--target", "127.0.0.1:3000"].map(str::to_owned).to_vec()].concat();
        attack(format!("{kind} on the admin"), &world.relay_host(), arguments);
    }

    let (_, calm) = pair.relay_while(|| pause(CALM));
    evidence(format!("{:24} {:>9} {:>9} {:>8.2} {:>10.2}", "none again", "", "", calm.loss_percent(), calm.p99_ms()));
    assert_eq!(calm.lost(), 0, "honest nodes lose packets after the attacks");
    let grown = appliance.resident_bytes().saturating_sub(memory_before);
    evidence(format!("memory grew by {} KiB over all of them", grown / 1024));
    assert!(grown <= GROWTH_BYTES_MAX, "memory grew by {} KiB", grown / 1024);
}

/// Every shard's sums hold, and their total.
#[track_caller]
fn assert_accounted_for(appliance: &Appliance, attack: &str) {
    let total = appliance.settled_accounting();
    assert!(total.balances(), "{attack}: {total}");
    let metrics = appliance.metrics();
    let received = metrics.non_zero("pilot_relay_datagrams_received_total");
    assert!(!received.is_empty(), "{attack}: no shard has received anything");
    for (labels, received) in received {
        let shard = labels.split(',').next().unwrap_or_default().to_owned();
        let of = |what: &str| of_shard(&metrics, &format!("pilot_relay_datagrams_{what}_total"), &shard);
        let sum = of("forwarded") + of("answered") + of("deferred") + of("dropped");
        assert_eq!(received, sum, "{attack}: {shard} has lost count");
    }
}

fn of_shard(metrics: &Metrics, name: &str, shard: &str) -> u64 {
    let series = metrics.non_zero(name).into_iter();
    series.filter(|(labels, _)| labels.split(',').any(|label| label == shard)).map(|(_, value)| value).sum()
}

fn run(host: &Host, arguments: &[String]) -> Value {
    let mut command = host.namespace().command(loadgen());
    let output = command.args(arguments).stdin(Stdio::null()).output().expect("loadgen can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("loadgen {arguments:?}: {error}: {text}{errors}"))
}

fn register(host: &Host, name: &str) -> Option<u32> {
    let mut directory = DirectoryClient::connect(host, name).ok()?;
    directory.register((host.v4(), 4000).into(), &format!("{name}@pilot.test")).ok()
}

fn pause(length: Duration) {
    let watch = Stopwatch::start();
    while let Some(left) = length.checked_sub(watch.elapsed()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// Two honest nodes.
struct Pair {
    sender: Peer,
    receiver: Peer,
}

/// What became of their packets.
struct Honest {
    sent: usize,
    /// Of those that arrived, in order of size.
    latencies: Vec<Duration>,
}

impl Honest {
    fn lost(&self) -> usize {
        self.sent.saturating_sub(self.latencies.len())
    }

    fn loss_percent(&self) -> f64 {
        self.lost() as f64 * 100.0 / self.sent.max(1) as f64
    }

    fn p99_ms(&self) -> f64 {
        let at = self.latencies.len() * 99 / 100;
        self.latencies.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

impl Pair {
    fn join(world: &World) -> Self {
        let pair = Self {
            sender: Peer::join(&world.host("honest-1"), "honest-1"),
            receiver: Peer::join(&world.host("honest-2"), "honest-2"),
        };
        pair.sender.wait_reaching(&pair.receiver, Duration::from_secs(5));
        pair
    }

    /// What somebody on the way has recorded of them: a discover and a relay, in hex.
    fn recording(&self) -> String {
        let (sender, receiver) = (self.sender.node(), self.receiver.node());
        format!("01{sender:08x}\n05{sender:08x}{receiver:08x}50494c53\n03{sender:08x}{receiver:08x}\n")
    }

    /// Relays for as long as `mischief` takes.
    fn relay_while<T: Send>(&self, mischief: impl FnOnce() -> T + Send) -> (T, Honest) {
        let is_over = AtomicBool::new(false);
        let watch = Stopwatch::start();
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let mut sent = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let now = watch.elapsed().as_nanos() as u64;
                    self.sender.relay(self.receiver.node(), &now.to_be_bytes());
                    sent += 1;
                    // Also answers the relay, should it ask whether this node is still there.
                    let _ = self.sender.receive(SEND_INTERVAL);
                }
                sent
            });
            let receiving = scope.spawn(|| {
                let mut seen = Vec::new();
                loop {
                    match self.receiver.receive(LAST_DELIVERY_WITHIN) {
                        // What a recording brings again is none of theirs.
                        Some(delivery) if delivery.sender == self.sender.node() => {
                            if let Ok(sent_at) = delivery.inner.try_into().map(u64::from_be_bytes) {
                                seen.push((sent_at, watch.elapsed()));
                            }
                        }
                        Some(_) => {}
                        None if is_over.load(Ordering::Relaxed) => return seen,
                        None => {}
                    }
                }
            });
            let result = mischief();
            is_over.store(true, Ordering::Relaxed);
            let sent = sending.join().expect("the honest sender does not fail");
            let mut seen = receiving.join().expect("the honest receiver does not fail");
            seen.sort_unstable();
            seen.dedup_by_key(|(sent_at, _)| *sent_at);
            let latency = |(sent_at, at): (u64, Duration)| at.saturating_sub(Duration::from_nanos(sent_at));
            let mut latencies: Vec<Duration> = seen.into_iter().map(latency).collect();
            latencies.sort_unstable();
            (result, Honest { sent, latencies })
        })
    }
}
