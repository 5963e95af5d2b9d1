//! Trains: within a batch, datagrams to one destination and of one size leave as one send (UDP segmentation offload).
//!
//! ```text
//! batch      a1 b1 a2 c1 a3' b2 a4        (a3' is shorter)
//! trains     [a1 a2 a3'] [b1 b2] [c1] [a4]
//! ```
//!
//! A train's datagrams are of one size, the last may be shorter and then closes it; a larger one, another size, or a
//! full train begins the destination's next. Trains leave in the order they began, and only a destination's newest
//! takes datagrams, so the order per destination is kept.

use std::ops::Range;

use crate::endpoint::Path;

/// Datagrams in one train (the kernel's `UDP_MAX_SEGMENTS` is at least this).
pub const CARS_MAX: usize = 64;
/// Bytes in one train, below the 65 535 of a UDP send.
pub const TRAIN_BYTES_MAX: usize = 65_000;
const NONE: u32 = u32::MAX;

/// Where a datagram's bytes lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Car<R> {
    /// Which memory: the driver's affair.
    pub region: R,
    /// Which bytes of it.
    pub bytes: Range<usize>,
}

/// Datagrams that leave together.
#[derive(Clone, Debug)]
pub struct Train {
    /// To whom, and from which local address.
    pub to: Path,
    /// Bytes of every datagram but the last.
    pub segment: usize,
    /// How many datagrams.
    pub cars: usize,
    bytes: usize,
    first: u32,
    last: u32,
    open: bool,
}

#[derive(Clone, Debug)]
struct Link<R> {
    car: Car<R>,
    next: u32,
}

/// The trains of one batch. All memory is allocated once.
#[derive(Debug)]
pub struct Trains<R> {
    trains: Vec<Train>,
    links: Vec<Link<R>>,
    /// Destination to its newest train: open addressing, entries of earlier batches are told by their stamp.
    newest: Box<[Entry]>,
    stamp: u32,
    links_max: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    stamp: u32,
    train: u32,
}

impl<R> Trains<R> {
    /// Room for `datagrams_max` datagrams a batch.
    #[must_use]
    pub fn new(datagrams_max: usize) -> Self {
        let entries = (datagrams_max * 2).next_power_of_two();
        Self {
            trains: Vec::with_capacity(datagrams_max),
            links: Vec::with_capacity(datagrams_max),
            newest: vec![Entry::default(); entries].into_boxed_slice(),
            stamp: 1,
            links_max: datagrams_max,
        }
    }

    /// Datagrams that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.links_max - self.links.len()
    }

    /// Forgets the batch.
    pub fn clear(&mut self) {
        self.trains.clear();
        self.links.clear();
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.newest.fill(Entry::default());
            self.stamp = 1;
        }
    }

    /// Appends a datagram to `to`. `single` keeps it out of any train, as what must be fragmented needs.
    ///
    /// # Panics
    /// Without [`Self::room`].
    pub fn add(&mut self, to: Path, car: Car<R>, single: bool) {
        assert!(self.room() > 0, "the driver checks the room before it decides on a datagram");
        let link = self.links.len() as u32;
        let size = car.bytes.len();
        self.links.push(Link { car, next: NONE });
        let slot = self.find(&to);
        let entry = self.newest[slot];
        if entry.stamp == self.stamp && !single {
            let train = &mut self.trains[entry.train as usize];
            if train.takes(size) {
                self.links[train.last as usize].next = link;
                train.last = link;
                train.cars += 1;
                train.bytes += size;
                train.open = size == train.segment;
                return;
            }
        }
        self.newest[slot] = Entry { stamp: self.stamp, train: self.trains.len() as u32 };
        let open = !single && size > 0;
        self.trains.push(Train { to, segment: size, cars: 1, bytes: size, first: link, last: link, open });
    }

    /// The trains in the order they leave.
    #[must_use]
    pub fn trains(&self) -> &[Train] {
        &self.trains
    }

    /// The datagrams of one train in order.
    pub fn cars(&self, train: &Train) -> impl Iterator<Item = &Car<R>> {
        let mut next = train.first;
        std::iter::from_fn(move || {
            let link = self.links.get(next as usize)?;
            next = link.next;
            Some(&link.car)
        })
    }

    fn find(&self, to: &Path) -> usize {
        let mask = self.newest.len() - 1;
        let mut slot = (to.remote.digest() ^ u64::from(to.local.0)) as usize & mask;
        loop {
            let Entry { stamp, train } = self.newest[slot];
            if stamp != self.stamp || self.trains[train as usize].to == *to {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }
}

impl Train {
    fn takes(&self, size: usize) -> bool {
        self.open && size > 0 && size <= self.segment && self.cars < CARS_MAX && self.bytes + size <= TRAIN_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::LocalId;

    fn path(destination: u16) -> Path {
        let remote = std::net::SocketAddr::from(([198, 18, 0, 1], destination)).into();
        Path { remote, local: LocalId(0) }
    }

    fn sizes(trains: &Trains<u32>) -> Vec<(u16, Vec<usize>)> {
        let lens = |train: &Train| trains.cars(train).map(|car| car.bytes.len()).collect();
        trains.trains().iter().map(|train| (train.to.remote.port, lens(train))).collect()
    }

    #[test]
    fn equal_sizes_ride_together_and_a_shorter_one_closes() {
        let mut trains = Trains::new(16);
        for (region, (to, len)) in [(1, 9), (2, 9), (1, 9), (3, 9), (1, 5), (2, 9), (1, 9)].into_iter().enumerate() {
            trains.add(path(to), Car { region: region as u32, bytes: 0..len }, false);
        }
        assert_eq!(sizes(&trains), [(1, vec![9, 9, 5]), (2, vec![9, 9]), (3, vec![9]), (1, vec![9])]);
        trains.clear();
        trains.add(path(1), Car { region: 0, bytes: 0..9 }, true);
        trains.add(path(1), Car { region: 1, bytes: 0..9 }, false);
        assert_eq!(sizes(&trains), [(1, vec![9]), (1, vec![9])]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_order_per_destination_is_kept(
            batch in prop::collection::vec((0u16..6, prop_oneof![Just(0usize), Just(40), Just(1200), 0usize..9000], any::<bool>()), 0..600)
        ) {
            let mut trains = Trains::new(600);
            let mut expected: HashMap<u16, Vec<u32>> = HashMap::new();
            for (region, (to, len, single)) in batch.iter().enumerate() {
                trains.add(path(*to), Car { region: region as u32, bytes: 0..*len }, *single);
                expected.entry(*to).or_default().push(region as u32);
            }
            let mut got: HashMap<u16, Vec<u32>> = HashMap::new();
            for train in trains.trains() {
                let cars: Vec<_> = trains.cars(train).cloned().collect();
                prop_assert_eq!(cars.len(), train.cars);
                prop_assert!(cars.len() <= CARS_MAX);
                if cars.len() > 1 {
                    prop_assert!(cars.iter().map(|car| car.bytes.len()).sum::<usize>() <= TRAIN_BYTES_MAX);
                }
                let (last, rest) = cars.split_last().unwrap();
                prop_assert!(rest.iter().all(|car| car.bytes.len() == train.segment));
                prop_assert!(last.bytes.len() <= train.segment);
                got.entry(train.to.remote.port).or_default().extend(cars.iter().map(|car| car.region));
            }
            prop_assert_eq!(got, expected);
        }
    }
}
