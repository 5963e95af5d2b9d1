//! The relay's time: nanoseconds of `CLOCK_MONOTONIC`, read once per batch by the shard and handed to the engines.

use std::ops::Add;
use std::time::Duration;

use zerocopy::FromZeros;

/// A point of `CLOCK_MONOTONIC`, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromZeros)]
pub struct Time(pub u64);

impl Time {
    /// The time passed since `earlier`; zero where that lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Its whole seconds, which wrap after 136 years.
    #[must_use]
    pub const fn second(self) -> u32 {
        (self.0 / 1_000_000_000) as u32
    }

    /// Reads `CLOCK_MONOTONIC`. Only drivers call this.
    ///
    /// # Panics
    /// Where the kernel has no such clock, which no Linux lacks.
    #[must_use]
    pub fn read_clock() -> Self {
        let spec = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists");
        let duration = Duration::from(spec);
        Self(nanos(duration))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// A duration as nanoseconds; what exceeds 584 years is cut.
#[must_use]
pub const fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}
