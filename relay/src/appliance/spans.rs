//! The relay's part of a trace, made of its control events: `pilot.relay.introduce` says what it could do for a pair,
//! `pilot.relay.forward` whether datagrams of the pair really passed. The sender's own shard always makes one of these, other
//! shards where they relayed some: where there is none but with no datagrams, the agents went direct.
//!
//! Made only where the sender's trace is sampled and a collector is named. Attributes are numbers and words of ours; of
//! addresses only the family, and of what a sender gave only the ids of its trace.

use std::time::Duration;

use relay::Time;
use relay::admission::Budget;
use relay::events::{Event, What};
use telemetry::span::{Kind, Value};
use telemetry::{Exporter, Span};
use wire::NodeId;

use super::recorder::WallClock;

/// Spans a second, and at once: whoever may send through the relay may trace, and a collector is not to be flooded.
const SPANS_PER_SECOND: u64 = 200;
const SPANS_AT_ONCE: u64 = 400;

/// Turns events into spans.
#[derive(Debug)]
pub struct Spans {
    exporter: Exporter,
    budget: Budget,
    spent: Time,
    lost: u64,
}

/// What became of the spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// A collector has taken them.
    pub exported: u64,
    /// No collector would take them, or none was there.
    pub failed: u64,
    /// There were too many in a second, or too many waited already.
    pub lost: u64,
}

impl Spans {
    /// Spans for `exporter`.
    #[must_use]
    pub fn new(exporter: Exporter) -> Self {
        Self { exporter, budget: Budget::new(SPANS_PER_SECOND, SPANS_AT_ONCE), spent: Time::default(), lost: 0 }
    }

    /// What became of the spans so far.
    #[must_use]
    pub fn counts(&self) -> SpanCounts {
        let exporter = &self.exporter;
        SpanCounts {
            exported: exporter.exported(),
            failed: exporter.failed(),
            lost: exporter.lost().saturating_add(self.lost),
        }
    }

    /// Looks at an event of `shard`, and exports the span it is.
    pub fn take_in(&mut self, shard: usize, event: &Event) {
        let (What::TraceSent { context, .. } | What::TraceForwarded { context, .. }) = event.what else { return };
        if !self.exporter.is_on() || !context.is_sampled() {
            return;
        }
        // Events come late and in the order of their ends; the budget goes by when they are looked at.
        if !self.budget.charge(&mut self.spent, Time::read_clock(), 1) {
            if self.lost == 0 {
                tracing::warn!("more than {SPANS_PER_SECOND} traced messages a second; some spans are left out");
            }
            self.lost += 1;
            return;
        }
        if let Some(span) = random_span_id().and_then(|id| span(shard, event, id, &WallClock::read())) {
            self.exporter.export(span);
        }
    }
}

/// The span an event is, under the id `id`; `None` for events that are none.
fn span(shard: usize, event: &Event, id: [u8; 8], clock: &WallClock) -> Option<Span> {
    let common = |peer: NodeId| {
        let shard = i64::try_from(shard).unwrap_or(i64::MAX);
        vec![
            ("pilot.node", Value::from(event.node.0)),
            ("pilot.peer", Value::from(peer.0)),
            ("pilot.relay.shard", Value::from(shard)),
        ]
    };
    let (name, kind, context, peer, end_us, more) = match event.what {
        What::TraceSent { peer, context, found, grade, is_ipv6 } => {
            let more = vec![
                ("pilot.relay.destination", Value::from(found.label())),
                ("pilot.relay.sender_grade", Value::from(i64::from(grade as u8))),
                ("network.type", Value::from(if is_ipv6 { "ipv6" } else { "ipv4" })),
            ];
            ("pilot.relay.introduce", Kind::Server, context, peer, 0, more)
        }
        What::TraceForwarded { peer, context, datagrams, first_us, last_us } => {
            let mut more = vec![("pilot.relay.datagrams", Value::from(datagrams))];
            if datagrams > 0 {
                more.push(("pilot.relay.first_us", Value::from(first_us)));
            }
            ("pilot.relay.forward", Kind::Internal, context, peer, last_us, more)
        }
        _ => return None,
    };
    let start = clock.unix(event.at);
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Some(Span {
        context: context.child(id),
        parent: Some(context.span_id),
        parent_is_remote: true,
        name: name.into(),
        kind,
        start_ns: ns(start),
        end_ns: ns(start + Duration::from_micros(end_us.into())),
        attributes: common(peer).into_iter().chain(more).collect(),
        events: Vec::new(),
        error: None,
    })
}

/// A span id of chance; `None` in the unlikely case that there is no chance.
#[expect(clippy::disallowed_methods, reason = "a cold thread names spans, which no engine does")]
fn random_span_id() -> Option<[u8; 8]> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).ok().filter(|()| id != [0; 8]).map(|()| id)
}

#[cfg(test)]
mod tests {
    use relay::events::Destination;
    use relay::sessions::Grade;
    use wire::trace::TraceContext;

    use super::*;

    const CONTEXT: TraceContext = TraceContext { trace_id: [0xAB; 16], span_id: [0xCD; 8], flags: 1 };
    const ID: [u8; 8] = [0xEF; 8];
    const PEER: NodeId = NodeId(2);

    fn made(what: What) -> Option<Span> {
        let clock = WallClock::of(Time(7_000_000_000), Duration::from_secs(1_000_000));
        span(1, &Event { at: Time(5_000_000_000), node: NodeId(3), what }, ID, &clock)
    }

    fn attribute(span: &Span, name: &str) -> Option<Value> {
        span.attributes.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn an_introduction_hangs_below_the_agents_span() {
        let (found, grade) = (Destination::Recalled, Grade::ProvenAddress);
        let what = What::TraceSent { peer: PEER, context: CONTEXT, found, grade, is_ipv6: true };
        let span = made(what).unwrap();
        assert_eq!((span.name.as_ref(), span.kind), ("pilot.relay.introduce", Kind::Server));
        assert_eq!((span.context, span.parent, span.parent_is_remote), (CONTEXT.child(ID), Some([0xCD; 8]), true));
        assert_eq!((span.start_ns, span.end_ns), (999_998_000_000_000, 999_998_000_000_000));
        for (name, value) in [
            ("pilot.node", Value::from(3_u32)),
            ("pilot.peer", Value::from(2_u32)),
            ("pilot.relay.shard", Value::from(1_i64)),
            ("pilot.relay.destination", Value::from("recalled")),
            ("pilot.relay.sender_grade", Value::from(1_i64)),
            ("network.type", Value::from("ipv6")),
        ] {
            assert_eq!(attribute(&span, name), Some(value), "{name}");
        }
    }

    #[test]
    fn what_was_relayed_lasts_until_the_last_datagram() {
        let forwarded = |datagrams, first_us, last_us| {
            made(What::TraceForwarded { peer: PEER, context: CONTEXT, datagrams, first_us, last_us }).unwrap()
        };
        let span = forwarded(3, 100, 250);
        assert_eq!(span.name, "pilot.relay.forward");
        assert_eq!(span.end_ns - span.start_ns, 250_000);
        assert_eq!(attribute(&span, "pilot.relay.datagrams"), Some(Value::from(3_u32)));
        assert_eq!(attribute(&span, "pilot.relay.first_us"), Some(Value::from(100_u32)));
        let direct = forwarded(0, 0, 0);
        assert_eq!(attribute(&direct, "pilot.relay.datagrams"), Some(Value::from(0_u32)));
        assert_eq!(attribute(&direct, "pilot.relay.first_us"), None);
    }

    #[test]
    fn other_events_are_no_spans() {
        assert_eq!(made(What::SessionExpired), None);
        assert_eq!(made(What::TraceReceived { peer: PEER, trace_id: [1; 16] }), None);
    }
}
