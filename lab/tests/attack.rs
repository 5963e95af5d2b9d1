//! The appliance under attack: floods of every type, forged sources, recordings played again, malformed STUN, fragments,
//! slow and endless connections. Meanwhile two honest nodes relay to each other; afterwards what was sent has arrived, every
//! datagram is accounted for, shard by shard, the directory answers, and memory has not grown.
//!
//! The table it prints says what became of each attack, of it what the kernel lost for a full buffer and what its filter held
//! back, and what the honest ones felt.

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::{
    Appliance, DirectoryClient, Host, Metrics, Peer, RELAY_V4, Stopwatch, World, evidence, full_run, loadgen,
    meanwhile, wait_until,
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

/// Of what was sent, what has to have been counted where it went, and how soon after it.
const ARRIVED_PERCENT_MIN: u64 = 90;
const COUNTED_WITHIN: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Attacks over UDP, from a host of their own, and what they need besides.
const OVER_UDP: [&str; 11] =
    ["heavy", "unknown", "contest", "types", "stun", "tunnel", "empty", "huge", "spoof", "fragments", "replay"];
/// Attacks over TCP on the directory.
const ON_DIRECTORY: [&str; 7] =
    ["slow-loris", "connect-flood", "half-open", "tls-garbage", "giant-length", "deep-json", "idle"];
/// Attacks on the admin address, from the relay's own host.
const ON_ADMIN: [&str; 4] = ["http", "slow-loris", "tls-garbage", "connect-flood"];

/// Where an attack that has arrived shows.
#[derive(Clone, Copy, Debug)]
enum Counted {
    /// The relay has received its datagrams, or the kernel has dropped them at its sockets.
    Datagrams,
    /// The kernel has had IP fragments to put together; the relay sees none of them.
    Fragments,
    /// The kernel has taken in TCP segments; the directory sees no connection.
    Segments,
    /// The directory has accepted connections, or turned them away.
    Connections,
    /// The kernel has opened connections for a server that does not count them.
    Handshakes,
}

impl Counted {
    fn of(kind: &str, otherwise: Self) -> Self {
        match kind {
            "fragments" => Self::Fragments,
            "half-open" => Self::Segments,
            _ => otherwise,
        }
    }

    fn so_far(self, host: &Host, appliance: &Appliance) -> u64 {
        let kernel = |protocol, name| host.namespace().count(protocol, name);
        match self {
            Self::Datagrams => {
                let metrics = appliance.metrics();
                let names = ["datagrams_received", "kernel_drops", "filter_drops"];
                names.iter().map(|name| metrics.sum(&format!("pilot_relay_{name}_total"))).sum()
            }
            Self::Fragments => kernel("Ip", "ReasmReqds"),
            Self::Segments => kernel("Tcp", "InSegs"),
            Self::Connections => {
                let metrics = appliance.metrics();
                let turned_away = metrics.non_zero("pilot_directory_connections_closed_total").into_iter();
                let turned_away = turned_away.filter(|(reason, _)| reason.contains("\"full"));
                metrics.sum("pilot_directory_connections_total") + turned_away.map(|(_, count)| count).sum::<u64>()
            }
            Self::Handshakes => kernel("Tcp", "PassiveOpens"),
        }
    }
}

#[test]
fn every_attack_is_survived_and_accounted_for_while_honest_nodes_are_served() {
    let Some(world) = World::open() else { return };
    let relay_host = world.relay_host();
    // Forged sources must arrive wherever this runs.
    relay_host.namespace().accept_any_source("eth0");
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
        "{:30} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>8} {:>10}",
        "attack", "sent", "refused", "arrived", "lost", "held", "loss %", "p99 ms", "answers ms"
    ));
    let none = |what: &str, calm: &Honest| {
        evidence(format!("{what:30} {:44} {:>7.2} {:>8.2}", "", calm.loss_percent(), calm.p99_ms()));
    };
    none("none", &calm);
    let memory_before = appliance.resident_bytes();
    let mut sends = Sends::so_far(&relay_host, &appliance);

    let mut attack = |name: String, host: &Host, counted: Counted, arguments: Vec<String>| {
        let dropped_before = kernel_drops(&appliance);
        let before = counted.so_far(&relay_host, &appliance);
        let (report, honest) = pair.relay_while(|| run(host, &arguments));
        assert!(appliance.is_running(), "{name}: the appliance is gone:\n{}", appliance.log_tail());
        let sent = report["sent"].as_u64().expect("a report tells what was sent");
        assert!(sent > 0, "{name}: nothing was sent: {report}");
        let enough = sent * ARRIVED_PERCENT_MIN / 100;
        // What the honest pair has sent is none of it.
        let before = before + if matches!(counted, Counted::Datagrams) { honest.sent as u64 } else { 0 };
        let watch = Stopwatch::start();
        let arrived = loop {
            let arrived = counted.so_far(&relay_host, &appliance).saturating_sub(before);
            if arrived >= enough || watch.elapsed() > COUNTED_WITHIN {
                break arrived;
            }
            pause(LOOK_INTERVAL);
        };
        assert!(arrived >= enough, "{name}: {sent} were sent, and {arrived} have arrived ({counted:?})");
        let watch = Stopwatch::start();
        wait_until("the directory to answer", DIRECTORY_ANSWERS_WITHIN, || register(&newcomer, "newcomer"));
        let (lost, held) = kernel_drops(&appliance);
        evidence(format!(
            "{name:30} {sent:>8} {:>8} {arrived:>8} {:>8} {:>8} {:>7.2} {:>8.2} {:>10}",
            report["refused"].as_u64().unwrap_or_default(),
            lost - dropped_before.0,
            held - dropped_before.1,
            honest.loss_percent(),
            honest.p99_ms(),
            watch.elapsed().as_millis()
        ));
        assert_accounted_for(&appliance, &name);
        sends.assert_reached_the_kernel(&relay_host, &appliance, &name);
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
        attack(kind.to_owned(), &attacker, Counted::of(kind, Counted::Datagrams), arguments);
    }
    for kind in ["types", "stun"] {
        let relay = format!("{RELAY_V4}:3478");
        attack(
            format!("{kind} on STUN's port"),
            &attacker,
            Counted::Datagrams,
            [common(kind), ["--relay", &relay, "--rate", rate].map(str::to_owned).to_vec()].concat(),
        );
    }
    for kind in ON_DIRECTORY {
        let target = format!("{RELAY_V4}:9000");
        let arguments = [common(kind), ["--target", &target, "--rate", rate].map(str::to_owned).to_vec()].concat();
        let counted = Counted::of(kind, Counted::Connections);
        attack(format!("{kind} on the directory"), &attacker, counted, arguments);
    }
    for kind in ON_ADMIN {
        let arguments = [common(kind), ["--target", "127.0.0.1:3000"].map(str::to_owned).to_vec()].concat();
        attack(format!("{kind} on the admin"), &relay_host, Counted::Handshakes, arguments);
    }

    let (_, calm) = pair.relay_while(|| pause(CALM));
    none("none again", &calm);
    assert_eq!(calm.lost(), 0, "honest nodes lose packets after the attacks");
    let grown = appliance.resident_bytes().saturating_sub(memory_before);
    evidence(format!("memory grew by {} KiB over all of them", grown / 1024));
    assert!(grown <= GROWTH_BYTES_MAX, "memory grew by {} KiB", grown / 1024);
}

/// Every shard's sums hold, and their total; whatever was forwarded or answered was sent.
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
        let sends = of_shard(&metrics, "pilot_relay_sends_total", &shard);
        let least = of("forwarded") + of("answered");
        assert!(sends >= least, "{attack}: {shard} has sent {sends} for {least} forwarded and answered");
    }
}

/// What has been sent so far, by the relay's word and by that of its host's kernel.
#[derive(Clone, Copy, Debug)]
struct Sends {
    /// Datagrams that, says the relay, reached the kernel.
    reached: u64,
    /// Sends of several datagrams at once, which the kernel may count as one.
    trains: u64,
    /// By the kernel.
    counted: u64,
}

impl Sends {
    fn so_far(host: &Host, appliance: &Appliance) -> Self {
        let metrics = appliance.metrics();
        let of = |what: &str| metrics.sum(&format!("pilot_relay_{what}_total"));
        let reached = of("sends").checked_sub(of("sends_failed")).expect("no more fail than there are");
        Self { reached, trains: of("trains"), counted: host.namespace().count("Udp", "OutDatagrams") }
    }

    /// Every send is in one of two sums: it reached the kernel, which has counted it too, or it failed. Nobody else on the
    /// relay's host sends datagrams.
    #[track_caller]
    fn assert_reached_the_kernel(&mut self, host: &Host, appliance: &Appliance, attack: &str) {
        let before = *self;
        wait_until(&format!("{attack}: what was sent to be what the kernel counts"), COUNTED_WITHIN, || {
            *self = Self::so_far(host, appliance);
            let (reached, counted) = (self.reached - before.reached, self.counted - before.counted);
            (counted == reached || (counted < reached && self.trains > before.trains)).then_some(())
        });
    }
}

/// What the kernel has lost for full buffers, and what its filters have held back.
fn kernel_drops(appliance: &Appliance) -> (u64, u64) {
    let metrics = appliance.metrics();
    (metrics.sum("pilot_relay_kernel_drops_total"), metrics.sum("pilot_relay_filter_drops_total"))
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
    assert!(output.status.success(), "loadgen {arguments:?}: {}: {text}{errors}", output.status);
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
    fn relay_while<T>(&self, mischief: impl FnOnce() -> T) -> (T, Honest) {
        let watch = Stopwatch::start();
        let sending = |is_over: &AtomicBool| {
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) {
                let now = watch.elapsed().as_nanos() as u64;
                self.sender.relay(self.receiver.node(), &now.to_be_bytes());
                sent += 1;
                // Also answers the relay, should it ask whether this node is still there.
                let _ = self.sender.receive(SEND_INTERVAL);
            }
            sent
        };
        let receiving = |is_over: &AtomicBool| {
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
        };
        let (result, sent, mut seen) = meanwhile(sending, receiving, mischief);
        seen.sort_unstable();
        seen.dedup_by_key(|(sent_at, _)| *sent_at);
        let latency = |(sent_at, at): (u64, Duration)| at.saturating_sub(Duration::from_nanos(sent_at));
        let mut latencies: Vec<Duration> = seen.into_iter().map(latency).collect();
        latencies.sort_unstable();
        (result, Honest { sent, latencies })
    }
}
