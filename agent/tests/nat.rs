//! Stories about NAT behaviour discovery: the engine behind a NAT in memory, against what the real relay answers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use agent::Time;
use agent::nat::{Behavior, Discovery, FILTER_MEMORY, Filtering, Mapping, RETRANSMIT_INTERVAL, TRIES_MAX};
use proptest::prelude::*;
use relay::endpoint::{Endpoint, LocalId, Path, mapped};
use relay::locals::{Local, Locals, Service};
use wire::stun::{self, Request, Success};

const SEED: [u8; 32] = [7; 32];
const START: Time = Time(1_000_000_000);
const BEACON: u16 = 9001;
const STUN: u16 = 3478;

/// What destinations that a NAT treats alike have in common.
type Likeness = (Option<IpAddr>, Option<u16>);

/// RFC 4787's words for both mapping and filtering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dependence {
    Independent,
    Address,
    AddressAndPort,
}

use Dependence::{Address, AddressAndPort, Independent};

const ALL: [Dependence; 3] = [Independent, Address, AddressAndPort];

impl Dependence {
    fn key(self, destination: SocketAddr) -> Likeness {
        match self {
            Independent => (None, None),
            Address => (Some(destination.ip()), None),
            AddressAndPort => (Some(destination.ip()), Some(destination.port())),
        }
    }

    fn mapping(self, addresses: usize) -> Mapping {
        match (self, addresses) {
            (AddressAndPort, _) => Mapping::AddressAndPortDependent,
            (_, 1) => Mapping::PortIndependent,
            (Address, _) => Mapping::AddressDependent,
            (Independent, _) => Mapping::EndpointIndependent,
        }
    }

    fn filtering(self, addresses: usize) -> Filtering {
        match (self, addresses) {
            (AddressAndPort, _) => Filtering::AddressAndPortDependent,
            (_, 1) => Filtering::PortIndependent,
            (Address, _) => Filtering::AddressDependent,
            (Independent, _) => Filtering::EndpointIndependent,
        }
    }
}

struct Nat {
    /// `None`: a firewall alone.
    mapping: Option<Dependence>,
    filtering: Dependence,
    hairpins: bool,
    bindings: HashMap<Likeness, u16>,
    opened: HashSet<(u16, Likeness)>,
}

impl Nat {
    fn new(mapping: Option<Dependence>, filtering: Dependence) -> Self {
        Self { mapping, filtering, hairpins: false, bindings: HashMap::new(), opened: HashSet::new() }
    }

    /// The source that `to` sees.
    fn send(&mut self, to: SocketAddr) -> SocketAddr {
        let source = match self.mapping {
            None => local(),
            Some(mapping) => {
                let next = 40_000 + u16::try_from(self.bindings.len()).unwrap();
                let port = *self.bindings.entry(mapping.key(to)).or_insert(next);
                SocketAddr::new(address("198.18.7.7"), port)
            }
        };
        self.opened.insert((source.port(), self.filtering.key(to)));
        source
    }

    fn admits(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.opened.contains(&(to.port(), self.filtering.key(from)))
    }
}

/// A node behind a NAT, and a relay.
struct World {
    now: Time,
    nat: Nat,
    relay: Locals,
    /// Destinations in the order of requests.
    requests: Vec<SocketAddr>,
    /// Whether the relay gets request number so-and-so.
    carries: fn(usize, SocketAddr) -> bool,
}

impl World {
    fn new(addresses: usize, nat: Nat) -> Self {
        let mut relay = Locals::default();
        for ip in &["198.18.0.1", "198.18.0.2"][..addresses] {
            for (service, port) in [(Service::Beacon, BEACON), (Service::Stun, STUN)] {
                let bound = SocketAddr::new(address(ip), port);
                relay.put(Local { bound, seen_as: bound, service, payload_max: 1472, present: true });
            }
        }
        let mut world = Self { now: START, nat, relay, requests: Vec::new(), carries: |_, _| true };
        // The node has been discovering.
        world.nat.send(beacon());
        world
    }

    /// What comes back for a datagram.
    fn carry(&mut self, to: SocketAddr, datagram: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
        self.requests.push(to);
        let source = self.nat.send(to);
        if !(self.carries)(self.requests.len() - 1, to) {
            return None;
        }
        if to.ip() == address("198.18.7.7") {
            let comes_back = self.nat.hairpins && self.nat.admits(source, to);
            return comes_back.then(|| (source, datagram.to_vec()));
        }
        let (id, _) = self.relay.iter().find(|(_, local)| local.bound == to)?;
        let (from, answer) = answer(&self.relay, id, source, datagram)?;
        self.nat.admits(from, source).then_some((from, answer))
    }

    fn start(&mut self, discovery: &mut Discovery) {
        discovery.start(self.now, stun_port(), Some(beacon()), &[local()]);
    }

    fn run(&mut self, discovery: &mut Discovery) -> Behavior {
        for _ in 0..1000 {
            while let Some((to, datagram)) = discovery.poll_transmit(self.now) {
                if let Some((from, answer)) = self.carry(to, &datagram) {
                    assert!(discovery.handle_datagram(self.now, from, &answer), "answer of {from} is passed over");
                }
            }
            let Some(due) = discovery.poll_timeout() else {
                assert!(discovery.is_done());
                return discovery.behavior().clone();
            };
            assert!(due >= self.now);
            self.now = due;
            discovery.handle_timeout(self.now);
        }
        panic!("the discovery does not end");
    }

    fn discover(&mut self) -> Behavior {
        let mut discovery = Discovery::new(&SEED);
        self.start(&mut discovery);
        self.run(&mut discovery)
    }
}

fn answer(relay: &Locals, at: LocalId, source: SocketAddr, request: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
    let remote = Endpoint { ip: mapped(source.ip()), port: source.port() };
    let mut reply = [0; relay::stun::REPLY_MAX];
    let answered = relay::stun::respond(request, Path { remote, local: at }, relay, None, &mut reply).ok()?;
    Some((relay.get(answered.via)?.bound, reply[..answered.len].to_vec()))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn local() -> SocketAddr {
    SocketAddr::new(address("192.168.1.9"), 4000)
}

fn beacon() -> SocketAddr {
    SocketAddr::new(address("198.18.0.1"), BEACON)
}

fn stun_port() -> SocketAddr {
    SocketAddr::new(address("198.18.0.1"), STUN)
}

#[test]
fn a_relay_with_two_addresses_tells_every_nat_apart() {
    for mapping in ALL {
        for filtering in ALL {
            let behavior = World::new(2, Nat::new(Some(mapping), filtering)).discover();
            assert_eq!(behavior.mapping, Some(mapping.mapping(2)), "{mapping:?} × {filtering:?}");
            assert_eq!(behavior.filtering, Some(filtering.filtering(2)), "{mapping:?} × {filtering:?}");
            assert_eq!(behavior.is_symmetric(), mapping != Independent);
            assert_eq!(behavior.port_preservation, Some(false));
        }
    }
}

#[test]
fn a_relay_with_one_address_says_what_it_cannot_tell() {
    for mapping in ALL {
        for filtering in ALL {
            let behavior = World::new(1, Nat::new(Some(mapping), filtering)).discover();
            assert_eq!(behavior.mapping, Some(mapping.mapping(1)), "{mapping:?} × {filtering:?}");
            assert_eq!(behavior.filtering, Some(filtering.filtering(1)), "{mapping:?} × {filtering:?}");
        }
    }
}

#[test]
fn without_a_nat_there_may_be_a_firewall() {
    for (filtering, text) in [
        (Independent, "no NAT, endpoint-independent filtering (open)"),
        (AddressAndPort, "no NAT, address-and-port-dependent filtering (firewall)"),
    ] {
        let behavior = World::new(2, Nat::new(None, filtering)).discover();
        assert_eq!(behavior.mapping, Some(Mapping::NoNat));
        assert_eq!(behavior.port_preservation, Some(true));
        assert_eq!(behavior.hairpinning, None);
        assert_eq!(behavior.mapped, [local()]);
        assert_eq!(behavior.to_string(), text);
    }
}

#[test]
fn a_nat_that_turns_datagrams_around_is_noticed() {
    for hairpins in [true, false] {
        let nat = Nat { hairpins, ..Nat::new(Some(Independent), AddressAndPort) };
        assert_eq!(World::new(2, nat).discover().hairpinning, Some(hairpins));
    }
}

#[test]
fn silence_ends_after_three_requests_to_each_port() {
    let mut world = World { carries: |_, _| false, ..World::new(2, Nat::new(Some(Independent), Address)) };
    let behavior = world.discover();
    assert_eq!(behavior, Behavior::default());
    assert_eq!(behavior.to_string(), "unknown: no STUN server has answered");
    let tries = TRIES_MAX as usize;
    assert_eq!(world.requests, [vec![beacon(); tries], vec![stun_port(); tries]].concat());
    assert_eq!(world.now, START + RETRANSMIT_INTERVAL * 2 * TRIES_MAX);
}

#[test]
fn a_beacon_port_without_stun_is_made_up_for_as_far_as_that_goes() {
    for (filtering, told) in [(Independent, Some(Filtering::EndpointIndependent)), (AddressAndPort, None)] {
        let mut world = World::new(2, Nat::new(Some(Independent), filtering));
        world.carries = |_, to| to.port() == STUN;
        let behavior = world.discover();
        assert_eq!(behavior.mapping, Some(Mapping::EndpointIndependent));
        // Whatever comes from the beacon port proves nothing, since the node has been sending there.
        assert_eq!(behavior.filtering, told);
    }
}

#[test]
fn a_plain_stun_server_tells_the_mapping_by_two_ports_and_nothing_of_the_filtering() {
    for (mapping, told) in [(Independent, Mapping::PortIndependent), (AddressAndPort, Mapping::AddressAndPortDependent)]
    {
        let mut nat = Nat::new(Some(mapping), AddressAndPort);
        let mut discovery = Discovery::new(&SEED);
        discovery.start(START, stun_port(), Some(beacon()), &[local()]);
        let mut now = START;
        while !discovery.is_done() {
            while let Some((to, request)) = discovery.poll_transmit(now) {
                let Ok(request) = Request::decode(&request) else { panic!("a request that no server takes") };
                let mut answer = [0; stun::RESPONSE_MAX];
                let len = Success::new(nat.send(to)).encode(&request.transaction, &mut answer);
                if to.ip() == beacon().ip() {
                    assert!(discovery.handle_datagram(now, to, &answer[..len]));
                }
            }
            now = discovery.poll_timeout().unwrap_or(now);
            discovery.handle_timeout(now);
        }
        assert_eq!(discovery.behavior().mapping, Some(told));
        assert_eq!(discovery.behavior().filtering, None);
    }
}

#[test]
fn lost_requests_are_sent_again_and_late_answers_still_count() {
    // Every third request is lost, beginning with the first.
    for addresses in [1, 2] {
        let mut world = World::new(addresses, Nat::new(Some(Address), Independent));
        world.carries = |number, _| number % 3 != 0;
        let behavior = world.discover();
        assert_eq!(behavior.mapping, Some(Address.mapping(addresses)));
    }

    let mut discovery = Discovery::new(&SEED);
    let mut world = World::new(1, Nat::new(Some(Independent), Independent));
    world.start(&mut discovery);
    let (to, request) = discovery.poll_transmit(START).unwrap();
    let later = START + RETRANSMIT_INTERVAL;
    discovery.handle_timeout(later);
    assert_eq!(discovery.poll_transmit(later), Some((to, request.clone())), "the same id");
    let (from, answer) = world.carry(to, &request).unwrap();
    assert!(discovery.handle_datagram(later, from, &answer));
    assert!(discovery.handle_datagram(later, from, &answer), "the copy is ours, too");
    world.now = later;
    assert_eq!(world.run(&mut discovery).mapping, Some(Mapping::PortIndependent));
}

#[test]
fn forged_answers_change_nothing() {
    let mut world = World::new(2, Nat::new(Some(Independent), AddressAndPort));
    let mut discovery = Discovery::new(&SEED);
    world.start(&mut discovery);
    let (to, request) = discovery.poll_transmit(START).unwrap();
    let (from, answer) = world.carry(to, &request).unwrap();

    let mut lie = [0; stun::RESPONSE_MAX];
    let Ok(Request { transaction, .. }) = Request::decode(&request) else { panic!("a request that no server takes") };
    let len = Success::new("203.0.113.9:1".parse().unwrap()).encode(&transaction, &mut lie);
    for source in ["203.0.113.9:9001", "198.18.0.1:9002", "198.18.0.2:9001"] {
        assert!(!discovery.handle_datagram(START, source.parse().unwrap(), &lie[..len]), "{source}");
    }
    let len = Success::new("203.0.113.9:1".parse().unwrap()).encode(&stun::TransactionId::new([1; 12]), &mut lie);
    assert!(!discovery.handle_datagram(START, from, &lie[..len]), "an id we never used");
    assert!(!discovery.handle_datagram(START, from, &answer[..answer.len() - 4]), "cut off");

    let mut as_ipv6 = from;
    as_ipv6.set_ip(IpAddr::V6(mapped(from.ip())));
    assert!(discovery.handle_datagram(START, as_ipv6, &answer), "a socket of both families shows it like this");
    let behavior = world.run(&mut discovery);
    assert_eq!(behavior.mapped, ["198.18.7.7:40000".parse().unwrap()]);
    assert_eq!(behavior.filtering, Some(Filtering::AddressAndPortDependent));
}

#[test]
fn no_server_sends_us_into_our_own_network() {
    let mut discovery = Discovery::new(&SEED);
    discovery.start(START, stun_port(), Some(beacon()), &[local()]);
    let mut now = START;
    let inside: SocketAddr = "192.168.1.1:53".parse().unwrap();
    while !discovery.is_done() {
        while let Some((to, request)) = discovery.poll_transmit(now) {
            assert!(to == beacon() || to == stun_port(), "a request to {to}");
            let Ok(request) = Request::decode(&request) else { panic!("a request that no server takes") };
            let mut answer = [0; stun::RESPONSE_MAX];
            let success = Success { other: Some(inside), ..Success::new(inside) };
            let len = success.encode(&request.transaction, &mut answer);
            assert!(discovery.handle_datagram(now, to, &answer[..len]));
        }
        now = discovery.poll_timeout().unwrap_or(now);
        discovery.handle_timeout(now);
    }
}

#[test]
fn filters_that_were_opened_by_the_last_discovery_are_not_tested_again_too_soon() {
    let strict = || Nat::new(Some(Independent), AddressAndPort);
    let mut world = World::new(2, strict());
    let mut discovery = Discovery::new(&SEED);
    for _ in 0..2 {
        world.start(&mut discovery);
        assert_eq!(world.run(&mut discovery).filtering, Some(Filtering::AddressAndPortDependent));
        world.now = world.now + Duration::from_secs(10);
    }

    // Another network, another NAT: all is asked anew.
    world.nat = Nat::new(Some(AddressAndPort), Independent);
    let elsewhere: SocketAddr = "10.0.0.5:4000".parse().unwrap();
    discovery.start(world.now, stun_port(), Some(beacon()), &[elsewhere]);
    let behavior = world.run(&mut discovery);
    assert_eq!(behavior.mapping, Some(Mapping::AddressAndPortDependent));
    assert_eq!(behavior.filtering, Some(Filtering::EndpointIndependent));

    // And so it is in the same network, after a while.
    world.nat = strict();
    world.now = world.now + FILTER_MEMORY;
    discovery.start(world.now, stun_port(), Some(beacon()), &[elsewhere]);
    assert_eq!(world.run(&mut discovery).filtering, Some(Filtering::AddressAndPortDependent));
}

#[test]
fn behaviour_reads_as_a_person_would_say_it() {
    for (mapping, filtering, text) in [
        (Independent, Independent, "endpoint-independent mapping, endpoint-independent filtering (full cone)"),
        (Independent, Address, "endpoint-independent mapping, address-dependent filtering (restricted cone)"),
        (
            Independent,
            AddressAndPort,
            "endpoint-independent mapping, address-and-port-dependent filtering (port-restricted cone)",
        ),
        (
            AddressAndPort,
            AddressAndPort,
            "address-and-port-dependent mapping, address-and-port-dependent filtering (symmetric)",
        ),
    ] {
        assert_eq!(World::new(2, Nat::new(Some(mapping), filtering)).discover().to_string(), text);
    }
}

proptest! {
    #[test]
    fn nothing_that_comes_in_is_fatal(
        datagrams in prop::collection::vec((any::<[u8; 4]>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..120)), 0..40),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut world = World::new(2, Nat::new(Some(Address), Address));
        let mut discovery = Discovery::new(&SEED);
        world.start(&mut discovery);
        let mut datagrams = VecDeque::from(datagrams);
        let mut requests = 0;
        while !discovery.is_done() {
            while let Some((to, request)) = discovery.poll_transmit(world.now) {
                requests += 1;
                if let Some((ip, port, datagram)) = datagrams.pop_front() {
                    prop_assert!(!discovery.handle_datagram(world.now, SocketAddr::new(ip.into(), port), &datagram));
                }
                // An answer that was damaged on the way, then nothing.
                if let Some((from, mut answer)) = world.carry(to, &request) {
                    for (index, value) in &changes {
                        let index = index.index(answer.len());
                        answer[index] = *value;
                    }
                    discovery.handle_datagram(world.now, from, &answer);
                }
            }
            world.now = discovery.poll_timeout().unwrap_or(world.now);
            discovery.handle_timeout(world.now);
        }
        prop_assert!(requests <= 24, "{requests} requests");
    }
}
