//! The relays to beat, each a process of one thread: `compare rival KIND …`. They speak discover and relay and nothing
//! else, check nothing, and keep endpoints in an array, so what they cost is what their system calls cost.

mod floor;
mod grouping;
mod mmsg;
mod naive;

use std::io;
use std::net::SocketAddrV4;

use wire::NodeId;
use wire::beacon::{DELIVER_HEADER_LEN, ENDPOINT_MESSAGE_MAX, Message, RELAY_HEADER_LEN, kind};
use wire::codec::Writer;

/// Receives in one system call.
const BATCH: usize = 64;
/// Room for a datagram that is not merged.
const DATAGRAM_BYTES: usize = 2048;
/// Relay header bytes that fall away: deliver (06) begins so much later in the same buffer.
const SHRINK: usize = RELAY_HEADER_LEN - DELIVER_HEADER_LEN;

/// Which rival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Rival {
    /// Receives and sends in batches, to one fixed address; no look at the datagram.
    Floor,
    /// `recvfrom`, `sendto`.
    Naive,
    /// `recvmmsg`, `sendmmsg`.
    Mmsg,
    /// `recvmmsg` of merged datagrams, grouped by destination, `sendmmsg` of trains.
    MmsgGso,
}

/// Serves until killed.
///
/// # Errors
/// What the kernel says of the socket.
pub fn run(rival: Rival, listen: SocketAddrV4, fixed: SocketAddrV4) -> io::Result<()> {
    match rival {
        Rival::Floor => floor::run(listen, fixed),
        Rival::Naive => naive::run(listen),
        Rival::Mmsg => mmsg::run(listen),
        Rival::MmsgGso => grouping::run(listen),
    }
}

/// Where nodes are.
#[derive(Debug, Default)]
struct Endpoints(Vec<Option<SocketAddrV4>>);

/// What to do with a datagram.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Send it from [`SHRINK`] on, rewritten.
    Forward(SocketAddrV4),
    /// Answer with so many bytes of the reply.
    Answer(usize),
    Drop,
}

impl Endpoints {
    fn decide(&mut self, from: SocketAddrV4, datagram: &mut [u8], reply: &mut [u8; ENDPOINT_MESSAGE_MAX]) -> Verdict {
        match Message::decode(datagram) {
            Ok(Message::Relay { sender, dest: NodeId(dest), .. }) => {
                let Some(Some(to)) = self.0.get(dest as usize) else { return Verdict::Drop };
                datagram[SHRINK] = kind::DELIVER;
                datagram[SHRINK + 1..RELAY_HEADER_LEN].copy_from_slice(&sender.0.to_be_bytes());
                Verdict::Forward(*to)
            }
            Ok(Message::Discover { node: NodeId(node), .. }) => {
                let node = node as usize;
                self.0.resize(self.0.len().max(node + 1), None);
                self.0[node] = Some(from);
                let mut writer = Writer::new(reply);
                Message::DiscoverReply(from.into()).encode(&mut writer);
                Verdict::Answer(writer.len())
            }
            _ => Verdict::Drop,
        }
    }
}
