//! Congestion control: how much may be in flight and how fast it leaves. Two controllers, one question at a time.
//!
//! [`Algorithm::Bbr`] follows a model of the path and is what streams use; [`Algorithm::Cubic`] fills queues as kernel
//! TCP does, and is there to compare with.

mod bbr;
mod cubic;

use std::time::Duration;

use super::delivery::RateSample;
use crate::Time;
use bbr::Bbr;
use cubic::Cubic;

/// The initial window (RFC 6928).
const INITIAL_WINDOW_SEGMENTS: u64 = 10;

/// Which controller a stream is under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// By bottleneck bandwidth and round-trip propagation time.
    #[default]
    Bbr,
    /// By loss (RFC 9438).
    Cubic,
}

/// What an acknowledgement says about the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub(super) now: Time,
    pub(super) delivered_bytes: u64,
    pub(super) prior_in_flight_bytes: u64,
    pub(super) in_flight_bytes: u64,
    /// Delivered over the life of the connection.
    pub(super) delivered_total_bytes: u64,
    pub(super) rtt: Option<Duration>,
    pub(super) smoothed_rtt: Option<Duration>,
    pub(super) rate: Option<RateSample>,
}

/// A controller.
#[derive(Clone, Debug)]
pub(super) enum Congestion {
    Bbr(Bbr),
    Cubic(Cubic),
}

trait Control {
    fn window_bytes(&self) -> u64;
    fn bytes_per_second(&self) -> u64;
    /// Something is sent after a silence.
    fn on_restart(&mut self, now: Time);
    fn on_acknowledged(&mut self, acknowledged: &Acknowledged);
    /// The first loss of an episode begins it.
    fn on_lost(&mut self, now: Time, bytes: u64, begins_episode: bool);
    fn on_timeout(&mut self, in_flight_bytes: u64);
    /// The last episode is repaired.
    fn on_repaired(&mut self);
    /// The last episode was none.
    fn on_spurious(&mut self);
}

impl Congestion {
    pub(super) fn new(algorithm: Algorithm, segment_bytes: u64) -> Self {
        match algorithm {
            Algorithm::Bbr => Self::Bbr(Bbr::new(segment_bytes)),
            Algorithm::Cubic => Self::Cubic(Cubic::new(segment_bytes)),
        }
    }

    fn control(&self) -> &dyn Control {
        match self {
            Self::Bbr(bbr) => bbr,
            Self::Cubic(cubic) => cubic,
        }
    }

    fn control_mut(&mut self) -> &mut dyn Control {
        match self {
            Self::Bbr(bbr) => bbr,
            Self::Cubic(cubic) => cubic,
        }
    }

    pub(super) fn window_bytes(&self) -> u64 {
        self.control().window_bytes()
    }

    pub(super) fn bytes_per_second(&self) -> u64 {
        self.control().bytes_per_second()
    }

    pub(super) fn on_restart(&mut self, now: Time) {
        self.control_mut().on_restart(now);
    }

    pub(super) fn on_acknowledged(&mut self, acknowledged: &Acknowledged) {
        self.control_mut().on_acknowledged(acknowledged);
    }

    pub(super) fn on_lost(&mut self, now: Time, bytes: u64, begins_episode: bool) {
        self.control_mut().on_lost(now, bytes, begins_episode);
    }

    pub(super) fn on_timeout(&mut self, in_flight_bytes: u64) {
        self.control_mut().on_timeout(in_flight_bytes);
    }

    pub(super) fn on_repaired(&mut self) {
        self.control_mut().on_repaired();
    }

    pub(super) fn on_spurious(&mut self) {
        self.control_mut().on_spurious();
    }
}

/// `bytes` in `time`, as a rate.
fn rate(bytes: u64, time: Duration) -> u64 {
    (u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1)) as u64
}

/// What `bytes_per_second` carries in `time`.
fn volume(bytes_per_second: u64, time: Duration) -> u64 {
    (u128::from(bytes_per_second) * time.as_nanos() / 1_000_000_000) as u64
}

/// `value` times `gain`.
fn scaled(value: u64, gain: f64) -> u64 {
    (value as f64 * gain) as u64
}
