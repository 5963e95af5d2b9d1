//! The daemon's clock and chance: the only place that reads either.

use std::time::{Duration, Instant, SystemTime};

use secrets::Locked;

use crate::Time;

/// Time since the daemon's start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the daemon is a driver; it reads the clock here alone")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Now, as engines count it.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the daemon is a driver; it reads the clock here alone")]
    pub fn now(&self) -> Time {
        Time(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The same point in time as nanoseconds since 1970, by the host's calendar as it is set now.
    #[must_use]
    pub fn unix_ns(&self, at: Time) -> u64 {
        let (unix, now) = (unix_time().as_nanos(), u128::from(self.now().0));
        u64::try_from((unix + u128::from(at.0)).saturating_sub(now)).unwrap_or(u64::MAX)
    }

    /// The same point in time, as the runtime counts it.
    #[must_use]
    pub fn instant(&self, time: Time) -> tokio::time::Instant {
        // Engines may name times that never come; the runtime's timers end after some years.
        const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
        (self.start + Duration::from_nanos(time.0).min(FAR)).into()
    }
}

/// Time since 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the daemon is a driver; it reads the clock here alone")]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970.
#[must_use]
pub fn unix_seconds() -> u64 {
    unix_time().as_secs()
}

/// Bytes that keys are made of, drawn where they stay.
///
/// # Errors
/// The kernel has none.
#[expect(clippy::disallowed_methods, reason = "the daemon is a driver; it draws chance here alone")]
pub fn secret() -> std::io::Result<Locked<[u8; 32]>> {
    let mut bytes = Locked::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

/// Bytes that nobody can foresee, and that are no secret for long.
///
/// # Errors
/// The kernel has none.
#[expect(clippy::disallowed_methods, reason = "the daemon is a driver; it draws chance here alone")]
pub fn chance<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}
