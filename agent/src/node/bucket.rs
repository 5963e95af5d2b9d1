//! Tokens that come back with time: how often something may be done.

use std::time::Duration;

use crate::Time;

/// How often something may be done in the long run, and how often at once.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// In the long run.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// Tokens that come back with time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When the bucket is full again.
    full_at: Time,
}

impl Bucket {
    /// Takes a token, if there is one.
    #[must_use]
    pub fn take(&mut self, now: Time, rate: Rate) -> bool {
        let each = Duration::from_secs(1) / rate.per_second;
        let full_at = self.full_at.max(now) + each;
        let has = full_at.since(now) <= each * rate.burst;
        if has {
            self.full_at = full_at;
        }
        has
    }
}
