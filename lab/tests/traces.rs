//! One message, followed: it leaves through the relay at once and goes on directly, and one trace shows both ends with the
//! relay's part between them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use lab::{ApplianceFlags, Daemon, DaemonFlags, Link, Nat, Program, RELAY_V4, World, evidence};
use telemetry::collector::{CollectedSpan, Collector};

const OTLP_PORT: u16 = 4318;
/// Far enough that the stream opens through the relay before a direct path has proven itself.
const ONE_WAY: Duration = Duration::from_millis(15);

#[test]
fn one_trace_shows_both_ends_and_the_relay_of_a_message_relayed_then_direct() {
    let Some(world) = World::open() else { return };
    if !Program::Ours.is_available() {
        return;
    }
    let address = SocketAddr::from((RELAY_V4, OTLP_PORT));
    let collector = world.relay_host().namespace().enter(|| Collector::on(address)).expect("the port is free");
    let endpoint = format!("http://{address}");
    let _appliance = world.appliance_with(ApplianceFlags::default().flag("--otlp", &endpoint));
    let start = |nat, name: &str| {
        let flags = DaemonFlags::named(name).ours().public().flag("--otlp-endpoint").flag(&endpoint);
        Daemon::start_ready(&world.site_over(Link::delay(ONE_WAY), nat).host(name), flags)
    };
    let near = start(Nat::AddressRestricted, "near");
    let far = start(Nat::PortRestricted, "far");

    let sent = near.pilotctl(&["send-message", "far", "--data", "follow me"]).expect("far is there");
    let trace_id = sent["trace_id"].as_str().unwrap_or_else(|| panic!("a trace is told of: {sent}")).to_owned();
    let is_ours = |span: &CollectedSpan| hex(&span.span.trace_id) == trace_id;
    let wanted: BTreeSet<(&str, &str)> = [
        ("pilot-agent", "pilot.dial"),
        ("pilot-agent", "pilot.key_exchange"),
        ("pilot-agent", "pilot.punch"),
        ("pilot-agent", "pilot.relay"),
        ("pilot-agent", "pilot.stream.open"),
        ("pilot-agent", "pilot.stream.accept"),
        ("pilot-agent", "pilot.message.send"),
        ("pilot-agent", "pilot.message.receive"),
        ("pilot-relay", "pilot.relay.introduce"),
        ("pilot-relay", "pilot.relay.forward"),
    ]
    .into();
    let spans = collector.wait_for("the spans of both ends and of the relay", |spans| {
        let there: BTreeSet<_> =
            spans.iter().filter(|span| is_ours(span)).map(|span| (span.service(), span.name())).collect();
        wanted.is_subset(&there) && relayed(spans.iter().filter(|span| is_ours(span))) > 0
    });
    let trace: Vec<&CollectedSpan> = spans.iter().filter(|span| is_ours(span)).collect();
    evidence(format!("\n{}", collector.render_trace(trace[0].span.trace_id.clone().try_into().expect("16 bytes"))));

    let instances: BTreeSet<_> = trace.iter().map(|span| span.resource.get("service.instance.id").cloned()).collect();
    assert_eq!(instances.len(), 3, "two daemons and the relay: {instances:?}");
    let ids: BTreeSet<_> = trace.iter().map(|span| span.span.span_id.clone()).collect();
    let roots: Vec<_> =
        trace.iter().filter(|span| span.span.parent_span_id.is_empty()).map(|span| span.name()).collect();
    assert_eq!(roots, ["pilot.dial"], "the trace has one beginning");
    for span in &trace {
        let parent = &span.span.parent_span_id;
        assert!(parent.is_empty() || ids.contains(parent), "{} has a parent that nobody told of", span.name());
    }
    let named = |name: &str| trace.iter().find(|span| span.name() == name).expect("awaited above");
    assert_eq!(named("pilot.punch").attribute("pilot.punch.outcome").as_deref(), Some("direct"));
    assert_eq!(named("pilot.relay.introduce").attribute("pilot.relay.destination").as_deref(), Some("session"));
    let relayed = relayed(trace.into_iter());
    evidence(format!("the relay carried {relayed} datagrams of it, and then the way was direct"));
    drop(far);
}

/// Datagrams that the relay counted. It tells of a pair when it has watched it for five seconds.
fn relayed<'a>(spans: impl Iterator<Item = &'a CollectedSpan>) -> u64 {
    spans.filter_map(|span| span.attribute("pilot.relay.datagrams")?.parse::<u64>().ok()).sum()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
