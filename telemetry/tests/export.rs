//! Spans through the exporter into a receiver of OTLP, and what becomes of them when there is none.

use std::process::Command;
use std::time::Duration;

use telemetry::collector::{Collector, attributes};
use telemetry::export::{Exporter, Guard, Options, StartError};
use telemetry::span::{Kind, Span, SpanEvent, Value};
use wire::trace::TraceContext;

fn exporter(endpoint: &str, change: impl FnOnce(&mut Options)) -> (Exporter, Guard) {
    let mut options = Options::new(endpoint, "pilot-test", "0.0.7");
    options.instance_id = "0:0000.0000.0001".to_owned();
    options.attributes.push(("deployment.environment.name".to_owned(), "test".to_owned()));
    options.batch_delay = Duration::from_millis(20);
    change(&mut options);
    Exporter::start(options).expect("a collector's URL")
}

fn span(number: u8) -> Span {
    Span {
        context: TraceContext { trace_id: [7; 16], span_id: [number; 8], flags: TraceContext::SAMPLED },
        parent: None,
        parent_is_remote: false,
        name: "pilot.dial".into(),
        kind: Kind::Client,
        start_ns: 1_700_000_000_000_000_000,
        end_ns: 1_700_000_000_002_500_000,
        attributes: vec![("pilot.peer", Value::Text("0:0000.0000.0002".into())), ("pilot.tries", 3_u32.into())],
        events: Vec::new(),
        error: None,
    }
}

#[test]
fn a_span_arrives_as_it_was() {
    let collector = Collector::start().unwrap();
    let (exporter, guard) = exporter(&collector.endpoint(), |_| {});
    assert!(exporter.is_on());
    let child = Span {
        parent: Some([1; 8]),
        parent_is_remote: true,
        kind: Kind::Server,
        start_ns: 1_700_000_000_001_000_000,
        end_ns: 1_700_000_000_002_000_000,
        attributes: vec![("pilot.relayed", true.into())],
        events: vec![SpanEvent {
            at_ns: 1_700_000_000_001_500_000,
            name: "punch".into(),
            attributes: vec![("port", 9001_u32.into())],
        }],
        error: Some("no \u{1b}[31manswer".to_owned()),
        ..span(2)
    };
    exporter.export(span(1));
    exporter.export(child);
    let spans = collector.wait_for("pair of spans", |spans| spans.len() == 2);
    let [parent, child] = &spans[..] else { panic!("{} spans", spans.len()) };
    assert_eq!(parent.service(), "pilot-test");
    assert_eq!(parent.resource["service.version"], "0.0.7");
    assert_eq!(parent.resource["service.instance.id"], "0:0000.0000.0001");
    assert_eq!(parent.resource["deployment.environment.name"], "test");
    assert_eq!((parent.span.trace_id.as_slice(), parent.span.span_id.as_slice()), (&[7; 16][..], &[1; 8][..]));
    assert_eq!((parent.name(), parent.span.kind), ("pilot.dial", 3));
    assert!(parent.span.parent_span_id.is_empty(), "a root has no parent");
    assert_eq!(parent.span.start_time_unix_nano, 1_700_000_000_000_000_000);
    assert_eq!(parent.span.end_time_unix_nano, 1_700_000_000_002_500_000);
    assert_eq!(parent.attribute("pilot.peer").unwrap(), "0:0000.0000.0002");
    assert_eq!(parent.attribute("pilot.tries").unwrap(), "3");
    assert_eq!(parent.span.status.as_ref().map_or(0, |status| status.code), 0);
    assert_eq!((child.span.parent_span_id.as_slice(), child.span.kind), (&[1; 8][..], 2));
    // Bits 8 and 9 of the flags: known, and yes, to whether the parent is remote.
    assert_eq!(child.span.flags & 0x3FF, 0x301);
    assert_eq!(child.attribute("pilot.relayed").unwrap(), "true");
    let status = child.span.status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "no \u{1b}[31manswer"));
    let event = &child.span.events[0];
    assert_eq!((event.name.as_str(), event.time_unix_nano), ("punch", 1_700_000_000_001_500_000));
    assert_eq!(attributes(&event.attributes)["port"], "9001");
    assert_eq!(
        collector.render_trace([7; 16]),
        "trace 07070707070707070707070707070707\n  \
         +0.000 ms pilot-test: pilot.dial (2.500 ms) pilot.peer=0:0000.0000.0002 pilot.tries=3\n    \
         +1.000 ms pilot-test: pilot.dial (1.000 ms) pilot.relayed=true ERROR no \\u{1b}[31manswer\n      \
         · +1.500 ms punch port=9001\n"
    );
    drop(guard);
    assert_eq!((exporter.exported(), exporter.failed(), exporter.lost()), (2, 0, 0));
    if let Ok(python) = std::env::var("OTLP_ORACLE_PYTHON") {
        independent_opinion(&python, &collector.last_body());
    }
}

/// What OpenTelemetry's Python package makes of the bytes; `OTLP_ORACLE_PYTHON` is a Python that has it.
fn independent_opinion(python: &str, body: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, body).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle.py");
    let output = Command::new(python).arg(script).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed.lines().collect::<Vec<_>>(),
        [
            "pilot-test 0.0.7 07070707070707070707070707070707 0101010101010101 - pilot.dial 3 1700000000000000000 1700000000002500000 0",
            "pilot-test 0.0.7 07070707070707070707070707070707 0202020202020202 0101010101010101 pilot.dial 2 1700000000001000000 1700000000002000000 2",
        ]
    );
}

#[test]
fn a_trace_that_is_not_recorded_is_not_sent() {
    let collector = Collector::start().unwrap();
    let (exporter, guard) = exporter(&collector.endpoint(), |_| {});
    let mut unrecorded = span(1);
    unrecorded.context.flags = 0;
    exporter.export(unrecorded);
    exporter.export(span(2));
    drop(guard);
    let ids: Vec<_> = collector.spans().into_iter().map(|collected| collected.span.span_id).collect();
    assert_eq!((ids, exporter.lost()), (vec![vec![2; 8]], 0));
}

#[test]
fn the_end_delivers_what_is_queued() {
    let collector = Collector::start().unwrap();
    let (exporter, guard) = exporter(&collector.endpoint(), |options| options.batch_delay = Duration::from_secs(600));
    (0..200).for_each(|number| exporter.export(span(number + 1)));
    drop(guard);
    assert_eq!((collector.spans().len(), exporter.exported()), (200, 200));
    exporter.export(span(1));
    assert_eq!(exporter.lost(), 1, "nobody is left to take it");
}

#[test]
fn what_a_collector_refuses_is_counted_and_the_next_arrives() {
    let collector = Collector::start().unwrap();
    collector.answer_with(400);
    let (exporter, guard) = exporter(&collector.endpoint(), |_| {});
    exporter.export(span(1));
    collector.wait_for_requests(1);
    collector.answer_with(200);
    exporter.export(span(2));
    let spans = collector.wait_for("span after the refusal", |spans| !spans.is_empty());
    assert_eq!(spans[0].span.span_id, [2; 8]);
    drop(guard);
    assert_eq!((exporter.exported(), exporter.failed(), exporter.lost()), (1, 1, 0));
}

#[test]
fn nobody_listening_holds_nothing_up_and_memory_stays_bounded() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (exporter, guard) = exporter(&format!("http://{free}"), |options| options.queue_max = 16);
    (0..2000).for_each(|_| exporter.export(span(1)));
    drop(guard);
    assert_eq!(exporter.exported(), 0);
    assert!(exporter.lost() > 0, "2000 spans do not fit into a queue of 16");
    assert_eq!(exporter.failed() + exporter.lost(), 2000, "every span is accounted for");
}

#[test]
fn it_starts_and_works_inside_a_tokio_runtime() {
    let collector = Collector::start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (exporter, guard) = exporter(&collector.endpoint(), |_| {});
        exporter.export(span(1));
        drop(guard);
    });
    assert_eq!(collector.spans().len(), 1);
}

#[test]
fn a_url_that_cannot_be_served_is_refused_with_the_way_out() {
    let refused = |endpoint: &str| Exporter::start(Options::new(endpoint, "x", "1")).map(drop).unwrap_err();
    let tls = refused("https://collector.example:4318");
    assert!(matches!(tls, StartError::Scheme(_)) && tls.to_string().contains("http://127.0.0.1:4318"), "{tls}");
    assert!(matches!(refused("127.0.0.1:4318"), StartError::Scheme(_)));
    assert!(matches!(refused("http://no such host"), StartError::Endpoint(..)));
}
