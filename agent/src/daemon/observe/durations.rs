//! Durations by size, as a collector of metrics wants them.

use std::time::Duration;

/// Upper bounds, in seconds.
pub const BOUNDS_SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// How many were how long.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// Those up to each bound, and not up to the one before; the last are longer than all.
    counts: [u64; BOUNDS_SECONDS.len() + 1],
    sum: Duration,
}

impl Durations {
    /// Counts one.
    pub fn note(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = BOUNDS_SECONDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS_SECONDS.len());
        self.counts[at] += 1;
        self.sum += duration;
    }

    /// Those up to each bound, the longest bound last.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        BOUNDS_SECONDS.iter().zip(&self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((*bound, *sum))
        })
    }

    /// All of them.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_under_its_bound_and_all_longer_ones() {
        let mut durations = Durations::default();
        for milliseconds in [5, 6, 99, 400, 60_000] {
            durations.note(Duration::from_millis(milliseconds));
        }
        let cumulative: Vec<_> = durations.cumulative().map(|(_, count)| count).collect();
        assert_eq!(cumulative, [1, 2, 2, 2, 3, 3, 4, 4, 4, 4, 4, 4]);
        assert_eq!((durations.count(), durations.sum()), (5, Duration::from_millis(60_510)));
    }
}
