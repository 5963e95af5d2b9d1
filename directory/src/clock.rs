//! The one place that reads the clocks.

use std::time::{Duration, Instant, SystemTime};

use crate::service::Now;

/// Time since the process started serving, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the directory's one reader of the monotonic clock")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The present.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the directory's one reader of the monotonic clock")]
    pub fn now(&self) -> Now {
        Now { monotonic: self.started.elapsed(), unix_seconds: unix().as_secs() }
    }

    /// Unix milliseconds.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        u64::try_from(unix().as_millis()).unwrap_or(u64::MAX)
    }
}

#[expect(clippy::disallowed_methods, reason = "the directory's one reader of the wall clock")]
fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
