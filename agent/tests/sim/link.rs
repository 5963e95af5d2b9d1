//! A link in one direction: a queue before a bottleneck, then a delay, with faults drawn from a seed.

use std::time::Duration;

use agent::Time;

use crate::chance::Chance;

/// Bytes of UDP and IPv4 around a payload.
const HEADERS: usize = 28;

/// What a link does to what it carries.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub delay: Duration,
    /// Added at random; does not reorder by itself.
    pub jitter: Duration,
    pub lost_per_mille: u64,
    pub duplicated_per_mille: u64,
    /// These take up to `reordering` longer, and others overtake them.
    pub reordered_per_mille: u64,
    pub reordering: Duration,
    pub bits_per_second: u64,
    pub queue_bytes: u64,
    /// What is longer, headers included, is dropped.
    pub mtu: usize,
}

impl Conditions {
    /// A link without faults.
    pub const fn clean(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            lost_per_mille: 0,
            duplicated_per_mille: 0,
            reordered_per_mille: 0,
            reordering: Duration::ZERO,
            bits_per_second: 50_000_000,
            queue_bytes: 400_000,
            mtu: 1500,
        }
    }
}

/// What became of datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub overflowed: u64,
    pub too_long: u64,
    /// At a NAT: no mapping, or a filter.
    pub filtered: u64,
    /// Nobody was there, or the way was cut.
    pub undeliverable: u64,
}

impl Faults {
    pub fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.overflowed += other.overflowed;
        self.too_long += other.too_long;
        self.filtered += other.filtered;
        self.undeliverable += other.undeliverable;
    }

    pub const fn total(&self) -> u64 {
        let Self { lost, duplicated, reordered, overflowed, too_long, filtered, undeliverable } = *self;
        lost + duplicated + reordered + overflowed + too_long + filtered + undeliverable
    }
}

/// The link and what is in its queue.
#[derive(Debug)]
pub struct Link {
    pub conditions: Conditions,
    pub faults: Faults,
    chance: Chance,
    /// When the bottleneck has sent all that is queued.
    free_at: Time,
    /// The latest arrival of what keeps its order.
    last_arrival: Time,
}

impl Link {
    pub fn new(conditions: Conditions, chance: Chance) -> Self {
        Self { conditions, faults: Faults::default(), chance, free_at: Time(0), last_arrival: Time(0) }
    }

    /// The times at which a datagram of `payload` bytes arrives: none, one or two.
    pub fn carry(&mut self, now: Time, payload: usize) -> [Option<Time>; 2] {
        let Conditions { bits_per_second, queue_bytes, mtu, .. } = self.conditions;
        let bytes = payload + HEADERS;
        let sending = |bytes: u64| Duration::from_nanos(bytes * 8 * 1_000_000_000 / bits_per_second);
        if bytes > mtu {
            self.faults.too_long += 1;
            return [None; 2];
        }
        if self.free_at.since(now) > sending(queue_bytes) {
            self.faults.overflowed += 1;
            return [None; 2];
        }
        self.free_at = self.free_at.max(now) + sending(bytes as u64);
        if self.chance.per_mille(self.conditions.lost_per_mille) {
            self.faults.lost += 1;
            return [None; 2];
        }
        let first = self.arrival();
        let second = self.chance.per_mille(self.conditions.duplicated_per_mille).then(|| {
            self.faults.duplicated += 1;
            self.arrival()
        });
        [Some(first), second]
    }

    fn arrival(&mut self) -> Time {
        let Conditions { delay, jitter, reordered_per_mille, reordering, .. } = self.conditions;
        let arrival = self.free_at + delay + self.chance.up_to(jitter);
        if self.chance.per_mille(reordered_per_mille) {
            self.faults.reordered += 1;
            return arrival + self.chance.up_to(reordering);
        }
        self.last_arrival = self.last_arrival.max(arrival);
        self.last_arrival
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time(1_000_000_000);

    fn link(change: impl FnOnce(&mut Conditions)) -> Link {
        let mut conditions = Conditions::clean(Duration::from_millis(10));
        change(&mut conditions);
        Link::new(conditions, Chance::new(1))
    }

    fn arrivals(link: &mut Link, count: u64) -> Vec<Time> {
        (0..count).flat_map(|i| link.carry(START + Duration::from_millis(i), 100)).flatten().collect()
    }

    #[test]
    fn a_clean_link_delays_and_keeps_the_order() {
        let mut link = link(|c| c.jitter = Duration::from_millis(30));
        let arrivals = arrivals(&mut link, 500);
        assert_eq!(arrivals.len(), 500);
        assert!(arrivals.is_sorted());
        assert!(arrivals[0].since(START) >= Duration::from_millis(10));
        assert_eq!(link.faults, Faults::default());
    }

    #[test]
    fn faults_come_as_often_as_told() {
        let mut link = link(|c| {
            (c.lost_per_mille, c.duplicated_per_mille, c.reordered_per_mille) = (100, 50, 50);
            c.reordering = Duration::from_millis(20);
        });
        let arrivals = arrivals(&mut link, 10_000);
        let Faults { lost, duplicated, reordered, .. } = link.faults;
        assert!((800..1200).contains(&lost) && (350..550).contains(&duplicated) && (350..600).contains(&reordered));
        assert_eq!(arrivals.len() as u64, 10_000 - lost + duplicated);
        assert!(!arrivals.is_sorted());
    }

    #[test]
    fn what_is_too_long_or_too_much_is_dropped() {
        let mut link = link(|c| (c.mtu, c.bits_per_second, c.queue_bytes) = (1280, 8_000_000, 10_000));
        assert_eq!(link.carry(START, 1253), [None; 2]);
        assert!(link.carry(START, 1252)[0].is_some());
        let passed = (0..100).filter(|_| link.carry(START, 972)[0].is_some()).count();
        assert!((9..=11).contains(&passed), "{passed} kilobytes in a queue of ten");
        assert_eq!(link.faults.too_long, 1);
        assert_eq!(link.faults.overflowed, 100 - passed as u64);
    }
}
