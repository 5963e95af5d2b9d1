//! Spans of traces in the engine's time, and where their ids come from.
//!
//! | span | kind | from – to |
//! |---|---|---|
//! | `pilot.dial` | client | the application's wish – the stream is open, or has failed |
//! | `pilot.resolve` | client | a question to the directory – its answer |
//! | `pilot.key_exchange` | internal | our keys leave – there is a session, or none will be |
//! | `pilot.punch` | internal | the first probe – one is answered, or all are given up |
//! | `pilot.relay` | internal | the first datagram through the relay – a direct path, or the end of the stream |
//! | `pilot.stream.open` | client | the SYN leaves – it is answered |
//! | `pilot.stream.accept` | server | a SYN comes – it is let in |
//! | `pilot.message.send`, `pilot.message.receive` | producer, consumer | what a service delivers |
//!
//! `pilot.stream.open`, and what clears the way for it, hang under `pilot.dial`; `pilot.message.send` and the other side's
//! `pilot.stream.accept` under `pilot.stream.open`; the other side's messages and its own way back under
//! `pilot.stream.accept`.

use std::collections::VecDeque;

use telemetry::span::{Kind, Value};
use wire::NodeId;
use wire::trace::TraceContext;

use super::connections::Key;
use super::derive;
use crate::Time;

/// Spans the owner has not taken yet; the oldest go first.
const PENDING_MAX: usize = 1024;
/// Contexts that came before their streams, and spans that wait for the context of their stream: in all, of one peer,
/// and for how long.
const WAITING_MAX: usize = 256;
const WAITING_OF_ONE_MAX: usize = 16;
const WAITING_LIFETIME: std::time::Duration = std::time::Duration::from_secs(10);

/// What is to be known about a span or an event.
pub type Attributes = Vec<(&'static str, Value)>;

/// A finished span; as [`telemetry::Span`], with the engine's times.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanRecord {
    /// The trace, and this span's id in it.
    pub context: TraceContext,
    /// The span that caused it.
    pub parent: Option<[u8; 8]>,
    /// Whether the parent is in another program.
    pub parent_is_remote: bool,
    /// What it is, as `pilot.dial`.
    pub name: &'static str,
    /// Whom it serves.
    pub kind: Kind,
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
    /// What is to be known about it.
    pub attributes: Attributes,
    /// What happened in between.
    pub events: Vec<(Time, &'static str, Attributes)>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl SpanRecord {
    /// One that begins now.
    #[must_use]
    pub(super) const fn begin(name: &'static str, kind: Kind, now: Time, place: Placement) -> Self {
        let Placement { context, parent, parent_is_remote } = place;
        Self {
            context,
            parent,
            parent_is_remote,
            name,
            kind,
            start: now,
            end: now,
            attributes: Vec::new(),
            events: Vec::new(),
            error: None,
        }
    }

    /// The same with an attribute more.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }
}

/// Where a span belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) context: TraceContext,
    pub(super) parent: Option<[u8; 8]>,
    pub(super) parent_is_remote: bool,
}

/// The trace of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialTrace {
    /// A new one. Whether its spans are recorded; it has ids in any case, for logs.
    New {
        /// Whether they are.
        sampled: bool,
    },
    /// That of whoever wants the dial, in another program.
    Within(TraceContext),
}

/// Ids of traces and spans: nobody else's, and the same again for the same seed.
#[derive(Debug)]
struct Ids {
    seed: [u8; 32],
    count: u32,
}

impl Ids {
    fn draw<const N: usize>(&mut self) -> [u8; N] {
        loop {
            self.count = self.count.wrapping_add(1);
            if self.count == 0 {
                self.seed = derive(&self.seed, "next", 0);
            }
            let drawn = derive(&self.seed, "trace", self.count);
            let id = *drawn.first_chunk().expect("an id is shorter than a hash");
            if id != [0; N] {
                return id;
            }
        }
    }
}

/// What waits for the other half of a stream's trace.
#[derive(Debug)]
struct Waiting<T> {
    of: Key,
    expires: Time,
    what: T,
}

/// Ids, finished spans, and what has come too early.
#[derive(Debug)]
pub(super) struct Tracing {
    ids: Ids,
    finished: VecDeque<SpanRecord>,
    early_contexts: VecDeque<Waiting<TraceContext>>,
    early_spans: VecDeque<Waiting<SpanRecord>>,
}

impl Tracing {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self {
            ids: Ids { seed, count: 0 },
            finished: VecDeque::new(),
            early_contexts: VecDeque::new(),
            early_spans: VecDeque::new(),
        }
    }

    /// The root of a new trace, or a span under another program's.
    pub(super) fn place(&mut self, trace: DialTrace) -> Placement {
        match trace {
            DialTrace::Within(parent) => self.under(parent, true),
            DialTrace::New { sampled } => {
                let flags = if sampled { TraceContext::SAMPLED } else { 0 };
                let context = TraceContext { trace_id: self.ids.draw(), span_id: self.ids.draw(), flags };
                Placement { context, parent: None, parent_is_remote: false }
            }
        }
    }

    /// A span under `parent`.
    pub(super) fn under(&mut self, parent: TraceContext, parent_is_remote: bool) -> Placement {
        let context = parent.child(self.ids.draw());
        Placement { context, parent: Some(parent.span_id), parent_is_remote }
    }

    /// Takes a finished span, if anybody is to see it.
    pub(super) fn finish(&mut self, now: Time, span: SpanRecord) {
        if !span.context.is_sampled() {
            return;
        }
        if self.finished.len() == PENDING_MAX {
            self.finished.pop_front();
        }
        self.finished.push_back(SpanRecord { end: now.max(span.start), ..span });
    }

    #[cfg(test)]
    pub(super) fn early(&self) -> usize {
        self.early_contexts.len() + self.early_spans.len()
    }

    pub(super) fn poll(&mut self) -> Option<SpanRecord> {
        self.finished.pop_front()
    }

    /// Keeps a context whose stream has not come yet.
    pub(super) fn await_stream(&mut self, now: Time, of: Key, context: TraceContext) {
        self.early_contexts.retain(|known| known.of != of);
        keep(&mut self.early_contexts, now, of, context);
    }

    /// The context that has come before its stream.
    pub(super) fn take_context(&mut self, now: Time, of: &Key) -> Option<TraceContext> {
        let at = self.early_contexts.iter().position(|known| known.of == *of && now < known.expires)?;
        self.early_contexts.remove(at).map(|known| known.what)
    }

    /// Keeps a finished span of a stream whose context has not come yet.
    pub(super) fn await_context(&mut self, now: Time, of: Key, span: SpanRecord) {
        keep(&mut self.early_spans, now, of, span);
    }

    /// The context of a stream has come: what has waited for it follows.
    pub(super) fn handle_context(&mut self, now: Time, of: &Key, context: TraceContext) {
        let (ready, others) = std::mem::take(&mut self.early_spans).into_iter().partition(|known| known.of == *of);
        self.early_spans = others;
        let ready: VecDeque<Waiting<SpanRecord>> = ready;
        for Waiting { what: span, .. } in ready.into_iter().filter(|known| now < known.expires) {
            let Placement { context, parent, parent_is_remote } = self.under(context, false);
            self.finish(span.end, SpanRecord { context, parent, parent_is_remote, ..span });
        }
    }
}

/// Keeps the newest: what has waited too long goes, then what the same peer sent first, then what anybody did.
fn keep<T>(waiting: &mut VecDeque<Waiting<T>>, now: Time, of: Key, what: T) {
    waiting.retain(|known| now < known.expires);
    let is_its = |known: &Waiting<T>| known.of.peer == of.peer;
    if waiting.iter().filter(|known| is_its(known)).count() >= WAITING_OF_ONE_MAX
        && let Some(at) = waiting.iter().position(is_its)
    {
        waiting.remove(at);
    }
    if waiting.len() >= WAITING_MAX {
        waiting.pop_front();
    }
    waiting.push_back(Waiting { of, expires: now + WAITING_LIFETIME, what });
}

/// What a stream has to do with traces.
#[derive(Clone, Debug)]
pub struct StreamTrace {
    /// What goes on within the stream belongs under this span.
    pub context: TraceContext,
    /// Our dial, until it is answered.
    pub(super) dial: Option<SpanRecord>,
    /// The SYN, until it is answered.
    pub(super) open: Option<SpanRecord>,
    /// The peer knows, or need not.
    pub(super) is_told: bool,
}

/// What is under way towards a peer on behalf of one stream.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub(super) stream: super::StreamId,
    /// The span under which all of this belongs.
    pub(super) context: TraceContext,
    /// Whether we are the one that dialled.
    pub(super) is_dialled: bool,
    pub(super) lookup: Option<SpanRecord>,
    pub(super) resolve: Option<SpanRecord>,
    pub(super) keys: Option<SpanRecord>,
    pub(super) punch: Option<SpanRecord>,
    pub(super) relay: Option<SpanRecord>,
    /// The relay has been told of the trace, by a frame and by a punch request.
    pub(super) relay_told: (bool, bool),
    /// A direct path was found, or was there.
    pub(super) is_direct: bool,
    pub(super) is_over: bool,
}

impl Reach {
    pub(super) const fn new(stream: super::StreamId, context: TraceContext, is_dialled: bool) -> Self {
        Self {
            stream,
            context,
            is_dialled,
            lookup: None,
            resolve: None,
            keys: None,
            punch: None,
            relay: None,
            relay_told: (false, false),
            is_direct: false,
            is_over: false,
        }
    }

    /// Whether what goes through the relay next is the first that does.
    pub(super) const fn may_be_relayed(&self) -> bool {
        !self.is_direct && !self.is_over && self.relay.is_none()
    }

    /// Whether there is nothing to come.
    pub(super) const fn is_idle(&self) -> bool {
        self.is_over
            && self.lookup.is_none()
            && self.resolve.is_none()
            && self.keys.is_none()
            && self.punch.is_none()
            && self.relay.is_none()
    }
}

/// Attributes that say who the peer is.
pub(super) fn peer(span: SpanRecord, peer: NodeId) -> SpanRecord {
    span.with("pilot.peer.id", i64::from(peer.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000_000_000);

    fn key(peer: u32, port: u16) -> Key {
        Key { peer: NodeId(peer), local_port: port, remote_port: 1 }
    }

    #[test]
    fn ids_come_from_the_seed_and_differ() {
        let ids = |seed| {
            let mut tracing = Tracing::new([seed; 32]);
            let root = tracing.place(DialTrace::New { sampled: true }).context;
            (root, tracing.under(root, false).context)
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1).0.trace_id, ids(2).0.trace_id);
        let (root, child) = ids(1);
        assert_eq!(root.trace_id, child.trace_id);
        assert_ne!(root.span_id, child.span_id);
    }

    #[test]
    fn contexts_that_wait_for_streams_are_few_and_expire() {
        let mut tracing = Tracing::new([1; 32]);
        let context = tracing.place(DialTrace::New { sampled: true }).context;
        (0..10_000).for_each(|port| tracing.await_stream(NOW, key(1, port), context));
        assert_eq!(tracing.early_contexts.len(), WAITING_OF_ONE_MAX);
        (2..1000).for_each(|peer| tracing.await_stream(NOW, key(peer, 1), context));
        assert_eq!(tracing.early_contexts.len(), WAITING_MAX);
        assert_eq!(tracing.take_context(NOW, &key(999, 1)), Some(context));
        assert_eq!(tracing.take_context(NOW, &key(999, 1)), None);
        assert_eq!(tracing.take_context(NOW + WAITING_LIFETIME, &key(998, 1)), None);
    }

    #[test]
    fn spans_wait_for_the_context_of_their_stream() {
        let mut tracing = Tracing::new([1; 32]);
        let context = tracing.place(DialTrace::New { sampled: true }).context;
        let place = Placement { context, parent: None, parent_is_remote: false };
        let span = || SpanRecord::begin("pilot.message.receive", Kind::Consumer, NOW, place);
        (0..1000).for_each(|_| tracing.await_context(NOW, key(1, 1), span()));
        tracing.await_context(NOW, key(2, 1), span());
        tracing.handle_context(NOW, &key(1, 1), context);
        let spans: Vec<_> = std::iter::from_fn(|| tracing.poll()).collect();
        assert_eq!(spans.len(), WAITING_OF_ONE_MAX);
        assert!(spans.iter().all(|span| span.parent == Some(context.span_id) && span.context != context));
        tracing.handle_context(NOW + WAITING_LIFETIME, &key(2, 1), context);
        assert_eq!(tracing.poll(), None, "too late");
    }

    #[test]
    fn what_nobody_records_is_not_kept_and_what_nobody_takes_is_bounded() {
        let mut tracing = Tracing::new([1; 32]);
        for sampled in [true, false] {
            let place = tracing.place(DialTrace::New { sampled });
            (0..2000).for_each(|_| {
                tracing.finish(NOW, SpanRecord::begin("pilot.dial", Kind::Client, NOW, place));
            });
        }
        assert_eq!(std::iter::from_fn(|| tracing.poll()).count(), PENDING_MAX);
    }
}
