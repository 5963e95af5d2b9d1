//! The way to a peer: questions to the directory, keys, relay, punching, direct paths.

use std::net::SocketAddr;
use std::time::Duration;

use telemetry::span::{Kind, Value};
use wire::NodeId;
use wire::trace::TraceContext;

use crate::Time;
use crate::node::Node;
use crate::node::about::summary;
use crate::node::control::{ControlKind, Question, reason};
use crate::node::span::{self, SpanRecord};
use crate::path::What;

impl Node {
    /// The directory is asked about a peer.
    pub(in crate::node) fn follow_question(&mut self, now: Time, peer: NodeId, question: Question) {
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
    pub(in crate::node) fn follow_answer(
        &mut self,
        now: Time,
        peer: NodeId,
        question: Question,
        refusal: Option<String>,
    ) {
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
    pub(in crate::node) fn follow_exchange(&mut self, now: Time, peer: NodeId) {
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
    pub(in crate::node) fn follow_session(&mut self, now: Time, peer: NodeId, failure: Option<String>) {
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
    pub(in crate::node) fn follow_relayed(&mut self, now: Time, peer: NodeId, relay: SocketAddr) {
        let Some(state) = self.peers.get_mut(peer) else { return };
        let is_new = state.path.direct().is_none() && state.note_relay(relay);
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
    pub(in crate::node) fn follow_punch_request(&mut self, now: Time, peer: NodeId, relay: SocketAddr) {
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
    pub(in crate::node) fn follow_probe(&mut self, now: Time, peer: NodeId, endpoint: SocketAddr) {
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
        // The last probes of a search leave when it has been given up, and nothing would end their span.
        if self.peers.get(peer).is_none_or(|state| !state.path.is_searching()) {
            return;
        }
        self.with_reaches(now, peer, |tracing, reach| {
            if !reach.is_direct && !reach.is_over && reach.punch.is_none() {
                let place = tracing.under(reach.context, false);
                let span = SpanRecord::begin("pilot.punch", Kind::Internal, now, place);
                reach.punch = Some(span::peer(span, peer));
            }
        });
    }

    /// The traffic moves.
    pub(in crate::node) fn follow_path(&mut self, now: Time, peer: NodeId, direct: Option<SocketAddr>) {
        let Some(state) = self.peers.get_mut(peer) else { return };
        state.relayed_by.clear();
        let rtt = state.path.rtt();
        let candidates = state.path.candidates().len();
        let is_cause = |what: &What| {
            matches!(what, What::Silent(_) | What::Unreachable(_) | What::NetworkChanged | What::RelayOnly)
        };
        let causes = state.path.history().iter().filter(|(_, what)| is_cause(what));
        let why = causes.last().map(|(_, what)| what.to_string()).unwrap_or_default();
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
    pub(in crate::node) fn follow_rest(&mut self, now: Time, peer: NodeId) {
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
        let theirs = theirs.map(|about| ("pilot.peer.nat", Value::from(summary(about))));
        std::iter::once(own).chain(theirs).collect()
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
