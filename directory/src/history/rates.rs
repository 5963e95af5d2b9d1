//! From counters that only grow, unless their relay starts anew, to what happens a second.

use std::time::Duration;

use serde::Serialize;

use crate::relay_source::{RelaySnapshot, ShardFigures};

/// What a relay does a second, between its last two readings.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RelayRates {
    /// Seconds since the relay began to serve.
    pub uptime_seconds: u64,
    /// Live sessions.
    pub sessions: u64,
    /// Datagrams relayed.
    pub packets_per_second: f64,
    /// Bits relayed.
    pub bits_per_second: f64,
    /// Datagrams dropped by the relay.
    pub drops_per_second: f64,
    /// One a shard.
    pub shards: Vec<ShardRates>,
    /// By reason, in the order of the relay's metrics.
    #[serde(skip)]
    pub drops: Vec<DropRate>,
}

/// What a shard does a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShardRates {
    /// Its number.
    pub shard: usize,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// Live sessions.
    pub sessions: u64,
    /// Datagrams relayed.
    pub packets_per_second: f64,
    /// Bits relayed.
    pub bits_per_second: f64,
    /// Datagrams dropped by the shard.
    pub drops_per_second: f64,
    /// Datagrams the kernel dropped before it, since the relay's start.
    pub kernel_drops: u64,
}

/// Datagrams dropped for one reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DropRate {
    /// The reason, as in the metrics.
    pub reason: &'static str,
    /// Now.
    pub per_second: f64,
    /// Since the relay's start.
    pub total: u64,
}

/// The last reading, and the rates between it and the one before.
#[derive(Debug, Default)]
pub struct Rates {
    last: Option<(Duration, RelaySnapshot)>,
    now: Option<RelayRates>,
}

impl Rates {
    /// Takes note of the counters at `at`. A reading at the same instant as the last one changes nothing.
    pub fn read(&mut self, at: Duration, snapshot: Option<&RelaySnapshot>) {
        let Some(snapshot) = snapshot else {
            *self = Self::default();
            return;
        };
        if let Some((before_at, before)) = &self.last {
            let seconds = at.saturating_sub(*before_at).as_secs_f64();
            if seconds == 0.0 {
                return;
            }
            self.now = Some(between(before, snapshot, seconds));
        }
        self.last = Some((at, snapshot.clone()));
    }

    /// The rates; `None` before the second reading.
    #[must_use]
    pub const fn now(&self) -> Option<&RelayRates> {
        self.now.as_ref()
    }
}

fn between(before: &RelaySnapshot, after: &RelaySnapshot, seconds: f64) -> RelayRates {
    let restarted = after.uptime_seconds < before.uptime_seconds;
    let shards: Vec<_> = after.shards.iter().map(|shard| shard_rates(before, shard, restarted, seconds)).collect();
    let drops = after.drops.iter().map(|drop| {
        let earlier = before.drops.iter().find(|earlier| earlier.reason == drop.reason).map(|earlier| earlier.count);
        let per_second = per_second(earlier, drop.count, restarted, seconds);
        DropRate { reason: drop.reason, per_second, total: drop.count }
    });
    RelayRates {
        uptime_seconds: after.uptime_seconds,
        sessions: shards.iter().map(|shard| shard.sessions).sum(),
        packets_per_second: shards.iter().map(|shard| shard.packets_per_second).sum(),
        bits_per_second: shards.iter().map(|shard| shard.bits_per_second).sum(),
        drops_per_second: shards.iter().map(|shard| shard.drops_per_second).sum(),
        drops: drops.collect(),
        shards,
    }
}

fn shard_rates(before: &RelaySnapshot, shard: &ShardFigures, restarted: bool, seconds: f64) -> ShardRates {
    let earlier = before.shards.iter().find(|earlier| earlier.shard == shard.shard);
    let rate = |of: fn(&ShardFigures) -> u64| per_second(earlier.map(of), of(shard), restarted, seconds);
    ShardRates {
        shard: shard.shard,
        cpu: shard.cpu,
        sessions: shard.sessions,
        packets_per_second: rate(|shard| shard.forwarded),
        bits_per_second: rate(|shard| shard.forwarded_bytes) * 8.0,
        drops_per_second: rate(|shard| shard.dropped),
        kernel_drops: shard.kernel_drops,
    }
}

/// A counter below its last value has begun again at zero, as in PromQL's `rate`. One that was not there before tells
/// nothing yet.
fn per_second(before: Option<u64>, after: u64, restarted: bool, seconds: f64) -> f64 {
    let grown = match before {
        _ if restarted => after,
        None => 0,
        Some(before) if after < before => after,
        Some(before) => after - before,
    };
    grown as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay_source::DropFigures;

    fn snapshot(uptime_seconds: u64, forwarded: &[u64], malformed: u64) -> RelaySnapshot {
        let shards = forwarded.iter().enumerate().map(|(shard, forwarded)| ShardFigures {
            shard,
            sessions: 4,
            forwarded: *forwarded,
            forwarded_bytes: forwarded * 1000,
            dropped: malformed,
            ..ShardFigures::default()
        });
        let drops = vec![DropFigures { reason: "malformed", count: malformed }];
        RelaySnapshot { uptime_seconds, shards: shards.collect(), drops }
    }

    fn rates(before: &RelaySnapshot, after: &RelaySnapshot) -> RelayRates {
        let mut rates = Rates::default();
        rates.read(Duration::from_secs(10), Some(before));
        assert_eq!(rates.now(), None, "one reading is no rate");
        rates.read(Duration::from_secs(12), Some(after));
        rates.now().unwrap().clone()
    }

    #[test]
    fn shards_add_up() {
        let rates = rates(&snapshot(5, &[100, 200], 0), &snapshot(7, &[140, 260], 6));
        assert_eq!((rates.packets_per_second, rates.bits_per_second, rates.sessions), (50.0, 400_000.0, 8));
        assert_eq!((rates.shards[1].packets_per_second, rates.drops_per_second), (30.0, 6.0));
        assert_eq!(rates.drops, [DropRate { reason: "malformed", per_second: 3.0, total: 6 }]);
    }

    #[test]
    fn a_counter_that_begins_anew_is_never_negative() {
        let smaller = rates(&snapshot(5, &[1000], 9), &snapshot(7, &[40], 2));
        assert_eq!((smaller.packets_per_second, smaller.drops[0].per_second), (20.0, 1.0));
        // A relay that started again and has already done more than before.
        let larger = rates(&snapshot(100, &[1000], 0), &snapshot(1, &[1200], 0));
        assert_eq!(larger.packets_per_second, 600.0);
    }

    #[test]
    fn a_shard_that_was_not_there_is_not_a_peak() {
        assert_eq!(rates(&snapshot(5, &[10], 0), &snapshot(7, &[20, 999_999], 0)).packets_per_second, 5.0);
    }

    #[test]
    fn the_same_instant_twice_and_a_relay_that_leaves_do_no_harm() {
        let mut rates = Rates::default();
        rates.read(Duration::from_secs(1), Some(&snapshot(0, &[1], 0)));
        rates.read(Duration::from_secs(1), Some(&snapshot(0, &[9], 0)));
        assert_eq!(rates.now(), None);
        rates.read(Duration::from_secs(2), None);
        rates.read(Duration::from_secs(3), Some(&snapshot(2, &[9], 0)));
        assert_eq!(rates.now(), None);
    }
}
