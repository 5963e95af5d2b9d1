//! What the node tells of itself on its way to people and collectors: spans to the collector, control events to the log, to
//! the event log and into figures. The node's answers never wait for any of it.
//!
//! | part | subject |
//! |---|---|
//! | [`event_log`] | `events.jsonl`: what is kept on disk |
//! | [`spans`] | spans in the collector's terms |
//! | [`durations`] | how long dials took |

pub mod durations;
pub mod event_log;
pub mod spans;

use std::cell::RefCell;
use std::rc::Rc;

use telemetry::Exporter;

use super::clock::{self, Clock};
use super::core::Core;
use crate::config::values::Share;
use crate::node::{ControlEvent, ControlKind, Event, Node};
use durations::Durations;
use event_log::{EventLog, Level};

/// Where what the node tells goes.
pub struct Observer {
    clock: Clock,
    exporter: Exporter,
    events: EventLog,
    sample: Share,
    dials: RefCell<Durations>,
}

impl Observer {
    /// `sample` is the share of traces that begin here and are recorded.
    #[must_use]
    pub fn new(clock: Clock, exporter: Exporter, events: EventLog, sample: Share) -> Rc<Self> {
        Rc::new(Self { clock, exporter, events, sample, dials: RefCell::default() })
    }

    /// One that forgets everything.
    #[must_use]
    pub fn none(clock: Clock) -> Rc<Self> {
        Self::new(clock, Exporter::none(), EventLog::none(), Share::NONE)
    }

    /// Whether the trace that begins now is recorded.
    #[must_use]
    pub fn samples(&self) -> bool {
        self.exporter.is_on() && self.sample.takes(|| clock::chance().map_or(u32::MAX, u32::from_be_bytes))
    }

    /// The collector.
    #[must_use]
    pub const fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// The event log.
    #[must_use]
    pub const fn events(&self) -> &EventLog {
        &self.events
    }

    /// How long dials took that were answered.
    #[must_use]
    pub fn dials(&self) -> Durations {
        self.dials.borrow().clone()
    }

    /// Takes what the node has to tell.
    pub(super) fn attend(&self, core: &Core) {
        while let Some(event) = core.turn(|node, _| node.poll_control_event()) {
            self.take(core, &event);
        }
        while let Some(span) = core.turn(|node, _| node.poll_span()) {
            self.exporter.export(spans::span(&self.clock, span));
        }
    }

    /// Takes an event that concerns the daemon as a whole.
    pub(super) fn take_event(&self, core: &Core, event: &Event) {
        if let Some((level, record)) = event_log::of_daemon(event) {
            self.events.write(self.now_ns(), core.look(Node::id), level, None, None, record);
        }
    }

    fn take(&self, core: &Core, event: &ControlEvent) {
        if let ControlKind::StreamEstablished { after, .. } = &event.kind {
            self.dials.borrow_mut().note(*after);
        }
        let ControlEvent { at, peer, kind, trace } = event;
        let traceparent = trace.map(tracing::field::display);
        match event_log::level(kind) {
            Level::Debug => tracing::debug!(%peer, traceparent, "{kind}"),
            Level::Info => tracing::info!(%peer, traceparent, "{kind}"),
            Level::Warn => tracing::warn!(%peer, traceparent, "{kind}"),
        }
        if let Some((level, record)) = event_log::of_peer(kind) {
            let own = core.look(Node::id);
            self.events.write(self.clock.unix_ns(*at), own, level, Some(*peer), *trace, record);
        }
    }

    fn now_ns(&self) -> u64 {
        self.clock.unix_ns(self.clock.now())
    }
}
