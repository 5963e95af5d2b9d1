//! What a received datagram is: a delivery to the right peer with the right content, or one of the ways to be wrong.
//!
//! A pure decision; whether a delivery is the first of its number is left to [`arrivals`](crate::arrivals).

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use wire::NodeId;
use wire::beacon::Message;

use crate::flows::Flows;
use crate::payload::{Flaw, Payloads, Stamp};
use crate::peers::Placement;

/// Who everybody is. Indices are peers.
#[derive(Clone, Debug)]
pub struct Roster {
    /// The relay, from which everything comes.
    pub relay: SocketAddr,
    /// Where the peers sit.
    pub placement: Placement,
    /// What they are called.
    pub ids: Vec<NodeId>,
    /// Who sends to whom.
    pub flows: Flows,
    /// What they say.
    pub payloads: Payloads,
}

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A datagram of the load, intact, from the right sender to the right receiver.
    Delivery {
        /// The rank of its flow.
        rank: u32,
        /// Its stamp.
        stamp: Stamp,
    },
    /// The probe that this peer sent to itself.
    Probe(u32),
    /// An answer to a discover.
    Answer,
    /// The relay asks whether this peer is still there (punch command naming the relay); it wants a `PILP` back.
    Knock(Option<u32>),
    /// Of this run, but handed to the wrong peer, or under the wrong sender's name.
    Misdelivered,
    /// Of this run, but changed on the way.
    Corrupt,
    /// Not of this run, or nothing that the protocol knows.
    Foreign,
}

impl Roster {
    /// Judges a datagram that came from `source` to `destination`, for a worker that owns `peers`.
    #[must_use]
    pub fn judge(
        &self,
        bytes: &[u8],
        source: Option<SocketAddr>,
        destination: Option<IpAddr>,
        peers: &Range<u32>,
    ) -> Heard {
        // Not by equality: the scope of a link-local address is not part of what arrives.
        if source.is_none_or(|source| (source.ip(), source.port()) != (self.relay.ip(), self.relay.port())) {
            return Heard::Foreign;
        }
        match Message::decode(bytes) {
            Ok(Message::Deliver { sender, inner }) => {
                self.judge_inner(sender, inner, |receiver| self.peer_at(destination, peers) == Some(receiver))
            }
            Ok(Message::DeliverTo { sender, dest, inner }) => self.judge_inner(sender, inner, |receiver| {
                peers.contains(&receiver) && self.ids[receiver as usize] == dest
            }),
            Ok(Message::DiscoverReply(_)) => Heard::Answer,
            Ok(Message::PunchCommand(to)) if to == self.relay => Heard::Knock(self.peer_at(destination, peers)),
            _ => Heard::Foreign,
        }
    }

    fn judge_inner(&self, sender: NodeId, inner: &[u8], came_to: impl Fn(u32) -> bool) -> Heard {
        let stamp = match self.payloads.read(inner) {
            Ok(stamp) => stamp,
            Err(Flaw::Foreign) => return Heard::Foreign,
            Err(Flaw::Corrupt) => return Heard::Corrupt,
        };
        let peer = stamp.flow;
        let (from, to, heard) = if stamp.is_probe() {
            (peer, peer, Heard::Probe(peer))
        } else {
            let Some(flow) = self.flows.get(stamp.flow) else { return Heard::Corrupt };
            (flow.sender, flow.receiver, Heard::Delivery { rank: flow.rank, stamp })
        };
        let Some(id) = self.ids.get(from as usize) else { return Heard::Corrupt };
        if sender == *id && came_to(to) { heard } else { Heard::Misdelivered }
    }

    /// The peer whose own address is `destination`.
    fn peer_at(&self, destination: Option<IpAddr>, peers: &Range<u32>) -> Option<u32> {
        match self.placement {
            Placement::OwnAddress(prefix) => prefix.peer(destination?).filter(|peer| peers.contains(peer)),
            Placement::SharedSockets { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::Shape;
    use crate::peers::LOOPBACK_SOURCES;
    use crate::ramp::Ramp;
    use crate::sizes::Sizes;

    const RELAY: &str = "127.0.0.1:9001";

    /// Four peers with ids 10 to 13; 0 sends to all others, on the flow of the number one less.
    fn roster(placement: Placement) -> Roster {
        Roster {
            relay: RELAY.parse().unwrap(),
            placement,
            ids: (10..14).map(NodeId).collect(),
            flows: Flows::draw(Shape::OneToMany { senders: 1 }, 4, 1),
            payloads: Payloads::new(99, Sizes::Ramp(Ramp::constant(64)), 1),
        }
    }

    fn own() -> Roster {
        roster(Placement::OwnAddress(LOOPBACK_SOURCES))
    }

    fn inner(stamp: &Stamp) -> Vec<u8> {
        let mut out = vec![0; own().payloads.len(stamp)];
        own().payloads.write(stamp, &mut out);
        out
    }

    fn encode(message: &Message<'_>) -> Vec<u8> {
        let mut buffer = [0; 128];
        let mut writer = wire::codec::Writer::new(&mut buffer);
        message.encode(&mut writer);
        writer.written().to_vec()
    }

    fn at_own(message: &Message<'_>, peer: u32) -> Heard {
        own().judge(&encode(message), Some(RELAY.parse().unwrap()), Some(LOOPBACK_SOURCES.address(peer)), &(0..4))
    }

    fn at_shared(message: &Message<'_>) -> Heard {
        let roster = roster(Placement::SharedSockets { local: IpAddr::from([127, 0, 0, 1]) });
        roster.judge(&encode(message), Some(RELAY.parse().unwrap()), None, &(0..4))
    }

    const STAMP: Stamp = Stamp { flow: 1, sequence: 5, due_ns: 7 };

    #[test]
    fn the_right_peer_hears_the_right_sender() {
        let inner = inner(&STAMP);
        let deliver = Message::Deliver { sender: NodeId(10), inner: &inner };
        assert_eq!(at_own(&deliver, 2), Heard::Delivery { rank: 1, stamp: STAMP });
        let deliver_to = Message::DeliverTo { sender: NodeId(10), dest: NodeId(12), inner: &inner };
        assert_eq!(at_shared(&deliver_to), Heard::Delivery { rank: 1, stamp: STAMP });
    }

    #[test]
    fn wrong_receivers_and_senders_are_misdelivered() {
        let inner = inner(&STAMP);
        assert_eq!(at_own(&Message::Deliver { sender: NodeId(10), inner: &inner }, 3), Heard::Misdelivered);
        assert_eq!(at_own(&Message::Deliver { sender: NodeId(12), inner: &inner }, 2), Heard::Misdelivered);
        let wrong_dest = Message::DeliverTo { sender: NodeId(10), dest: NodeId(13), inner: &inner };
        assert_eq!(at_shared(&wrong_dest), Heard::Misdelivered);
        // A delivery that does not name its receiver tells nothing where several share a socket.
        assert_eq!(at_shared(&Message::Deliver { sender: NodeId(10), inner: &inner }), Heard::Misdelivered);
    }

    #[test]
    fn probes_answers_and_knocks_are_told_apart() {
        let probe = inner(&Stamp::probe(3));
        assert_eq!(at_own(&Message::Deliver { sender: NodeId(13), inner: &probe }, 3), Heard::Probe(3));
        assert_eq!(at_own(&Message::Deliver { sender: NodeId(13), inner: &probe }, 2), Heard::Misdelivered);
        assert_eq!(at_own(&Message::DiscoverReply(RELAY.parse().unwrap()), 0), Heard::Answer);
        assert_eq!(at_own(&Message::PunchCommand(RELAY.parse().unwrap()), 3), Heard::Knock(Some(3)));
        assert_eq!(at_own(&Message::PunchCommand("198.51.100.1:1".parse().unwrap()), 3), Heard::Foreign);
    }

    #[test]
    fn damage_and_strangers_are_told_apart() {
        let mut damaged = inner(&STAMP);
        damaged[40] ^= 1;
        assert_eq!(at_own(&Message::Deliver { sender: NodeId(10), inner: &damaged }, 2), Heard::Corrupt);
        let unknown_flow = inner(&Stamp { flow: 3, ..STAMP });
        assert_eq!(at_own(&Message::Deliver { sender: NodeId(10), inner: &unknown_flow }, 2), Heard::Corrupt);
        assert_eq!(at_own(&Message::Deliver { sender: NodeId(10), inner: b"PILS" }, 2), Heard::Foreign);
        let inner = inner(&STAMP);
        let bytes = encode(&Message::Deliver { sender: NodeId(10), inner: &inner });
        let stranger = Some("127.0.0.1:9002".parse().unwrap());
        assert_eq!(own().judge(&bytes, stranger, Some(LOOPBACK_SOURCES.address(2)), &(0..4)), Heard::Foreign);
    }

    #[test]
    fn a_delivery_for_another_workers_peer_is_misdelivered() {
        let inner = inner(&STAMP);
        let bytes = encode(&Message::Deliver { sender: NodeId(10), inner: &inner });
        let relay = Some(RELAY.parse().unwrap());
        assert_eq!(own().judge(&bytes, relay, Some(LOOPBACK_SOURCES.address(2)), &(0..2)), Heard::Misdelivered);
    }
}
