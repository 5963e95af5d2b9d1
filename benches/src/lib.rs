//! What the benches share: chance that is the same in every run, and nodes at addresses of their own.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};

use relay::endpoint::{Endpoint, LocalId, Path, mix};
use wire::NodeId;

/// The local address every bench talks to.
pub const LOCAL: LocalId = LocalId(0);

/// Numbers of chance, the same in every run (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence number `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `bound`.
    pub const fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        (((mix(self.0) >> 32) * bound as u64) >> 32) as u32
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index as u32 + 1) as usize);
        }
    }
}

/// How ids are spread over their number space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// 1, 2, 3 …, as a directory hands them out.
    Dense,
    /// Anywhere in 32 bits, as strangers may claim them on an open relay.
    Sparse,
}

impl Ids {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Sparse => "sparse",
        }
    }

    /// The node number `index`; the same index is always the same node, different ones are different nodes.
    #[must_use]
    pub const fn node(self, index: u32) -> NodeId {
        match self {
            Self::Dense => NodeId(index + 1),
            // An odd factor permutes the numbers of 32 bits.
            Self::Sparse => NodeId((index + 1).wrapping_mul(0x9E37_79B1)),
        }
    }
}

/// Where a node is: an IPv4 address of its own.
#[must_use]
pub fn path(node: NodeId) -> Path {
    let address = SocketAddr::from((Ipv4Addr::from(node.0.wrapping_add(0x0A00_0000)), 4000));
    Path { remote: Endpoint::from(address), local: LOCAL }
}
