//! A span of the node in the collector's terms: Unix time for the engine's.

use telemetry::Span;
use telemetry::span::SpanEvent;

use crate::daemon::clock::Clock;
use crate::node::SpanRecord;

/// The span, by this clock.
#[must_use]
pub fn span(clock: &Clock, record: SpanRecord) -> Span {
    let SpanRecord { context, parent, parent_is_remote, name, kind, start, end, attributes, events, error } = record;
    let events = events.into_iter().map(|(at, name, attributes)| SpanEvent {
        at_ns: clock.unix_ns(at),
        name: name.into(),
        attributes,
    });
    // The wall clock may be set between two looks at it.
    let start_ns = clock.unix_ns(start);
    let end_ns = start_ns + end.0.saturating_sub(start.0);
    Span {
        context,
        parent,
        parent_is_remote,
        name: name.into(),
        kind,
        start_ns,
        end_ns,
        attributes,
        events: events.collect(),
        error,
    }
}
