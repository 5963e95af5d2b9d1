//! What the figures were: ten minutes in steps of two seconds, a day in steps of a minute, years in steps of an hour. A
//! plain value that is given a [`Reading`] and `now`, every [`STEP`].
//!
//! Bounded: 300 and 1440 samples of 32 bytes, and 43 800 hours of 24 bytes.

pub mod growth;
pub mod rates;

use std::collections::VecDeque;
use std::time::Duration;

use growth::{Growth, Hour};
use rates::{Rates, RelayRates};

use crate::relay_source::RelaySnapshot;
use crate::service::Now;

/// How far readings lie apart.
pub const STEP: Duration = Duration::from_secs(2);
/// Ten minutes of them.
const RECENT_MAX: usize = 300;
const MINUTE: Duration = Duration::from_secs(60);
/// A day of minutes.
const MINUTES_MAX: usize = 1440;

/// What is known at one instant.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Registered nodes.
    pub registered: u64,
    /// Of these, present.
    pub online: u64,
    /// The relay's counters; `None` without a relay.
    pub relay: Option<&'a RelaySnapshot>,
}

/// The figures of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// When, on the monotonic clock.
    pub at: Duration,
    /// Nodes present: at the end of a short step, the most of a long one.
    pub online: u64,
    /// Datagrams relayed a second, the mean of the step.
    pub packets_per_second: f64,
    /// Bits relayed a second, the mean of the step.
    pub bits_per_second: f64,
}

/// The past of the figures, as far as it is kept.
#[derive(Debug, Default)]
pub struct History {
    rates: Rates,
    recent: VecDeque<Sample>,
    minutes: VecDeque<Sample>,
    /// The samples of the minute that is not over, and where it began.
    minute: Option<(Duration, Vec<Sample>)>,
    growth: Growth,
    /// Whether the last hour of `growth` is one of ours, not one that was written down long ago.
    hour_is_ours: bool,
}

impl History {
    /// A history that begins with `growth`.
    #[must_use]
    pub fn new(growth: Growth) -> Self {
        Self { growth, ..Self::default() }
    }

    /// Takes note of `reading`. Returns an hour that is over, to be written down.
    pub fn record(&mut self, now: Now, reading: Reading<'_>) -> Option<Hour> {
        self.rates.read(now.monotonic, reading.relay);
        let relay = self.rates.now();
        let sample = Sample {
            at: now.monotonic,
            online: reading.online,
            packets_per_second: relay.map_or(0.0, |rates| rates.packets_per_second),
            bits_per_second: relay.map_or(0.0, |rates| rates.bits_per_second),
        };
        push(&mut self.recent, sample, RECENT_MAX);
        let (began, samples) = self.minute.get_or_insert((now.monotonic, Vec::new()));
        samples.push(sample);
        if now.monotonic.saturating_sub(*began) + STEP >= MINUTE || samples.len() >= RECENT_MAX {
            push(&mut self.minutes, mean(samples), MINUTES_MAX);
            self.minute = None;
        }
        let ended = self.growth.record(now.unix_seconds, reading.registered, reading.online);
        let is_ours = std::mem::replace(&mut self.hour_is_ours, true);
        ended.filter(|_| is_ours)
    }

    /// What the relay does a second; `None` before the second reading, and without a relay.
    #[must_use]
    pub fn rates(&self) -> Option<&RelayRates> {
        self.rates.now()
    }

    /// The last ten minutes, the oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &Sample> {
        self.recent.iter()
    }

    /// The last day by the minute, the oldest first.
    pub fn minutes(&self) -> impl Iterator<Item = &Sample> {
        self.minutes.iter()
    }

    /// Hours, the oldest first.
    #[must_use]
    pub const fn growth(&self) -> &Growth {
        &self.growth
    }
}

fn push(samples: &mut VecDeque<Sample>, sample: Sample, max: usize) {
    if samples.len() >= max {
        samples.pop_front();
    }
    samples.push_back(sample);
}

/// One sample for many: mean rates, the most nodes present, the end of the last.
pub(crate) fn mean(samples: &[Sample]) -> Sample {
    let count = samples.len().max(1) as f64;
    Sample {
        at: samples.last().map_or(Duration::ZERO, |sample| sample.at),
        online: samples.iter().map(|sample| sample.online).max().unwrap_or(0),
        packets_per_second: samples.iter().map(|sample| sample.packets_per_second).sum::<f64>() / count,
        bits_per_second: samples.iter().map(|sample| sample.bits_per_second).sum::<f64>() / count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay_source::ShardFigures;

    fn at(seconds: u64) -> Now {
        Now { monotonic: Duration::from_secs(seconds), unix_seconds: 1_800_000_000 + seconds }
    }

    fn relay(uptime_seconds: u64, forwarded: u64) -> RelaySnapshot {
        let shard = ShardFigures { forwarded, forwarded_bytes: forwarded * 100, ..ShardFigures::default() };
        RelaySnapshot { uptime_seconds, shards: vec![shard], drops: Vec::new() }
    }

    /// Ten datagrams a second from the start, for `steps` steps.
    fn fed(steps: u64) -> History {
        let mut history = History::default();
        for step in 0..steps {
            let relay = relay(step * 2, step * 20);
            history.record(at(step * 2), Reading { registered: 7, online: step % 5, relay: Some(&relay) });
        }
        history
    }

    #[test]
    fn a_step_holds_the_mean_of_its_two_seconds() {
        let history = fed(3);
        let samples: Vec<_> = history.recent().copied().collect();
        assert_eq!(samples.len(), 3);
        assert_eq!((samples[0].packets_per_second, samples[2].packets_per_second), (0.0, 10.0));
        assert_eq!((samples[2].bits_per_second, samples[2].online), (8000.0, 2));
    }

    #[test]
    fn a_minute_is_thirty_steps_and_keeps_the_most_that_were_present() {
        assert_eq!(fed(29).minutes().count(), 0);
        let history = fed(60);
        let minutes: Vec<_> = history.minutes().copied().collect();
        assert_eq!(minutes.len(), 2);
        assert_eq!((minutes[1].at, minutes[1].packets_per_second, minutes[1].online), (at(118).monotonic, 10.0, 4));
    }

    #[test]
    fn nothing_grows_beyond_ten_minutes_and_a_day() {
        let history = fed(50_000);
        assert_eq!((history.recent().count(), history.minutes().count()), (RECENT_MAX, MINUTES_MAX));
        assert_eq!(history.recent().last().unwrap().at, at(99_998).monotonic);
    }

    #[test]
    fn an_hour_is_written_down_once() {
        let mut growth = Growth::default();
        growth.record(at(0).unix_seconds, 3, 3);
        let mut history = History::new(growth);
        let reading = Reading { registered: 4, online: 2, relay: None };
        assert_eq!(history.record(at(3600), reading), None, "that hour was another process's");
        let ended = history.record(at(7200), reading).unwrap();
        assert_eq!((ended.began, ended.registered, ended.online_peak), (at(3600).unix_seconds, 4, 2));
    }

    #[test]
    fn without_a_relay_presence_is_kept_all_the_same() {
        let mut history = History::default();
        history.record(at(0), Reading { registered: 3, online: 2, relay: None });
        assert_eq!(history.recent().next().unwrap().online, 2);
        assert_eq!(history.rates(), None);
    }
}
