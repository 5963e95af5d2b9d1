//! A link in one direction: a queue before a bottleneck, then a delay, with faults drawn from a seed.

use std::time::Duration;

use agent::Time;

/// Bytes around a segment on the wire: headers of packet, tunnel, UDP and IPv4.
pub const OVERHEAD_BYTES: usize = 34 + 36 + 28;

/// A small generator of chance (SplitMix64), the same for the same seed.
#[derive(Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True this often in a thousand.
    pub fn per_mille(&mut self, often: u64) -> bool {
        self.below(1000) < often
    }
}

/// What a link does to what it carries.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub bits_per_second: u64,
    pub delay: Duration,
    pub queue_bytes: u64,
    pub lost_per_mille: u64,
    pub duplicated_per_mille: u64,
    /// These take up to `reordering` longer.
    pub reordered_per_mille: u64,
    pub reordering: Duration,
}

impl Conditions {
    /// A link without faults, with a queue of one bandwidth-delay product of a round trip.
    pub const fn clean(bits_per_second: u64, delay: Duration) -> Self {
        Self {
            bits_per_second,
            delay,
            queue_bytes: bits_per_second / 8 * delay.as_millis() as u64 * 2 / 1000,
            lost_per_mille: 0,
            duplicated_per_mille: 0,
            reordered_per_mille: 0,
            reordering: Duration::ZERO,
        }
    }
}

/// The link and what is in its queue.
pub struct Link {
    pub conditions: Conditions,
    chance: Chance,
    /// When the bottleneck has sent all that is queued.
    free_at: Time,
    pub carried_bytes: u64,
    pub overflowed: u64,
}

impl Link {
    pub const fn new(conditions: Conditions, seed: u64) -> Self {
        Self { conditions, chance: Chance(seed), free_at: Time(0), carried_bytes: 0, overflowed: 0 }
    }

    /// The times at which a datagram with so much payload arrives: none, one or two.
    pub fn carry(&mut self, now: Time, payload_bytes: usize) -> Vec<Time> {
        let Conditions { bits_per_second, delay, queue_bytes, .. } = self.conditions;
        let bytes = (payload_bytes + OVERHEAD_BYTES) as u64;
        let nanoseconds = |bytes: u64| Duration::from_nanos(bytes * 8 * 1_000_000_000 / bits_per_second);
        if self.free_at.since(now) > nanoseconds(queue_bytes) {
            self.overflowed += 1;
            return Vec::new();
        }
        self.free_at = self.free_at.max(now) + nanoseconds(bytes);
        self.carried_bytes += bytes;
        if self.chance.per_mille(self.conditions.lost_per_mille) {
            return Vec::new();
        }
        let copies = 1 + usize::from(self.chance.per_mille(self.conditions.duplicated_per_mille));
        (0..copies).map(|_| self.free_at + delay + self.reordering()).collect()
    }

    fn reordering(&mut self) -> Duration {
        let longest = self.conditions.reordering.as_nanos() as u64;
        if longest > 0 && self.chance.per_mille(self.conditions.reordered_per_mille) {
            Duration::from_nanos(self.chance.below(longest))
        } else {
            Duration::ZERO
        }
    }
}
