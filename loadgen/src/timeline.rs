//! A run as a series of intervals: what was sent, delivered and lost in each, and how long it took. Memory is fixed by
//! the planned duration, not by the number of datagrams.
//!
//! A datagram belongs to the interval in which it was *due*, wherever it was sent or arrived, so that each interval
//! knows its own loss. What passed on the wire meanwhile is counted apart, by the time it did.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::latency::{LONGEST_NS, microseconds};

/// Intervals of the planned duration, at most.
const INTERVALS_MAX: u64 = 120;
/// The shortest interval.
const INTERVAL_NS_MIN: u64 = 10_000_000;
/// Lengths of an interval that are pleasant to read, for every power of ten.
const NICE: [u64; 3] = [1, 2, 5];
/// Intervals behind the planned end, for what is late; still later events count in the last one.
const INTERVALS_LATE: usize = 10;
/// Intervals are for looking at: 1 % is exact enough, and shorter times than this make no difference.
const SIGNIFICANT_DIGITS: u8 = 2;
const SHORTEST_NS: u64 = 1000;

/// The intervals of a run.
#[derive(Clone, Debug)]
pub struct Timeline {
    interval_ns: u64,
    slots: Vec<Slot>,
}

#[derive(Clone, Debug)]
struct Slot {
    counts: Counts,
    sent_meanwhile: u64,
    arrived_meanwhile: u64,
    latency: Histogram<u32>,
}

/// What became of the datagrams that were due in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent, whenever.
    pub sent: u64,
    /// Delivered, whenever.
    pub delivered: u64,
}

impl Timeline {
    /// A timeline for a run that is planned to last `duration_ns`.
    #[must_use]
    pub fn new(duration_ns: u64) -> Self {
        let interval_ns = interval_ns(duration_ns);
        let count = usize::try_from(duration_ns.div_ceil(interval_ns)).expect("at most INTERVALS_MAX") + INTERVALS_LATE;
        let slot =
            Slot { counts: Counts::default(), sent_meanwhile: 0, arrived_meanwhile: 0, latency: empty_latency() };
        Self { interval_ns, slots: vec![slot; count] }
    }

    /// Records that a datagram due at `due_ns` left at `now_ns`.
    pub fn record_departure(&mut self, due_ns: u64, now_ns: u64) {
        self.slot(due_ns).counts.sent += 1;
        self.slot(now_ns).sent_meanwhile += 1;
    }

    /// Takes back departures that the kernel refused at `now_ns`, where they were due, give or take a batch.
    pub fn record_refusals(&mut self, now_ns: u64, count: u64) {
        let slot = self.slot(now_ns);
        slot.counts.sent = slot.counts.sent.saturating_sub(count);
        slot.sent_meanwhile = slot.sent_meanwhile.saturating_sub(count);
    }

    /// Records that a datagram due at `due_ns` was delivered at `arrived_ns`.
    pub fn record_delivery(&mut self, due_ns: u64, arrived_ns: u64) {
        self.slot(arrived_ns).arrived_meanwhile += 1;
        let slot = self.slot(due_ns);
        slot.counts.delivered += 1;
        slot.latency.saturating_record(arrived_ns.saturating_sub(due_ns));
    }

    /// Adds another worker's timeline of the same run.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(
            (self.interval_ns, self.slots.len()),
            (other.interval_ns, other.slots.len()),
            "one plan, one timeline"
        );
        for (slot, other) in self.slots.iter_mut().zip(&other.slots) {
            slot.counts.sent += other.counts.sent;
            slot.counts.delivered += other.counts.delivered;
            slot.sent_meanwhile += other.sent_meanwhile;
            slot.arrived_meanwhile += other.arrived_meanwhile;
            slot.latency += &other.latency;
        }
    }

    /// What became of the datagrams of each interval.
    pub fn counts(&self) -> impl Iterator<Item = Counts> {
        self.slots.iter().map(|slot| slot.counts)
    }

    /// The series as a report gives it; intervals at the end in which nothing happened are left out.
    #[must_use]
    pub fn series(&self) -> Series {
        let is_used = |slot: &Slot| slot.counts.sent + slot.sent_meanwhile + slot.arrived_meanwhile > 0;
        let used = self.slots.iter().rposition(is_used).map_or(0, |last| last + 1);
        let interval_seconds = self.interval_ns as f64 / 1e9;
        let intervals = self.slots[..used].iter().zip(0_u32..).map(|(slot, index)| Interval {
            at_seconds: f64::from(index) * interval_seconds,
            sent_pps: slot.sent_meanwhile as f64 / interval_seconds,
            delivered_pps: slot.arrived_meanwhile as f64 / interval_seconds,
            due: slot.counts.sent,
            lost: slot.counts.sent.saturating_sub(slot.counts.delivered),
            latency_us: (!slot.latency.is_empty()).then(|| IntervalLatency {
                p50: microseconds(slot.latency.value_at_quantile(0.5)),
                p99: microseconds(slot.latency.value_at_quantile(0.99)),
                p99_9: microseconds(slot.latency.value_at_quantile(0.999)),
            }),
        });
        Series { interval_seconds, intervals: intervals.collect() }
    }

    fn slot(&mut self, at_ns: u64) -> &mut Slot {
        let last = self.slots.len() - 1;
        let index = usize::try_from(at_ns / self.interval_ns).unwrap_or(last);
        &mut self.slots[index.min(last)]
    }
}

/// A histogram of latencies that is small and good enough to look at.
#[must_use]
pub fn empty_latency() -> Histogram<u32> {
    Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, SIGNIFICANT_DIGITS).expect("constant bounds are valid")
}

/// Nanoseconds of one interval of a run of `duration_ns`: the shortest pleasant time of which at most 120 make it up.
#[must_use]
pub fn interval_ns(duration_ns: u64) -> u64 {
    let least = duration_ns.div_ceil(INTERVALS_MAX);
    let lengths = (0..).flat_map(|power| NICE.map(|digit| INTERVAL_NS_MIN.saturating_mul(digit * 10_u64.pow(power))));
    lengths.into_iter().find(|length| *length >= least).unwrap_or(least)
}

/// A run over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Length of each interval.
    pub interval_seconds: f64,
    /// In order, without gaps.
    pub intervals: Vec<Interval>,
}

/// One interval of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its beginning, after the start of the load.
    pub at_seconds: f64,
    /// Rate at which datagrams left in it.
    pub sent_pps: f64,
    /// Rate at which datagrams arrived in it.
    pub delivered_pps: f64,
    /// Datagrams that were due in it and sent.
    pub due: u64,
    /// Those among them that never arrived.
    pub lost: u64,
    /// How long the others took, if there were any.
    pub latency_us: Option<IntervalLatency>,
}

/// Percentiles of one interval, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntervalLatency {
    /// Half are shorter.
    pub p50: f64,
    /// 99 % are shorter.
    pub p99: f64,
    /// 99.9 % are shorter.
    pub p99_9: f64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn intervals_are_pleasant() {
        for (seconds, expected_ns) in [(0, 10_000_000), (1, 10_000_000), (2, 20_000_000), (10, 100_000_000)] {
            assert_eq!(interval_ns(seconds * SECOND_NS), expected_ns);
        }
        assert_eq!(interval_ns(604_800 * SECOND_NS), 10_000 * SECOND_NS);
    }

    #[test]
    fn loss_belongs_to_the_interval_of_the_due_time() {
        let mut timeline = Timeline::new(SECOND_NS);
        timeline.record_departure(5_000_000, 25_000_000);
        timeline.record_departure(6_000_000, 25_000_000);
        timeline.record_delivery(6_000_000, 36_000_000);
        let series = timeline.series();
        assert_eq!((series.interval_seconds, series.intervals.len()), (0.01, 4));
        let [first, _, third, fourth] = series.intervals[..] else { panic!("four intervals") };
        assert_eq!((first.due, first.lost, first.sent_pps), (2, 1, 0.0));
        assert!((first.latency_us.unwrap().p50 - 30_000.0).abs() < 300.0);
        assert_eq!((third.sent_pps, third.lost, third.latency_us), (200.0, 0, None));
        assert_eq!(fourth.delivered_pps, 100.0);
    }

    #[test]
    fn refusals_were_never_sent() {
        let mut timeline = Timeline::new(SECOND_NS);
        timeline.record_departure(0, 0);
        timeline.record_refusals(0, 1);
        assert!(timeline.series().intervals.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_forgotten_however_late(
            duration_ns in 1..100 * SECOND_NS,
            datagrams in prop::collection::vec((0..u64::MAX / 2, 0..u64::MAX / 2, any::<bool>()), 0..100),
        ) {
            let mut timeline = Timeline::new(duration_ns);
            prop_assert!(timeline.slots.len() <= INTERVALS_MAX as usize + INTERVALS_LATE);
            for (due_ns, late_ns, is_delivered) in &datagrams {
                timeline.record_departure(*due_ns, due_ns + late_ns);
                if *is_delivered {
                    timeline.record_delivery(*due_ns, due_ns + late_ns);
                }
            }
            let mut both = timeline.clone();
            both.add(&timeline);
            let lost = 2 * datagrams.iter().filter(|(_, _, is_delivered)| !is_delivered).count() as u64;
            let intervals = both.series().intervals;
            prop_assert_eq!(intervals.iter().map(|interval| interval.due).sum::<u64>(), 2 * datagrams.len() as u64);
            prop_assert_eq!(intervals.iter().map(|interval| interval.lost).sum::<u64>(), lost);
        }
    }
}
