//! NAT behaviour discovery from the tunnel socket itself (RFC 5780), in the words of RFC 4787.
//!
//! ```text
//!   first ──► filtering ──────────────────► mapping, hairpinning ──► done
//!   who am I?  answer me from elsewhere      who am I, others? am I, for myself?
//! ```
//!
//! Decides which requests go where, in which order, and what the answers mean. What becomes of the knowledge is left to
//! the owner; so is when to start again, as after a change of addresses.
//!
//! **Order.** Whoever has been sent to may answer through any filter. So filtering comes before the requests that tell
//! mappings; and it is tested by asking the relay's beacon port, where discovers go all the time, for an answer from its
//! STUN port, where nothing has gone yet. For the same reason it is not tested again soon after.
//!
//! **Honesty.** A server with one address cannot show what depends on the address; then the result says so
//! ([`Mapping::PortIndependent`]). A server without OTHER-ADDRESS shows nothing of filtering.

mod behavior;
mod exchange;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sha2::{Digest, Sha256};
use wire::stun;

pub use self::behavior::{Behavior, Filtering, Mapping};
use self::behavior::{conclude_filtering, conclude_mapping};
use self::exchange::{Exchange, State, Test, canonical};
pub use self::exchange::{RETRANSMIT_INTERVAL, TRIES_MAX};
use crate::Time;

/// Filters may remember so long whom the last discovery has sent to.
pub const FILTER_MEMORY: Duration = Duration::from_mins(5);
/// Addresses of the node itself that are looked at.
const LOCAL_MAX: usize = 64;

/// What is being found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Done,
    First,
    Filtering,
    Mapping,
}

/// The discovery of what the NATs between this node and a relay do.
#[derive(Debug)]
pub struct Discovery {
    seed: [u8; 32],
    requests: u64,
    phase: Phase,
    /// The relay's STUN port.
    server: SocketAddr,
    /// Its beacon port.
    second: Option<SocketAddr>,
    /// Which of the two the first and the filtering tests go to.
    asked: SocketAddr,
    local: Vec<SocketAddr>,
    /// When the last discovery sent to all ports of the server.
    opened: Option<Time>,
    tests_filtering: bool,
    exchanges: Vec<Exchange>,
    behavior: Behavior,
}

impl Discovery {
    /// Nothing is known yet. Strangers must not be able to guess `seed`: transaction ids come from it.
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        let nowhere = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
        Self {
            seed: *seed,
            requests: 0,
            phase: Phase::Done,
            server: nowhere,
            second: None,
            asked: nowhere,
            local: Vec::new(),
            opened: None,
            tests_filtering: false,
            exchanges: Vec::new(),
            behavior: Behavior::default(),
        }
    }

    /// Begins anew. `server` is the STUN port of the relay in use; `second` its beacon port, which answers STUN too and
    /// which this socket has been talking to; `local` the socket's own endpoints.
    pub fn start(&mut self, now: Time, server: SocketAddr, second: Option<SocketAddr>, local: &[SocketAddr]) {
        let local: Vec<_> = local.iter().take(LOCAL_MAX).copied().map(canonical).collect();
        let server = canonical(server);
        self.tests_filtering = self.opened.is_none_or(|opened| {
            now.since(opened) >= FILTER_MEMORY || local != self.local || server.ip() != self.server.ip()
        });
        let filtering = self.behavior.filtering.filter(|_| !self.tests_filtering);
        self.behavior = Behavior { filtering, ..Behavior::default() };
        self.server = server;
        self.second = second.map(canonical);
        self.asked = self.second.unwrap_or(server);
        self.local = local;
        self.exchanges.clear();
        self.phase = Phase::First;
        self.request(now, Test::First, self.asked);
    }

    /// Takes a datagram. `true` if it belongs to this discovery and is nothing to anybody else. The first byte of a
    /// STUN response is that of a beacon message too, so STUN comes first.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) -> bool {
        if !stun::has_magic_cookie(datagram) {
            return false;
        }
        let Some(exchange) = self.exchanges.iter_mut().find(|exchange| exchange.is_named_in(datagram)) else {
            return false;
        };
        let taken = exchange.handle_datagram(canonical(from), datagram);
        self.advance(now);
        taken
    }

    /// Gives up what was not answered in time. Early and late calls do no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        for exchange in &mut self.exchanges {
            exchange.handle_timeout(now);
        }
        self.advance(now);
    }

    /// When there will be something to do, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.exchanges.iter().filter_map(Exchange::poll_timeout).min()
    }

    /// The next request to be sent from the tunnel socket.
    pub fn poll_transmit(&mut self, now: Time) -> Option<(SocketAddr, Vec<u8>)> {
        self.exchanges.iter_mut().find_map(|exchange| Some((exchange.to, exchange.poll_transmit(now)?)))
    }

    /// What has been found out so far.
    #[must_use]
    pub const fn behavior(&self) -> &Behavior {
        &self.behavior
    }

    /// Whether nothing is under way; so also before the first start.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Goes on once the requests of a phase have all come to something.
    fn advance(&mut self, now: Time) {
        while self.phase != Phase::Done && self.exchanges.iter().all(|exchange| exchange.state != State::Pending) {
            self.phase = match self.phase {
                Phase::First => self.conclude_first(now),
                Phase::Filtering => self.conclude_filtering(now),
                Phase::Mapping | Phase::Done => self.conclude_mapping(),
            };
        }
    }

    fn conclude_first(&mut self, now: Time) -> Phase {
        let Some((mapped, other)) = self.first() else {
            if self.asked == self.server {
                return Phase::Done;
            }
            // An older relay has no STUN on its beacon port.
            self.exchanges.clear();
            self.asked = self.server;
            self.request(now, Test::First, self.server);
            return Phase::First;
        };
        self.note_mapped(mapped);
        if !self.local.is_empty() {
            self.behavior.port_preservation = Some(self.local.iter().any(|local| local.port() == mapped.port()));
        }
        if let Some(other) = other
            && self.tests_filtering
        {
            let other_port = SocketAddr::new(self.asked.ip(), other.port());
            if other_port != self.asked && Some(other_port) != self.second {
                self.request(now, Test::FilterPort, self.asked);
            }
            if self.asked.ip() != other.ip() {
                self.request(now, Test::FilterAddress, self.asked);
            }
        }
        Phase::Filtering
    }

    fn conclude_filtering(&mut self, now: Time) -> Phase {
        if self.tests_filtering {
            let state_of = |test| self.exchanges.iter().find(|done| done.test == test).map(|done| done.state);
            self.behavior.filtering = conclude_filtering(state_of(Test::FilterAddress), state_of(Test::FilterPort));
        }
        let Some((mapped, other)) = self.first() else { return Phase::Done };
        self.opened = Some(now);
        for to in self.other_destinations(other) {
            self.request(now, Test::Mapping, to);
        }
        if !self.local.contains(&mapped) && is_of_scope(mapped, self.asked) {
            self.request(now, Test::Hairpin, mapped);
        }
        Phase::Mapping
    }

    fn conclude_mapping(&mut self) -> Phase {
        let answered = |test: Test| move |done: &&Exchange| done.test == test && done.state == State::Answered;
        let first = self.exchanges.iter().filter(answered(Test::First));
        let others = self.exchanges.iter().filter(answered(Test::Mapping));
        let seen: Vec<_> = first.chain(others).filter_map(|done| Some((done.to, done.mapped?))).collect();
        for (_, mapped) in &seen {
            self.note_mapped(*mapped);
        }
        let has_no_nat = seen.iter().all(|(_, mapped)| self.local.contains(mapped));
        self.behavior.mapping = if has_no_nat { Some(Mapping::NoNat) } else { conclude_mapping(&seen) };
        let hairpin = self.exchanges.iter().find(|done| done.test == Test::Hairpin);
        self.behavior.hairpinning = hairpin.map(|done| done.state == State::Answered);
        Phase::Done
    }

    /// What the first server saw, and its other address if that can be believed.
    fn first(&self) -> Option<(SocketAddr, Option<SocketAddr>)> {
        let first = self.exchanges.iter().find(|done| done.test == Test::First)?;
        let other = first.other.filter(|other| is_other_of(*other, self.asked));
        Some((first.mapped?, other))
    }

    /// All the server's addresses and ports but the one asked first.
    fn other_destinations(&self, other: Option<SocketAddr>) -> Vec<SocketAddr> {
        let ips = other.map(|other| other.ip()).into_iter().chain([self.asked.ip()]);
        let ports = || other.map(|other| other.port()).into_iter().chain([self.asked.port()]);
        let mut all = vec![self.server];
        all.extend(ips.flat_map(|ip| ports().map(move |port| SocketAddr::new(ip, port))));
        all.retain(|to| *to != self.asked);
        all.sort_unstable();
        all.dedup();
        all
    }

    fn note_mapped(&mut self, mapped: SocketAddr) {
        if !self.behavior.mapped.contains(&mapped) {
            self.behavior.mapped.push(mapped);
        }
    }

    fn request(&mut self, now: Time, test: Test, to: SocketAddr) {
        let digest = Sha256::new().chain_update(self.seed).chain_update(self.requests.to_be_bytes()).finalize();
        let mut random = [0; 12];
        random.copy_from_slice(&digest[..12]);
        self.requests += 1;
        self.exchanges.push(Exchange::new(now, test, to, random));
    }
}

/// Whether the server at `asked` can be believed to have `other` as well.
fn is_other_of(other: SocketAddr, asked: SocketAddr) -> bool {
    other != asked && is_of_scope(other, asked)
}

/// Whether `address` can be a host of the same network as `asked`. What a server says must not send us to hosts behind
/// our own NAT.
fn is_of_scope(address: SocketAddr, asked: SocketAddr) -> bool {
    let scope = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (true, ip.is_loopback(), ip.is_private() || ip.is_link_local()),
        IpAddr::V6(ip) => (false, ip.is_loopback(), ip.is_unique_local() || ip.is_unicast_link_local()),
    };
    let is_broadcast = matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast());
    let is_host = !address.ip().is_unspecified() && !address.ip().is_multicast() && !is_broadcast;
    address.port() != 0 && is_host && scope(address.ip()) == scope(asked.ip())
}
