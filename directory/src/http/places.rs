//! How many may be here at once, in all and from one address. A plain value behind [`Places::enter`], which gives a place
//! that is left when it is dropped.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire::cidr::Cidr;

use crate::limits::address_unit;

/// Bounds of the places.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Places in all.
    pub total: usize,
    /// Of these, places that only the exempt get.
    pub kept: usize,
    /// Places for one address, which is a whole /64 of IPv6; the exempt have as many as there are.
    pub per_address: usize,
    /// This host: its operator, what watches it, and a reverse proxy, behind which all clients share one address.
    pub exempt: Vec<Cidr>,
}

impl Bounds {
    /// Those of an address's connections.
    #[must_use]
    pub fn connections() -> Self {
        Self { total: 512, kept: 32, per_address: 64, exempt: Cidr::loopback() }
    }

    /// Those of live viewers; one more is told to come back, and its page asks now and then instead.
    #[must_use]
    pub fn viewers() -> Self {
        Self { total: 256, kept: 0, per_address: 16, exempt: Cidr::loopback() }
    }
}

/// The places, and who is in them. Clones share them.
#[derive(Clone, Debug)]
pub struct Places {
    bounds: Arc<Bounds>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    /// Of addresses that are not exempt; an address without a place is not here.
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    /// Free places.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds: Arc::new(bounds), taken: Arc::default() }
    }

    /// A place for `ip`, if there is one.
    #[must_use]
    pub fn enter(&self, ip: IpAddr) -> Option<Place> {
        let bounds = &self.bounds;
        let is_exempt = bounds.exempt.iter().any(|range| range.contains(ip));
        let unit = (!is_exempt).then(|| address_unit(ip));
        let mut taken = lock(&self.taken);
        let total = if is_exempt { bounds.total } else { bounds.total.saturating_sub(bounds.kept) };
        let here = unit.and_then(|unit| taken.by_address.get(&unit)).copied().unwrap_or_default();
        if taken.total >= total || (unit.is_some() && here >= bounds.per_address) {
            return None;
        }
        taken.total += 1;
        unit.map(|unit| taken.by_address.insert(unit, here + 1));
        Some(Place { unit, taken: Arc::clone(&self.taken) })
    }
}

/// One of the [`Places`], free again once this is dropped.
#[derive(Debug)]
pub struct Place {
    unit: Option<IpAddr>,
    taken: Arc<Mutex<Taken>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.total -= 1;
        let Some(unit) = self.unit else { return };
        if let Some(here) = taken.by_address.get_mut(&unit) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&unit);
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn places(total: usize, kept: usize, per_address: usize) -> Places {
        Places::new(Bounds { total, kept, per_address, exempt: Cidr::loopback() })
    }

    #[test]
    fn one_address_has_its_places_and_leaves_the_others() {
        let places = places(10, 0, 2);
        let mut taken = [ip("192.0.2.1"); 2].map(|ip| places.enter(ip).unwrap()).into_iter();
        assert!(places.enter(ip("192.0.2.1")).is_none());
        assert!(places.enter(ip("::ffff:192.0.2.1")).is_none(), "the same in IPv6 dress");
        let _other = places.enter(ip("192.0.2.2")).unwrap();
        drop(taken.next());
        assert!(places.enter(ip("192.0.2.1")).is_some());
        let _v6 = ["2001:db8::1", "2001:db8::2"].map(|text| places.enter(ip(text)).unwrap());
        assert!(places.enter(ip("2001:db8::3")).is_none(), "one host has a /64");
        assert!(places.enter(ip("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn some_places_are_kept_for_this_host_which_has_no_bound_of_its_own() {
        let places = places(4, 1, 2);
        let others: Vec<_> = (1..=4).filter_map(|last| places.enter(ip(&format!("192.0.2.{last}")))).collect();
        assert_eq!(others.len(), 3);
        let mapped = places.enter(ip("::ffff:127.0.0.1")).unwrap();
        assert!(places.enter(HERE).is_none(), "four in all");
        drop((others, mapped));
        let all: Vec<_> = (0..9).filter_map(|_| places.enter(HERE)).collect();
        assert_eq!(all.len(), 4);
        drop(all);
        let taken = lock(&places.taken);
        assert_eq!((taken.total, taken.by_address.len()), (0, 0), "nothing is left behind");
    }
}
