//! Delivery rate (draft-cheng-iccrg-delivery-rate-estimation): how fast the path carried what was just acknowledged.

use std::time::Duration;

use crate::Time;

/// What a segment remembers of the moment it was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Snapshot {
    delivered_bytes: u64,
    delivered_at: Time,
    first_sent_at: Time,
    app_limited: bool,
}

/// One measurement of the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateSample {
    pub(super) bytes_per_second: u64,
    /// Delivered when the segment of this sample was sent: tells rounds apart.
    pub(super) prior_delivered_bytes: u64,
    /// The application gave too little to fill the path: the rate is only a lower bound.
    pub(super) app_limited: bool,
}

/// Counts what is delivered over the life of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct DeliveryRate {
    delivered_bytes: u64,
    delivered_at: Time,
    first_sent_at: Time,
    /// Samples are app-limited until this much is delivered.
    app_limited_until: Option<u64>,
    candidate: Option<(Time, Snapshot)>,
}

impl DeliveryRate {
    pub(super) const fn delivered_bytes(&self) -> u64 {
        self.delivered_bytes
    }

    /// A segment leaves; `idle` when nothing else is in flight.
    pub(super) const fn on_sent(&mut self, now: Time, idle: bool) -> Snapshot {
        if idle {
            (self.first_sent_at, self.delivered_at) = (now, now);
        }
        Snapshot {
            delivered_bytes: self.delivered_bytes,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: self.app_limited_until.is_some(),
        }
    }

    /// There is nothing more to send, and the window would have allowed it.
    pub(super) const fn on_app_limited(&mut self, in_flight_bytes: u64) {
        self.app_limited_until = Some(self.delivered_bytes + in_flight_bytes);
    }

    /// A segment of `bytes`, last sent at `sent_at`, is acknowledged.
    pub(super) fn on_delivered(&mut self, now: Time, bytes: u64, sent_at: Time, snapshot: Snapshot) {
        self.delivered_bytes += bytes;
        self.delivered_at = now;
        let newer = self.candidate.is_none_or(|(candidate_sent_at, candidate)| {
            (snapshot.delivered_bytes, sent_at) >= (candidate.delivered_bytes, candidate_sent_at)
        });
        if newer {
            self.candidate = Some((sent_at, snapshot));
            self.first_sent_at = sent_at;
        }
    }

    /// The sample of all that one acknowledgement delivered; none when it was delivered faster than `rtt_min` allows.
    pub(super) fn take_sample(&mut self, rtt_min: Option<Duration>) -> Option<RateSample> {
        if self.app_limited_until.is_some_and(|end| self.delivered_bytes > end) {
            self.app_limited_until = None;
        }
        let (sent_at, snapshot) = self.candidate.take()?;
        let send_elapsed = sent_at.since(snapshot.first_sent_at);
        let ack_elapsed = self.delivered_at.since(snapshot.delivered_at);
        let interval = send_elapsed.max(ack_elapsed);
        if interval.is_zero() || rtt_min.is_some_and(|minimum| interval < minimum) {
            return None;
        }
        let delivered_bytes = self.delivered_bytes - snapshot.delivered_bytes;
        Some(RateSample {
            bytes_per_second: (u128::from(delivered_bytes) * 1_000_000_000 / interval.as_nanos()) as u64,
            prior_delivered_bytes: snapshot.delivered_bytes,
            app_limited: snapshot.app_limited,
        })
    }
}
