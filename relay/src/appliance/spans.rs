//! The relay's part of a trace, made of its control events: `pilot.relay.introduce` says what it could do for a pair,
//! `pilot.relay.forward` whether datagrams of the pair really passed (none: the agents went direct).
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

impl Spans {
    /// Spans for `exporter`.
    #[must_use]
    pub fn new(exporter: Exporter) -> Self {
        Self { exporter, budget: Budget::new(SPANS_PER_SECOND, SPANS_AT_ONCE), spent: Time::default(), lost: 0 }
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
