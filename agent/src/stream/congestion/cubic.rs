//! CUBIC (RFC 9438): the window is a cubic function of the time since the last congestion event.

use std::time::Duration;

use super::{Acknowledged, Control, INITIAL_WINDOW_SEGMENTS, rate, scaled};
use crate::Time;

/// Part of the window that is kept on congestion.
const BETA: f64 = 0.7;
/// How steep the function is, in segments per second cubed.
const STEEPNESS: f64 = 0.4;
/// Additive increase of the Reno-friendly estimate, until it has reached the window before the event.
const RENO_INCREASE: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// Before a round trip was measured.
const RTT_INITIAL: Duration = Duration::from_millis(1);
/// Pacing runs ahead of the window, so that the window is the limit.
const PACING_GAIN_SLOW_START: f64 = 2.0;
const PACING_GAIN: f64 = 1.25;

/// The state of the function.
#[derive(Clone, Debug)]
pub(in crate::stream) struct Cubic {
    segment_bytes: u64,
    smoothed_rtt: Duration,
    state: State,
    /// What to return to when an episode turns out to be none.
    before: Option<State>,
    /// Losses are being repaired: the window stands still.
    recovering: bool,
}

#[derive(Clone, Debug)]
struct State {
    window_bytes: u64,
    slow_start_threshold_bytes: u64,
    /// The window before the last reduction, in segments.
    window_max: f64,
    epoch: Option<Epoch>,
}

/// Congestion avoidance since the last event.
#[derive(Clone, Debug)]
struct Epoch {
    started_at: Time,
    /// Seconds until the function is back at `window_max`.
    inflection: f64,
    reno_segments: f64,
}

impl Cubic {
    pub(super) const fn new(segment_bytes: u64) -> Self {
        let state = State {
            window_bytes: INITIAL_WINDOW_SEGMENTS * segment_bytes,
            slow_start_threshold_bytes: u64::MAX,
            window_max: 0.0,
            epoch: None,
        };
        Self { segment_bytes, smoothed_rtt: RTT_INITIAL, state, before: None, recovering: false }
    }

    fn segments(&self, bytes: u64) -> f64 {
        bytes as f64 / self.segment_bytes as f64
    }

    fn reduce(&mut self) {
        let window = self.segments(self.state.window_bytes);
        // Fast convergence: a flow that has less than before makes room for others.
        let shrinking = window < self.state.window_max;
        let before = self.state.clone();
        self.state.window_max = if shrinking { window * (1.0 + BETA) / 2.0 } else { window };
        self.state.slow_start_threshold_bytes = scaled(self.state.window_bytes, BETA).max(2 * self.segment_bytes);
        self.state.epoch = None;
        self.before = Some(before);
    }

    fn avoid_congestion(&mut self, now: Time, delivered_bytes: u64) {
        let (window, delivered) = (self.segments(self.state.window_bytes), self.segments(delivered_bytes));
        let window_max = self.state.window_max.max(window);
        let epoch = self.state.epoch.get_or_insert_with(|| Epoch {
            started_at: now,
            inflection: ((window_max - window) / STEEPNESS).cbrt(),
            reno_segments: window,
        });
        let function = |time: f64| STEEPNESS * (time - epoch.inflection).powi(3) + window_max;
        let elapsed = now.since(epoch.started_at) + self.smoothed_rtt;
        let target = function(elapsed.as_secs_f64()).clamp(window, 1.5 * window);
        let reno_increase = if epoch.reno_segments < window_max { RENO_INCREASE } else { 1.0 };
        epoch.reno_segments += reno_increase * delivered / window;
        let grown = window + (target - window) * (delivered / window).min(1.0);
        let segments = grown.max(epoch.reno_segments);
        self.state.window_bytes = (segments * self.segment_bytes as f64) as u64;
    }
}

impl Control for Cubic {
    fn window_bytes(&self) -> u64 {
        self.state.window_bytes
    }

    fn bytes_per_second(&self) -> u64 {
        let slow_start = self.state.window_bytes < self.state.slow_start_threshold_bytes;
        let gain = if slow_start { PACING_GAIN_SLOW_START } else { PACING_GAIN };
        scaled(rate(self.state.window_bytes, self.smoothed_rtt), gain)
    }

    fn on_restart(&mut self, _: Time) {
        // The time of silence must not count as growth (RFC 9438, 5.8).
        self.state.epoch = None;
    }

    fn on_acknowledged(&mut self, acknowledged: &Acknowledged) {
        self.smoothed_rtt = acknowledged.smoothed_rtt.unwrap_or(self.smoothed_rtt);
        let window_limited = acknowledged.prior_in_flight_bytes + 2 * self.segment_bytes >= self.state.window_bytes;
        if !window_limited || self.recovering {
            return;
        }
        if self.state.window_bytes < self.state.slow_start_threshold_bytes {
            self.state.window_bytes += acknowledged.delivered_bytes;
        } else {
            self.avoid_congestion(acknowledged.now, acknowledged.delivered_bytes);
        }
    }

    fn on_lost(&mut self, _: Time, _: u64, begins_episode: bool) {
        if begins_episode {
            self.reduce();
            self.state.window_bytes = self.state.slow_start_threshold_bytes;
            self.recovering = true;
        }
    }

    fn on_timeout(&mut self, _: u64) {
        // Losses that led here have reduced already; another timeout in a row reduces no further.
        self.state.window_bytes = self.segment_bytes;
        self.recovering = false;
    }

    fn on_repaired(&mut self) {
        (self.before, self.recovering) = (None, false);
    }

    fn on_spurious(&mut self) {
        self.recovering = false;
        if let Some(before) = self.before.take() {
            self.state = before;
        }
    }
}
