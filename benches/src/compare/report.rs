//! What was measured: raw figures by round, and the few numbers that follow from them.
//!
//! A ratio between contenders is the median of same-round ratios: the host drifts by tens of percent within minutes, and
//! what was measured a second apart drifts together.

use serde::Serialize;

use crate::load::Load;

/// A whole run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Machine, kernel, CPU, what else explains the figures.
    pub host: Vec<(String, String)>,
    /// Who took part, in the order of the tables.
    pub contenders: Vec<Description>,
    /// As fast as each goes.
    pub saturated: Vec<Saturated>,
    /// Our relay alone, at several numbers of sessions, as fast as it goes; apart from [`Self::saturated`], for these
    /// rounds are compared with each other.
    pub scaled: Vec<Saturated>,
    /// Resident memory of our relay, all sessions held and traffic seen.
    pub resident: Vec<Resident>,
    /// At one and the same rate.
    pub paced: Vec<Paced>,
    /// What could not be measured, and why.
    pub remarks: Vec<String>,
}

/// A contender in words.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// Short and unique: `floor`, `naive`, `mmsg`, `pilot-relay`, `coturn` …
    pub name: String,
    /// What it does, in a line.
    pub what: String,
    /// Given on the command line; the others are always there.
    pub is_given: bool,
}

/// One contender under one load, as fast as it goes.
#[derive(Clone, Debug, Serialize)]
pub struct Saturated {
    /// Its name.
    pub contender: String,
    /// The load.
    pub load: Load,
    /// In order; round `n` of all contenders of a load was measured within a few seconds.
    pub rounds: Vec<Slice>,
}

/// Memory of our relay alone: no directory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Resident {
    /// Sessions it holds.
    pub sessions: u32,
    /// `VmRSS`.
    pub bytes: u64,
}

/// What one slice of time gave, from an idle relay to an idle relay.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Slice {
    /// Its length.
    pub seconds: f64,
    /// Datagrams handed to the relay.
    pub sent: u64,
    /// Of these, arrived at one of the destinations, of the right size and with the stamp of this slice. That they arrive
    /// where they should, unharmed, is checked once before the rounds.
    pub delivered: u64,
    /// CPU time of the relay: all its threads, and the softirq work done in its name.
    pub cpu_ns: u64,
}

/// One contender at the rate all share: latency from the instant a datagram was due.
#[derive(Clone, Debug, Serialize)]
pub struct Paced {
    /// Its name; `direct` is the same path without any relay.
    pub contender: String,
    /// The load.
    pub load: Load,
    /// Datagrams a second, in bursts of `burst`.
    pub rate_pps: u64,
    /// Datagrams due at the same moment.
    pub burst: u32,
    /// In order, as in [`Saturated::rounds`].
    pub rounds: Vec<PacedSlice>,
}

/// One slice at a given rate.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PacedSlice {
    /// Counts and CPU time.
    pub slice: Slice,
    /// Latency quantiles in nanoseconds.
    pub p50_ns: u64,
    /// 99 of 100 are faster.
    pub p99_ns: u64,
    /// 999 of 1000 are faster.
    pub p999_ns: u64,
}

impl Slice {
    /// Nanoseconds of CPU for each datagram that arrived.
    #[must_use]
    pub fn cpu_ns_per_packet(&self) -> f64 {
        self.cpu_ns as f64 / self.delivered as f64
    }

    /// Datagrams that arrived, a second.
    #[must_use]
    pub fn delivered_pps(&self) -> f64 {
        self.delivered as f64 / self.seconds
    }

    /// Datagrams that one core would deliver a second.
    #[must_use]
    pub fn pps_per_core(&self) -> f64 {
        1e9 / self.cpu_ns_per_packet()
    }

    /// Share of what was sent that did not arrive.
    #[must_use]
    pub fn loss(&self) -> f64 {
        1.0 - self.delivered as f64 / self.sent as f64
    }

    /// Share of one core the relay used. Well below 1 means that the generator was the limit, or that it waited.
    #[must_use]
    pub fn core_share(&self) -> f64 {
        self.cpu_ns as f64 / (self.seconds * 1e9)
    }
}

/// Smallest, middle and largest of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Middle; the mean of the two middle ones for an even number.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of `figures`, the non-finite ones left out; `None` for none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median =
            if figures.len() % 2 == 1 { figures[middle] } else { f64::midpoint(figures[middle - 1], figures[middle]) };
        Some(Self { min, median, max })
    }

    /// Of the ratios `ours / theirs`, round by round.
    pub fn of_ratios<T>(ours: &[T], theirs: &[T], figure: impl Fn(&T) -> f64) -> Option<Self> {
        Self::of(ours.iter().zip(theirs).map(|(ours, theirs)| figure(ours) / figure(theirs)))
    }
}

impl Report {
    /// What `contender` did under `load`.
    #[must_use]
    pub fn saturated(&self, contender: &str, load: &Load) -> Option<&Saturated> {
        self.saturated.iter().find(|one| one.contender == contender && one.load == *load)
    }

    /// CPU per packet of one contender under `load` against another under `against`, both measured round by round.
    #[must_use]
    pub fn cpu_ratio(&self, ours: (&str, &Load), theirs: (&str, &Load)) -> Option<Spread> {
        let rounds = |(name, load)| self.saturated(name, load).map(|one| one.rounds.as_slice());
        Spread::of_ratios(rounds(ours)?, rounds(theirs)?, Slice::cpu_ns_per_packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, f64::NAN, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(spread(&[f64::INFINITY]), None);
    }

    #[test]
    fn a_ratio_follows_the_rounds_not_the_medians() {
        let slice = |cpu_ns| Slice { seconds: 1.0, sent: 10, delivered: 10, cpu_ns };
        // The host became twice as slow in the middle; the ratio stays.
        let (ours, theirs) = ([slice(10), slice(20), slice(20)], [slice(20), slice(40), slice(40)]);
        assert_eq!(Spread::of_ratios(&ours, &theirs, Slice::cpu_ns_per_packet).map(|spread| spread.median), Some(0.5));
    }
}
