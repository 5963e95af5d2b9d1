//! NAT behaviour discovery from the tunnel socket itself (RFC 5780), in the words of RFC 4787.
#![expect(clippy::unimplemented, unused_variables, missing_docs, dead_code, reason = "the shape first")]

use std::fmt;
use std::net::SocketAddr;

use crate::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// The mapped address is our own.
    NoNat,
    EndpointIndependent,
    /// The port plays no part; whether the address does could not be told with one server address.
    PortIndependent,
    AddressDependent,
    AddressAndPortDependent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    EndpointIndependent,
    /// The port plays no part; whether the address does could not be told with one server address.
    PortIndependent,
    AddressDependent,
    AddressAndPortDependent,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behavior {
    pub mapping: Option<Mapping>,
    pub filtering: Option<Filtering>,
    pub port_preservation: Option<bool>,
    pub hairpinning: Option<bool>,
    /// Mapped addresses seen, that of the first server first.
    pub mapped: Vec<SocketAddr>,
}

impl Behavior {
    /// Peers elsewhere are given a mapping nobody can foretell.
    #[must_use]
    pub fn is_symmetric(&self) -> bool {
        unimplemented!()
    }
}

impl fmt::Display for Behavior {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

pub struct Discovery {
    seed: [u8; 32],
}

impl Discovery {
    /// `seed`: chance that strangers cannot guess, for transaction ids.
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        unimplemented!()
    }
    /// `server`: the relay's STUN port. `second`: its beacon port, that answers STUN too and that discovers go to.
    pub fn start(&mut self, now: Time, server: SocketAddr, second: Option<SocketAddr>, local: &[SocketAddr]) {
        unimplemented!()
    }
    /// `true` when it belongs to this discovery, and to nobody else. Show it datagrams before anyone reads them as beacon messages.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) -> bool {
        unimplemented!()
    }
    pub fn handle_timeout(&mut self, now: Time) {
        unimplemented!()
    }
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        unimplemented!()
    }
    pub fn poll_transmit(&mut self, now: Time) -> Option<(SocketAddr, Vec<u8>)> {
        unimplemented!()
    }
    #[must_use]
    pub fn behavior(&self) -> &Behavior {
        unimplemented!()
    }
    /// Nothing is under way (also so before the first start).
    #[must_use]
    pub fn is_done(&self) -> bool {
        unimplemented!()
    }
}
