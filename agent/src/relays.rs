//! Which relay is used, and whether it answers (section 4): discovers, failover, keepalive.
#![expect(clippy::unimplemented, unused_variables, missing_docs, dead_code, reason = "the shape first")]

use std::net::SocketAddr;
use std::time::Duration;

use wire::NodeId;

use crate::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This relay is used from now on.
    InUse(SocketAddr),
    /// The relay in use does not answer any more.
    Lost(SocketAddr),
    /// The endpoint as the relay in use sees it is new, or another than before.
    Mapped(SocketAddr),
}

pub struct Relays {
    list: Vec<SocketAddr>,
}

impl Relays {
    #[must_use]
    pub fn new(now: Time, list: &[SocketAddr]) -> Self {
        unimplemented!()
    }
    pub fn set_list(&mut self, now: Time, list: &[SocketAddr]) {
        unimplemented!()
    }
    /// The id that discovers carry from now on; to be called at each registration.
    pub fn set_node(&mut self, now: Time, node: NodeId) {
        unimplemented!()
    }
    /// Local addresses have changed: asks at once, and forgets what was learnt about the NAT.
    pub fn refresh(&mut self, now: Time) {
        unimplemented!()
    }
    /// Doubts about a relay (ICMP, silence of those behind it): asks at once if it is the one in use.
    pub fn suspect(&mut self, now: Time, relay: SocketAddr) {
        unimplemented!()
    }
    /// `false`: not from a relay that was asked; count it.
    pub fn handle_discover_reply(&mut self, now: Time, from: SocketAddr, mapped: SocketAddr) -> bool {
        unimplemented!()
    }
    /// Any other datagram of a relay.
    pub fn handle_alive(&mut self, now: Time, from: SocketAddr) {
        unimplemented!()
    }
    pub fn handle_timeout(&mut self, now: Time) {
        unimplemented!()
    }
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        unimplemented!()
    }
    pub fn poll_discover(&mut self, now: Time) -> Option<(SocketAddr, NodeId)> {
        unimplemented!()
    }
    pub fn poll_event(&mut self) -> Option<Event> {
        unimplemented!()
    }
    #[must_use]
    pub fn is_relay(&self, address: SocketAddr) -> bool {
        unimplemented!()
    }
    #[must_use]
    pub fn current(&self) -> Option<SocketAddr> {
        unimplemented!()
    }
    #[must_use]
    pub fn candidate(&self) -> Option<SocketAddr> {
        unimplemented!()
    }
    #[must_use]
    pub fn mapped(&self) -> Option<SocketAddr> {
        unimplemented!()
    }
    #[must_use]
    pub fn keepalive(&self) -> Duration {
        unimplemented!()
    }
}
