//! Lines of the log, as what reads them sees them.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use telemetry::log::{Format, LogFormat};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Paper {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn written(format: Format, log: impl FnOnce()) -> String {
    let paper = Paper::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(paper.clone())
        .event_format(LogFormat::new("pilot-test", format))
        .finish();
    tracing::subscriber::with_default(subscriber, log);
    let bytes = paper.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

const HOSTILE: &str = "a\u{1b}[2J\r\nb\u{7}\u{9b}31m\u{7f}\u{202e}\"\\ é 漢";

#[test]
fn a_json_line_has_the_documented_fields_first() {
    let line = written(Format::Json, || tracing::warn!(target: "relay::x", number = 7, flag = true, "it happened"));
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&value["level"], &value["service"]), (&"warn".into(), &"pilot-test".into()));
    assert_eq!((&value["target"], &value["message"]), (&"relay::x".into(), &"it happened".into()));
    assert_eq!((&value["number"], &value["flag"]), (&7.into(), &true.into()));
    let timestamp = value["timestamp"].as_str().unwrap();
    assert!(timestamp.len() == 24 && timestamp.starts_with("20") && timestamp.ends_with('Z'), "{timestamp}");
    let order = ["\"timestamp\":", "\"level\":", "\"service\":", "\"target\":", "\"message\":", "\"flag\":"];
    let places: Vec<_> = order.iter().map(|field| line.find(field).unwrap()).collect();
    assert!(places.is_sorted(), "{line}");
}

#[test]
fn a_traceparent_is_split_and_what_is_none_stays() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let lines = written(Format::Json, || {
        tracing::info!(traceparent = parent, "one");
        tracing::info!(traceparent = %parent, "two");
        tracing::info!(traceparent = "00-x", "three");
    });
    let values: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for value in &values[..2] {
        assert_eq!(value["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(value["span_id"], "00f067aa0ba902b7");
        assert_eq!(value.get("traceparent"), None);
    }
    assert_eq!((values[2].get("trace_id"), &values[2]["traceparent"]), (None, &"00-x".into()));
}

#[test]
fn a_field_of_a_name_of_ours_does_not_hide_ours() {
    let line = written(Format::Json, || tracing::info!(level = "mine", service = "theirs", "said"));
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&value["level"], &value["level_"]), (&"info".into(), &"mine".into()));
    assert_eq!((&value["service"], &value["service_"]), (&"pilot-test".into(), &"theirs".into()));
}

#[test]
fn hostile_text_stays_one_line_without_controls_and_json_keeps_it_whole() {
    let log = || {
        tracing::info!(text = HOSTILE, shown = %HOSTILE, debugged = ?HOSTILE, "{HOSTILE}");
        tracing::error!(error = &io::Error::other(HOSTILE) as &dyn std::error::Error, "next");
    };
    for format in [Format::Text, Format::Json] {
        let lines = written(format, log);
        assert_eq!(lines.lines().count(), 2, "{format:?}: {lines:?}");
        let ugly = lines.chars().find(|character| {
            *character != '\n' && (character.is_control() || ('\u{202a}'..='\u{202e}').contains(character))
        });
        assert_eq!(ugly, None, "{format:?}: {lines:?}");
        assert!(lines.contains("é 漢"), "other text is left alone: {lines}");
    }
    let lines = written(Format::Json, log);
    let values: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&values[0]["message"], &values[0]["text"]), (&HOSTILE.into(), &HOSTILE.into()));
    assert_eq!((&values[0]["shown"], &values[1]["error"]), (&HOSTILE.into(), &HOSTILE.into()));
}

#[test]
fn text_is_for_people() {
    let line = written(Format::Text, || tracing::warn!(target: "relay::x", peer = "a b", count = 3, "lost"));
    let (timestamp, rest) = line.split_once(' ').unwrap();
    assert_eq!((timestamp.len(), rest), (24, " WARN relay::x: lost count=3 peer=\"a b\"\n"));
}
