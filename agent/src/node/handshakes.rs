//! Messages about trust on port 444 (section 7): one on each stream, closed a moment after it was written.

use std::collections::VecDeque;
use std::time::Duration;

use wire::NodeId;
use wire::address::SocketAddress;
use wire::services::handshake;

use super::connections::Owner;
use super::{Node, StreamId};
use crate::Time;
use crate::stream::{self, End, State};
use crate::trust::{LINGER, Refusal};

/// The port of trust messages.
pub(super) const HANDSHAKE_PORT: u16 = 444;

/// Streams of others that bring a message: in all, of one peer, and how long they may take.
const INCOMING_MAX: usize = 64;
const INCOMING_OF_ONE_MAX: usize = 4;
const INCOMING_TIME_MAX: Duration = Duration::from_secs(10);
/// Segments kept of such a stream: the message fits in them.
const RECEIVE_SLOTS: u16 = 64;

/// Streams about trust that end at a time.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// Ours, whose message is written.
    closing: VecDeque<(Time, StreamId)>,
    /// Those of others.
    incoming: VecDeque<(Time, StreamId, NodeId)>,
}

impl Handshakes {
    /// When a stream is to be closed.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let closing = self.closing.front().map(|(due, _)| *due);
        closing.into_iter().chain(self.incoming.front().map(|(due, ..)| *due)).min()
    }

    /// Whether another stream of `peer` may bring a message.
    pub(super) fn has_room(&self, peer: NodeId) -> bool {
        let of_peer = self.incoming.iter().filter(|(_, _, sender)| *sender == peer).count();
        self.incoming.len() < INCOMING_MAX && of_peer < INCOMING_OF_ONE_MAX
    }

    /// A stream of `peer`'s has been accepted.
    pub(super) fn handle_accepted(&mut self, now: Time, id: StreamId, peer: NodeId) {
        self.incoming.push_back((now + INCOMING_TIME_MAX, id, peer));
    }
}

/// What a stream about trust may use.
pub(super) fn stream_config(config: stream::Config) -> stream::Config {
    stream::Config { receive_slots: RECEIVE_SLOTS, ..config }
}

impl Node {
    /// Dials the peer's port 444 and says `message` there.
    pub(super) fn send_handshake(&mut self, now: Time, peer: NodeId, message: Vec<u8>) {
        let to = SocketAddress { address: peer.address(), port: HANDSHAKE_PORT };
        let owner = Owner::HandshakeOut { message, told: false };
        if self.open(now, to, owner, None).is_err() {
            self.trust.handle_send_failed(now, peer);
        }
    }

    /// Closes streams whose time has come.
    pub(super) fn close_handshakes(&mut self, now: Time) {
        while let Some((_, id)) = self.handshakes.closing.pop_front_if(|(due, _)| *due <= now) {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.stream.close(now);
                connection.released = true;
                self.connections.make_ready(id);
            }
        }
        while let Some((_, id, _)) = self.handshakes.incoming.pop_front_if(|(due, ..)| *due <= now) {
            if let Some(connection) = self.connections.get_mut(id)
                && !connection.released
            {
                connection.stream.abort();
                connection.released = true;
                self.connections.make_ready(id);
            }
        }
    }

    /// Writes what is to be said, or reads what has come.
    pub(super) fn settle_handshake(&mut self, now: Time, id: StreamId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (peer, state) = (connection.key.peer, connection.stream.state());
        match &mut connection.owner {
            Owner::HandshakeOut { message, .. } if state == State::Established && !message.is_empty() => {
                connection.stream.write(now, &std::mem::take(message));
                self.handshakes.closing.push_back((now + LINGER, id));
            }
            Owner::HandshakeOut { message, told } => {
                let Some(end) = connection.stream.end() else { return };
                if std::mem::replace(told, true) {
                    return;
                }
                let is_delivered = message.is_empty() && end == End::Finished;
                match is_delivered {
                    true => self.trust.handle_sent(peer),
                    false => self.trust.handle_send_failed(now, peer),
                }
            }
            Owner::HandshakeIn { received } => {
                let (start, has_ended) = (received.len(), connection.stream.end().is_some());
                received.resize(start + connection.stream.readable_bytes(), 0);
                connection.stream.read(&mut received[start..]);
                let has_grown = received.len() > start;
                if !connection.released && (has_grown || has_ended) {
                    let message = std::mem::take(received);
                    self.take_handshake(now, id, message, has_ended);
                }
            }
            Owner::Application => {}
        }
    }

    fn take_handshake(&mut self, now: Time, id: StreamId, message: Vec<u8>, has_ended: bool) {
        let Some(peer) = self.connections.get(id).map(|connection| connection.key.peer) else { return };
        let key = match peer == self.registration.node().unwrap_or_default() {
            true => Some(self.identity.public_key()),
            false => self.tunnels.as_ref().and_then(|tunnels| tunnels.proven_key(peer)),
        };
        let taken = match key {
            Some(key) if !message.is_empty() => self.trust.handle_message(now, peer, key, &message),
            _ => Err(Refusal::Incomplete),
        };
        let Some(connection) = self.connections.get_mut(id) else { return };
        if taken == Err(Refusal::Incomplete) && !has_ended && message.len() < handshake::MESSAGE_MAX {
            connection.owner = Owner::HandshakeIn { received: message };
        } else {
            if taken.is_err() {
                self.counters.strangers += 1;
            }
            connection.stream.close(now);
            connection.released = true;
            self.handshakes.incoming.retain(|(_, incoming, _)| *incoming != id);
        }
    }
}
