//! The only place that reads the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// A clock that starts at zero. Copies agree with each other, so workers can compare their readings.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

/// Both clocks at one moment, to place the kernel's wall-clock timestamps on our own time line.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Nanoseconds since the clock was started.
    pub now_ns: u64,
    /// Wall-clock time, as a duration since 1970.
    pub wall: Duration,
}

/// Processor time that the calling thread has used, the kernel's work on its behalf included.
#[must_use]
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).expect("every thread has this clock")
}

impl Clock {
    /// Starts the clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the driver's clock")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Nanoseconds since the start.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the driver's clock")]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).expect("a run lasts days, not centuries")
    }

    /// Reads both clocks.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the driver's clock")]
    pub fn read(&self) -> Reading {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Reading { now_ns: self.now_ns(), wall }
    }
}

impl Reading {
    /// When something happened that the kernel stamped with wall-clock time `stamp`, on our time line. Without a stamp
    /// it is taken to have happened just now.
    #[must_use]
    pub fn place(&self, stamp: Option<Duration>) -> u64 {
        let age = stamp.map_or(Duration::ZERO, |stamp| self.wall.saturating_sub(stamp));
        self.now_ns.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_placed_by_their_age() {
        let reading = Reading { now_ns: 1_000, wall: Duration::from_nanos(50_000) };
        assert_eq!(reading.place(Some(Duration::from_nanos(49_900))), 900);
        assert_eq!(reading.place(Some(Duration::from_nanos(50_001))), 1_000, "a stamp from the future is now");
        assert_eq!(reading.place(None), 1_000);
    }
}
