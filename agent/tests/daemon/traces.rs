//! Traces of two daemons at a collector, the flight recorder, the event log, figures over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;

use agent::config::settings::Settings;
use serde_json::{Value, json};
use telemetry::collector::{CollectedSpan, Collector};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use wire::ipc::Request;
use wire::services::exchange::{Content, Frame, PAYLOAD_MAX};

use crate::world::{Client, LOOK, PATIENCE, World, run};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn traced(world: &World, name: &str, collector: &Collector) -> Settings {
    Settings { otlp_endpoint: Some(collector.endpoint()), ..world.settings(name) }
}

async fn extension(client: &mut Client, question: Value) -> Value {
    client.ask(Request::Extension(&question.to_string())).await.json()
}

/// Looks until `found` gives something.
async fn eventually<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = found().await {
                return found;
            }
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Sends a text into the peer's inbox, and closes.
async fn deliver(client: &mut Client, node: wire::NodeId, text: &str) -> u32 {
    let connection = client.dial(node, 1001).await;
    let mut frame = Vec::new();
    Frame { tag: None, content: Content::Text(text.as_bytes()) }.encode(&mut frame, PAYLOAD_MAX).unwrap();
    client.send(Request::Send { connection, data: &frame }).await;
    client.receive(connection, 8).await;
    connection
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn named<'a>(spans: &'a [CollectedSpan], name: &str) -> &'a CollectedSpan {
    spans.iter().find(|span| span.name() == name).unwrap_or_else(|| panic!("{name} is missing"))
}

#[test]
fn one_trace_shows_both_daemons_from_the_dial_to_the_message() {
    run(|| async {
        let collector = Collector::start().unwrap();
        let world = World::new();
        let alpha = world.start(traced(&world, "alpha", &collector)).await;
        let bravo = world.start(traced(&world, "bravo", &collector)).await;
        let (mut a, mut b) = (alpha.client().await, bravo.client().await);
        let (this, that) = (a.node().await, b.node().await);
        let set = extension(&mut a, json!({"op": "trace", "traceparent": TRACEPARENT})).await;
        assert_eq!(set, json!({"trace_id": TRACE_ID, "traceparent": TRACEPARENT}));
        let connection = deliver(&mut a, that, "any news?").await;
        let told = extension(&mut a, json!({"op": "trace", "connection": connection})).await;
        assert_eq!(told["trace_id"], TRACE_ID);
        a.send(Request::Close { connection }).await;

        let wanted = [
            "pilot.dial",
            "pilot.resolve",
            "pilot.key_exchange",
            "pilot.stream.open",
            "pilot.punch",
            "pilot.relay",
            "pilot.message.send",
            "pilot.stream.accept",
            "pilot.message.receive",
        ];
        let spans = eventually("all spans", async || {
            let spans = collector.spans();
            wanted.iter().all(|name| spans.iter().any(|span| span.name() == *name)).then_some(spans)
        })
        .await;
        let of_trace: Vec<_> = spans.iter().filter(|span| hex(&span.span.trace_id) == TRACE_ID).cloned().collect();
        let context: wire::trace::TraceContext = TRACEPARENT.parse().unwrap();
        let shown = collector.render_trace(context.trace_id);
        assert_eq!(shown.matches("pilot.dial").count(), 1, "{shown}");
        let ids: BTreeSet<_> = of_trace.iter().map(|span| span.span.span_id.clone()).collect();
        for span in &of_trace {
            let parent = &span.span.parent_span_id;
            let is_root = span.name() == "pilot.dial" && hex(parent) == "00f067aa0ba902b7";
            assert!(is_root || ids.contains(parent), "{} has no parent", span.name());
            assert!(span.span.start_time_unix_nano <= span.span.end_time_unix_nano);
        }
        let instance = |name: &str| named(&of_trace, name).resource["service.instance.id"].clone();
        for name in &wanted[..7] {
            assert_eq!(instance(name), "alpha", "{name}");
        }
        assert_eq!(
            (instance("pilot.stream.accept"), instance("pilot.message.receive")),
            ("bravo".into(), "bravo".into())
        );
        let (open, accept) = (named(&of_trace, "pilot.stream.open"), named(&of_trace, "pilot.stream.accept"));
        assert_eq!(accept.span.parent_span_id, open.span.span_id);
        assert_eq!(named(&of_trace, "pilot.message.receive").span.parent_span_id, accept.span.span_id);
        let events = &named(&of_trace, "pilot.relay").span.events;
        assert!(events.iter().any(|event| event.name == "pilot.path.migrate"), "from the relay to the direct path");

        // The flight recorders of both say the same.
        for (client, peer, expected) in [(&mut a, that, "stream_established"), (&mut b, this, "stream_accepted")] {
            let answer = extension(client, json!({"op": "events", "node_id": peer})).await;
            let events = answer["events"].as_array().unwrap();
            let of_trace: Vec<_> = events.iter().filter(|event| event["trace_id"] == TRACE_ID).collect();
            assert!(events.iter().any(|event| event["event"] == expected), "{answer}");
            assert!(of_trace.iter().any(|event| event["event"] == "trace_received" || event["event"] == expected));
            assert!(events.iter().all(|event| event["address"] == peer.address().to_string()));
            assert!(events.iter().all(|event| event["unix_ms"].as_u64() > Some(1_600_000_000_000)));
            let all = extension(client, json!({"op": "events"})).await;
            assert!(all["events"].as_array().unwrap().len() >= events.len());
        }
        // Another dial begins another trace once the first is left.
        extension(&mut a, json!({"op": "trace"})).await;
        let connection = a.dial(that, 7).await;
        let begun = extension(&mut a, json!({"op": "trace", "connection": connection})).await;
        assert!(begun["trace_id"].as_str().is_some_and(|trace| trace != TRACE_ID && trace.len() == 32), "{begun}");
        alpha.stop().await.unwrap();
        bravo.stop().await.unwrap();
    });
}

#[test]
fn without_a_collector_dials_have_ids_and_nothing_else() {
    run(|| async {
        let world = World::new();
        let (alpha, bravo) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let mut a = alpha.client().await;
        let that = bravo.client().await.node().await;
        let connection = a.dial(that, 7).await;
        let trace = extension(&mut a, json!({"op": "trace", "connection": connection})).await;
        assert!(trace["traceparent"].as_str().unwrap().ends_with("-00"), "not recorded: {trace}");
        for wrong in [json!({"op": "trace", "traceparent": "00-xyz"}), json!({"op": "trace", "connection": "x"})] {
            let text = a.refused(Request::Extension(&wrong.to_string())).await;
            assert!(text.starts_with("trace: "), "{text}");
        }
        let text = a.refused(Request::Extension(&json!({"op": "events", "node_id": "x"}).to_string())).await;
        assert!(text.contains("node's number"), "{text}");
    });
}

#[test]
fn only_what_the_peer_has_confirmed_was_sent() {
    run(|| async {
        let world = World::new();
        let alpha = world.daemon("alpha").await;
        let bravo = world.start(Settings { no_dataexchange: Some(true), ..world.settings("bravo") }).await;
        // It takes streams, and never confirms what comes on them.
        let mut silent = bravo.client().await;
        silent.bind(1001).await;
        let (mut a, that) = (alpha.client().await, silent.node().await);
        let connection = a.dial(that, 1001).await;
        a.send(Request::Send { connection, data: b"into the void" }).await;
        a.send(Request::Close { connection }).await;
        a.await_frame(|reply| matches!(reply, wire::ipc::Reply::CloseOk { .. })).await;
        let mut other = alpha.client().await;
        let answer = extension(&mut other, json!({"op": "events", "node_id": that})).await;
        let events: Vec<_> = answer["events"].as_array().unwrap().iter().map(|event| &event["event"]).collect();
        assert!(events.contains(&&json!("stream_established")), "{answer}");
        assert!(!events.contains(&&json!("message_sent")), "{answer}");
    });
}

#[test]
fn the_event_log_has_stable_fields_and_is_nobody_elses() {
    run(|| async {
        let world = World::new();
        let (alpha, bravo) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let quiet = world.start(Settings { no_event_log: Some(true), ..world.settings("quiet") }).await;
        let mut a = alpha.client().await;
        let (this, that) = (a.node().await, bravo.client().await.node().await);
        let to = wire::address::SocketAddress { address: that.address(), port: 9 };
        assert_eq!(a.refused(Request::Dial { to }).await, "connection refused");
        alpha.stop().await.unwrap();
        bravo.stop().await.unwrap();
        quiet.stop().await.unwrap();
        let path = |name: &str| world.folder().join(name).join("events.jsonl");
        let read = |name: &str| -> Vec<Value> {
            let text = std::fs::read_to_string(path(name)).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let by_name = |lines: &[Value]| -> BTreeMap<String, Value> {
            lines.iter().map(|line| (line["event"].as_str().unwrap().to_owned(), line.clone())).collect()
        };
        let (ours, theirs) = (by_name(&read("alpha")), by_name(&read("bravo")));
        assert_eq!(std::fs::metadata(path("alpha")).unwrap().permissions().mode() & 0o777, 0o600);
        let failed = &ours["stream_failed"];
        assert_eq!((&failed["level"], &failed["reason"]), (&json!("warn"), &json!("connection refused")));
        assert_eq!((&failed["node_id"], &failed["peer_id"]), (&json!(this), &json!(that)));
        assert_eq!(failed["trace_id"].as_str().map(str::len), Some(32));
        assert!(failed["time"].as_str().unwrap().starts_with("20"), "{failed}");
        assert_eq!(theirs["stream_refused"]["local_port"], 9);
        for name in ["registered", "relay_changed", "session_established"] {
            assert_eq!(ours[name]["level"], "info", "{name}");
        }
        assert!(!path("quiet").exists());
    });
}

async fn get(address: std::net::SocketAddr, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn figures_are_served_over_http_and_follow_what_happens() {
    run(|| async {
        let world = World::new();
        // A port that was free a moment ago.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let alpha = world.start(Settings { http: Some(address.to_string()), ..world.settings("alpha") }).await;
        let bravo = world.daemon("bravo").await;
        let mut a = alpha.client().await;
        let that = bravo.client().await.node().await;
        a.dial(that, 7).await;
        let to = wire::address::SocketAddress { address: that.address(), port: 9 };
        assert_eq!(a.refused(Request::Dial { to }).await, "connection refused");
        let (head, body) = get(address, "/healthz").await;
        assert!(head.starts_with("HTTP/1.1 200") && body == "ok\n", "{head}");
        let (head, body) = get(address, "/metrics").await;
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        for line in [
            "pilot_agent_stream_dials_total{outcome=\"opened\"} 1",
            "pilot_agent_stream_dials_total{outcome=\"failed\"} 1",
            "pilot_agent_dial_duration_seconds_count 1",
            "pilot_agent_directory_up 1",
            "pilot_agent_relay_up 1",
            "pilot_agent_sessions_total 1",
            "pilot_agent_ipc_clients 1",
        ] {
            // The client with which the world looked may still be leaving.
            let is_there = body.lines().any(|found| found == line) || line.contains("ipc_clients");
            assert!(is_there, "{line} is missing:\n{body}");
        }
        let mut described = BTreeSet::new();
        for line in body.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(described_line) => {
                    let name = described_line.split(' ').next().unwrap().to_owned();
                    assert!(described.insert(name), "described twice: {line}");
                }
                None if line.starts_with('#') => {}
                None => {
                    let name = line.split(['{', ' ']).next().unwrap();
                    let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                    let is_described = described.contains(name) || base.is_some_and(|base| described.contains(base));
                    assert!(is_described, "{line}");
                    assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
                }
            }
        }
        assert!(get(address, "/other").await.0.starts_with("HTTP/1.1 404"));
        alpha.stop().await.unwrap();
        eventually("the address ends with the daemon", async || {
            TcpStream::connect(address).await.is_err().then_some(())
        })
        .await;
    });
}
