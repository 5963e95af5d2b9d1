//! Where a node can be dialled: reading `listen_addr` and choosing the host peers get (section 6.5).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Bytes of a host name.
const HOST_BYTES_MAX: usize = 253;

/// A `listen_addr` as a node sends it: `HOST:PORT`, IPv6 in brackets, the host possibly missing. An empty text, sent
/// by a node without a UDP socket, counts as a wildcard with port 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Listen {
    /// Reads `text`; `None` when it is no endpoint.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let wildcard = Host::Ip(Ipv4Addr::UNSPECIFIED.into());
        if text.is_empty() {
            return Some(Self { host: wildcard, port: 0 });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Self { host: Host::Ip(address.ip().to_canonical()), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
        let host = if host.is_empty() { wildcard } else { Host::Name(host.to_owned()) };
        match &host {
            Host::Name(name) if !is_host_name(name) => None,
            _ => Some(Self { host, port }),
        }
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The host, where it is an address and not a wildcard.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ip(ip) if !ip.is_unspecified() => Some(ip),
            _ => None,
        }
    }

    /// Whether peers are given the host of the node's connection, since the one it names means nothing elsewhere.
    #[must_use]
    pub fn follows_caller(&self) -> bool {
        match self.host {
            Host::Ip(ip) => is_local(ip),
            Host::Name(_) => false,
        }
    }

    /// What peers dial: `HOST:PORT`.
    #[must_use]
    pub fn endpoint(&self, caller_ip: IpAddr) -> String {
        match &self.host {
            Host::Ip(ip) if is_local(*ip) => SocketAddr::new(caller_ip, self.port).to_string(),
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).to_string(),
            Host::Name(name) => format!("{name}:{}", self.port),
        }
    }
}

/// Wildcard, loopback, private or link-local: of no use to a peer elsewhere.
fn is_local(ip: IpAddr) -> bool {
    if ip.is_unspecified() || ip.is_loopback() {
        return true;
    }
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= HOST_BYTES_MAX && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_kept_unless_it_means_nothing_elsewhere() {
        let caller = "198.51.100.7".parse().unwrap();
        for (listen_addr, endpoint) in [
            ("192.0.2.9:4002", "192.0.2.9:4002"),
            ("[2001:db8::9]:4002", "[2001:db8::9]:4002"),
            ("[::ffff:192.0.2.9]:4002", "192.0.2.9:4002"),
            ("node.example.org:4002", "node.example.org:4002"),
            ("0.0.0.0:4002", "198.51.100.7:4002"),
            ("[::]:4002", "198.51.100.7:4002"),
            (":4002", "198.51.100.7:4002"),
            ("10.1.2.3:4002", "198.51.100.7:4002"),
            ("127.0.0.1:4002", "198.51.100.7:4002"),
            ("[::1]:4002", "198.51.100.7:4002"),
            ("169.254.1.1:4002", "198.51.100.7:4002"),
            ("[fe80::1]:4002", "198.51.100.7:4002"),
            ("[fd00::1]:4002", "198.51.100.7:4002"),
            ("", "198.51.100.7:0"),
        ] {
            assert_eq!(Listen::parse(listen_addr).unwrap().endpoint(caller), endpoint, "{listen_addr}");
        }
        let caller = "2001:db8::7".parse().unwrap();
        assert_eq!(Listen::parse(":1").unwrap().endpoint(caller), "[2001:db8::7]:1");
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for wrong in ["4002", "host", "host:", "host:65536", "host:+1", "a b:1", "[::1:1", "::1:1", "a..b:1", "\n:1"] {
            assert_eq!(Listen::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn any_address_but_a_wildcard_can_be_proven() {
        assert_eq!(Listen::parse("[::1]:1").unwrap().ip(), Some("::1".parse().unwrap()));
        assert_eq!(Listen::parse("0.0.0.0:1").unwrap().ip(), None);
        assert_eq!(Listen::parse("host:1").unwrap().ip(), None);
    }
}
