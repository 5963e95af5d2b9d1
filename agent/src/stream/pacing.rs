//! Pacing: the earliest time of each transmission, so that a window leaves as a stream and not as a burst.

use std::time::Duration;

use crate::Time;

/// Time not used is kept so long: a driver's timer may be late by about this much and the rate is still made.
const CREDIT_MAX: Duration = Duration::from_millis(2);
/// Segments that may always leave back to back: a driver sends them as one batch.
const BATCH_SEGMENTS: u64 = 2;

/// The time from which the next segment may leave.
#[derive(Clone, Debug, Default)]
pub(super) struct Pacer {
    earliest: Time,
}

impl Pacer {
    pub(super) const fn earliest(&self) -> Time {
        self.earliest
    }

    /// `bytes` leave, of segments that have at most `segment_bytes`.
    pub(super) fn on_sent(&mut self, now: Time, bytes: u64, segment_bytes: u64, bytes_per_second: u64) {
        let time_for = |bytes: u64| Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / bytes_per_second.max(1));
        let credit = CREDIT_MAX.max(time_for(segment_bytes * (BATCH_SEGMENTS - 1)));
        let forgiven = now.since(self.earliest).saturating_sub(credit);
        self.earliest = self.earliest + forgiven + time_for(bytes);
    }
}
