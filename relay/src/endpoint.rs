//! Where datagrams come from and go to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A remote transport address; IPv4 is held in its IPv6-mapped form, so both families compare and hash alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address, IPv4-mapped where it is IPv4.
    pub ip: Ipv6Addr,
    /// The UDP port.
    pub port: u16,
}

impl Endpoint {
    /// The address in the family it really has.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        IpAddr::V6(self.ip).to_canonical()
    }

    /// The endpoint in the family it really has.
    #[must_use]
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }

    /// A well-mixed 64-bit digest, for tables of our own. Not keyed: tables that use it must stay correct and bounded
    /// under chosen collisions.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let ip = u128::from(self.ip);
        let (high, low) = ((ip >> 64) as u64, ip as u64);
        mix(mix(low ^ u64::from(self.port).rotate_left(48)) ^ high)
    }
}

/// The finaliser of splitmix64.
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { ip: mapped(address.ip()), port: address.port() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket_addr().fmt(f)
    }
}

/// An address in its IPv6 form.
#[must_use]
pub const fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Which of our local addresses a datagram came to or leaves from: an index into [`crate::locals::Locals`]. A shard
/// has one socket for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalId(pub u16);

/// A remote endpoint with the local address it talks to. NAT filters let nothing else through, so answers and
/// deliveries keep to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The other side.
    pub remote: Endpoint,
    /// Our side.
    pub local: LocalId,
}
