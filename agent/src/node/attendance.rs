//! What the engines want done after a call, and what their owners should hear.

use secrets::scrubbed;
use wire::NodeId;
use wire::beacon::Message;
use wire::codec::Writer;
use wire::packet::Packet;
use wire::registry::Operation;

use super::about::about;
use super::bucket::Rate;
use super::connections::Owner;
use super::peers::Peer;
use super::questions::Purpose;
use super::{Event, Node, StreamId, Trouble, derive};
use crate::Time;
use crate::path::{Action, Path};
use crate::registration;
use crate::relays;
use crate::stream::State;
use crate::trust;
use crate::tunnel::{Output, Via};

/// One engine's words may be another's occasion; two rounds are the most that was ever seen.
const ROUNDS_MAX: usize = 8;
/// The relay is asked to broker so often; public ones take no more than one a second and host, and drop the others.
const PUNCHES: Rate = Rate { per_second: 4, burst: 16 };
/// Relays besides the one in use at which a node can be reached.
pub(super) const STANDING_MAX: usize = 3;
/// Bytes of room that are worth telling a writer of.
const WRITABLE_BYTES: usize = 256 << 10;

impl Node {
    /// Takes what the engines have to say, until they are silent.
    pub(super) fn attend(&mut self, now: Time) {
        for _ in 0..ROUNDS_MAX {
            self.attend_round(now);
            if self.questions.is_calm() && self.loopback.is_empty() && !self.trust.has_output() {
                return;
            }
        }
    }

    fn attend_round(&mut self, now: Time) {
        while let Some((purpose, answer)) = self.questions.pop_refused() {
            self.take_answer(now, purpose, answer);
        }
        while let Some(event) = self.relays.poll_event() {
            self.attend_relay(now, event);
        }
        while let Some(event) = self.registration.poll_event() {
            self.attend_registration(now, event);
        }
        while let Some(mut operation) = self.registration.poll_operation(now) {
            if let Operation::Heartbeat { report, .. } = &mut operation {
                *report = Some(self.report());
            }
            self.questions.ask(&self.identity, Purpose::Registration, operation);
        }
        self.attend_publication(now);
        while let Some((relay, node)) = self.relays.poll_discover(now) {
            let mut bytes = [0; 5];
            Message::Discover { node, extended: false }.encode(&mut Writer::new(&mut bytes));
            self.send_small(relay, bytes.into());
            self.claim_beside(now, relay, node);
        }
        self.claim_where_news(now);
        while let Some((server, bytes)) = self.nat.poll_transmit(now) {
            self.send_small(server, bytes.into());
        }
        while let Some(output) = self.trust.poll_output() {
            self.attend_trust(now, output);
        }
        if let Some(tunnels) = &mut self.tunnels {
            tunnels.set_about(about(self.nat.behavior()));
        }
        // Our keys have to leave before the first that is sealed with them.
        let mut established = Vec::new();
        while let Some(output) = self.tunnels.as_mut().and_then(|tunnels| tunnels.poll_output()) {
            match output {
                Output::Established { peer, .. } => established.push(peer),
                output => self.attend_tunnel(now, output),
            }
        }
        established.into_iter().for_each(|peer| self.establish(now, peer));
        // A node talks to itself without seals.
        while let Some(bytes) = self.loopback.pop_front() {
            if let (Some(own), Ok(packet)) = (self.id(), Packet::decode(&bytes)) {
                self.receive_packet(now, own, Via::Relay(own), &packet);
            }
        }
    }

    fn attend_relay(&mut self, now: Time, event: relays::Event) {
        match event {
            relays::Event::InUse(relay) => {
                self.tell(Event::RelayChanged(Some(relay)));
                self.discover_nat(now);
            }
            relays::Event::Lost(lost) => {
                self.peers.iter_mut().filter(|peer| peer.relay == Some(lost)).for_each(|peer| peer.relay = None);
                self.tell(Event::RelayChanged(None));
            }
            relays::Event::Mapped(_) => {
                let keepalive = self.relays.keepalive();
                self.peers.iter_mut().for_each(|peer| peer.path.set_keepalive(keepalive));
                self.announce_endpoint(now);
                self.discover_nat(now);
            }
        }
    }

    /// Keeps a session at the relays that are not in use: a peer may have found no way to ours.
    pub(super) fn stand_by(&mut self, now: Time) {
        let Some(node) = self.id() else { return };
        self.standing_due = Some(now + self.relays.keepalive());
        let others: Vec<_> = self.relays.others().take(STANDING_MAX).collect();
        for relay in others {
            let mut bytes = [0; 5];
            Message::Discover { node, extended: false }.encode(&mut Writer::new(&mut bytes));
            self.send_small(relay, bytes.into());
            self.claim_beside(now, relay, node);
        }
    }

    fn discover_nat(&mut self, now: Time) {
        let Some(relay) = self.relays.current() else { return };
        let mut server = relay;
        server.set_port(self.config.stun_port);
        self.nat.start(now, server, Some(relay), self.local_endpoints.as_deref().unwrap_or_default());
    }

    /// Announces where this node is: as the operator says, as the relay sees it, or as it sees itself.
    pub(super) fn announce_endpoint(&mut self, now: Time) {
        let is_late = self.endpoint_deadline.is_none_or(|due| due <= now);
        let mapped = self.config.endpoint.or_else(|| self.relays.mapped());
        let Some(endpoint) = mapped.or_else(|| self.local_endpoints().first().copied().filter(|_| is_late)) else {
            if is_late {
                self.endpoint_deadline = None;
            }
            return;
        };
        self.endpoint_deadline = None;
        let local = if self.config.relay_only { &[] } else { self.local_endpoints.as_deref().unwrap_or_default() };
        self.registration.set_endpoint(now, endpoint, local);
    }

    fn attend_registration(&mut self, now: Time, event: registration::Event) {
        match event {
            registration::Event::Registered { node, address, anew } => {
                if anew {
                    self.become_node(now, node);
                }
                self.relays.set_node(now, node);
                self.publication.handle_registered(now, node);
                self.standing_due = Some(now);
                if self.relays_due.is_none() && !self.config.relays_fixed {
                    self.relays_due = Some(now);
                }
                self.tell(Event::Registered { node, address });
            }
            registration::Event::Complaint(text) => self.tell(Event::Complaint(text)),
            registration::Event::Lost(why) => self.tell(Event::DirectoryLost(why)),
            registration::Event::Back => self.tell(Event::DirectoryBack),
            registration::Event::Banned(nodes) => nodes.into_iter().for_each(|node| self.part_from(now, node)),
        }
    }

    fn attend_trust(&mut self, now: Time, output: trust::Output) {
        match output {
            trust::Output::Send { peer, message } => self.send_handshake(now, peer, message),
            trust::Output::Ask(operation) => {
                let purpose = Purpose::Trust(operation.clone());
                self.questions.ask(&self.identity, purpose, operation);
            }
            trust::Output::Changed => {
                self.admission.forget_words();
                self.tell(Event::TrustChanged);
            }
            trust::Output::Requested { peer, justification } => {
                self.tell(Event::TrustRequested { peer, justification })
            }
            trust::Output::Established(_) | trust::Output::Rejected { .. } | trust::Output::Revoked(_) => {
                self.admission.forget_words();
            }
        }
    }

    fn attend_tunnel(&mut self, now: Time, output: Output) {
        match output {
            Output::Transmit { peer, route, frame } => self.send_frame(now, peer, route, frame),
            Output::IdentityWanted(node) => self.ask_identity(now, node),
            Output::Established { peer, .. } => self.establish(now, peer),
            Output::Negotiated { peer } => self.follow_negotiated(now, peer),
            Output::Unreachable { peer, .. } => self.give_up(now, peer, Trouble::Silent),
            Output::Refused { .. } => self.counters.dropped += 1,
        }
    }

    /// There are keys: what has waited for them may go.
    fn establish(&mut self, now: Time, peer: NodeId) {
        let state = self.admit_peer(now, peer);
        state.established_at = Some(now);
        state.trouble = None;
        state.path.handle_session(now);
        self.follow_session(now, peer, None);
        self.attend_path(now, peer);
        for id in self.connections.with(peer) {
            self.connections.make_ready(id);
        }
    }

    /// Streams to the peer that are not open yet end; those that are go on as long as they like.
    pub(super) fn give_up(&mut self, now: Time, peer: NodeId, trouble: Trouble) {
        self.follow_session(now, peer, Some(trouble.to_string()));
        if let Some(state) = self.peers.get_mut(peer) {
            state.trouble.get_or_insert(trouble);
        }
        for id in self.connections.with(peer) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.stream.state() == State::SynSent {
                connection.stream.abort();
                self.settle(now, id);
            }
        }
    }

    /// Somebody wants to reach `peer`: keys, endpoints, a path.
    pub(super) fn reach(&mut self, now: Time, peer: NodeId) {
        let may_go_direct = !self.config.relay_only;
        let state = self.admit_peer(now, peer);
        state.path.handle_wish(now);
        // Also of a peer that hides its endpoint: it may not do so any more.
        let asks = may_go_direct && state.path.direct().is_none() && state.needs_endpoints(now);
        if asks {
            self.ask_endpoints(now, peer);
        }
        self.attend_path(now, peer);
        let Some(tunnels) = &mut self.tunnels else { return };
        let is_known = tunnels.has_session(peer);
        match tunnels.connect(now, peer) {
            Err(_) => self.give_up(now, peer, Trouble::Silent),
            Ok(()) if !is_known => self.follow_exchange(now, peer),
            Ok(()) => {}
        }
    }

    /// The peer; with an empty path if it is new.
    pub(super) fn admit_peer(&mut self, now: Time, node: NodeId) -> &mut Peer {
        self.peers.admit(node, || {
            let mut path = scrubbed(|| Path::new(now, !self.config.relay_only, &derive(&self.seed, "path", node.0)));
            path.set_keepalive(self.relays.keepalive());
            path
        })
    }

    /// Does something with the path to a peer, and what follows from it.
    pub(super) fn with_path(&mut self, now: Time, node: NodeId, act: impl FnOnce(&mut Path)) {
        if let Some(peer) = self.peers.get_mut(node) {
            act(&mut peer.path);
            self.attend_path(now, node);
        }
    }

    /// Does what the path to a peer wants done.
    pub(super) fn attend_path(&mut self, now: Time, node: NodeId) {
        while let Some(action) = self.peers.get_mut(node).and_then(|peer| peer.path.poll_action()) {
            match action {
                Action::Punch => self.ask_to_punch(now, node),
                Action::Probe { to, token } => {
                    self.follow_probe(now, node, to);
                    self.send_probe(now, node, to, token);
                }
                Action::Changed(direct) => {
                    self.follow_path(now, node, direct);
                    self.tell(Event::PathChanged { peer: node, direct });
                }
            }
        }
        self.peers.arm(node);
    }

    fn ask_to_punch(&mut self, now: Time, target: NodeId) {
        let relay = self.peers.get(target).and_then(|peer| peer.relay).or_else(|| self.relays.current());
        let (Some(requester), Some(relay)) = (self.id(), relay) else { return };
        if !self.punches.may_ask(now, target) || !self.punch_requests.take(now, PUNCHES) {
            return;
        }
        let mut bytes = [0; 9];
        Message::PunchRequest { requester, target }.encode(&mut Writer::new(&mut bytes));
        self.send_small(relay, bytes.into());
        self.punches.handle_asked(now, target);
        self.follow_punch_request(now, target, relay);
    }

    /// Tells the owner of a stream what is new, and lets the stream send.
    pub(super) fn settle(&mut self, now: Time, id: StreamId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let is_open = !matches!(connection.stream.state(), State::SynSent | State::Closed);
        let has_opened = is_open && std::mem::take(&mut connection.opening);
        if has_opened {
            let peer = connection.key.peer;
            connection.proven_key = self.tunnels.as_ref().and_then(|tunnels| tunnels.proven_key(peer));
            self.follow_opened(now, id);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.stream.end().is_some() && !connection.is_end_told {
            self.follow_end(now, id, false);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.owner != Owner::Application {
            self.settle_handshake(now, id);
            return self.connections.make_ready(id);
        }
        let mut events = [None, None, None];
        if has_opened && !connection.released {
            events[0] = Some(Event::Opened(id));
        }
        let has_news = connection.stream.readable_bytes() > 0 || connection.stream.end().is_some();
        if has_news && !connection.readable_told && !connection.released {
            connection.readable_told = true;
            events[1] = Some(Event::Readable(id));
        }
        let room = connection.stream.writable_bytes();
        if connection.wants_to_write && room >= WRITABLE_BYTES.min(self.config.stream.send_buffer_bytes / 4) {
            connection.wants_to_write = false;
            events[2] = Some(Event::Writable(id));
        }
        self.connections.make_ready(id);
        events.into_iter().flatten().for_each(|event| self.tell(event));
    }

    /// Tells the application.
    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }
}
