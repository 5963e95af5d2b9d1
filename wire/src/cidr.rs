//! Ranges of IP addresses in CIDR notation, as settings of every program name them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, such as `10.0.0.0/8` or `2001:db8::/32`. IPv4 is held in its IPv6-mapped form, so an address
/// is in a range whichever way it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: u128,
    mask: u128,
}

impl Cidr {
    /// The addresses whose first `bits` bits are those of `ip`; `None` for more bits than the address has.
    #[must_use]
    pub fn new(ip: IpAddr, bits: u32) -> Option<Self> {
        let (ip, before, width) = match ip {
            IpAddr::V4(ip) => (ip.to_ipv6_mapped(), 96, 32),
            IpAddr::V6(ip) => (ip, 0, 128),
        };
        if bits > width {
            return None;
        }
        let mask = u128::MAX.checked_shl(128 - before - bits).unwrap_or(0);
        Some(Self { network: u128::from(ip) & mask, mask })
    }

    /// `127.0.0.0/8` and `::1/128`.
    #[must_use]
    pub fn loopback() -> Vec<Self> {
        let ranges = [(IpAddr::V4(Ipv4Addr::LOCALHOST), 8), (IpAddr::V6(Ipv6Addr::LOCALHOST), 128)];
        ranges.into_iter().filter_map(|(ip, bits)| Self::new(ip, bits)).collect()
    }

    /// Whether `ip` lies within.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        u128::from(ip) & self.mask == self.network
    }
}

/// Text that is no address range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address range; expected ADDRESS/BITS, such as 10.0.0.0/8 or 2001:db8::/32, or a single address")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.to_owned());
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().map_err(|_| error())?;
        let all = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), |bits| bits.parse().map_err(|_| error()))?;
        Self::new(ip, bits).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_addresses_and_no_others() {
        for (range, inside, outside) in [
            ("198.18.0.0/15", "198.19.255.255", "198.20.0.0"),
            ("10.1.0.0/16", "::ffff:10.1.0.1", "::1"),
            ("127.0.0.0/8", "127.9.9.9", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", "::1", "::2"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "9.9.9.9", "2001:db8::1"),
        ] {
            let cidr: Cidr = range.parse().unwrap();
            assert!(cidr.contains(inside.parse().unwrap()), "{inside} in {range}");
            assert!(!cidr.contains(outside.parse().unwrap()), "{outside} not in {range}");
        }
        let all: Cidr = "::/0".parse().unwrap();
        assert!(all.contains("2001:db8::1".parse().unwrap()) && all.contains("192.0.2.1".parse().unwrap()));
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/", "x/8", "::/129", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong:?}");
        }
    }
}
