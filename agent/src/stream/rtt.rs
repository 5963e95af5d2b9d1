//! Round-trip times, and the retransmission timeout that follows from them (RFC 6298).

use std::time::Duration;

use crate::Time;

/// The first timeout, before any round trip was measured.
pub(super) const TIMEOUT_INITIAL: Duration = Duration::from_millis(250);
const TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// Bounds the timeout, also one that was backed off.
const TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// How exact the timers of a driver are taken to be (G of RFC 6298).
const GRANULARITY: Duration = Duration::from_millis(1);
/// A minimum older than this may belong to another path.
const MINIMUM_LIFETIME: Duration = Duration::from_secs(10);

/// Smoothed round-trip time, its variation and its minimum.
#[derive(Clone, Debug, Default)]
pub(super) struct RttEstimator {
    smoothed: Option<Duration>,
    variation: Duration,
    minimum: Duration,
    minimum_at: Time,
}

impl RttEstimator {
    /// Takes in a sample; never one of a segment that was sent twice (Karn's rule).
    pub(super) fn sample(&mut self, now: Time, rtt: Duration) {
        let Some(smoothed) = self.smoothed else {
            (self.smoothed, self.variation) = (Some(rtt), rtt / 2);
            (self.minimum, self.minimum_at) = (rtt, now);
            return;
        };
        self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
        self.smoothed = Some((smoothed * 7 + rtt) / 8);
        if rtt <= self.minimum || now.since(self.minimum_at) > MINIMUM_LIFETIME {
            (self.minimum, self.minimum_at) = (rtt, now);
        }
    }

    pub(super) const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The shortest of the last ten seconds or so, if any was measured.
    pub(super) fn minimum(&self) -> Option<Duration> {
        self.smoothed.map(|_| self.minimum)
    }

    /// The retransmission timeout after `attempts` expired in a row.
    pub(super) fn timeout(&self, attempts: u32) -> Duration {
        let timeout = self.smoothed.map_or(TIMEOUT_INITIAL, |smoothed| {
            (smoothed + GRANULARITY.max(self.variation * 4)).clamp(TIMEOUT_MIN, TIMEOUT_MAX)
        });
        timeout.saturating_mul(1 << attempts.min(16)).min(TIMEOUT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn at(milliseconds: u64) -> Time {
        Time(0) + ms(milliseconds)
    }

    #[test]
    fn before_any_sample_it_is_short_and_doubles() {
        let rtt = RttEstimator::default();
        assert_eq!([0, 1, 2, 3].map(|attempts| rtt.timeout(attempts)), [ms(250), ms(500), ms(1000), ms(2000)]);
        assert_eq!(rtt.timeout(u32::MAX), TIMEOUT_MAX);
    }

    #[test]
    fn first_sample_gives_three_times_itself() {
        let mut rtt = RttEstimator::default();
        rtt.sample(at(0), ms(100));
        assert_eq!(rtt.timeout(0), ms(300));
    }

    #[test]
    fn later_samples_are_smoothed() {
        let mut rtt = RttEstimator::default();
        rtt.sample(at(0), ms(100));
        rtt.sample(at(0), ms(180));
        // RTTVAR = 3/4 · 50 + 1/4 · 80, SRTT = 7/8 · 100 + 1/8 · 180
        assert_eq!(rtt.smoothed(), Some(ms(110)));
        assert_eq!(rtt.timeout(0), Duration::from_micros(110_000 + 4 * 57_500));
    }

    #[test]
    fn steady_and_short_stays_above_the_floor() {
        let mut rtt = RttEstimator::default();
        (0..100).for_each(|_| rtt.sample(at(0), ms(2)));
        assert_eq!(rtt.timeout(0), TIMEOUT_MIN);
    }

    #[test]
    fn minimum_follows_a_longer_path_after_a_while() {
        let mut rtt = RttEstimator::default();
        rtt.sample(at(0), ms(10));
        rtt.sample(at(9_000), ms(50));
        assert_eq!(rtt.minimum(), Some(ms(10)));
        rtt.sample(at(10_001), ms(50));
        assert_eq!(rtt.minimum(), Some(ms(50)));
    }
}
