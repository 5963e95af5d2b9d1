//! Control events and spans, made where something is decided. Everything here only watches: what the node does is the same
//! with and without it, but for the two datagrams that tell the other side and the relay of a trace.

use std::net::SocketAddr;
use std::time::Duration;

use telemetry::span::{Kind, Value};
use wire::NodeId;
use wire::beacon::{Message, TRACE_LEN};
use wire::codec::Writer;
use wire::extension::{self, trace::Payload};
use wire::packet::{self, Flags, Packet, Protocol};
use wire::registry::request::Report;
use wire::trace::TraceContext;

use super::about::about;
use super::connections::{Connection, Owner};
use super::control::{ControlEvent, ControlKind, Question, reason};
use super::span::{self, DialTrace, Placement, Reach, SpanRecord, StreamTrace, Tracing};
use super::{Counters, Node, StreamId};
use crate::Time;
use crate::path::What;
use crate::stream::End;

/// Streams whose way to one peer is followed at a time.
const REACHES_MAX: usize = 8;

/// A message or a file that a service has sent or received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whether it was received.
    pub is_received: bool,
    /// `message` or `file`.
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

/// Streams.
impl Node {
    /// The application dials.
    pub(super) fn follow_dial(&mut self, now: Time, id: StreamId, trace: Option<DialTrace>) {
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

    fn begin_reach(&mut self, peer: NodeId, reach: Reach, now: Time) {
        let state = self.admit_peer(now, peer);
        if state.reaches.len() < REACHES_MAX {
            let is_direct = state.path.direct().is_some();
            state.reaches.push(Reach { is_direct, ..reach });
        }
    }

    /// The first SYN of a dial leaves.
    pub(super) fn follow_syn(&mut self, now: Time, id: StreamId) {
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
    pub(super) fn follow_opened(&mut self, now: Time, id: StreamId) {
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
    pub(super) fn follow_accepted(&mut self, now: Time, id: StreamId, asked_at: Time) {
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

    /// A stream of the peer's is not let in.
    pub(super) fn follow_refused(&mut self, now: Time, peer: NodeId, local_port: u16, reason: &'static str) {
        self.counters.streams_refused += 1;
        self.note(now, peer, ControlKind::StreamRefused { local_port, reason: reason.into() });
    }

    /// Says once how a stream has ended, if it has and nobody will read any more of it.
    pub(super) fn follow_end(&mut self, now: Time, id: StreamId, is_gone: bool) {
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

/// Traces told and heard.
impl Node {
    /// Tells the peer which trace a stream of ours belongs to, if it understands that. Whether something was sent.
    pub(super) fn tell_trace(&mut self, now: Time, id: StreamId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let (key, local) = (connection.key, connection.local);
        let Some(trace) = connection.trace.as_mut().filter(|trace| !trace.is_told) else { return false };
        let payload = Payload { sender_port: key.local_port, receiver_port: key.remote_port, context: trace.context };
        if Some(key.peer) == self.registration.node() {
            trace.is_told = true;
            self.take_trace(now, key.peer, &payload.to_bytes());
            return false;
        }
        if !self.tunnels.as_ref().is_some_and(|tunnels| tunnels.takes_traces(key.peer)) {
            return false;
        }
        trace.is_told = true;
        let at = |address, port| wire::address::SocketAddress { address, port };
        let packet = Packet {
            version: packet::VERSION,
            flags: Flags::NONE,
            protocol: Protocol::CONTROL,
            source: at(local.address.node.address(), extension::PORT),
            destination: at(key.peer.address(), extension::PEER_PORT),
            sequence: 0,
            acknowledgement: 0,
            window_segments: 0,
            payload: &payload.to_bytes(),
        };
        self.send_packet(now, key.peer, &packet);
        true
    }

    /// Ephemeral keys are in use: the peer has said what it understands.
    pub(super) fn follow_negotiated(&mut self, now: Time, peer: NodeId) {
        self.counters.rekeyings += 1;
        self.note(now, peer, ControlKind::SessionRenegotiated);
        for id in self.connections.with(peer) {
            self.tell_trace(now, id);
        }
    }

    /// The peer tells the trace of a stream of its.
    pub(super) fn take_trace(&mut self, now: Time, peer: NodeId, payload: &[u8]) {
        let Ok(Payload { sender_port, receiver_port, context }) = Payload::decode(payload) else {
            self.counters.dropped += 1;
            return;
        };
        let key = super::connections::Key { peer, local_port: receiver_port, remote_port: sender_port };
        let found = self.connections.find(&key);
        let known = found.and_then(|id| self.connections.get(id));
        match (found, known) {
            (Some(id), Some(connection)) if connection.trace.is_none() && !connection.is_dialled => {
                self.attach_trace(now, id, context);
            }
            // What is told twice counts once; ports that are used again have another stream soon.
            (Some(_), Some(connection)) if !connection.stream.is_over() || connection.is_dialled => {}
            _ => self.tracing.await_stream(now, key, context),
        }
    }

    fn attach_trace(&mut self, now: Time, id: StreamId, parent: TraceContext) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (key, is_over) = (connection.key, connection.is_end_told);
        let place = self.tracing.under(parent, true);
        let (began, accepted_at) = (connection.begun_at, connection.accepted_at.unwrap_or(now));
        connection.trace =
            Some(Box::new(StreamTrace { context: place.context, dial: None, open: None, is_told: true }));
        let span = SpanRecord::begin("pilot.stream.accept", Kind::Server, began, place);
        let span = span::peer(span, key.peer).with("pilot.stream.port", u32::from(key.local_port));
        self.tracing.finish(accepted_at, span);
        self.tracing.handle_context(now, &key, place.context);
        if Some(key.peer) != self.registration.node() && !is_over {
            self.begin_reach(key.peer, Reach::new(id, place.context, false), now);
        }
        let kind = ControlKind::TraceReceived { local_port: key.local_port, remote_port: key.remote_port };
        self.note_in(now, key.peer, Some(place.context), kind);
    }

    fn tell_relay(&mut self, relay: SocketAddr, dest: NodeId, context: TraceContext) {
        let Some(sender) = self.id() else { return };
        let mut bytes = [0; TRACE_LEN];
        Message::Trace { sender, dest, context }.encode(&mut Writer::new(&mut bytes));
        self.send_small(relay, bytes.into());
    }
}

/// The way to a peer.
impl Node {
    /// The directory is asked about a peer.
    pub(super) fn follow_question(&mut self, now: Time, peer: NodeId, question: Question) {
        self.note(now, peer, ControlKind::DirectoryAsked { question });
        self.with_reaches(now, peer, |tracing, reach| {
            let place = tracing.under(reach.context, false);
            let of_question = match question {
                Question::Lookup => &mut reach.lookup,
                Question::Resolve => &mut reach.resolve,
                Question::CheckTrust => return,
            };
            of_question.get_or_insert_with(|| {
                span::peer(SpanRecord::begin("pilot.resolve", Kind::Client, now, place), peer)
                    .with("pilot.directory.operation", question.name())
            });
        });
    }

    /// It has answered, or refuses.
    pub(super) fn follow_answer(&mut self, now: Time, peer: NodeId, question: Question, refusal: Option<String>) {
        let refusal = refusal.as_deref().map(reason);
        self.with_reaches(now, peer, |tracing, reach| {
            let span = match question {
                Question::Lookup => reach.lookup.take(),
                Question::Resolve => reach.resolve.take(),
                Question::CheckTrust => None,
            };
            if let Some(span) = span {
                tracing.finish(now, SpanRecord { error: refusal.clone(), ..span });
            }
        });
        let kind = match refusal {
            None => ControlKind::DirectoryAnswered { question },
            Some(reason) => ControlKind::DirectoryRefused { question, reason },
        };
        self.note(now, peer, kind);
    }

    /// Somebody wants to reach a peer with which there is no session.
    pub(super) fn follow_exchange(&mut self, now: Time, peer: NodeId) {
        let Some(state) = self.peers.get_mut(peer) else { return };
        let is_new = !std::mem::replace(&mut state.keys_asked, true);
        if is_new {
            self.note(now, peer, ControlKind::KeysAsked);
        }
        self.with_reaches(now, peer, |tracing, reach| {
            if reach.is_dialled && !reach.is_over && reach.keys.is_none() {
                let place = tracing.under(reach.context, false);
                let span = SpanRecord::begin("pilot.key_exchange", Kind::Internal, now, place);
                reach.keys = Some(span::peer(span, peer));
            }
        });
    }

    /// There is a session, or why there will be none.
    pub(super) fn follow_session(&mut self, now: Time, peer: NodeId, failure: Option<String>) {
        let Some(state) = self.peers.get_mut(peer) else { return };
        let was_asked = std::mem::take(&mut state.keys_asked);
        let failure = failure.as_deref().map(reason);
        self.with_reaches(now, peer, |tracing, reach| {
            if let Some(span) = reach.keys.take() {
                tracing.finish(now, SpanRecord { error: failure.clone(), ..span });
            }
        });
        match failure {
            None => {
                self.counters.sessions += 1;
                self.note(now, peer, ControlKind::SessionEstablished);
            }
            Some(reason) if was_asked => {
                self.counters.handshakes_failed += 1;
                self.note(now, peer, ControlKind::SessionFailed { reason });
            }
            Some(_) => {}
        }
    }

    /// Something goes to the peer through this relay. Cheap when nothing is new.
    pub(super) fn follow_relayed(&mut self, now: Time, peer: NodeId, relay: SocketAddr) {
        let Some(state) = self.peers.get_mut(peer) else { return };
        let is_new = state.path.direct().is_none() && state.relayed_by.replace(relay) != Some(relay);
        if is_new {
            self.note(now, peer, ControlKind::RelayUsed { relay });
        }
        let takes_traces = self.trace_relays.contains(&relay);
        let mut told = Vec::new();
        self.with_reaches(now, peer, |tracing, reach| {
            if reach.is_direct || reach.is_over {
                return;
            }
            let span = reach.relay.get_or_insert_with(|| {
                let place = tracing.under(reach.context, false);
                span::peer(SpanRecord::begin("pilot.relay", Kind::Internal, now, place), peer)
                    .with("network.peer.address", relay.ip().to_string())
                    .with("network.peer.port", u32::from(relay.port()))
            });
            let tells = takes_traces && reach.is_dialled && span.context.is_sampled();
            if tells && !std::mem::replace(&mut reach.relay_told.0, true) {
                told.push(span.context);
            }
        });
        told.into_iter().for_each(|context| self.tell_relay(relay, peer, context));
    }

    /// The relay is asked to broker.
    pub(super) fn follow_punch_request(&mut self, now: Time, peer: NodeId, relay: SocketAddr) {
        self.note(now, peer, ControlKind::PunchAsked { relay });
        self.begin_punch(now, peer);
        if !self.trace_relays.contains(&relay) {
            return;
        }
        let mut told = Vec::new();
        self.with_reaches(now, peer, |_, reach| {
            let context = reach.punch.as_ref().map(|span| span.context).filter(TraceContext::is_sampled);
            if let Some(context) = context.filter(|_| reach.is_dialled && !reach.relay_told.1) {
                reach.relay_told.1 = true;
                told.push(context);
            }
        });
        told.into_iter().for_each(|context| self.tell_relay(relay, peer, context));
    }

    /// A probe leaves.
    pub(super) fn follow_probe(&mut self, now: Time, peer: NodeId, endpoint: SocketAddr) {
        let Some(state) = self.peers.get(peer) else { return };
        if state.path.direct().is_none() {
            self.begin_punch(now, peer);
        }
        let candidate = self.peers.get(peer).and_then(|state| {
            state.path.candidates().iter().find(|candidate| candidate.endpoint == endpoint && candidate.probes() == 1)
        });
        if let Some(source) = candidate.map(|candidate| candidate.kind.to_string()) {
            self.note(now, peer, ControlKind::ProbeSent { endpoint, source });
        }
    }

    fn begin_punch(&mut self, now: Time, peer: NodeId) {
        self.with_reaches(now, peer, |tracing, reach| {
            if !reach.is_direct && !reach.is_over && reach.punch.is_none() {
                let place = tracing.under(reach.context, false);
                let span = SpanRecord::begin("pilot.punch", Kind::Internal, now, place);
                reach.punch = Some(span::peer(span, peer));
            }
        });
    }

    /// The traffic moves.
    pub(super) fn follow_path(&mut self, now: Time, peer: NodeId, direct: Option<SocketAddr>) {
        let Some(state) = self.peers.get_mut(peer) else { return };
        state.relayed_by = None;
        let rtt = state.path.rtt();
        let candidates = state.path.candidates().len();
        let why = state.path.history().iter().last().map(|(_, what)| what.to_string()).unwrap_or_default();
        let to = direct.map_or_else(|| "relay".to_owned(), |_| "direct".to_owned());
        let nats = self.nat_attributes(peer);
        self.with_reaches(now, peer, |tracing, reach| {
            reach.is_direct = direct.is_some();
            let Some(endpoint) = direct else { return };
            let mut moved = vec![("pilot.path", Value::from(to.clone()))];
            moved.extend(endpoint_attributes(endpoint));
            let punch = reach.punch.take().map(|span| {
                let mut span = punched(span, "direct", candidates, &nats);
                span.attributes.extend(endpoint_attributes(endpoint));
                span.attributes.extend(rtt.map(|rtt| ("pilot.path.rtt_us", micros(rtt))));
                span
            });
            for mut span in [punch, reach.relay.take()].into_iter().flatten() {
                if span.name == "pilot.relay" {
                    span.events.push((now, "pilot.path.migrate", moved.clone()));
                }
                tracing.finish(now, span);
            }
        });
        let kind = match direct {
            Some(endpoint) => {
                self.counters.paths_direct += 1;
                ControlKind::PathDirect { endpoint }
            }
            None => {
                self.counters.paths_lost += 1;
                ControlKind::PathRelayed { reason: why }
            }
        };
        self.note(now, peer, kind);
    }

    /// After each timer of a path: whether the search for a direct one has just been given up.
    pub(super) fn follow_rest(&mut self, now: Time, peer: NodeId) {
        let Some(state) = self.peers.get_mut(peer) else { return };
        let Some((at, What::Rest(rest))) = state.path.history().iter().last().copied() else { return };
        if at != now || state.rest_noted.replace(at) == Some(at) {
            return;
        }
        let candidates = state.path.candidates().len();
        let nats = self.nat_attributes(peer);
        self.with_reaches(now, peer, |tracing, reach| {
            if let Some(span) = reach.punch.take() {
                let span = punched(span, "failed", candidates, &nats);
                let error = Some("no endpoint has answered a probe".to_owned());
                tracing.finish(now, SpanRecord { error, ..span });
            }
        });
        self.counters.punches_failed += 1;
        self.note(now, peer, ControlKind::PunchFailed { rest });
    }

    fn nat_attributes(&self, peer: NodeId) -> Vec<(&'static str, Value)> {
        let theirs = self.tunnels.as_ref().and_then(|tunnels| tunnels.about(peer));
        let own = ("pilot.nat", Value::from(self.nat.behavior().to_string()));
        let theirs = theirs.map(|about| ("pilot.peer.nat", Value::from(super::about::summary(about))));
        std::iter::once(own).chain(theirs).collect()
    }

    /// Does something with all that is under way towards a peer, and ends what has come to its end.
    fn with_reaches(&mut self, now: Time, peer: NodeId, mut act: impl FnMut(&mut Tracing, &mut Reach)) {
        let (Some(state), tracing) = (self.peers.get_mut(peer), &mut self.tracing) else { return };
        state.reaches.retain_mut(|reach| {
            act(tracing, reach);
            if reach.is_over
                && reach.punch.is_none()
                && let Some(span) = reach.relay.take()
            {
                tracing.finish(now, span);
            }
            !reach.is_idle()
        });
    }

    /// Notes something that belongs to no stream in particular.
    pub(super) fn note(&mut self, now: Time, peer: NodeId, kind: ControlKind) {
        let reaches = self.peers.get(peer).map(|peer| peer.reaches.as_slice()).unwrap_or_default();
        let trace = reaches.first().map(|reach| reach.context);
        self.note_in(now, peer, trace, kind);
    }

    fn note_in(&mut self, now: Time, peer: NodeId, trace: Option<TraceContext>, kind: ControlKind) {
        self.journal.push(ControlEvent { at: now, peer, kind, trace });
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

fn punched(span: SpanRecord, outcome: &'static str, candidates: usize, nats: &[(&'static str, Value)]) -> SpanRecord {
    let mut span = span
        .with("pilot.punch.outcome", outcome)
        .with("pilot.punch.candidates", i64::try_from(candidates).unwrap_or(i64::MAX));
    span.attributes.extend_from_slice(nats);
    span
}

fn endpoint_attributes(endpoint: SocketAddr) -> [(&'static str, Value); 2] {
    [
        ("network.peer.address", endpoint.ip().to_string().into()),
        ("network.peer.port", u32::from(endpoint.port()).into()),
    ]
}

fn micros(span: Duration) -> Value {
    Value::Number(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
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
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::Identity;
    use crate::node::Config;

    #[test]
    fn forged_contexts_of_streams_that_are_not_there_cost_little_and_do_nothing() {
        let now = Time(1_000_000_000);
        let identity = Arc::new(Identity::from_seed(&[1; 32]));
        let mut node = Node::new(now, Config::default(), identity, &[2; 32]);
        let context = TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 };
        for port in 0..u16::MAX {
            let payload = Payload { sender_port: port, receiver_port: !port, context };
            node.take_trace(now, NodeId(u32::from(port) % 100 + 1), &payload.to_bytes());
        }
        let dropped = node.counters().dropped;
        node.take_trace(now, NodeId(1), b"PRtrace\0\x01short");
        assert_eq!(node.counters().dropped, dropped + 1);
        assert_eq!((node.poll_control_event(), node.poll_span()), (None, None));
        assert!(node.tracing.early() <= 256, "{}", node.tracing.early());
    }
}
