//! What a node tells of its dials: control events, spans of one trace on both sides, and to whom the trace is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent::node::{ControlEvent, Delivery, DialTrace, SpanRecord, StreamId};
use serde_json::Value;
use telemetry::span::Kind;
use wire::NodeId;
use wire::address::SocketAddress;
use wire::trace::TraceContext;

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
const SAMPLED: DialTrace = DialTrace::New { sampled: true };

fn name(event: &ControlEvent) -> String {
    serde_json::to_value(&event.kind).unwrap()["event"].as_str().unwrap().to_owned()
}

fn names(events: &[ControlEvent]) -> Vec<String> {
    events.iter().map(name).collect()
}

/// Asserts that `wanted` occur in this order, others between them or not.
#[track_caller]
fn assert_order(events: &[ControlEvent], wanted: &[&str]) {
    let found = names(events);
    let mut rest = found.iter();
    for name in wanted {
        assert!(rest.any(|found| found == name), "{name} is missing or too early in {found:#?}");
    }
    assert!(events.is_sorted_by_key(|event| event.at));
}

fn field(event: &ControlEvent, name: &str) -> Value {
    serde_json::to_value(&event.kind).unwrap()[name].clone()
}

fn span<'a>(spans: &'a [SpanRecord], name: &str) -> &'a SpanRecord {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("{name} is missing: {:?}", spans.iter().map(|span| span.name).collect::<Vec<_>>()))
}

/// Two nodes, the relay announced as one that takes traces; a traced dial that is open and direct on both sides.
fn dialled(trace: DialTrace) -> (World, StreamId) {
    let mut world = World::with_public_nodes(2);
    let relay = world.relay;
    world.hosts.iter_mut().for_each(|host| host.node.set_trace_relays(&[relay]));
    let stream = dial(&mut world, trace);
    world.run_until(5 * SECOND, |world| world.is_direct(0, 1) && world.is_direct(1, 0));
    world.run_for(SECOND);
    (world, stream)
}

fn dial(world: &mut World, trace: DialTrace) -> StreamId {
    // A second dial finds it bound.
    let _ = world.hosts[1].node.bind(1000);
    let to = world.address(1, 1000);
    let stream = world.hosts[0].node.dial_traced(world.now, to, trace).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, stream));
    stream
}

#[test]
fn one_trace_follows_a_dial_from_the_relay_to_the_direct_path_on_both_sides() {
    let (mut world, stream) = dialled(SAMPLED);
    let incoming = world.accepted(1).unwrap();
    world.hosts[0].node.write(world.now, stream, b"question");
    world.run_until(SECOND, |world| world.read_all(1, incoming) == b"question");
    world.hosts[0].node.close(world.now, stream);
    world.run_for(SECOND);
    world.hosts[1].node.close(world.now, incoming);
    world.run_for(SECOND);

    let (ours, theirs) = (&world.hosts[0], &world.hosts[1]);
    assert_order(
        &ours.control,
        &[
            "dial_begun",
            "directory_asked",
            "keys_asked",
            "relay_used",
            "directory_answered",
            "session_established",
            "stream_asked",
            "stream_established",
            "stream_closed",
        ],
    );
    assert_order(&ours.control, &["punch_asked", "probe_sent", "probe_answered", "path_direct"]);
    assert_order(&theirs.control, &["stream_accepted", "stream_closed"]);
    assert_order(&theirs.control, &["trace_received", "session_renegotiated"]);
    let closed = theirs.control.iter().find(|event| name(event) == "stream_closed").unwrap();
    assert_eq!((field(closed, "received"), field(closed, "sent")), (8.into(), 0.into()));

    // One trace, and every parent is there.
    let trace = ours.control[0].trace.unwrap().trace_id;
    let known_here: Vec<_> = ours.control.iter().filter_map(|event| event.trace).collect();
    assert!(known_here.len() > 8 && known_here.iter().all(|context| context.trace_id == trace));
    let known_there: Vec<_> = theirs.control.iter().filter_map(|event| event.trace).collect();
    assert!(!known_there.is_empty() && known_there.iter().all(|context| context.trace_id == trace));
    let spans: Vec<_> = ours.spans.iter().chain(&theirs.spans).collect();
    let ids: BTreeSet<_> = spans.iter().map(|span| span.context.span_id).collect();
    assert_eq!(ids.len(), spans.len(), "span ids are unique");
    for span in &spans {
        assert_eq!(span.context.trace_id, trace, "{span:?}");
        assert!(span.start <= span.end, "{span:?}");
        assert!(span.parent.map_or(span.name == "pilot.dial", |parent| ids.contains(&parent)), "{span:?}");
    }
    let [dial, keys, punch, relay, open] =
        ["pilot.dial", "pilot.key_exchange", "pilot.punch", "pilot.relay", "pilot.stream.open"]
            .map(|name| span(&ours.spans, name));
    assert_eq!(dial.parent, None);
    for child in [keys, punch, relay, open, span(&ours.spans, "pilot.resolve")] {
        assert_eq!((child.parent, child.error.as_ref()), (Some(dial.context.span_id), None), "{child:?}");
    }
    assert!(relay.start < keys.end && punch.end == relay.end, "the relay carries the traffic until a path is proven");
    assert!(relay.events.iter().any(|(at, name, _)| *name == "pilot.path.migrate" && *at == relay.end));
    let accept = span(&theirs.spans, "pilot.stream.accept");
    assert_eq!((accept.kind, accept.parent), (Kind::Server, Some(open.context.span_id)));
    assert!(accept.parent_is_remote);
    // The relay's part: once with the first punch request, once with the first frame.
    let (this, that) = (world.id(0), world.id(1));
    assert_eq!(world.traces, [(this, that, punch.context), (this, that, relay.context)]);
}

#[test]
fn the_trace_of_whoever_dials_goes_on_and_one_that_is_not_recorded_has_ids_alone() {
    let parent = TraceContext { trace_id: [7; 16], span_id: [8; 8], flags: 1 };
    let (world, stream) = dialled(DialTrace::Within(parent));
    let dial = span(&world.hosts[0].spans, "pilot.dial");
    assert_eq!((dial.parent, dial.parent_is_remote), (Some(parent.span_id), true));
    assert_eq!(dial.context.trace_id, parent.trace_id);
    assert_eq!(world.hosts[0].node.stream_trace(stream).unwrap().trace_id, parent.trace_id);

    let (world, stream) = dialled(DialTrace::New { sampled: false });
    let trace = world.hosts[0].node.stream_trace(stream).unwrap();
    let incoming = world.accepted(1).unwrap();
    assert_eq!(world.hosts[1].node.stream_trace(incoming).unwrap().trace_id, trace.trace_id);
    assert!(!trace.is_sampled() && world.traces.is_empty());
    assert!(world.hosts.iter().all(|host| host.spans.is_empty()));
}

#[test]
fn a_dial_without_a_trace_is_told_to_nobody_and_is_in_the_recorder_all_the_same() {
    let mut world = World::with_public_nodes(2);
    let relay = world.relay;
    world.hosts.iter_mut().for_each(|host| host.node.set_trace_relays(&[relay]));
    world.hosts[1].node.bind(1000).unwrap();
    let to = world.address(1, 1000);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(5 * SECOND, |world| world.is_open(0, stream) && world.is_direct(0, 1));
    world.run_for(5 * SECOND);
    assert_eq!(world.hosts[0].node.stream_trace(stream), None);
    assert_order(&world.hosts[0].control, &["dial_begun", "session_established", "stream_established"]);
    assert_order(&world.hosts[0].control, &["session_established", "session_renegotiated"]);
    for host in &world.hosts {
        assert!(host.spans.is_empty() && host.control.iter().all(|event| event.trace.is_none()));
        assert!(!names(&host.control).contains(&"trace_received".to_owned()));
    }
    assert!(world.traces.is_empty());
}

#[test]
fn a_relay_that_does_not_announce_it_hears_of_no_trace() {
    let mut world = World::with_public_nodes(2);
    dial(&mut world, SAMPLED);
    world.run_for(5 * SECOND);
    assert!(world.traces.is_empty());
    assert!(!world.hosts[1].spans.is_empty(), "the peer does");
}

#[test]
fn the_same_seed_gives_the_same_ids_at_the_same_times() {
    let run = || {
        let (world, _) = dialled(SAMPLED);
        world.hosts.into_iter().map(|host| (host.control, host.spans)).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_second_dial_over_a_direct_path_tells_its_trace_before_its_syn() {
    let (mut world, first) = dialled(SAMPLED);
    world.run_for(5 * SECOND);
    let before = world.hosts[1].control.len();
    let second = dial(&mut world, SAMPLED);
    let after = names(&world.hosts[1].control[before..]);
    assert_eq!(after, ["trace_received", "stream_accepted"]);
    let traces = [first, second].map(|stream| world.hosts[0].node.stream_trace(stream).unwrap().trace_id);
    assert_ne!(traces[0], traces[1]);
    assert_eq!(world.hosts[1].control.last().unwrap().trace.unwrap().trace_id, traces[1]);
    let names: BTreeMap<_, usize> = world.hosts[0].spans.iter().fold(BTreeMap::new(), |mut names, span| {
        *names.entry((span.context.trace_id == traces[1], span.name)).or_default() += 1;
        names
    });
    let of_second: Vec<_> = names.keys().filter(|(is_second, _)| *is_second).map(|(_, name)| *name).collect();
    assert_eq!(of_second, ["pilot.dial", "pilot.stream.open"], "nothing else was to be done");
}

#[test]
fn what_a_service_has_received_before_the_trace_was_told_belongs_to_it() {
    let mut world = World::with_public_nodes(2);
    let stream = dial(&mut world, SAMPLED);
    let incoming = world.accepted(1).unwrap();
    let delivery = |is_received, began| Delivery { is_received, what: "message", bytes: 42, began };
    let now = world.now;
    assert_eq!(world.hosts[1].node.stream_trace(incoming), None, "the keys are still being negotiated");
    world.hosts[1].node.note_delivery(now, incoming, delivery(true, now));
    world.hosts[0].node.note_delivery(now, stream, delivery(false, now));
    world.run_for(5 * SECOND);
    let (ours, theirs) = (&world.hosts[0].spans, &world.hosts[1].spans);
    let (send, receive) = (span(ours, "pilot.message.send"), span(theirs, "pilot.message.receive"));
    assert_eq!((send.kind, receive.kind), (Kind::Producer, Kind::Consumer));
    assert_eq!(receive.parent, Some(span(theirs, "pilot.stream.accept").context.span_id));
    assert_eq!(send.context.trace_id, receive.context.trace_id);
    assert_order(&world.hosts[1].control, &["stream_accepted", "message_received", "trace_received"]);
}

#[test]
fn a_dial_that_fails_says_why_on_each_side() {
    // Nobody listens.
    let mut world = World::with_public_nodes(2);
    let to = world.address(1, 9);
    world.hosts[0].node.dial_traced(world.now, to, SAMPLED).unwrap();
    world.run_for(2 * SECOND);
    let failed = world.hosts[0].control.iter().find(|event| name(event) == "stream_failed").unwrap();
    assert_eq!(field(failed, "reason"), "connection refused");
    assert_eq!(span(&world.hosts[0].spans, "pilot.dial").error.as_deref(), Some("connection refused"));
    let refused = world.hosts[1].control.iter().find(|event| name(event) == "stream_refused").unwrap();
    assert_eq!((field(refused, "local_port"), field(refused, "reason")), (9.into(), "nobody listens there".into()));

    // Nobody is known by that id.
    let to = SocketAddress { address: NodeId(77).address(), port: 9 };
    world.hosts[0].node.dial_traced(world.now, to, SAMPLED).unwrap();
    world.run_for(2 * SECOND);
    let events: Vec<_> = world.hosts[0].node.control_events(NodeId(77)).cloned().collect();
    assert_order(&events, &["dial_begun", "directory_asked", "directory_refused", "stream_failed"]);
    let failed = events.iter().find(|event| name(event) == "stream_failed").unwrap();
    assert!(field(failed, "reason").as_str().unwrap().starts_with("no such node"), "{failed:?}");
    let failed: Vec<_> =
        world.hosts[0].spans.iter().filter(|span| span.name == "pilot.resolve" && span.error.is_some()).collect();
    assert!(!failed.is_empty());
}

#[test]
fn refusals_are_all_counted_and_one_a_minute_is_noted() {
    let mut world = World::with_public_nodes(2);
    let refused = |world: &World| world.hosts[1].control.iter().filter(|event| name(event) == "stream_refused").count();
    for _ in 0..5 {
        let to = world.address(1, 9);
        world.hosts[0].node.dial_traced(world.now, to, SAMPLED).unwrap();
        world.run_for(2 * SECOND);
    }
    assert_eq!((refused(&world), world.hosts[1].node.counters().streams_refused >= 5), (1, true));
    world.run_for(60 * SECOND);
    let to = world.address(1, 9);
    world.hosts[0].node.dial_traced(world.now, to, SAMPLED).unwrap();
    world.run_for(2 * SECOND);
    assert_eq!(refused(&world), 2);
}

#[test]
fn whoever_is_only_named_leaves_nothing_in_the_recorder() {
    let (mut world, _) = dialled(SAMPLED);
    let (peer, endpoint) = (world.id(1), world.hosts[1].endpoint);
    let before: Vec<_> = world.hosts[0].node.control_events(peer).cloned().collect();
    assert!(!before.is_empty());
    // Signed keys of nodes nobody has met, as anyone can send them; each is looked up, and the directory knows none.
    for stranger in 10_000..12_000_u32 {
        let mut frame = [b"PILA".as_slice(), &stranger.to_be_bytes(), &[5; 32], &[6; 32], &[7; 64]].concat();
        world.hosts[0].node.handle_datagram(world.now, endpoint, &mut frame);
        world.run_for(Duration::from_millis(100));
    }
    let strangers = world.hosts[0].control.iter().filter(|event| event.peer.0 >= 10_000).count();
    assert_eq!(strangers, 0);
    let after: Vec<_> = world.hosts[0].node.control_events(peer).cloned().collect();
    assert!(after.starts_with(&before[..1]), "what happened with a peer is still there");
}

#[test]
fn without_a_direct_way_the_relay_is_used_to_the_end_and_punching_has_failed() {
    let mut world = World::with_public_nodes(2);
    let relay = world.relay;
    world.passes = Box::new(move |from, to| from == relay || to == relay);
    let stream = dial(&mut world, SAMPLED);
    world.run_for(10 * SECOND);
    assert_order(&world.hosts[0].control, &["punch_asked", "punch_failed"]);
    let punch = span(&world.hosts[0].spans, "pilot.punch");
    assert!(punch.error.is_some() && punch.end.since(punch.start) > SECOND);
    assert!(!world.hosts[0].spans.iter().any(|span| span.name == "pilot.relay"), "it is still in use");
    world.hosts[0].node.close(world.now, stream);
    world.run_for(30 * SECOND);
    let used = span(&world.hosts[0].spans, "pilot.relay");
    assert!(used.end.since(used.start) > 9 * SECOND && used.events.is_empty());
    assert!(world.hosts[0].node.counters().punches_failed >= 1);
}

#[test]
fn a_path_that_dies_is_noted_with_its_reason() {
    let (mut world, stream) = dialled(SAMPLED);
    let relay = world.relay;
    world.passes = Box::new(move |from, to| from == relay || to == relay);
    world.hosts[0].node.write(world.now, stream, b"into the void");
    world.run_until(30 * SECOND, |world| !world.is_direct(0, 1));
    world.run_for(SECOND);
    assert_order(&world.hosts[0].control, &["path_direct", "path_relayed", "relay_used"]);
    let lost = world.hosts[0].control.iter().find(|event| name(event) == "path_relayed").unwrap();
    assert!(field(lost, "reason").as_str().unwrap().contains("silent"), "{lost:?}");
    assert_eq!(world.hosts[0].node.counters().paths_lost, 1);
}

#[test]
fn a_heartbeat_tells_how_peers_are_reached_and_what_was_sent() {
    let (mut world, stream) = dialled(SAMPLED);
    let data = vec![1; 10_000];
    world.hosts[0].node.write(world.now, stream, &data);
    world.run_for(Duration::from_secs(120));
    let this = world.id(0);
    let (_, last) = world.reports.iter().rfind(|(node, _)| *node == this).expect("heartbeats go out");
    assert_eq!((last.direct, last.relayed), (1, 0));
    assert!(last.direct_bytes > 10_000 && last.relayed_bytes > 0, "{last:?}");
    let counters = world.hosts[0].node.counters();
    assert!(counters.bytes_sent >= counters.bytes_sent_direct + counters.bytes_sent_relayed);
}
