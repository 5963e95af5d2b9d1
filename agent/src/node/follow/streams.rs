//! Streams: dialled, opened, let in, refused, ended.

use std::time::Duration;

use telemetry::span::Kind;
use wire::NodeId;
use wire::trace::TraceContext;

use crate::Time;
use crate::node::connections::{Connection, Owner};
use crate::node::control::{ControlKind, reason};
use crate::node::span::{self, DialTrace, Reach, SpanRecord, StreamTrace};
use crate::node::{Node, StreamId};
use crate::stream::End;

/// Streams whose way to one peer is followed at a time.
const REACHES_MAX: usize = 8;
/// Between two refusals to one peer that are noted.
const REFUSALS_APART: Duration = Duration::from_mins(1);

impl Node {
    /// The application dials.
    pub(in crate::node) fn follow_dial(&mut self, now: Time, id: StreamId, trace: Option<DialTrace>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (peer, remote_port) = (connection.key.peer, connection.key.remote_port);
        connection.is_dialled = true;
        let context = trace.map(|trace| {
            let dial = self.tracing.place(trace);
            let open = self.tracing.under(dial.context, false);
            let begin = |name, place| {
                span::peer(SpanRecord::begin(name, Kind::Client, now, place), peer)
                    .with("pilot.stream.port", u32::from(remote_port))
            };
            let (dial, open) = (begin("pilot.dial", dial), begin("pilot.stream.open", open));
            let context = dial.context;
            connection.trace = Some(Box::new(StreamTrace {
                context: open.context,
                dial: Some(dial),
                open: Some(open),
                is_told: false,
            }));
            context
        });
        if let Some(context) = context.filter(|_| Some(peer) != self.registration.node()) {
            self.begin_reach(peer, Reach::new(id, context, true), now);
        }
        self.counters.streams_dialled += 1;
        self.note_in(now, peer, context, ControlKind::DialBegun { connection: id.0, remote_port });
    }

    pub(super) fn begin_reach(&mut self, peer: NodeId, reach: Reach, now: Time) {
        let state = self.admit_peer(now, peer);
        if state.reaches.len() < REACHES_MAX {
            let is_direct = state.path.direct().is_some();
            state.reaches.push(Reach { is_direct, ..reach });
        }
    }

    /// The first SYN of a dial leaves.
    pub(in crate::node) fn follow_syn(&mut self, now: Time, id: StreamId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_asked = true;
        if let Some(open) = connection.trace.as_mut().and_then(|trace| trace.open.as_mut()) {
            open.start = now;
        }
        let (peer, trace) = (connection.key.peer, context(connection));
        let (local_port, remote_port) = (connection.key.local_port, connection.key.remote_port);
        self.note_in(now, peer, trace, ControlKind::StreamAsked { connection: id.0, local_port, remote_port });
    }

    /// The peer has answered the SYN.
    pub(in crate::node) fn follow_opened(&mut self, now: Time, id: StreamId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (key, after) = (connection.key, now.since(connection.begun_at));
        let trace = context(connection);
        let spans = connection.trace.as_mut().map(|trace| (trace.open.take(), trace.dial.take()));
        let is_direct = self.peers.get(key.peer).is_some_and(|peer| peer.path.direct().is_some());
        let path = if is_direct { "direct" } else { "relay" };
        if let Some((open, dial)) = spans {
            for span in [open, dial].into_iter().flatten() {
                self.tracing.finish(now, span.with("pilot.path", path));
            }
        }
        self.counters.streams_opened += 1;
        let kind = ControlKind::StreamEstablished {
            connection: id.0,
            local_port: key.local_port,
            remote_port: key.remote_port,
            after,
        };
        self.note_in(now, key.peer, trace, kind);
    }

    /// A stream of the peer's has been let in; its SYN came `asked_at`.
    pub(in crate::node) fn follow_accepted(&mut self, now: Time, id: StreamId, asked_at: Time) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.begun_at = asked_at;
        connection.accepted_at = Some(now);
        let key = connection.key;
        if let Some(context) = self.tracing.take_context(now, &key) {
            self.attach_trace(now, id, context);
        }
        self.counters.streams_accepted += 1;
        let trace = self.stream_trace(id);
        let (local_port, remote_port) = (key.local_port, key.remote_port);
        let kind = ControlKind::StreamAccepted { connection: id.0, local_port, remote_port };
        self.note_in(now, key.peer, trace, kind);
    }

    /// A stream of the peer's is not let in. Every one is counted; told is one a minute of each peer, since nothing but the
    /// peer sets their pace.
    pub(in crate::node) fn follow_refused(&mut self, now: Time, peer: NodeId, local_port: u16, reason: &'static str) {
        self.counters.streams_refused += 1;
        if let Some(state) = self.peers.get_mut(peer) {
            if state.refusal_noted.is_some_and(|noted| now.since(noted) < REFUSALS_APART) {
                return;
            }
            state.refusal_noted = Some(now);
        }
        self.note(now, peer, ControlKind::StreamRefused { local_port, reason: reason.into() });
    }

    /// Says once how a stream has ended, if it has and nobody will read any more of it.
    pub(in crate::node) fn follow_end(&mut self, now: Time, id: StreamId, is_gone: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let has_failed = connection.is_dialled && connection.opening;
        let end = connection.stream.end();
        let is_due = is_gone || end.is_some() && (has_failed || connection.released || !connection.is_application());
        if connection.is_end_told || !is_due {
            return;
        }
        connection.is_end_told = true;
        let (key, trace, end) = (connection.key, context(connection), end.unwrap_or(End::Aborted));
        let (sent, received) = (connection.bytes_sent, connection.bytes_received);
        let spans = connection.trace.as_mut().map(|trace| (trace.open.take(), trace.dial.take()));
        self.counters.retransmissions += connection.stream.metrics().retransmissions;
        let trouble = self.peers.get(key.peer).and_then(|peer| peer.trouble.as_ref()).map(ToString::to_string);
        let why = trouble.filter(|_| has_failed).unwrap_or_else(|| end.to_string());
        if let Some((open, dial)) = spans {
            let open = open.filter(|_| self.connections.get(id).is_some_and(|connection| connection.is_asked));
            for span in [open, dial].into_iter().flatten() {
                self.tracing
                    .finish(now, SpanRecord { error: Some(reason(&why)), ..span }.with("error.type", name(end)));
            }
        }
        let kind = match has_failed {
            true => {
                self.counters.streams_failed += 1;
                ControlKind::StreamFailed { connection: id.0, remote_port: key.remote_port, reason: reason(&why) }
            }
            false => ControlKind::StreamClosed {
                connection: id.0,
                local_port: key.local_port,
                remote_port: key.remote_port,
                reason: end.to_string(),
                sent,
                received,
            },
        };
        self.note_in(now, key.peer, trace, kind);
        self.with_reaches(now, key.peer, |_, reach| reach.is_over |= reach.stream == id);
    }
}

fn context(connection: &Connection) -> Option<TraceContext> {
    connection.trace.as_ref().map(|trace| trace.context)
}

impl Connection {
    fn is_application(&self) -> bool {
        self.owner == Owner::Application
    }
}

/// A class of failures, for whoever groups spans by it.
const fn name(end: End) -> &'static str {
    match end {
        End::Finished => "closed",
        End::Refused => "refused",
        End::Reset => "reset",
        End::TimedOut => "timeout",
        End::Truncated => "truncated",
        End::Aborted => "aborted",
        End::Banned => "banned",
    }
}
