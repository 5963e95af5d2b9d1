//! Single values of the configuration; each refusal says what to write.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A host by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Reads `HOST:PORT`, an IPv6 address with or without brackets.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let hint = || "write HOST:PORT, such as 192.0.2.7:9000, [2001:db8::7]:9000 or relay.example:9000".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(hint)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // Colons without brackets are an address, or a mistake.
        let host = match bare {
            Some(bare) if bare.parse::<IpAddr>().is_ok() => bare,
            Some(_) => return Err(hint()),
            None if host.contains(':') && host.parse::<IpAddr>().is_err() => return Err(hint()),
            None => host,
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(hint)?;
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/' || c == '[' || c == ']') {
            return Err(hint());
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// The address, where the host is one and needs no look-up.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A share of a whole, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// All of it.
    pub const ALL: Self = Self(Self::WHOLE);
    const WHOLE: u32 = 1_000_000;

    /// Reads a number from 0 to 1.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
        let share = share.ok_or("write a share from 0 to 1, such as 0.01")?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to a million")]
        Ok(Self((share * f64::from(Self::WHOLE)).round() as u32))
    }

    /// Whether one of many belongs to the share; `chance` is any number, as likely as any other.
    pub fn takes(self, chance: impl FnOnce() -> u32) -> bool {
        match self {
            Self::NONE => false,
            Self::ALL => true,
            Self(share) => chance() % Self::WHOLE < share,
        }
    }
}

/// Where the tunnel sockets are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// One socket for IPv4 and one for IPv6, at this port; 0 for any.
    Anywhere(u16),
    /// One socket.
    At(SocketAddr),
}

impl Listen {
    /// Reads `IP:PORT` or `:PORT`; the IPv6 wildcard means both families.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let hint = || "write IP:PORT, such as 0.0.0.0:4000 or [::]:4000 (both families); port 0 is any".to_owned();
        if let Some(port) = text.strip_prefix(':') {
            return port.parse().map(Self::Anywhere).map_err(|_| hint());
        }
        match text.parse::<SocketAddr>() {
            Ok(SocketAddr::V6(address)) if address.ip().is_unspecified() => Ok(Self::Anywhere(address.port())),
            Ok(address) => Ok(Self::At(address)),
            Err(_) => Err(hint()),
        }
    }
}

/// Reads an endpoint that others can send to.
///
/// # Errors
/// What to write instead.
pub fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let usable = |address: &SocketAddr| !address.ip().is_unspecified() && address.port() != 0;
    let other = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 5), 4000));
    let hint = || format!("write the address and port that others reach this host at, such as {other}");
    text.parse().ok().filter(usable).ok_or_else(hint)
}

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Reads 64 hex digits; colons between them do no harm.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let hint = || "write the 64 hex digits that the directory prints at its start".to_owned();
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut bytes = [0; 32];
        if digits.len() != bytes.len() * 2 {
            return Err(hint());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return Err(hint()) };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

/// The 64 digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        let read = |text| HostPort::parse(text).map(|place| (place.host.clone(), place.port, place.to_string()));
        let place = |host: &str, port, text: &str| Ok((host.to_owned(), port, text.to_owned()));
        assert_eq!(read("127.0.0.1:9000"), place("127.0.0.1", 9000, "127.0.0.1:9000"));
        assert_eq!(read("relay.example:1"), place("relay.example", 1, "relay.example:1"));
        assert_eq!(read("[::1]:9000"), place("::1", 9000, "[::1]:9000"));
        assert_eq!(read("::1:9000"), place("::1", 9000, "[::1]:9000"));
        for wrong in
            ["", "9000", "host", "host:", "host:0", "host:70000", ":9000", "a b:1", "[host]:1", "a:b:1", "http://h:1"]
        {
            assert!(read(wrong).unwrap_err().contains("HOST:PORT"), "{wrong}");
        }
    }

    #[test]
    fn places_to_listen() {
        assert_eq!(Listen::parse(":0"), Ok(Listen::Anywhere(0)));
        assert_eq!(Listen::parse("[::]:7"), Ok(Listen::Anywhere(7)));
        assert_eq!(Listen::parse("0.0.0.0:7"), Ok(Listen::At("0.0.0.0:7".parse().unwrap())));
        assert!(Listen::parse("4000").is_err());
    }

    #[test]
    fn fingerprints() {
        let hex = "00ff".repeat(16);
        assert_eq!(Fingerprint::parse(&hex).unwrap().0[..2], [0, 255]);
        assert_eq!(Fingerprint::parse(&hex.to_uppercase()), Fingerprint::parse(&hex));
        assert_eq!(Fingerprint::parse(&hex).unwrap().to_string(), hex);
        for wrong in ["", "00", &"zz".repeat(32), &"+f".repeat(32)] {
            assert!(Fingerprint::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn endpoints_can_be_reached() {
        assert!(endpoint("203.0.113.5:4000").is_ok());
        for wrong in ["0.0.0.0:1", "203.0.113.5:0", "203.0.113.5", "name:1"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}
