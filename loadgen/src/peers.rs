//! Where the simulated peers sit and what they are called: source endpoints, node ids, the split among workers.
//!
//! A peer is an index from 0. Getting node ids is left to [`register`](crate::register), using the endpoints to
//! [`worker`](crate::worker).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::str::FromStr;

use wire::NodeId;

/// Source addresses used against a relay on an IPv4 loopback address: four million, all of them local everywhere.
pub const LOOPBACK_SOURCES: SourcePrefix =
    SourcePrefix { network: IpAddr::V4(Ipv4Addr::new(127, 64, 0, 0)), length: 10 };

/// How the peers differ for the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Every peer has a source address of its own.
    OwnAddress(SourcePrefix),
    /// Many peers share each socket; the relay names the receiver in every delivery (SPEC 4.1, types 08 and 09).
    SharedSockets {
        /// The local address from which the relay is reached.
        local: IpAddr,
    },
}

impl Placement {
    /// The source address of `peer`, where it matters.
    #[must_use]
    pub fn source(&self, peer: u32) -> Option<IpAddr> {
        match self {
            Self::OwnAddress(prefix) => Some(prefix.address(peer)),
            Self::SharedSockets { .. } => None,
        }
    }

    /// The endpoint by which `peer` is reached when its socket is bound to `port`.
    #[must_use]
    pub fn endpoint(&self, peer: u32, port: u16) -> SocketAddr {
        let ip = match self {
            Self::OwnAddress(prefix) => prefix.address(peer),
            Self::SharedSockets { local } => *local,
        };
        SocketAddr::new(ip, port)
    }
}

/// A block of addresses that are routed to this host: peer `i` gets the `i + 1`st.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePrefix {
    network: IpAddr,
    length: u8,
}

impl SourcePrefix {
    /// How many peers find a place: all but the first and the last address.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        let host_bits = self.bits() - u32::from(self.length);
        if host_bits >= 32 { u32::MAX - 1 } else { (1_u32 << host_bits).saturating_sub(2) }
    }

    /// The address of `peer`, which is below [`Self::capacity`].
    #[must_use]
    pub fn address(&self, peer: u32) -> IpAddr {
        match self.network {
            IpAddr::V4(network) => Ipv4Addr::from(u32::from(network) + peer + 1).into(),
            IpAddr::V6(network) => Ipv6Addr::from(u128::from(network) + u128::from(peer) + 1).into(),
        }
    }

    /// The peer that has `address`, if that lies behind the start of the block; it may exceed the number of peers.
    #[must_use]
    pub fn peer(&self, address: IpAddr) -> Option<u32> {
        let offset = match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                u128::from(u32::from(address)).checked_sub(u128::from(u32::from(network)))?
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => u128::from(address).checked_sub(u128::from(network))?,
            _ => return None,
        };
        u32::try_from(offset.checked_sub(1)?).ok()
    }

    /// Whether the block is of the same family as `address`.
    #[must_use]
    pub const fn is_family_of(&self, address: IpAddr) -> bool {
        self.network.is_ipv4() == address.is_ipv4()
    }

    const fn bits(&self) -> u32 {
        if self.network.is_ipv4() { 32 } else { 128 }
    }
}

impl FromStr for SourcePrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("'{text}' is no prefix; write one like 10.20.0.0/16 or fd00:20::/64");
        let (network, length) = text.split_once('/').ok_or_else(expected)?;
        let network: IpAddr = network.parse().map_err(|_| expected())?;
        let length: u8 = length.parse().map_err(|_| expected())?;
        let prefix = Self { network, length };
        let bits = prefix.bits();
        if u32::from(length) > bits {
            return Err(expected());
        }
        let value = match network {
            IpAddr::V4(network) => u128::from(u32::from(network)),
            IpAddr::V6(network) => u128::from(network),
        };
        let hosts = 1_u128.checked_shl(bits - u32::from(length)).unwrap_or(0).wrapping_sub(1);
        if value & hosts != 0 {
            return Err(format!("'{text}' has bits set behind its length of {length}; clear them"));
        }
        Ok(prefix)
    }
}

impl fmt::Display for SourcePrefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.network, self.length)
    }
}

/// The peers of worker `worker` out of `workers`: neighbouring blocks that differ by at most one in size.
#[must_use]
pub fn share(peers: u32, worker: u32, workers: u32) -> Range<u32> {
    let bound =
        |worker: u32| u32::try_from(u64::from(peers) * u64::from(worker) / u64::from(workers)).expect("at most peers");
    bound(worker)..bound(worker + 1)
}

/// Node ids made up without a directory: 1 to `peers`.
#[must_use]
pub fn made_up_ids(peers: u32) -> Vec<NodeId> {
    (1..=peers).map(NodeId).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn loopback_holds_a_million_peers() {
        assert!(LOOPBACK_SOURCES.capacity() >= 1_000_000);
        assert_eq!(LOOPBACK_SOURCES.address(0).to_string(), "127.64.0.1");
        assert_eq!(LOOPBACK_SOURCES.address(999_999).to_string(), "127.79.66.64");
        assert!(LOOPBACK_SOURCES.address(LOOPBACK_SOURCES.capacity() - 1).is_loopback());
    }

    #[test]
    fn prefixes_are_checked() {
        assert_eq!("10.20.0.0/16".parse::<SourcePrefix>().unwrap().capacity(), 65_534);
        assert_eq!("fd00::/64".parse::<SourcePrefix>().unwrap().address(9).to_string(), "fd00::a");
        for wrong in ["10.20.0.0", "10.20.0.1/16", "10.20.0.0/33", "x/8", "fd00::1/64", "fd00::/129", "/", "::1/0"] {
            assert!(wrong.parse::<SourcePrefix>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn an_address_leads_back_to_its_peer(peer in 0..LOOPBACK_SOURCES.capacity()) {
            prop_assert_eq!(LOOPBACK_SOURCES.peer(LOOPBACK_SOURCES.address(peer)), Some(peer));
            let six: SourcePrefix = "fd00:20::/64".parse().unwrap();
            prop_assert_eq!(six.peer(six.address(peer)), Some(peer));
        }

        #[test]
        fn shares_cover_all_peers(peers in 2_u32..2_000_000, workers in 1_u32..64) {
            let mut next = 0;
            for worker in 0..workers {
                let share = share(peers, worker, workers);
                prop_assert_eq!(share.start, next);
                next = share.end;
            }
            prop_assert_eq!(next, peers);
        }

        #[test]
        fn any_address_is_looked_up_without_panic(address: u32, six: u128) {
            let _ = LOOPBACK_SOURCES.peer(Ipv4Addr::from(address).into());
            let _ = LOOPBACK_SOURCES.peer(Ipv6Addr::from(six).into());
        }
    }
}
