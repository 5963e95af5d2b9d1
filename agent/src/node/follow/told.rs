//! Traces told to the other side and to the relay, and heard of the other side.

use std::net::SocketAddr;

use telemetry::span::Kind;
use wire::NodeId;
use wire::beacon::{Message, TRACE_LEN};
use wire::codec::Writer;
use wire::extension::{self, trace::Payload};
use wire::packet::{self, Flags, Packet, Protocol};
use wire::trace::TraceContext;

use crate::Time;
use crate::node::connections::Key;
use crate::node::control::ControlKind;
use crate::node::span::{self, Reach, SpanRecord, StreamTrace};
use crate::node::{Node, StreamId};

impl Node {
    /// Tells the peer which trace a stream of ours belongs to, if it understands that. Whether something was sent.
    pub(in crate::node) fn tell_trace(&mut self, now: Time, id: StreamId) -> bool {
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
    pub(in crate::node) fn follow_negotiated(&mut self, now: Time, peer: NodeId) {
        self.counters.rekeyings += 1;
        self.note(now, peer, ControlKind::SessionRenegotiated);
        for id in self.connections.with(peer) {
            self.tell_trace(now, id);
        }
    }

    /// The peer tells the trace of a stream of its.
    pub(in crate::node) fn take_trace(&mut self, now: Time, peer: NodeId, payload: &[u8]) {
        let Ok(Payload { sender_port, receiver_port, context }) = Payload::decode(payload) else {
            self.counters.dropped += 1;
            return;
        };
        let key = Key { peer, local_port: receiver_port, remote_port: sender_port };
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

    pub(super) fn attach_trace(&mut self, now: Time, id: StreamId, parent: TraceContext) {
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

    pub(super) fn tell_relay(&mut self, relay: SocketAddr, dest: NodeId, context: TraceContext) {
        let Some(sender) = self.id() else { return };
        let mut bytes = [0; TRACE_LEN];
        Message::Trace { sender, dest, context }.encode(&mut Writer::new(&mut bytes));
        self.send_small(relay, bytes.into());
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
