//! What the NATs on the way do, in the words of RFC 4787, and what can be concluded from tests.

use std::fmt;
use std::net::SocketAddr;

use super::exchange::State;

/// Which destinations share an external endpoint (RFC 4787, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// There is no NAT: the mapped address is the node's own.
    NoNat,
    /// All destinations see the same endpoint.
    EndpointIndependent,
    /// All ports of one destination see the same; the server has no second address to tell more.
    PortIndependent,
    /// Each destination address sees another.
    AddressDependent,
    /// Each destination address and port sees another. Also said where it may be the address alone.
    AddressAndPortDependent,
}

/// Whose datagrams come in (RFC 4787, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// Everybody's.
    EndpointIndependent,
    /// Those from any port of an address that was sent to; the server has no second address to tell more.
    PortIndependent,
    /// Those from any port of an address that was sent to.
    AddressDependent,
    /// Those from an address and port that were sent to.
    AddressAndPortDependent,
}

/// What is known of the NATs between this node and a relay. `None`: it could not be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behavior {
    /// Which destinations share an external endpoint.
    pub mapping: Option<Mapping>,
    /// Whose datagrams come in.
    pub filtering: Option<Filtering>,
    /// The external port is the node's own.
    pub port_preservation: Option<bool>,
    /// A datagram to the own mapped address came back. Not seen where filtering keeps it out, too.
    pub hairpinning: Option<bool>,
    /// Mapped addresses without repetition; the first is that of the first server asked.
    pub mapped: Vec<SocketAddr>,
}

impl Behavior {
    /// Whether peers get an endpoint that nobody can tell them beforehand, so that a hole can only be punched from the
    /// other side.
    #[must_use]
    pub const fn is_symmetric(&self) -> bool {
        matches!(self.mapping, Some(Mapping::AddressDependent | Mapping::AddressAndPortDependent))
    }

    /// The name that RFC 3489 gave such a NAT, where it had one.
    const fn classic_name(&self) -> Option<&'static str> {
        match (self.mapping, self.filtering) {
            (Some(Mapping::NoNat), Some(Filtering::EndpointIndependent)) => Some("open"),
            (Some(Mapping::NoNat), Some(_)) => Some("firewall"),
            (Some(Mapping::EndpointIndependent), Some(Filtering::EndpointIndependent)) => Some("full cone"),
            (Some(Mapping::EndpointIndependent), Some(Filtering::AddressDependent)) => Some("restricted cone"),
            (Some(Mapping::EndpointIndependent), Some(Filtering::AddressAndPortDependent)) => {
                Some("port-restricted cone")
            }
            (Some(Mapping::AddressDependent | Mapping::AddressAndPortDependent), _) => Some("symmetric"),
            _ => None,
        }
    }
}

impl fmt::Display for Behavior {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mapped.is_empty() {
            return write!(out, "unknown: no STUN server has answered");
        }
        match self.mapping {
            Some(mapping) => write!(out, "{mapping}, ")?,
            None => write!(out, "unknown mapping, ")?,
        }
        match self.filtering {
            Some(filtering) => write!(out, "{filtering}")?,
            None => write!(out, "unknown filtering")?,
        }
        self.classic_name().map_or(Ok(()), |name| write!(out, " ({name})"))
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoNat => "no NAT",
            Self::EndpointIndependent => "endpoint-independent mapping",
            Self::PortIndependent => "endpoint-independent or address-dependent mapping",
            Self::AddressDependent => "address-dependent mapping",
            Self::AddressAndPortDependent => "address-and-port-dependent mapping",
        })
    }
}

impl fmt::Display for Filtering {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::EndpointIndependent => "endpoint-independent filtering",
            Self::PortIndependent => "endpoint-independent or address-dependent filtering",
            Self::AddressDependent => "address-dependent filtering",
            Self::AddressAndPortDependent => "address-and-port-dependent filtering",
        })
    }
}

/// What follows from mapped addresses that several destinations have seen (RFC 5780, 4.3).
pub fn conclude_mapping(seen: &[(SocketAddr, SocketAddr)]) -> Option<Mapping> {
    let pairs = || seen.iter().enumerate().flat_map(|(i, one)| seen[i + 1..].iter().map(move |other| (one, other)));
    let (mut ports_agree, mut addresses_agree) = (None, None);
    for ((to, mapped), (other_to, other_mapped)) in pairs() {
        let agree = if to.ip() == other_to.ip() { &mut ports_agree } else { &mut addresses_agree };
        *agree = Some(agree.unwrap_or(true) && mapped == other_mapped);
    }
    match (addresses_agree, ports_agree) {
        (None, None) => None,
        (Some(true), Some(true) | None) => Some(Mapping::EndpointIndependent),
        (Some(false), Some(true)) => Some(Mapping::AddressDependent),
        (None, Some(true)) => Some(Mapping::PortIndependent),
        (_, Some(false)) | (Some(false), None) => Some(Mapping::AddressAndPortDependent),
    }
}

/// What follows from whether answers came from another address (RFC 5780, 4.4), and from another port. `None`: that
/// was not asked for.
pub const fn conclude_filtering(other_address: Option<State>, other_port: Option<State>) -> Option<Filtering> {
    match (other_address, other_port) {
        (Some(State::Answered), _) => Some(Filtering::EndpointIndependent),
        (Some(State::Silent), Some(State::Answered)) => Some(Filtering::AddressDependent),
        (_, Some(State::Answered)) => Some(Filtering::PortIndependent),
        (_, Some(State::Silent)) => Some(Filtering::AddressAndPortDependent),
        _ => None,
    }
}
