//! The datagrams of each kind of attack, as values: the same seed gives the same.

use wire::NodeId;
use wire::beacon::{self, Message};
use wire::codec::Writer;

use super::args::{Config, Kind};

/// The largest payload of a UDP datagram over IPv4.
const HUGE_LEN: usize = 65_507;
/// Random bytes behind a header at most.
const NOISE_MAX: usize = 64;
const MAGICS: [&[u8; 4]; 6] = [b"PILT", b"PILS", b"PILK", b"PILA", b"PILP", b"PILF"];

/// Makes one datagram after the other.
#[derive(Debug)]
pub struct Datagrams<'a> {
    config: &'a Config,
    chance: Chance,
    number: u64,
}

impl<'a> Datagrams<'a> {
    /// From the first.
    #[must_use]
    pub const fn new(config: &'a Config) -> Self {
        Self { config, chance: Chance(config.seed), number: 0 }
    }

    /// Room any of them needs.
    #[must_use]
    pub fn len_max(config: &Config) -> usize {
        let recorded = config.capture.iter().map(Vec::len).max().unwrap_or_default();
        match config.kind {
            Kind::Huge => HUGE_LEN,
            _ => recorded.max(config.size + beacon::RELAY_HEADER_LEN).max(2 * NOISE_MAX + 20),
        }
    }

    /// Writes the next one to `out`; its length.
    pub fn write_next(&mut self, out: &mut [u8]) -> usize {
        let number = self.number;
        self.number += 1;
        let sender = self.config.senders[(number % self.config.senders.len() as u64) as usize];
        match self.config.kind {
            Kind::Heavy => relay(sender, self.config.dest, self.config.size, out),
            Kind::Unknown => relay(sender, self.anybody(), self.config.size, out),
            Kind::Contest => discover(self.one_of_theirs(), out),
            Kind::Types => {
                out[0] = (number % 16) as u8;
                out[1..5].copy_from_slice(&self.some_id().0.to_be_bytes());
                out[5..9].copy_from_slice(&self.some_id().0.to_be_bytes());
                let len = self.chance.below(9 + NOISE_MAX as u64) as usize + 1;
                self.chance.fill(&mut out[9..9 + NOISE_MAX]);
                len
            }
            Kind::Stun => self.stun(out),
            Kind::Tunnel => {
                out[..4].copy_from_slice(MAGICS[(number % MAGICS.len() as u64) as usize]);
                let len = self.chance.below(2 * NOISE_MAX as u64) as usize;
                self.chance.fill(&mut out[4..4 + len]);
                4 + len
            }
            Kind::Huge => {
                out[0] = (number % 16) as u8;
                self.chance.fill(&mut out[1..64]);
                HUGE_LEN
            }
            Kind::Spoof | Kind::Fragments => match number % 3 {
                0 => discover(self.one_of_theirs(), out),
                1 => {
                    let (requester, target) = (self.one_of_theirs(), self.one_of_theirs());
                    encode(&Message::PunchRequest { requester, target }, out)
                }
                _ => relay(self.one_of_theirs(), self.one_of_theirs(), self.config.size, out),
            },
            Kind::Replay => {
                let recorded = &self.config.capture[(number % self.config.capture.len() as u64) as usize];
                out[..recorded.len()].copy_from_slice(recorded);
                recorded.len()
            }
            _ => 0,
        }
    }

    /// Right in the first bytes, then cut, or wrong in one byte, or with lengths that lie.
    fn stun(&mut self, out: &mut [u8]) -> usize {
        let len = 20 + self.chance.below(NOISE_MAX as u64) as usize;
        self.chance.fill(&mut out[..len]);
        out[..2].copy_from_slice(&[0, 1]);
        let claimed = match self.chance.below(3) {
            0 => (len - 20) as u16,
            1 => ((len - 20) & !3) as u16,
            _ => self.chance.next() as u16,
        };
        out[2..4].copy_from_slice(&claimed.to_be_bytes());
        if self.chance.below(4) != 0 {
            out[4..8].copy_from_slice(&wire::stun::MAGIC_COOKIE);
        }
        match self.chance.below(2) {
            0 => self.chance.below(len as u64) as usize,
            _ => len & !3,
        }
    }

    fn one_of_theirs(&mut self) -> NodeId {
        NodeId(1 + self.chance.below(u64::from(self.config.dest.0.max(1))) as u32)
    }

    fn anybody(&mut self) -> NodeId {
        NodeId(0x4000_0000 + self.chance.below(1 << 30) as u32)
    }

    fn some_id(&mut self) -> NodeId {
        if self.chance.below(2) == 0 { self.one_of_theirs() } else { NodeId(self.chance.next() as u32) }
    }
}

/// A discover in the name of `node`; its length.
pub fn discover(node: NodeId, out: &mut [u8]) -> usize {
    encode(&Message::Discover { node, extended: false }, out)
}

fn relay(sender: NodeId, dest: NodeId, size: usize, out: &mut [u8]) -> usize {
    let header = encode(&Message::Relay { sender, dest, inner: &[] }, out);
    out[header..header + size].fill(0xA5);
    header + size
}

fn encode(message: &Message<'_>, out: &mut [u8]) -> usize {
    let mut writer = Writer::new(out);
    message.encode(&mut writer);
    writer.len()
}

/// A small generator (xorshift64).
#[derive(Clone, Copy, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes()[..chunk.len()]);
        }
    }
}
