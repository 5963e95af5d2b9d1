//! Times of many datagrams in a histogram of fixed size: recorded without allocating, merged at the end.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest time that is told apart; longer ones count as this, and are counted.
pub const LONGEST_NS: u64 = 60_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// Points of a [`Curve`] for every factor of ten towards 100 %.
const CURVE_POINTS_PER_NINE: i32 = 8;

/// A histogram of times, from 1 ns to [`LONGEST_NS`], exact to three digits.
#[derive(Clone, Debug)]
pub struct Times {
    histogram: Histogram<u64>,
    beyond: u64,
}

impl Times {
    /// Records one time.
    pub fn record(&mut self, time_ns: u64) {
        self.beyond += u64::from(time_ns > LONGEST_NS);
        self.histogram.saturating_record(time_ns.min(LONGEST_NS));
    }

    /// Adds what another histogram holds.
    pub fn add(&mut self, other: &Self) {
        self.histogram += &other.histogram;
        self.beyond += other.beyond;
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// How many of them were longer than [`LONGEST_NS`].
    #[must_use]
    pub const fn beyond(&self) -> u64 {
        self.beyond
    }

    /// The percentiles that a report gives.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            p50: self.at(0.5),
            p90: self.at(0.9),
            p99: self.at(0.99),
            p99_9: self.at(0.999),
            max: microseconds(self.histogram.max()),
        }
    }

    /// The whole distribution, from the shortest time to the last percentile that more than one datagram stands for.
    #[must_use]
    pub fn curve(&self) -> Curve {
        let points = (0..).map(|step| 10_f64.powf(-f64::from(step) / f64::from(CURVE_POINTS_PER_NINE)));
        points
            .take_while(|above| above * self.count() as f64 >= 1.0)
            .map(|above| CurvePoint { percentile: (1.0 - above) * 100.0, us: self.at(1.0 - above) })
            .collect()
    }

    fn at(&self, quantile: f64) -> f64 {
        microseconds(self.histogram.value_at_quantile(quantile))
    }
}

impl Default for Times {
    fn default() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS).expect("constant bounds are valid");
        Self { histogram, beyond: 0 }
    }
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half are shorter.
    pub p50: f64,
    /// 90 % are shorter.
    pub p90: f64,
    /// 99 % are shorter.
    pub p99: f64,
    /// 99.9 % are shorter.
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p90, p99, p99_9, max } = self;
        write!(out, "p50 {p50:.0} µs  p90 {p90:.0} µs  p99 {p99:.0} µs  p99.9 {p99_9:.0} µs  max {max:.0} µs")
    }
}

/// A distribution, by rising percentile.
pub type Curve = Vec<CurvePoint>;

/// One point of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// So many of a hundred are not longer.
    pub percentile: f64,
    /// Than this, in microseconds.
    pub us: f64,
}

pub(crate) fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_are_exact_to_three_digits() {
        let mut times = Times::default();
        for latency in 1..=1000 {
            times.record(latency * 1000);
        }
        let Percentiles { p50, p90, p99, p99_9, max } = times.percentiles();
        for (percentile, expected) in [(p50, 500.0), (p90, 900.0), (p99, 990.0), (p99_9, 999.0), (max, 1000.0)] {
            assert!((percentile - expected).abs() < 1.0, "{percentile} is not {expected}");
        }
    }

    #[test]
    fn what_is_too_long_is_clamped_and_counted() {
        let mut times = Times::default();
        times.record(61_000_000_000);
        times.record(60_000_000_000);
        let mut sum = times.clone();
        sum.add(&times);
        assert_eq!((sum.count(), sum.beyond()), (4, 2));
        assert!((sum.percentiles().max - 60e6).abs() < 60e6 / 1000.0);
    }

    #[test]
    fn nothing_has_no_curve() {
        assert!(Times::default().curve().is_empty());
    }

    proptest! {
        #[test]
        fn a_curve_rises(times in prop::collection::vec(0_u64..70_000_000_000, 1..300)) {
            let mut recorded = Times::default();
            times.iter().for_each(|time| recorded.record(*time));
            let curve = recorded.curve();
            prop_assert_eq!(curve[0].percentile, 0.0);
            for pair in curve.windows(2) {
                prop_assert!(pair[0].percentile < pair[1].percentile && pair[0].us <= pair[1].us);
            }
        }
    }
}
