//! One heavy sender beside many light ones: it is held back to its budget before it fills the relay's sockets, and the
//! light ones lose next to nothing and wait not much longer.
//!
//! The bounds are loose: a laboratory's two processors carry both generators and the relay. `benches/fairness.sh` measures.

use std::process::{Child, Command, Stdio};

use lab::{ApplianceFlags, DirectoryClient, Host, RELAY_V4, World, evidence, loadgen};
use serde_json::Value;

const LIGHT_SENDERS: &str = "1000";
/// Two datagrams a second each.
const LIGHT_PPS: &str = "2000";
/// The heavy one's budget; it sends all it can, a hundred thousand and more.
const BUDGET_PPS: u64 = 2_000;
const SECONDS: u64 = 10;
/// Of the light senders' datagrams, in per cent. The first quarter of a second of the heavy one's is in it.
const LOSS_PERCENT_MAX: f64 = 3.0;
/// The light senders' 99th percentile beside the heavy one: this many times what it is without, or this, whichever is more.
const P99_FACTOR_MAX: f64 = 20.0;
const P99_US_MAX: f64 = 100_000.0;

#[test]
fn a_heavy_sender_does_not_cost_a_thousand_light_ones_their_packets() {
    let Some(world) = World::open() else { return };
    let (light, heavy) = (world.host("light"), world.host("heavy"));
    // A thousand registrations from one address; its packets would be far within its budget.
    let flags = ApplianceFlags::default()
        .flag("--shards", "1")
        .flag("--exempt", &light.v4().to_string())
        .flag("--sender-packets", &BUDGET_PPS.to_string());
    let mut appliance = world.appliance_with(flags);
    let node = register(&heavy);

    let alone = figures(light_senders(&light));
    let light_senders = light_senders(&light);
    let attack = attack(&heavy, node);
    let beside = figures(light_senders);
    let attack = finish(attack);
    let metrics = appliance.metrics();
    let filtered = metrics.sum("pilot_relay_filter_drops_total");
    evidence(format!(
        "1000 light senders alone: loss {:.2} %, p99 {:.0} µs; beside one that sent {} a second: loss {:.2} %, p99 {:.0} µs; \
         {filtered} filtered, {} over its budget, {} lost for a full buffer",
        alone.loss_percent,
        alone.p99_us,
        attack["sent"].as_u64().unwrap_or_default() / SECONDS,
        beside.loss_percent,
        beside.p99_us,
        metrics.sum("pilot_relay_datagrams_dropped_total"),
        metrics.sum("pilot_relay_kernel_drops_total"),
    ));
    assert!(appliance.is_running(), "the appliance is gone:\n{}", appliance.log_tail());
    assert!(filtered > 0, "the heavy sender was never held back");
    assert!(beside.loss_percent <= LOSS_PERCENT_MAX.max(3.0 * alone.loss_percent));
    assert!(beside.p99_us <= (alone.p99_us * P99_FACTOR_MAX).max(P99_US_MAX));
    let books = appliance.settled_accounting();
    assert!(books.balances(), "{books}");
}

/// What the light senders met with.
struct Figures {
    loss_percent: f64,
    p99_us: f64,
}

fn register(host: &Host) -> u32 {
    let mut directory = DirectoryClient::connect(host, "heavy").expect("the directory accepts");
    directory.register((host.v4(), 4000).into(), "heavy@pilot.test").expect("it registers")
}

fn light_senders(host: &Host) -> Child {
    let (relay, registry) = (format!("{RELAY_V4}:9001"), format!("{RELAY_V4}:9000"));
    let seconds = SECONDS.to_string();
    spawn(
        host,
        &[
            "--relay",
            &relay,
            "--registry",
            &registry,
            "--peers",
            LIGHT_SENDERS,
            "--rate",
            LIGHT_PPS,
            "--seconds",
            &seconds,
        ]
        .into_iter()
        .chain(["--max-loss", "100", "--workers", "1", "--burst", "1", "--json"])
        .collect::<Vec<_>>(),
    )
}

fn attack(host: &Host, node: u32) -> Child {
    let (relay, node, seconds) = (format!("{RELAY_V4}:9001"), node.to_string(), SECONDS.to_string());
    // To itself, so that nobody else is flooded.
    spawn(
        host,
        &[
            "attack",
            "--kind",
            "heavy",
            "--relay",
            &relay,
            "--node",
            &node,
            "--dest",
            &node,
            "--seconds",
            &seconds,
            "--json",
        ],
    )
}

fn spawn(host: &Host, arguments: &[&str]) -> Child {
    let mut command: Command = host.namespace().command(loadgen());
    let command = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("loadgen can be started")
}

fn finish(process: Child) -> Value {
    let output = process.wait_with_output().expect("loadgen ends");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("loadgen ({}) wrote no report: {error}: {text}", output.status))
}

fn figures(process: Child) -> Figures {
    let report = finish(process);
    let number = |value: &Value| value.as_f64().expect("a number");
    Figures { loss_percent: number(&report["loss_percent"]), p99_us: number(&report["latency_us"]["p99"]) }
}
