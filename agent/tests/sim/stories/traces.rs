//! A traced dial behind NATs: both sides tell the same story, and the story is the same for the same seed.

use agent::node::{ControlEvent, SpanRecord};

use super::{Pair, SECOND};
use crate::host::HostId;
use crate::nat::Behaviour;
use crate::world::World;

const STRICT: Option<Behaviour> = Some(Behaviour::PORT_RESTRICTED);

fn name(event: &ControlEvent) -> String {
    serde_json::to_value(&event.kind).unwrap()["event"].as_str().unwrap().to_owned()
}

/// Asserts that `wanted` occur in this order, others between them or not.
#[track_caller]
fn assert_order(events: &[ControlEvent], wanted: &[&str]) {
    let found: Vec<_> = events.iter().map(name).collect();
    let mut rest = found.iter();
    for name in wanted {
        assert!(rest.any(|found| found == name), "{name} is missing or too early in {found:#?}");
    }
}

fn events(world: &World, host: HostId, peer: HostId) -> Vec<ControlEvent> {
    let peer = world.hosts[peer.0].id().unwrap();
    world.hosts[host.0].node().unwrap().control_events(peer).cloned().collect()
}

fn spans(world: &mut World, host: HostId) -> Vec<SpanRecord> {
    let node = world.hosts[host.0].node_mut();
    std::iter::from_fn(|| node.poll_span()).collect()
}

/// What both sides tell of a dial that is relayed, then direct.
fn told(own_seed: u64) -> [(Vec<ControlEvent>, Vec<SpanRecord>); 2] {
    let Pair { mut world, a, b, .. } = Pair::new(own_seed, [STRICT, STRICT]);
    let flow = world.dial_traced(a, b, [20_000, 20_000]);
    world.delivered(flow, SECOND * 10);
    assert!(world.run_until(SECOND * 10, |world| world.is_direct(a, b) && world.is_direct(b, a)));
    world.run_for(SECOND * 5);
    world.check();
    println!("{}", world.evidence("traced dial"));
    [(a, b), (b, a)].map(|(host, peer)| (events(&world, host, peer), spans(&mut world, host)))
}

#[test]
fn a_dial_behind_nats_is_one_trace_relayed_then_direct_on_both_sides() {
    let [(ours, our_spans), (theirs, their_spans)] = told(60);
    assert_order(
        &ours,
        &["dial_begun", "keys_asked", "relay_used", "session_established", "stream_asked", "stream_established"],
    );
    assert_order(&ours, &["punch_asked", "probe_sent", "probe_answered", "path_direct"]);
    assert_order(&ours, &["relay_used", "path_direct"]);
    assert_order(&theirs, &["session_established", "stream_accepted"]);
    assert!(theirs.iter().any(|event| name(event) == "trace_received"));
    assert_order(&theirs, &["relay_used", "path_direct"]);
    let trace = ours[0].trace.unwrap().trace_id;
    for event in ours.iter().chain(&theirs) {
        assert!(event.trace.is_none_or(|context| context.trace_id == trace), "{event:?}");
    }
    assert!(theirs.iter().any(|event| event.trace.is_some()));
    for span in our_spans.iter().chain(&their_spans) {
        assert_eq!(span.context.trace_id, trace);
    }
    let find = |spans: &[SpanRecord], name: &str| spans.iter().find(|span| span.name == name).cloned().expect(name);
    let (relay, punch) = (find(&our_spans, "pilot.relay"), find(&our_spans, "pilot.punch"));
    assert!(relay.events.iter().any(|(_, name, _)| *name == "pilot.path.migrate"));
    let attributes: Vec<_> = punch.attributes.iter().map(|(name, _)| *name).collect();
    for wanted in ["pilot.punch.outcome", "pilot.punch.candidates", "pilot.nat", "network.peer.address"] {
        assert!(attributes.contains(&wanted), "{wanted} is missing in {attributes:?}");
    }
    let (open, accept) = (find(&our_spans, "pilot.stream.open"), find(&their_spans, "pilot.stream.accept"));
    assert_eq!(accept.parent, Some(open.context.span_id));
}

#[test]
fn the_same_seed_tells_the_same_story() {
    assert_eq!(told(61), told(61));
}
