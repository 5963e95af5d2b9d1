//! A quantity that stays constant or changes evenly over a run: `50000`, or `10000..80000`.
//!
//! As a rate, it also says when how many have passed: the inverse of its integral.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Nanoseconds in a second.
const SECOND_NS: u128 = 1_000_000_000;

/// From its value at the start of a run to its value at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Ramp {
    /// At the start.
    pub from: u64,
    /// At the end.
    pub to: u64,
}

impl Ramp {
    /// A ramp that does not rise or fall.
    #[must_use]
    pub const fn constant(value: u64) -> Self {
        Self { from: value, to: value }
    }

    /// Whether the value never changes.
    #[must_use]
    pub const fn is_constant(&self) -> bool {
        self.from == self.to
    }

    /// Its highest value.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.from.max(self.to)
    }

    /// Its lowest value.
    #[must_use]
    pub fn lowest(&self) -> u64 {
        self.from.min(self.to)
    }

    /// Its mean over the run.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.from.midpoint(self.to) as f64 + if (self.from ^ self.to) & 1 == 1 { 0.5 } else { 0.0 }
    }

    /// The value after `elapsed_ns` of `duration_ns`; after the end it is that of the end.
    #[must_use]
    pub fn at(&self, elapsed_ns: u64, duration_ns: u64) -> u64 {
        let part = |whole: u64| {
            let part = u128::from(whole) * u128::from(elapsed_ns.min(duration_ns)) / u128::from(duration_ns.max(1));
            u64::try_from(part).expect("a part of a u64")
        };
        if self.to >= self.from { self.from + part(self.to - self.from) } else { self.from - part(self.from - self.to) }
    }

    /// Taken as a rate per second over `duration_ns`: the time, in nanoseconds, at which `number` have passed. The
    /// rate must not be 0.
    #[must_use]
    pub fn time_of(&self, number: u64, duration_ns: u64) -> u64 {
        if self.is_constant() {
            let time = u128::from(number) * SECOND_NS / u128::from(self.from);
            return u64::try_from(time).expect("config bounds rate and duration");
        }
        // The time t at which a rate that began with r and grows by a a second has let n through solves
        // a/2 t² + r t = n. This form of the solution loses no digits as long as a is positive, so a falling ramp is
        // measured backwards from its end.
        let seconds = duration_ns as f64 / 1e9;
        let time = if self.to > self.from {
            time_on_rise(self.from, self.to, seconds, number as f64)
        } else {
            let left = self.mean() * seconds - number as f64;
            seconds - time_on_rise(self.to, self.from, seconds, left.max(0.0))
        };
        (time * 1e9) as u64
    }
}

/// When a rate that rises from `low` to `high` within `seconds` has let `number` through.
fn time_on_rise(low: u64, high: u64, seconds: f64, number: f64) -> f64 {
    let (low, high) = (low as f64, high as f64);
    2.0 * number / (low + (low * low + 2.0 * (high - low) / seconds * number).sqrt())
}

impl fmt::Display for Ramp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_constant() { write!(out, "{}", self.from) } else { write!(out, "{}..{}", self.from, self.to) }
    }
}

impl From<Ramp> for String {
    fn from(ramp: Ramp) -> Self {
        ramp.to_string()
    }
}

impl TryFrom<String> for Ramp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Ramp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("'{text}' is no number like 50000 and no ramp like 10000..80000");
        let number = |text: &str| text.parse::<u64>().map_err(|_| expected());
        match text.split_once("..") {
            Some((from, to)) => Ok(Self { from: number(from)?, to: number(to)? }),
            None => number(text).map(Self::constant),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ramps_are_written_as_they_are_read() {
        for text in ["5", "10..80", "80..10"] {
            assert_eq!(text.parse::<Ramp>().unwrap().to_string(), text);
        }
        for wrong in ["", "x", "-5", "1..", "..5", "1...5", "1..2..3", "1-5", "5.5"] {
            assert!(wrong.parse::<Ramp>().unwrap_err().contains("no ramp like 10000..80000"), "{wrong}");
        }
    }

    #[test]
    fn half_way_up_a_quarter_of_a_steep_ramp_has_passed() {
        let (up, second) = (Ramp { from: 1, to: 100_001 }, 1_000_000_000);
        assert!(up.time_of(12_500, second).abs_diff(second / 2) < second / 1000);
        assert_eq!(up.at(second / 2, second), 50_001);
        assert_eq!((up.at(0, second), up.at(second, second), up.at(u64::MAX, second)), (1, 100_001, 100_001));
    }

    proptest! {
        #[test]
        fn values_stay_between_the_ends(from in 1_u64..1_000_000, to in 1_u64..1_000_000, at: u64, duration: u64) {
            let ramp = Ramp { from, to };
            prop_assert!((ramp.lowest()..=ramp.highest()).contains(&ramp.at(at, duration)));
            prop_assert!(ramp.mean() >= ramp.lowest() as f64 && ramp.mean() <= ramp.highest() as f64);
        }

        /// Over any ramp, times grow, everything passes within the duration, and what has passed by any time is the
        /// area under the ramp so far.
        #[test]
        fn what_has_passed_is_the_area_so_far(
            from in 1_u64..100_000_000,
            to in 1_u64..100_000_000,
            seconds in 1_u64..604_800,
            part in 0.0_f64..1.0,
        ) {
            let (ramp, duration_ns) = (Ramp { from, to }, seconds * 1_000_000_000);
            let all = (ramp.mean() * seconds as f64) as u64;
            let number = (all as f64 * part) as u64;
            let time_ns = ramp.time_of(number, duration_ns);
            prop_assert!(time_ns <= duration_ns);
            prop_assert!(ramp.time_of(number + 1, duration_ns) > time_ns || number + 1 >= all);
            let at_s = time_ns as f64 / 1e9;
            let slope = (to as f64 - from as f64) / seconds as f64;
            let area = from as f64 * at_s + slope / 2.0 * at_s * at_s;
            prop_assert!((area - number as f64).abs() <= 2.0 + number as f64 * 1e-9, "{area} of {number}");
        }
    }
}
