//! Frames and segments on their way out: which path, sealed in place, wrapped for the relay.

use std::net::SocketAddr;
use std::time::Duration;

use wire::NodeId;
use wire::address::SocketAddress;
use wire::beacon::{Message, RELAY_HEADER_LEN};
use wire::codec::Writer;
use wire::packet::{self, Flags, Packet, Protocol};
use wire::tunnel::{SEALED_OVERHEAD, TAG_LEN};

use super::attendance::STANDING_MAX;
use super::connections::Owner;
use super::peers::Peers;
use super::{Node, SmallDatagram, StreamId, Transmit};
use crate::Time;
use crate::path::{Path, Token};
use crate::relays::Relays;
use crate::tunnel::session::HEAD_LEN;
use crate::tunnel::{Route, Sealed, Via};

/// Segments of one stream in a row: as many as one GSO send takes.
const BURST_SEGMENTS: u32 = 44;
/// A stream whose peer has no session looks again after this; a session that comes wakes it at once.
const SESSION_RETRY: Duration = Duration::from_secs(1);
/// What has nothing to send and yet wants to be woken at once waits at least so long.
const WAKE_MIN: Duration = Duration::from_micros(20);
/// What goes through a relay that has been silent for so long comes with a question to it.
const RELAY_SILENCE_MAX: Duration = Duration::from_secs(2);
/// Small datagrams that wait for the socket.
const SMALL_MAX: usize = 4096;
/// Source port of our pings; the answer comes back to it.
const PING_PORT: u16 = 1;

/// What became of a stream's turn.
enum Turn {
    Datagram(Transmit),
    /// To this node itself.
    Looped,
    /// A small datagram goes first.
    Told,
    /// Nowhere to send to.
    Lost,
    /// Nothing to send before this, if ever.
    Rest(Option<Time>),
    /// The stream is over and nobody holds it.
    Gone,
}

impl Node {
    /// The next datagram, whatever it is.
    pub(super) fn next_transmit(&mut self, now: Time, out: &mut [u8]) -> Option<Transmit> {
        'small: loop {
            if let Some(SmallDatagram { to, bytes }) = self.datagrams.pop_front() {
                out[..bytes.len()].copy_from_slice(&bytes);
                return Some(Transmit { to, len: bytes.len() });
            }
            while let Some(id) = self.connections.next_ready() {
                match self.take_turn(now, id, out) {
                    Turn::Datagram(transmit) => {
                        self.burst += 1;
                        if self.burst >= BURST_SEGMENTS {
                            self.burst = 0;
                            self.connections.yield_turn();
                        }
                        return Some(transmit);
                    }
                    Turn::Told => continue 'small,
                    Turn::Looped | Turn::Lost => {}
                    Turn::Rest(wakes) => self.connections.rest(wakes),
                    Turn::Gone => {
                        self.connections.rest(None);
                        self.follow_end(now, id, true);
                        self.connections.remove(id);
                    }
                }
                self.burst = 0;
            }
            self.attend(now);
            if self.datagrams.is_empty() && self.connections.next_ready().is_none() {
                return None;
            }
        }
    }

    fn take_turn(&mut self, now: Time, id: StreamId, out: &mut [u8]) -> Turn {
        let (Some(own), Some(connection)) = (self.registration.node(), self.connections.get_mut(id)) else {
            return Turn::Rest(None);
        };
        let peer = connection.key.peer;
        let is_held = !connection.released && connection.owner == Owner::Application;
        let is_own = peer == own;
        if !is_own && !self.tunnels.as_ref().is_some_and(|tunnels| tunnels.has_session(peer)) {
            if connection.stream.is_closed() {
                return if is_held { Turn::Rest(None) } else { Turn::Gone };
            }
            self.reach(now, peer);
            return Turn::Rest(Some(now + SESSION_RETRY));
        }
        let is_first = connection.opening && !connection.is_asked;
        if is_first && connection.trace.as_ref().is_some_and(|trace| !trace.is_told) && self.tell_trace(now, id) {
            return Turn::Told;
        }
        let Some(connection) = self.connections.get_mut(id) else { return Turn::Rest(None) };
        let Some(segment) = connection.stream.poll_transmit(now) else {
            if connection.stream.is_closed() && !is_held {
                return Turn::Gone;
            }
            return Turn::Rest(connection.stream.poll_timeout().map(|due| due.max(now + WAKE_MIN)));
        };
        let packet = segment.packet(connection.local, connection.remote);
        if is_own {
            let mut bytes = vec![0; packet.encoded_len()];
            packet.encode(&mut Writer::new(&mut bytes));
            self.loopback.push_back(bytes.into());
            if is_first {
                self.follow_syn(now, id);
            }
            return Turn::Looped;
        }
        let frame_len = SEALED_OVERHEAD + packet.encoded_len();
        let Some((to, head_len)) = next_hop(&self.peers, &self.relays, peer) else { return Turn::Lost };
        let (head, frame) = out[..head_len + frame_len].split_at_mut(head_len);
        packet.encode(&mut Writer::new(&mut frame[HEAD_LEN..]));
        let Some(tunnels) = &mut self.tunnels else { return Turn::Lost };
        if tunnels.seal(now, peer, frame) != Sealed::Ready {
            return Turn::Lost;
        }
        if head_len > 0 {
            Message::Relay { sender: own, dest: peer, inner: &[] }.encode(&mut Writer::new(head));
        }
        self.counters.datagrams_relayed += u64::from(head_len > 0);
        self.count_sent(now, peer, (head_len > 0).then_some(to));
        if is_first {
            self.follow_syn(now, id);
        }
        self.with_path(now, peer, |path| path.handle_wish(now));
        Turn::Datagram(Transmit { to, len: head_len + frame_len })
    }

    /// `relay` is the one through which it goes.
    fn count_sent(&mut self, now: Time, peer: NodeId, relay: Option<SocketAddr>) {
        self.counters.sealed += 1;
        if relay.is_some() {
            self.doubt_relay(now);
        }
        let mut is_news = false;
        if let Some(state) = self.peers.get_mut(peer) {
            if let Some(relay) = relay {
                state.sent.1 += 1;
                is_news =
                    !state.relayed_by.contains(&relay) || state.reaches.iter().any(|reach| reach.may_be_relayed());
            } else {
                state.sent.0 += 1;
            }
            state.path.handle_sent(now);
        }
        self.peers.arm(peer);
        if let Some(relay) = relay.filter(|_| is_news) {
            self.follow_relayed(now, peer, relay);
        }
    }

    /// A relay from which nothing has come for a while is asked whether it is there.
    fn doubt_relay(&mut self, now: Time) {
        if now.since(self.relay_heard_at) >= RELAY_SILENCE_MAX
            && let Some(relay) = self.relays.current()
        {
            self.relays.suspect(now, relay);
        }
    }

    /// Sends a frame the tunnels have made.
    pub(super) fn send_frame(&mut self, now: Time, peer: NodeId, route: Route, frame: Box<[u8]>) {
        match route {
            Route::InUse => {
                let Some((to, head_len)) = next_hop(&self.peers, &self.relays, peer) else { return };
                self.count_sent(now, peer, (head_len > 0).then_some(to));
                self.send_wrapped(peer, to, head_len > 0, frame);
            }
            Route::Every => {
                let endpoints: Vec<_> = match self.peers.get(peer) {
                    Some(peer) => peer.path.candidates().iter().map(|candidate| candidate.endpoint).collect(),
                    None => Vec::new(),
                };
                for endpoint in endpoints {
                    self.send_small(endpoint, frame.clone());
                }
                for relay in self.relays_towards(peer) {
                    self.follow_relayed(now, peer, relay);
                    self.send_wrapped(peer, relay, true, frame.clone());
                }
            }
            Route::Back(Via::Direct(endpoint)) => self.send_small(endpoint, frame),
            Route::Back(Via::Relay(_)) => {
                for relay in self.relays_towards(peer) {
                    self.send_wrapped(peer, relay, true, frame.clone());
                }
            }
        }
    }

    /// The relay through which a peer is heard; as long as that is not known, all of them.
    fn relays_towards(&self, peer: NodeId) -> Vec<SocketAddr> {
        let known = self.peers.get(peer).and_then(|peer| peer.relay).filter(|relay| self.relays.is_relay(*relay));
        match known {
            Some(relay) => vec![relay],
            None => {
                let in_use = self.relays.current().or_else(|| self.relays.candidate());
                in_use.into_iter().chain(self.relays.others().take(STANDING_MAX)).collect()
            }
        }
    }

    fn send_wrapped(&mut self, peer: NodeId, to: SocketAddr, relayed: bool, frame: Box<[u8]>) {
        if !relayed {
            return self.send_small(to, frame);
        }
        let Some(own) = self.id() else { return };
        self.counters.datagrams_relayed += 1;
        let mut bytes = vec![0; RELAY_HEADER_LEN + frame.len()];
        Message::Relay { sender: own, dest: peer, inner: &frame }.encode(&mut Writer::new(&mut bytes));
        self.send_small(to, bytes.into());
    }

    /// Sends a datagram as it is.
    pub(super) fn send_small(&mut self, to: SocketAddr, bytes: Box<[u8]>) {
        if self.datagrams.len() < SMALL_MAX {
            self.datagrams.push_back(SmallDatagram { to, bytes });
        } else {
            self.counters.dropped += 1;
        }
    }

    /// Seals a packet and sends it on the path in use; without a session it waits for one.
    pub(super) fn send_packet(&mut self, now: Time, peer: NodeId, packet: &Packet<'_>) {
        if Some(peer) == self.id() {
            let mut bytes = vec![0; packet.encoded_len()];
            packet.encode(&mut Writer::new(&mut bytes));
            return self.loopback.push_back(bytes.into());
        }
        let mut frame = sealable(packet);
        let Some(tunnels) = &mut self.tunnels else { return };
        match tunnels.seal(now, peer, &mut frame) {
            Sealed::Ready => self.send_frame(now, peer, Route::InUse, frame),
            Sealed::Waiting => self.reach(now, peer),
            Sealed::Dropped(_) => self.counters.dropped += 1,
        }
    }

    /// Seals a control packet and sends it one way alone; without a session it is dropped.
    pub(super) fn send_control(&mut self, now: Time, peer: NodeId, via: Via, packet: &Packet<'_>) {
        let Some(tunnels) = self.tunnels.as_mut().filter(|tunnels| tunnels.has_session(peer)) else { return };
        let mut frame = sealable(packet);
        if tunnels.seal(now, peer, &mut frame) == Sealed::Ready {
            self.counters.sealed += 1;
            self.send_frame(now, peer, Route::Back(via), frame);
        }
    }

    /// A ping that proves the way to an endpoint.
    pub(super) fn send_probe(&mut self, now: Time, peer: NodeId, to: SocketAddr, token: Token) {
        let Some(own) = self.id() else { return };
        let ping = Packet {
            version: packet::VERSION,
            flags: Flags::NONE,
            protocol: Protocol::CONTROL,
            source: SocketAddress { address: own.address(), port: PING_PORT },
            destination: SocketAddress { address: peer.address(), port: 0 },
            sequence: token.sequence,
            acknowledgement: 0,
            window_segments: 0,
            payload: &token.payload,
        };
        self.send_control(now, peer, Via::Direct(to), &ping);
    }
}

/// Where frames to `peer` go, and how many bytes of the relay's go before them. Without a relay that answers, the endpoint
/// that worked last, or the relay that is asked.
fn next_hop(peers: &Peers, relays: &Relays, peer: NodeId) -> Option<(SocketAddr, usize)> {
    let path = peers.get(peer).map(|peer| &peer.path);
    if let Some(endpoint) = path.and_then(Path::direct) {
        return Some((endpoint, 0));
    }
    let heard_through = peers.get(peer).and_then(|peer| peer.relay).filter(|relay| relays.is_relay(*relay));
    if let Some(relay) = heard_through.or_else(|| relays.current()) {
        return Some((relay, RELAY_HEADER_LEN));
    }
    let last = path.and_then(Path::last_resort).map(|endpoint| (endpoint, 0));
    last.or_else(|| Some((relays.candidate()?, RELAY_HEADER_LEN)))
}

/// The packet in a frame that is to be sealed.
fn sealable(packet: &Packet<'_>) -> Box<[u8]> {
    let mut frame = vec![0; HEAD_LEN + packet.encoded_len() + TAG_LEN];
    packet.encode(&mut Writer::new(&mut frame[HEAD_LEN..]));
    frame.into()
}
