//! Messages about trust on port 444 (section 7): one on each stream, closed a moment after it was written.

use std::collections::VecDeque;

use wire::NodeId;
use wire::address::SocketAddress;
use wire::services::handshake;

use super::connections::Owner;
use super::{Node, StreamId};
use crate::Time;
use crate::stream::State;
use crate::trust::{LINGER, Refusal};

/// The port of trust messages.
pub(super) const HANDSHAKE_PORT: u16 = 444;

/// Streams whose message is written, until they are closed.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    closing: VecDeque<(Time, StreamId)>,
}

impl Handshakes {
    /// When a stream is to be closed.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.closing.front().map(|(due, _)| *due)
    }
}

impl Node {
    /// Dials the peer's port 444 and says `message` there.
    pub(super) fn send_handshake(&mut self, now: Time, peer: NodeId, message: Vec<u8>) {
        let to = SocketAddress { address: peer.address(), port: HANDSHAKE_PORT };
        let owner = Owner::HandshakeOut { message };
        if self.open(now, to, owner).is_err() {
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
    }

    /// Writes what is to be said, or reads what has come.
    pub(super) fn settle_handshake(&mut self, now: Time, id: StreamId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (peer, state) = (connection.key.peer, connection.stream.state());
        match &mut connection.owner {
            Owner::HandshakeOut { message } if state == State::Established && !message.is_empty() => {
                connection.stream.write(now, &std::mem::take(message));
                self.handshakes.closing.push_back((now + LINGER, id));
                self.trust.handle_sent(peer);
            }
            Owner::HandshakeOut { message } if connection.stream.end().is_some() => {
                if !std::mem::take(message).is_empty() {
                    self.trust.handle_send_failed(now, peer);
                }
            }
            Owner::HandshakeIn { received } => {
                let start = received.len();
                received.resize(start + connection.stream.readable_bytes(), 0);
                connection.stream.read(&mut received[start..]);
                let (message, has_ended) = (std::mem::take(received), connection.stream.end().is_some());
                self.take_handshake(now, id, message, has_ended);
            }
            Owner::HandshakeOut { .. } | Owner::Application => {}
        }
    }

    fn take_handshake(&mut self, now: Time, id: StreamId, message: Vec<u8>, has_ended: bool) {
        let Some(peer) = self.connections.get(id).map(|connection| connection.key.peer) else { return };
        let key = match peer == self.registration.node().unwrap_or_default() {
            true => Some(self.identity.public_key()),
            false => self.tunnels.as_ref().and_then(|tunnels| tunnels.identity(peer)),
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
        }
    }
}
