//! What all addresses together may ask for, so that nobody's requests keep the directory from those of its nodes, from however
//! many addresses they come. A plain value.
//!
//! An address is *known* for an hour after a node that belongs has signed there, and where the stored facts place one for the
//! first hour. A node makes few addresses known at once, and none once it does not belong any more. Each known address
//! has a few requests a second of its own, as far as a rate for these of all reaches; beyond, the known share one rate,
//! and all others together have another, smaller one. What is above a shared rate waits for its turn, and is refused where
//! that is too far off. So the three rates bound what is served, however many addresses are known.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use wire::NodeId;

use super::{AddressRates, Rate, address_unit};
use crate::relay_link::PROVEN_MAX;

/// Requests a second of each known address before it needs what is shared: heartbeats and look-ups of a few nodes.
pub const OWN_PER_SECOND: u32 = 20;
/// The part of what the known share that there is on top for what they have of their own.
const OWN_PART: u32 = 2;
/// The longest that a request waits for its turn.
pub const WAIT_MAX: Duration = Duration::from_secs(2);
/// What a TLS handshake counts: some 200 µs of work, about as much as that many requests.
pub const HANDSHAKE_REQUESTS: u32 = 5;
/// How long an address is known without a sign of its nodes, which give one a minute.
pub const KNOWN_FOR: Duration = Duration::from_secs(3600);
/// Addresses that one node makes known: as many as the relay takes for its own.
pub const KNOWN_PER_NODE_MAX: usize = PROVEN_MAX;
/// Known addresses remembered, each once for every node there, some 30 MB.
pub const KNOWN_MAX: usize = 1 << 18;

/// What is to be done with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To be served after so long; zero is now.
    Serve(Duration),
    /// Too many others wait.
    Refuse,
}

/// The rates of all addresses together.
#[derive(Debug)]
pub struct Overall {
    known: KnownAddresses,
    own: AddressRates,
    /// What all take of their own.
    own_of_all: Shared,
    shared: Shared,
    strangers: Shared,
}

impl Overall {
    /// So many requests a second of strangers, and of known addresses beyond their own; these are half as many, and what one
    /// address has.
    #[must_use]
    pub fn new(strangers_per_second: u32, known_per_second: u32) -> Self {
        Self {
            known: KnownAddresses::default(),
            own: AddressRates::new(Rate::new(OWN_PER_SECOND, Duration::from_secs(1))),
            own_of_all: Shared::new(known_per_second / OWN_PART + OWN_PER_SECOND),
            shared: Shared::new(known_per_second),
            strangers: Shared::new(strangers_per_second),
        }
    }

    /// `node`, which belongs, is at `ip`.
    pub fn know(&mut self, now: Duration, node: NodeId, ip: IpAddr) {
        self.known.add(now, node, address_unit(ip));
    }

    /// `node` does not belong any more.
    pub fn forget(&mut self, node: NodeId) {
        self.known.remove(node);
    }

    /// Whether a node that belongs was heard at `ip` lately.
    #[must_use]
    pub fn knows(&self, now: Duration, ip: IpAddr) -> bool {
        let place = self.known.units.get(&address_unit(ip));
        place.is_some_and(|place| now.saturating_sub(place.heard) < KNOWN_FOR)
    }

    /// Takes `count` requests of `ip` from the rates they count against. What is refused counts for nothing.
    pub fn admit(&mut self, now: Duration, ip: IpAddr, count: u32) -> Verdict {
        if !self.knows(now, ip) {
            return self.strangers.take(now, count);
        }
        let own = self.own_of_all.left(now, self.own.left(now, ip, count));
        let verdict = match count - own {
            0 => Verdict::Serve(Duration::ZERO),
            rest => self.shared.take(now, rest),
        };
        if verdict != Verdict::Refuse && own > 0 {
            self.own.take_all(now, ip, own);
            self.own_of_all.take(now, own);
        }
        verdict
    }
}

/// Where nodes that belong were heard.
#[derive(Debug, Default)]
struct KnownAddresses {
    units: HashMap<IpAddr, Place>,
    /// Those of each node, the one heard last at the end.
    by_node: HashMap<NodeId, VecDeque<(IpAddr, Duration)>>,
    /// Addresses in `by_node`.
    count: usize,
}

#[derive(Debug)]
struct Place {
    /// When a node was heard there last.
    heard: Duration,
    /// How many make it known.
    nodes: u32,
}

impl KnownAddresses {
    fn add(&mut self, now: Duration, node: NodeId, unit: IpAddr) {
        let own = self.by_node.entry(node).or_default();
        let before = own.iter().position(|(at, _)| *at == unit);
        let gone = match before {
            Some(index) => own.remove(index).map(|_| unit),
            None if own.len() >= KNOWN_PER_NODE_MAX => own.pop_front().map(|(oldest, _)| oldest),
            None => None,
        };
        own.push_back((unit, now));
        match gone {
            Some(gone) if gone != unit => self.leave(gone),
            Some(_) => {}
            None => self.count += 1,
        }
        let place = self.units.entry(unit).or_insert(Place { heard: now, nodes: 0 });
        place.heard = now;
        place.nodes += u32::from(before.is_none());
        if self.count > KNOWN_MAX {
            self.make_room();
        }
    }

    fn remove(&mut self, node: NodeId) {
        let own = self.by_node.remove(&node).unwrap_or_default();
        self.count -= own.len();
        own.into_iter().for_each(|(unit, _)| self.leave(unit));
    }

    /// One node less makes `unit` known.
    fn leave(&mut self, unit: IpAddr) {
        if let Some(place) = self.units.get_mut(&unit) {
            place.nodes -= 1;
            if place.nodes == 0 {
                self.units.remove(&unit);
            }
        }
    }

    /// Forgets those heard longest ago, an eighth, so that this is not done again for each newcomer.
    fn make_room(&mut self) {
        let mut heard: Vec<Duration> = self.by_node.values().flatten().map(|(_, heard)| *heard).collect();
        let (_, bound, _) = heard.select_nth_unstable(KNOWN_MAX / 8);
        let bound = *bound;
        let mut gone = Vec::with_capacity(KNOWN_MAX / 8);
        self.by_node.retain(|_, own| {
            own.retain(|(unit, heard)| {
                let goes = *heard <= bound && gone.len() < KNOWN_MAX / 8;
                gone.extend(goes.then_some(*unit));
                !goes
            });
            !own.is_empty()
        });
        self.count -= gone.len();
        gone.into_iter().for_each(|unit| self.leave(unit));
    }
}

/// One rate for many.
#[derive(Debug)]
struct Shared {
    rate: Rate,
    used_until: Duration,
}

impl Shared {
    fn new(per_second: u32) -> Self {
        Self { rate: Rate::new(per_second, Duration::from_secs(1)), used_until: Duration::ZERO }
    }

    /// How many can be had at once, up to `count`.
    fn left(&self, now: Duration, count: u32) -> u32 {
        self.rate.left(self.used_until, now, count)
    }

    fn take(&mut self, now: Duration, count: u32) -> Verdict {
        let next = self.rate.advance(self.used_until, now, count);
        let delay = next.saturating_sub(now).saturating_sub(self.rate.burst);
        if delay > WAIT_MAX {
            return Verdict::Refuse;
        }
        self.used_until = next;
        Verdict::Serve(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Verdict = Verdict::Serve(Duration::ZERO);

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn strangers_of_any_number_have_one_rate_and_take_nothing_from_the_known() {
        let mut overall = Overall::new(100, 1000);
        let home = address(1);
        overall.know(SECOND, NodeId(1), home);
        let served = (0..10_000).filter(|index| overall.admit(SECOND, address(1000 + index), 1) != Verdict::Refuse);
        assert_eq!(served.count(), 300, "one second's at once, two seconds' later");
        assert!((0..OWN_PER_SECOND).all(|_| overall.admit(SECOND, home, 1) == NOW));
        assert_eq!(overall.admit(SECOND, home, 1000), NOW, "what the known share");
        assert_eq!(overall.admit(SECOND, address(5), 1), Verdict::Refuse);
        assert_ne!(overall.admit(SECOND * 2, address(5), 1), Verdict::Refuse, "later there is room again");
    }

    #[test]
    fn one_that_is_known_cannot_use_up_what_another_has_of_its_own() {
        let mut overall = Overall::new(10, 100);
        let (greedy, calm) = (address(1), address(2));
        (1..).zip([greedy, calm]).for_each(|(node, ip)| overall.know(SECOND, NodeId(node), ip));
        while overall.admit(SECOND, greedy, 1) != Verdict::Refuse {}
        assert!((0..OWN_PER_SECOND).all(|_| overall.admit(SECOND, calm, 1) == NOW));
        assert_eq!(overall.admit(SECOND, calm, 1), Verdict::Refuse);
    }

    #[test]
    fn hosts_are_known_by_their_64_and_the_memory_of_them_is_bounded() {
        let mut overall = Overall::new(1, 1);
        overall.know(SECOND, NodeId(7), "2001:db8::1".parse().unwrap());
        let knows = |overall: &Overall, now, ip: &str| overall.knows(now, ip.parse().unwrap());
        assert!(knows(&overall, SECOND, "2001:db8::2") && !knows(&overall, SECOND, "2001:db8:0:1::1"));
        assert!(!knows(&overall, SECOND + KNOWN_FOR, "2001:db8::1"), "its node has gone, or was banned");
        for index in 0..u32::try_from(KNOWN_MAX * 2).unwrap() {
            // Two behind each address, as many a one is behind a NAT.
            overall.know(SECOND + Duration::from_nanos(index.into()), NodeId(index + 1), address(index / 2));
            assert!(overall.known.count <= KNOWN_MAX && overall.known.units.len() <= KNOWN_MAX);
        }
        assert_eq!(overall.known.count, overall.known.by_node.values().map(VecDeque::len).sum::<usize>());
        let nodes = |place: &Place| place.nodes as usize;
        assert_eq!(overall.known.count, overall.known.units.values().map(nodes).sum::<usize>());
        assert!(overall.knows(SECOND, address(u32::try_from(KNOWN_MAX - 1).unwrap())), "the latest stay");
    }

    #[test]
    fn a_node_makes_few_addresses_known_and_none_once_it_is_gone() {
        let mut overall = Overall::new(10, 100);
        let (node, neighbour) = (NodeId(1), NodeId(2));
        let known = |overall: &Overall| (0..100).filter(|number| overall.knows(SECOND, address(*number))).count();
        (0..100).for_each(|number| overall.know(SECOND, node, address(number)));
        assert_eq!(known(&overall), KNOWN_PER_NODE_MAX);
        overall.know(SECOND, node, address(96));
        overall.know(SECOND, node, address(0));
        assert!(
            overall.knows(SECOND, address(96)) && !overall.knows(SECOND, address(97)),
            "the one heard longest ago goes"
        );

        overall.know(SECOND, neighbour, address(96));
        overall.know(SECOND, neighbour, address(96));
        overall.forget(node);
        assert_eq!(known(&overall), 1);
        assert!(overall.knows(SECOND, address(96)), "another is there");
        overall.forget(neighbour);
        overall.forget(neighbour);
        assert_eq!((known(&overall), overall.known.count, overall.known.by_node.len()), (0, 0, 0));
    }

    #[test]
    fn however_many_addresses_are_known_the_rates_bound_what_is_served() {
        let mut overall = Overall::new(10, 1000);
        (0..10_000).for_each(|number| overall.know(SECOND, NodeId(number + 1), address(number)));
        let mut served = 0;
        for number in (0..OWN_PER_SECOND).flat_map(|_| 0..10_000) {
            served += u32::from(overall.admit(SECOND, address(number), 1) != Verdict::Refuse);
        }
        assert_eq!(
            served,
            1000 / OWN_PART + OWN_PER_SECOND + 1000 * 3,
            "one second's at once, two seconds' of the shared later"
        );
    }

    #[test]
    fn what_is_refused_counts_for_nothing() {
        let mut overall = Overall::new(10, 100);
        let (greedy, calm) = (address(1), address(2));
        (1..).zip([greedy, calm]).for_each(|(node, ip)| overall.know(SECOND, NodeId(node), ip));
        while overall.admit(SECOND, greedy, 1) != Verdict::Refuse {}
        assert_eq!(overall.admit(SECOND, calm, OWN_PER_SECOND - 3), NOW);
        assert_eq!(overall.admit(SECOND, calm, 5), Verdict::Refuse, "two too many");
        assert!((0..3).all(|_| overall.admit(SECOND, calm, 1) == NOW), "the three are still its own");
        assert_eq!(overall.admit(SECOND, calm, 1), Verdict::Refuse);
    }
}
