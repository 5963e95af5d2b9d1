//! Datagrams of the tunnel socket: which engine they are for (sections 3, 4); packets: which stream (section 8).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use wire::NodeId;
use wire::address::SocketAddress;
use wire::beacon::{self, Message};
use wire::extension;
use wire::packet::{Flags, Packet, Protocol};
use wire::stream::Sequence;
use wire::stun;
use wire::tunnel::magic;

use super::admission::Verdict;
use super::connections::{CONNECTIONS_OF_ONE_MAX, Connection, Key, Owner};
use super::control::ControlKind;
use super::handshakes::{HANDSHAKE_PORT, stream_config};
use super::{Event, Node};
use crate::Time;
use crate::path::{Kind, Token};
use crate::stream::{Segment, Stream};
use crate::tunnel::{DropReason, Received, Via};

/// Probes sent to an endpoint the relay names (section 5).
const PROBES_PER_PUNCH: usize = 3;
/// A punch command answers a request of ours if it comes within this time.
const PUNCH_ANSWER: Duration = Duration::from_secs(3);
/// Requests remembered, and commands obeyed a second: a relay that has gone bad must not make this host a flood.
const PUNCHES_MAX: usize = 64;
const COMMANDS_PER_SECOND: usize = 64;
/// The relay is not asked twice for one peer within this time.
const PUNCH_INTERVAL: Duration = Duration::from_millis(300);

/// A packet of a stranger that waits for the directory's word.
#[derive(Clone, Debug)]
pub(super) enum HeldPacket {
    /// A SYN.
    Syn {
        /// From where.
        remote: SocketAddress,
        /// To which of our addresses and ports.
        local: SocketAddress,
        /// The peer's window.
        window_segments: u16,
        /// When it came.
        at: Time,
    },
    /// A datagram.
    Datagram {
        /// From where.
        source: SocketAddress,
        /// To which port.
        port: u16,
        /// What was sent.
        data: Box<[u8]>,
    },
}

/// Hole punching under way: the relay's commands do not say for which peer they are.
#[derive(Debug, Default)]
pub(super) struct Punches {
    asked: VecDeque<(Time, NodeId)>,
    obeyed: VecDeque<Time>,
    /// Where the relay says that peers we have asked for are.
    named: VecDeque<(Time, SocketAddr)>,
}

impl Punches {
    /// The relay has been asked to let `peer` and us send probes to each other.
    pub(super) fn handle_asked(&mut self, now: Time, peer: NodeId) {
        if self.asked.len() == PUNCHES_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((now, peer));
    }

    /// Whether the relay has not been asked for `peer` just now.
    pub(super) fn may_ask(&self, now: Time, peer: NodeId) -> bool {
        !self.asked.iter().any(|(at, asked)| *asked == peer && now.since(*at) < PUNCH_INTERVAL)
    }

    /// Peers for which a command that comes now may be.
    fn candidates(&mut self, now: Time) -> Vec<NodeId> {
        self.asked.retain(|(at, _)| now.since(*at) < PUNCH_ANSWER);
        let mut peers: Vec<_> = self.asked.iter().map(|(_, peer)| *peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    fn handle_named(&mut self, now: Time, endpoint: SocketAddr) {
        if self.named.len() == PUNCHES_MAX {
            self.named.pop_front();
        }
        self.named.push_back((now, endpoint));
    }

    /// Whether a probe that is not sealed comes from the NAT of a peer we have asked for, at another port than the relay
    /// knows: such a NAT has a mapping for each destination. One is believed for each endpoint that the relay names.
    fn takes_probe(&mut self, now: Time, source: SocketAddr) -> bool {
        self.named.retain(|(at, _)| now.since(*at) < PUNCH_ANSWER);
        let is_its = |(_, endpoint): &(Time, SocketAddr)| endpoint.ip() == source.ip();
        if self.named.iter().any(|(_, endpoint)| *endpoint == source) {
            return false;
        }
        self.named.iter().position(is_its).is_some_and(|index| self.named.remove(index).is_some())
    }

    fn may_obey(&mut self, now: Time) -> bool {
        self.obeyed.retain(|at| now.since(*at) < Duration::from_secs(1));
        let may = self.obeyed.len() < COMMANDS_PER_SECOND;
        if may {
            self.obeyed.push_back(now);
        }
        may
    }
}

impl Node {
    /// Whether the datagram was of use.
    pub(super) fn receive(&mut self, now: Time, source: SocketAddr, datagram: &mut [u8]) -> bool {
        // A STUN response and a discover, which no daemon receives, both begin with 01.
        if stun::has_magic_cookie(datagram) && self.nat.handle_datagram(now, source, datagram) {
            return true;
        }
        match datagram.first() {
            Some(kind) if *kind <= beacon::kind::LAST => self.receive_from_relay(now, source, datagram),
            // Who hides does not answer those who knock at every door.
            Some(_) if self.config.relay_only => false,
            Some(_) => self.receive_frame(now, Via::Direct(source), source, datagram),
            None => false,
        }
    }

    /// Only what comes from a relay of ours counts (section 3.4).
    fn receive_from_relay(&mut self, now: Time, source: SocketAddr, datagram: &mut [u8]) -> bool {
        if !self.relays.is_relay(source) {
            return false;
        }
        let (sender, header_len) = match Message::decode(datagram) {
            // One that is not in use says so, too, that it knows us.
            Ok(Message::DiscoverReply(mapped)) => {
                return self.relays.handle_discover_reply(now, source, mapped) || self.relays.current() != Some(source);
            }
            Ok(Message::Challenge { relay_key, cookie }) => {
                return self.answer_challenge(now, source, relay_key, cookie);
            }
            Ok(Message::PunchCommand(endpoint)) => {
                self.hear_relay(now, source);
                return self.punch(now, source, endpoint);
            }
            Ok(Message::Notify { .. }) => {
                self.trust.handle_notified(now);
                return true;
            }
            Ok(Message::Deliver { sender, .. }) => (sender, beacon::DELIVER_HEADER_LEN),
            Ok(Message::DeliverTo { sender, dest, .. }) if Some(dest) == self.id() => {
                (sender, beacon::RELAY_HEADER_LEN)
            }
            _ => return false,
        };
        self.hear_relay(now, source);
        self.receive_frame(now, Via::Relay(sender), source, &mut datagram[header_len..])
    }

    fn hear_relay(&mut self, now: Time, relay: SocketAddr) {
        self.relays.handle_alive(now, relay);
        if self.relays.current() == Some(relay) {
            self.relay_heard_at = now;
        }
    }

    /// The relay says where a peer is that wants to reach us, or that we want to reach: probes open our NAT for it.
    fn punch(&mut self, now: Time, relay: SocketAddr, endpoint: SocketAddr) -> bool {
        if !self.punches.may_obey(now) {
            return false;
        }
        // One to the relay itself asks whether we are here (SPEC 11.2), also of those that never go direct.
        if self.config.relay_only && endpoint != relay {
            return true;
        }
        for _ in 0..PROBES_PER_PUNCH {
            self.send_small(endpoint, Box::new(magic::PROBE));
        }
        if endpoint == relay {
            return true;
        }
        self.punches.handle_named(now, endpoint);
        self.take_punched(now, endpoint);
        true
    }

    fn take_punched(&mut self, now: Time, endpoint: SocketAddr) {
        for peer in self.punches.candidates(now) {
            self.with_path(now, peer, |path| path.handle_candidates(now, Kind::Punched, [endpoint]));
        }
    }

    /// `source` is where the datagram has come from: the peer, or a relay.
    fn receive_frame(&mut self, now: Time, via: Via, source: SocketAddr, frame: &mut [u8]) -> bool {
        let Some(tunnels) = &mut self.tunnels else { return false };
        let (frames, bytes) = match via {
            Via::Direct(_) => (&mut self.counters.frames_received_direct, &mut self.counters.bytes_received_direct),
            Via::Relay(_) => (&mut self.counters.frames_received_relayed, &mut self.counters.bytes_received_relayed),
        };
        *frames += 1;
        *bytes += frame.len() as u64;
        let from = match via {
            Via::Direct(endpoint) => Some(endpoint),
            Via::Relay(_) => None,
        };
        match tunnels.handle_datagram(now, via, frame) {
            Received::Packet { peer, packet } => {
                self.counters.opened += 1;
                self.hear_peer(now, peer, from, source);
                self.receive_packet(now, peer, via, &packet);
                true
            }
            Received::Keepalive { peer } => {
                self.counters.opened += 1;
                self.hear_peer(now, peer, from, source);
                true
            }
            Received::Probe => {
                if let Some(source) = from.filter(|source| self.punches.takes_probe(now, *source)) {
                    self.take_punched(now, source);
                }
                true
            }
            Received::Taken => true,
            Received::Dropped(reason) => {
                let failed = matches!(reason, DropReason::NotAuthentic | DropReason::Replayed | DropReason::NoSession);
                self.counters.not_opened += u64::from(failed);
                false
            }
        }
    }

    /// A frame of the peer's has opened, which came straight from an endpoint, or from the relay at `source`.
    fn hear_peer(&mut self, now: Time, peer: NodeId, from: Option<SocketAddr>, source: SocketAddr) {
        let heard = self.admit_peer(now, peer);
        heard.path.handle_opened(now, from);
        if from.is_none() {
            heard.relay = Some(source);
        }
        self.attend_path(now, peer);
    }

    /// Takes a packet that `peer` has sealed, or that this node has sent to itself.
    pub(super) fn receive_packet(&mut self, now: Time, peer: NodeId, via: Via, packet: &Packet<'_>) {
        if Some(packet.destination.address.node) != self.id() {
            self.counters.dropped += 1;
            return;
        }
        match packet.protocol {
            Protocol::STREAM => self.receive_segment(now, peer, packet),
            Protocol::DATAGRAM => self.receive_datagram(now, peer, packet),
            Protocol::CONTROL => self.receive_control(now, peer, via, packet),
            _ => self.counters.dropped += 1,
        }
    }

    /// A ping to port 0 is answered on the path it came by; an answer tells the path of the ping. One that has come through
    /// the relay has not come by the path it was sent on: whoever is there passes it on, for traffic to follow.
    fn receive_control(&mut self, now: Time, peer: NodeId, via: Via, packet: &Packet<'_>) {
        if packet.flags.contains(Flags::ACK) {
            let Ok(payload) = packet.payload.try_into() else { return };
            let token = Token { sequence: packet.sequence, payload };
            let Some(known) = self.peers.get_mut(peer) else { return };
            if let Some((endpoint, rtt)) = known.path.handle_answer(now, token) {
                self.note(now, peer, ControlKind::ProbeAnswered { endpoint, rtt });
            }
            self.attend_path(now, peer);
        } else if extension::trace::has_magic(packet.payload) {
            self.take_trace(now, peer, packet.payload);
        } else if packet.destination.port == 0 && matches!(via, Via::Direct(_)) {
            let answer = Packet {
                flags: Flags::ACK,
                source: packet.destination,
                destination: packet.source,
                acknowledgement: packet.sequence.wrapping_add(1),
                ..*packet
            };
            self.send_control(now, peer, via, &answer);
        }
    }

    fn receive_segment(&mut self, now: Time, peer: NodeId, packet: &Packet<'_>) {
        let key = Key { peer, local_port: packet.destination.port, remote_port: packet.source.port };
        let segment = Segment::from(packet);
        let is_syn = segment.flags.contains(Flags::SYN) && !segment.flags.contains(Flags::ACK);
        if let Some(id) = self.connections.find(&key)
            && let Some(connection) = self.connections.get_mut(id)
        {
            // RFC 9293 3.6.1: a new SYN for a connection that is over begins the next.
            if !(is_syn && connection.stream.is_over()) {
                connection.stream.handle_segment(now, &segment);
                return self.settle(now, id);
            }
        }
        if is_syn {
            self.receive_syn(now, peer, packet);
        } else if !segment.flags.contains(Flags::RST) && !segment.payload.is_empty() {
            // Not to a lone ACK or FIN|ACK: an old peer might answer that.
            self.refuse(now, peer, packet);
        }
    }

    fn receive_syn(&mut self, now: Time, peer: NodeId, packet: &Packet<'_>) {
        let port = packet.destination.port;
        if !self.ports.is_bound(port) && port != HANDSHAKE_PORT {
            return self.refuse(now, peer, packet);
        }
        let is_stranger = !self.is_friend(peer);
        if !self.admission.admit_syn(now, peer, is_stranger) {
            self.counters.strangers += 1;
            return;
        }
        let held = || HeldPacket::Syn {
            remote: packet.source,
            local: packet.destination,
            window_segments: packet.window_segments,
            at: now,
        };
        // Whoever asks for trust cannot be trusted yet.
        if port == HANDSHAKE_PORT { self.admit_packet(now, held()) } else { self.judge(now, peer, held) }
    }

    /// Whether the peer is let in without asking anybody: this node itself, or one that is trusted and has the key with
    /// which it became so.
    fn is_friend(&self, peer: NodeId) -> bool {
        let has_pinned_key =
            |pinned| self.tunnels.as_ref().and_then(|tunnels| tunnels.proven_key(peer)) == Some(pinned);
        Some(peer) == self.id() || self.trust.trusts(peer) && self.trust.pinned_key(peer).is_none_or(has_pinned_key)
    }

    fn receive_datagram(&mut self, now: Time, peer: NodeId, packet: &Packet<'_>) {
        let held = || HeldPacket::Datagram {
            source: packet.source,
            port: packet.destination.port,
            data: packet.payload.into(),
        };
        self.judge(now, peer, held);
    }

    fn judge(&mut self, now: Time, peer: NodeId, packet: impl FnOnce() -> HeldPacket) {
        let is_known = self.registration.is_public() || self.is_friend(peer);
        let verdict = if is_known { Verdict::Admitted } else { self.admission.judge(now, peer) };
        match verdict {
            Verdict::Admitted => self.admit_packet(now, packet()),
            Verdict::Dropped => {
                self.counters.strangers += 1;
                if let HeldPacket::Syn { local, .. } = packet() {
                    self.follow_refused(now, peer, local.port, "the peer is not trusted");
                }
            }
            Verdict::Held => self.admission.hold(peer, packet()),
            Verdict::Ask => {
                self.admission.hold(peer, packet());
                self.ask_admission(now, peer);
            }
        }
    }

    /// Lets a packet in.
    pub(super) fn admit_packet(&mut self, now: Time, packet: HeldPacket) {
        match packet {
            HeldPacket::Syn { remote, local, window_segments, at } => {
                self.accept(now, remote, local, window_segments, at);
            }
            HeldPacket::Datagram { source, port, data } => {
                self.with_path(now, source.address.node, |path| path.handle_wish(now));
                self.tell(Event::Datagram { source, port, data });
            }
        }
    }

    fn accept(&mut self, now: Time, remote: SocketAddress, local: SocketAddress, window_segments: u16, asked_at: Time) {
        let key = Key { peer: remote.address.node, local_port: local.port, remote_port: remote.port };
        if let Some(id) = self.connections.find(&key) {
            // The same SYN had been held twice, or this one begins the next connection.
            match self.connections.get(id) {
                Some(connection) if !connection.stream.is_over() => return,
                // Its reader may not be done with it; only its ports are free.
                Some(connection) if !connection.released => {}
                _ => {
                    self.follow_end(now, id, true);
                    self.connections.remove(id);
                }
            }
        }
        let is_handshake = local.port == HANDSHAKE_PORT;
        let has_room = match is_handshake {
            true => self.handshakes.has_room(key.peer),
            false => self.connections.count_with(key.peer) < CONNECTIONS_OF_ONE_MAX,
        };
        // The port may have been given back while the directory was asked.
        if self.connections.is_full() || !has_room || !(is_handshake || self.ports.is_bound(local.port)) {
            self.counters.dropped += 1;
            return self.follow_refused(now, key.peer, local.port, "too many streams");
        }
        let config = if is_handshake { stream_config(self.config.stream) } else { self.config.stream };
        let syn = Segment {
            flags: Flags::SYN,
            sequence: Sequence(0),
            acknowledgement: Sequence(0),
            window_segments,
            payload: &[],
        };
        let stream = Stream::accept(now, config, &syn);
        let owner = if is_handshake { Owner::HandshakeIn { received: Vec::new() } } else { Owner::Application };
        let id = self.connections.insert(Connection::new(now, stream, key, local, remote, owner));
        self.follow_accepted(now, id, asked_at);
        if is_handshake {
            return self.handshakes.handle_accepted(now, id, key.peer);
        }
        self.with_path(now, key.peer, |path| path.handle_wish(now));
        self.tell(Event::Accepted { port: local.port, stream: id, remote });
    }

    /// RST: nobody is here.
    fn refuse(&mut self, now: Time, peer: NodeId, packet: &Packet<'_>) {
        if !self.admission.admit_reset(now) {
            return;
        }
        if packet.flags.contains(Flags::SYN) {
            self.follow_refused(now, peer, packet.destination.port, "nobody listens there");
        }
        let reset = Packet {
            flags: Flags::RST,
            source: packet.destination,
            destination: packet.source,
            sequence: packet.acknowledgement,
            acknowledgement: packet.sequence.wrapping_add(1),
            window_segments: 0,
            payload: &[],
            ..*packet
        };
        self.send_packet(now, peer, &reset);
    }
}
