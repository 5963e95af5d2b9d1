//! BBR (draft-ietf-ccwg-bbr, in the shape of its first version): sends at the bandwidth the path has shown, and keeps
//! about one bandwidth-delay product in flight.
//!
//! ```text
//!  startup ──► drain ──► probe bandwidth: up, down, 6 × cruise ──► (again)
//!     ▲                     │  ▲
//!     └── pipe not full ── probe round-trip time: every 10 s without a shorter one
//! ```
//!
//! Two things differ from the draft. Loss bounds what is in flight only where a whole round has lost more than
//! [`LOSS_MAX`]: the paths of agents lose at random, and reacting to single losses would give the bandwidth away. And
//! probing for the round-trip time keeps half a bandwidth-delay product in flight, not four segments.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Acknowledged, Control, INITIAL_WINDOW_SEGMENTS, rate, scaled, volume};
use crate::Time;
use crate::stream::delivery::RateSample;

/// Doubles the rate each round and no more: 4 · ln 2.
const STARTUP_PACING_GAIN: f64 = 2.77;
const WINDOW_GAIN: f64 = 2.0;
const WINDOW_MIN_SEGMENTS: u64 = 4;
/// Room for acknowledgements that come late or merged.
const WINDOW_SLACK_SEGMENTS: u64 = 3;
/// Rounds over which the highest bandwidth counts.
const BANDWIDTH_ROUNDS: u64 = 10;
/// The pipe is full when this many rounds have each brought less than a quarter more.
const FULL_PIPE_ROUNDS: u8 = 3;
const FULL_PIPE_GROWTH: f64 = 1.25;
/// Up, down, cruise: each for about one round-trip time.
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
const RTT_LIFETIME: Duration = Duration::from_secs(10);
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
const PROBE_RTT_GAIN: f64 = 0.5;
/// Part of a round that may be lost at random.
const LOSS_MAX: f64 = 0.05;
/// Fewer segments than this lost in a round say nothing.
const LOSS_SEGMENTS_MIN: u64 = 8;
/// What a round with more loss leaves of the bound.
const LOSS_BETA: f64 = 0.7;
/// Slightly below the bandwidth, so that a queue drains in the long run.
const PACING_MARGIN: f64 = 0.99;
/// What leaves in one batch: the draft's send quantum.
const BATCH_TIME: Duration = Duration::from_millis(1);
const BATCH_BYTES_MAX: u64 = 64 << 10;
/// Before a round trip was measured.
const RTT_INITIAL: Duration = Duration::from_millis(1);

/// The model of the path and what follows from it.
#[derive(Clone, Debug)]
pub(in crate::stream) struct Bbr {
    segment_bytes: u64,
    mode: Mode,
    bandwidth: BandwidthFilter,
    rtt_min: Option<Duration>,
    rtt_min_at: Time,
    round: Round,
    full_pipe: FullPipe,
    window_bytes: u64,
    /// The window before it was cut for a while.
    window_before_bytes: u64,
    /// Most that may be in flight, once a round has lost too much.
    in_flight_max_bytes: Option<u64>,
    restarted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Startup,
    Drain,
    ProbeBandwidth {
        phase: usize,
        since: Time,
    },
    ProbeRtt {
        /// Ends then, once so little was in flight.
        until: Option<Time>,
    },
}

/// The highest rate of the last rounds: rates fall, rounds rise.
#[derive(Clone, Debug, Default)]
struct BandwidthFilter(VecDeque<(u64, u64)>);

impl BandwidthFilter {
    fn update(&mut self, round: u64, bytes_per_second: u64) {
        while self.0.pop_back_if(|(_, older)| *older <= bytes_per_second).is_some() {}
        self.0.push_back((round, bytes_per_second));
        while self.0.pop_front_if(|(from, _)| *from + BANDWIDTH_ROUNDS <= round).is_some() {}
    }

    fn highest(&self) -> u64 {
        self.0.front().map_or(0, |(_, bytes_per_second)| *bytes_per_second)
    }
}

/// A round ends when what was sent after its start is acknowledged.
#[derive(Clone, Debug, Default)]
struct Round {
    count: u64,
    end_delivered_bytes: u64,
    delivered_bytes: u64,
    lost_bytes: u64,
}

#[derive(Clone, Debug, Default)]
struct FullPipe {
    reached: bool,
    bandwidth: u64,
    rounds: u8,
}

impl Bbr {
    pub(super) fn new(segment_bytes: u64) -> Self {
        Self {
            segment_bytes,
            mode: Mode::Startup,
            bandwidth: BandwidthFilter::default(),
            rtt_min: None,
            rtt_min_at: Time(0),
            round: Round::default(),
            full_pipe: FullPipe::default(),
            window_bytes: INITIAL_WINDOW_SEGMENTS * segment_bytes,
            window_before_bytes: 0,
            in_flight_max_bytes: None,
            restarted: false,
        }
    }

    fn window_min_bytes(&self) -> u64 {
        WINDOW_MIN_SEGMENTS * self.segment_bytes
    }

    /// `gain` times the bandwidth-delay product, and never less than batches need; the initial window before that is
    /// known.
    fn in_flight_target(&self, gain: f64) -> u64 {
        match self.rtt_min {
            Some(rtt_min) if self.bandwidth.highest() > 0 => {
                scaled(volume(self.bandwidth.highest(), rtt_min), gain).max(self.offload_budget_bytes())
            }
            _ => INITIAL_WINDOW_SEGMENTS * self.segment_bytes,
        }
    }

    /// On a path so short that a batch is longer than the bandwidth-delay product, one batch is being made, one is on
    /// its way and one being acknowledged.
    fn offload_budget_bytes(&self) -> u64 {
        3 * volume(self.bandwidth.highest(), BATCH_TIME).min(BATCH_BYTES_MAX)
    }

    fn pacing_gain(&self) -> f64 {
        match self.mode {
            Mode::Startup => STARTUP_PACING_GAIN,
            Mode::Drain => 1.0 / STARTUP_PACING_GAIN,
            Mode::ProbeBandwidth { phase, .. } => CYCLE[phase],
            Mode::ProbeRtt { .. } => 1.0,
        }
    }

    fn update_bandwidth(&mut self, sample: RateSample) {
        if !sample.app_limited || sample.bytes_per_second >= self.bandwidth.highest() {
            self.bandwidth.update(self.round.count, sample.bytes_per_second);
        }
    }

    /// Counts rounds; at the end of each judges what it has lost.
    fn update_round(&mut self, acknowledged: &Acknowledged) -> bool {
        self.round.delivered_bytes += acknowledged.delivered_bytes;
        let ended =
            acknowledged.rate.is_some_and(|sample| sample.prior_delivered_bytes >= self.round.end_delivered_bytes);
        if ended {
            self.judge_losses();
            self.round = Round {
                count: self.round.count + 1,
                end_delivered_bytes: acknowledged.delivered_total_bytes,
                ..Round::default()
            };
        }
        ended
    }

    fn judge_losses(&mut self) {
        let Round { delivered_bytes, lost_bytes, .. } = self.round;
        let tolerated = scaled(delivered_bytes + lost_bytes, LOSS_MAX);
        if lost_bytes > tolerated && lost_bytes >= LOSS_SEGMENTS_MIN * self.segment_bytes {
            self.full_pipe.reached = true;
            let bound = self.in_flight_max_bytes.unwrap_or(u64::MAX).min(self.window_bytes);
            let carried = delivered_bytes.min(bound);
            self.in_flight_max_bytes = Some(scaled(bound, LOSS_BETA).max(carried).max(self.window_min_bytes()));
        } else if matches!(self.mode, Mode::ProbeBandwidth { phase: 0, .. }) {
            // The path carried more without losing: widen, until the bound is none.
            let widened = self.in_flight_max_bytes.map(|bound| scaled(bound, CYCLE[0]));
            self.in_flight_max_bytes = widened.filter(|bound| *bound < 2 * self.in_flight_target(WINDOW_GAIN));
        }
    }

    fn check_full_pipe(&mut self, sample: Option<RateSample>) {
        if self.full_pipe.reached || sample.is_some_and(|sample| sample.app_limited) {
            return;
        }
        let highest = self.bandwidth.highest();
        if highest >= scaled(self.full_pipe.bandwidth, FULL_PIPE_GROWTH) {
            (self.full_pipe.bandwidth, self.full_pipe.rounds) = (highest, 0);
            return;
        }
        self.full_pipe.rounds += 1;
        self.full_pipe.reached = self.full_pipe.rounds >= FULL_PIPE_ROUNDS;
    }

    fn advance(&mut self, acknowledged: &Acknowledged) {
        let Acknowledged { now, in_flight_bytes, prior_in_flight_bytes, .. } = *acknowledged;
        if self.mode == Mode::Startup && self.full_pipe.reached {
            self.mode = Mode::Drain;
        }
        if self.mode == Mode::Drain && in_flight_bytes <= self.in_flight_target(1.0) {
            // Starting in cruise: the queue of startup has just been drained.
            self.mode = Mode::ProbeBandwidth { phase: 2, since: now };
        }
        if let Mode::ProbeBandwidth { phase, since } = self.mode {
            let over = now.since(since) > self.rtt_min.unwrap_or(RTT_INITIAL);
            let next = match CYCLE[phase] {
                up if up > 1.0 => {
                    let bounded = self.in_flight_max_bytes.is_some_and(|bound| prior_in_flight_bytes >= bound);
                    over && (self.round.lost_bytes > 0 || bounded || prior_in_flight_bytes >= self.in_flight_target(up))
                }
                down if down < 1.0 => in_flight_bytes <= self.in_flight_target(1.0),
                _ => over,
            };
            if next {
                self.mode = Mode::ProbeBandwidth { phase: (phase + 1) % CYCLE.len(), since: now };
            }
        }
    }

    fn update_rtt(&mut self, acknowledged: &Acknowledged, round_ended: bool) {
        let Acknowledged { now, rtt, in_flight_bytes, .. } = *acknowledged;
        let stale = now.since(self.rtt_min_at) > RTT_LIFETIME;
        if let Some(rtt) = rtt
            && (stale || self.rtt_min.is_none_or(|minimum| rtt <= minimum))
        {
            (self.rtt_min, self.rtt_min_at) = (Some(rtt), now);
        }
        match self.mode {
            Mode::ProbeRtt { until: None } if in_flight_bytes <= self.probe_rtt_window_bytes() => {
                self.mode = Mode::ProbeRtt { until: Some(now + PROBE_RTT_TIME) };
            }
            Mode::ProbeRtt { until: Some(until) } if now >= until && round_ended => {
                self.rtt_min_at = now;
                self.window_bytes = self.window_bytes.max(self.window_before_bytes);
                self.mode =
                    if self.full_pipe.reached { Mode::ProbeBandwidth { phase: 2, since: now } } else { Mode::Startup };
            }
            Mode::ProbeRtt { .. } => {}
            _ if stale && !self.restarted => {
                self.window_before_bytes = self.window_bytes;
                self.mode = Mode::ProbeRtt { until: None };
            }
            _ => {}
        }
        self.restarted = false;
    }

    fn probe_rtt_window_bytes(&self) -> u64 {
        self.in_flight_target(PROBE_RTT_GAIN).max(self.window_min_bytes())
    }

    fn update_window(&mut self, delivered_bytes: u64) {
        let target = self.in_flight_target(WINDOW_GAIN) + WINDOW_SLACK_SEGMENTS * self.segment_bytes;
        let grown = self.window_bytes + delivered_bytes;
        self.window_bytes =
            if self.full_pipe.reached { grown.min(target) } else { self.window_bytes.max(grown.min(target)) };
        self.window_bytes = self.window_bytes.max(self.window_min_bytes());
        if let Some(bound) = self.in_flight_max_bytes {
            self.window_bytes = self.window_bytes.min(bound);
        }
        if matches!(self.mode, Mode::ProbeRtt { .. }) {
            self.window_bytes = self.window_bytes.min(self.probe_rtt_window_bytes());
        }
    }
}

impl Control for Bbr {
    fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    fn bytes_per_second(&self) -> u64 {
        let initial = rate(INITIAL_WINDOW_SEGMENTS * self.segment_bytes, self.rtt_min.unwrap_or(RTT_INITIAL));
        match self.bandwidth.highest() {
            0 => scaled(initial, STARTUP_PACING_GAIN),
            // A first sample may be of a lone segment; startup must not fall behind the initial window.
            bandwidth if !self.full_pipe.reached => scaled(bandwidth.max(initial), self.pacing_gain()),
            bandwidth => scaled(bandwidth, self.pacing_gain() * PACING_MARGIN),
        }
    }

    fn on_restart(&mut self, now: Time) {
        self.restarted = true;
        if let Mode::ProbeBandwidth { since, .. } = &mut self.mode {
            *since = now;
        }
    }

    fn on_acknowledged(&mut self, acknowledged: &Acknowledged) {
        let round_ended = self.update_round(acknowledged);
        if let Some(sample) = acknowledged.rate {
            self.update_bandwidth(sample);
        }
        if round_ended {
            self.check_full_pipe(acknowledged.rate);
        }
        self.advance(acknowledged);
        self.update_rtt(acknowledged, round_ended);
        self.update_window(acknowledged.delivered_bytes);
    }

    fn on_lost(&mut self, _: Time, bytes: u64, _: bool) {
        self.round.lost_bytes += bytes;
    }

    fn on_timeout(&mut self, in_flight_bytes: u64) {
        self.window_before_bytes = self.window_before_bytes.max(self.window_bytes);
        self.window_bytes = (in_flight_bytes + self.segment_bytes).max(self.window_min_bytes());
    }

    fn on_repaired(&mut self) {
        self.window_bytes = self.window_bytes.max(std::mem::take(&mut self.window_before_bytes));
    }

    fn on_spurious(&mut self) {
        self.round.lost_bytes = 0;
        self.on_repaired();
    }
}
