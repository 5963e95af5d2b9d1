//! The one place that reads the clocks.

use std::time::{Instant, SystemTime};

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
    #[expect(clippy::disallowed_methods, reason = "the directory's one reader of both clocks")]
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: self.started.elapsed(), unix_seconds: unix.as_secs() }
    }
}
