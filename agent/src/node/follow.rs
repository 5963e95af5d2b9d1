//! Control events and spans, made where something is decided. Everything here only watches: what the node does is the same
//! with and without it, but for the two datagrams that tell the other side and the relay of a trace.

mod streams;
mod told;
mod way;

use std::net::SocketAddr;

use telemetry::span::Kind;
use wire::NodeId;
use wire::registry::request::Report;
use wire::trace::TraceContext;

use super::about::about;
use super::control::{ControlEvent, ControlKind};
use super::span::{self, Placement, Reach, SpanRecord, Tracing};
use super::{Counters, Node, StreamId, Trouble};
use crate::Time;

/// A message or a file that a service has sent or received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whether it was received.
    pub is_received: bool,
    /// `message` or `file` of what was received; `exchange` of what was sent, which may be several of them.
    pub what: &'static str,
    /// Bytes of it.
    pub bytes: u64,
    /// When it began.
    pub began: Time,
}

/// What the owner may ask and tell.
impl Node {
    /// The next control event.
    pub fn poll_control_event(&mut self) -> Option<ControlEvent> {
        self.journal.poll()
    }

    /// The next finished span of a trace that is recorded.
    pub fn poll_span(&mut self) -> Option<SpanRecord> {
        self.tracing.poll()
    }

    /// The last control events of a peer, the oldest first.
    pub fn control_events(&self, peer: NodeId) -> impl Iterator<Item = &ControlEvent> {
        self.journal.of(peer)
    }

    /// The last control events of all peers, the oldest first, `count` at most.
    #[must_use]
    pub fn latest_control_events(&self, count: usize) -> Vec<&ControlEvent> {
        let mut events: Vec<_> = self.journal.all().collect();
        events.sort_by_key(|event| (event.at, event.peer));
        events.split_off(events.len().saturating_sub(count))
    }

    /// The trace of a stream: that of our dial, or the one its dialler has told.
    #[must_use]
    pub fn stream_trace(&self, stream: StreamId) -> Option<TraceContext> {
        Some(self.connections.get(stream)?.trace.as_ref()?.context)
    }

    /// Relays of the directory's last list that take trace messages, as it names them.
    #[must_use]
    pub fn relays_that_trace(&self) -> &[String] {
        &self.trace_relay_names
    }

    /// The addresses of relays that take trace messages.
    pub fn set_trace_relays(&mut self, relays: &[SocketAddr]) {
        self.trace_relays = relays.to_vec();
    }

    /// A service has delivered something on a stream.
    pub fn note_delivery(&mut self, now: Time, stream: StreamId, delivery: Delivery) {
        let Some(connection) = self.connections.get(stream) else { return };
        let (key, trace) = (connection.key, connection.trace.as_ref().map(|trace| trace.context));
        let Delivery { is_received, what, bytes, began } = delivery;
        let (name, kind) = match is_received {
            true => ("pilot.message.receive", Kind::Consumer),
            false => ("pilot.message.send", Kind::Producer),
        };
        let unplaced = TraceContext { trace_id: [0; 16], span_id: [0; 8], flags: 0 };
        let place = match trace {
            Some(context) => self.tracing.under(context, false),
            None => Placement { context: unplaced, parent: None, parent_is_remote: false },
        };
        let operation = if is_received { "process" } else { "send" };
        let span = span::peer(SpanRecord::begin(name, kind, began, place), key.peer)
            .with("messaging.system", "pilot")
            .with("messaging.operation.type", operation)
            .with("messaging.message.body.size", number(bytes))
            .with("pilot.message.kind", what);
        match trace {
            Some(_) => self.tracing.finish(now, span),
            // The peer may tell it yet.
            None if !connection.is_dialled => self.tracing.await_context(now, key, SpanRecord { end: now, ..span }),
            None => {}
        }
        let (connection, what) = (stream.0, what.into());
        let kind = match is_received {
            true => ControlKind::MessageReceived { connection, what, bytes },
            false => ControlKind::MessageSent { connection, what, bytes },
        };
        self.note_in(now, key.peer, trace, kind);
    }

    /// What a heartbeat tells of this node.
    pub(super) fn report(&self) -> Report {
        let sessions = self.peers().filter(|peer| peer.has_session);
        let (direct, relayed): (Vec<_>, Vec<_>) = sessions.partition(|peer| peer.direct.is_some());
        let count = |peers: &[super::PeerInfo]| u32::try_from(peers.len()).unwrap_or(u32::MAX);
        let Counters { bytes_sent_direct, bytes_sent_relayed, .. } = self.counters;
        let nat = about(self.nat.behavior());
        Report {
            direct: count(&direct),
            relayed: count(&relayed),
            direct_bytes: bytes_sent_direct,
            relayed_bytes: bytes_sent_relayed,
            nat_mapping: nat.nat_mapping,
            nat_filtering: nat.nat_filtering,
        }
    }
}

/// What the parts share.
impl Node {
    /// Does something with all that is under way towards a peer, and ends what has come to its end.
    fn with_reaches(&mut self, now: Time, peer: NodeId, mut act: impl FnMut(&mut Tracing, &mut Reach)) {
        let (Some(state), tracing) = (self.peers.get_mut(peer), &mut self.tracing) else { return };
        let is_searching = state.path.is_searching();
        state.reaches.retain_mut(|reach| {
            act(tracing, reach);
            if reach.is_over
                && !is_searching
                && let Some(span) = reach.punch.take()
            {
                tracing.finish(now, span.with("pilot.punch.outcome", "abandoned"));
            }
            if reach.is_over
                && reach.punch.is_none()
                && let Some(span) = reach.relay.take()
            {
                tracing.finish(now, span);
            }
            !reach.is_idle()
        });
    }

    /// Notes something that belongs to no stream in particular. Whoever is no peer has only been named, perhaps by a forged
    /// key exchange, and many of them would drive the peers out of the recorder; so would a banned one that goes on asking
    /// drive out what has happened.
    pub(super) fn note(&mut self, now: Time, peer: NodeId, kind: ControlKind) {
        let state = self.peers.get(peer);
        let is_welcome = state.is_some_and(|state| state.trouble != Some(Trouble::Banned));
        if !is_welcome && Some(peer) != self.id() {
            return;
        }
        let reaches = state.map(|peer| peer.reaches.as_slice()).unwrap_or_default();
        let trace = reaches.first().map(|reach| reach.context);
        self.note_in(now, peer, trace, kind);
    }

    fn note_in(&mut self, now: Time, peer: NodeId, trace: Option<TraceContext>, kind: ControlKind) {
        self.journal.push(ControlEvent { at: now, peer, kind, trace });
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
