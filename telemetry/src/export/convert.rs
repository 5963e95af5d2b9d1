//! Our spans as the SDK has them. What somebody else might have made large is cut here.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::Options;
use crate::span::{Kind, Span, SpanEvent, Value};

/// Attributes of a span or event, and events of a span, that are sent.
const LIST_MAX: usize = 128;
/// Bytes of a text that are sent.
const TEXT_BYTES_MAX: usize = 4096;

/// What is true of all spans of this process.
pub fn resource(options: &Options) -> Resource {
    let own = [
        ("service.name", &options.service_name),
        ("service.version", &options.service_version),
        ("service.instance.id", &options.instance_id),
    ];
    let own = own.into_iter().filter(|(_, value)| !value.is_empty());
    let own = own.map(|(key, value)| KeyValue::new(key, value.clone()));
    let others = options.attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty().with_attributes(others.chain(own)).build()
}

/// `span` as the SDK has it.
pub fn span_data(span: Span, scope: &InstrumentationScope) -> SpanData {
    let context = SpanContext::new(
        TraceId::from_bytes(span.context.trace_id),
        SpanId::from_bytes(span.context.span_id),
        TraceFlags::new(span.context.flags),
        false,
        TraceState::NONE,
    );
    let mut events = SpanEvents::default();
    events.dropped_count = excess(span.events.len());
    events.events = span.events.into_iter().take(LIST_MAX).map(event).collect();
    SpanData {
        span_context: context,
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: span.parent_is_remote,
        span_kind: kind(span.kind),
        name: span.name,
        start_time: time(span.start_ns),
        end_time: time(span.end_ns.max(span.start_ns)),
        dropped_attributes_count: excess(span.attributes.len()),
        attributes: attributes(span.attributes),
        events,
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, |error| Status::error(clipped(error))),
        instrumentation_scope: scope.clone(),
    }
}

fn event(event: SpanEvent) -> Event {
    let dropped = excess(event.attributes.len());
    Event::new(event.name, time(event.at_ns), attributes(event.attributes), dropped)
}

fn attributes(attributes: Vec<(&'static str, Value)>) -> Vec<KeyValue> {
    attributes.into_iter().take(LIST_MAX).map(|(key, value)| KeyValue::new(key, self::value(value))).collect()
}

fn value(value: Value) -> opentelemetry::Value {
    match value {
        Value::Text(text) => clipped(text.into_owned()).into(),
        Value::Number(number) => number.into(),
        Value::Flag(flag) => flag.into(),
    }
}

fn kind(kind: Kind) -> SpanKind {
    match kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Client => SpanKind::Client,
        Kind::Server => SpanKind::Server,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
    }
}

fn time(ns: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(ns)
}

fn clipped(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

fn excess(count: usize) -> u32 {
    u32::try_from(count.saturating_sub(LIST_MAX)).unwrap_or(u32::MAX)
}
