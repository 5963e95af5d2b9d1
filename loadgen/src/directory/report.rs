//! What the load of a directory amounts to. Written as JSON by `--json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::drive::Tally;
use super::kind::Kind;
use super::process::Memory;
use crate::latency::Percentiles;
use crate::report::Host;
use crate::saturation::{BUSY_PERCENT_MAX, LATENESS_SHARE_MAX, LATENESS_US_MIN};
use crate::search::{Finding, Outcome};

/// Processor time is counted in hundredths of a second: of less than this nothing follows.
const PROCESSOR_SECONDS_MIN: f64 = 0.1;

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of this program.
    pub version: String,
    /// When it began, in seconds since 1970.
    pub started_unix_seconds: u64,
    /// This host.
    pub host: Host,
    /// What was asked for.
    pub workload: Workload,
    /// The directory's process, if it is on this host, and its memory before and after.
    pub process: Option<ProcessReport>,
    /// How the population became known.
    pub enrolment: Vec<Step>,
    /// The loads, by kind.
    pub phases: Vec<Phase>,
    /// What it amounts to.
    pub verdict: Verdict,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// The directory.
    pub registry: String,
    /// Nodes.
    pub nodes: u32,
    /// Groups.
    pub groups: u32,
    /// Connections.
    pub connections: u32,
    /// Threads that ask.
    pub workers: u32,
    /// Seed of the population and the questions.
    pub seed: u64,
    /// Bound of the 99th percentile, in microseconds.
    pub p99_us_max: Option<f64>,
}

/// The directory's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessReport {
    /// Its number.
    pub pid: u32,
    /// Before the first registration.
    pub before: Memory,
    /// After the last load.
    pub after: Memory,
}

/// One step of making the population known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// How many requests, or pairs of them.
    pub requests: u64,
    /// How long it took.
    pub seconds: f64,
    /// Requests a second.
    pub per_second: f64,
    /// The directory's processor time.
    pub processor_seconds: Option<f64>,
    /// Requests to a second of it.
    pub per_processor_second: Option<f64>,
    /// The directory's memory afterwards.
    pub memory: Option<Memory>,
}

/// The loads of one kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// What was asked.
    pub kind: Kind,
    /// At the rate given; of a search, at half the rate found.
    pub load: Option<Load>,
    /// What a search found.
    pub search: Option<SearchReport>,
}

/// A search.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchReport {
    /// What it found.
    pub finding: Finding,
    /// All loads it made, the last one confirming.
    pub trials: Vec<Load>,
}

/// One load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Requests a second that were due.
    pub rate: u64,
    /// For how long.
    pub seconds: f64,
    /// Requests made.
    pub asked: u64,
    /// Requests not made, since too many waited for an answer.
    pub unasked: u64,
    /// Right answers.
    pub answered: u64,
    /// Answers that were not, by what they say.
    pub errors: BTreeMap<String, u64>,
    /// Right answers a second, until the last one came.
    pub answered_per_second: f64,
    /// The directory's processor time.
    pub processor_seconds: Option<f64>,
    /// Right answers to a second of it.
    pub per_processor_second: Option<f64>,
    /// From due to answered, in microseconds.
    pub latency_us: Percentiles,
    /// From due to written, the generator's part, in microseconds.
    pub lateness_us: Percentiles,
    /// Length of an answer.
    pub answer_bytes_mean: f64,
    /// Hits of a query, among those looked at closely.
    pub hits_mean: Option<f64>,
    /// How many of a hundred queries had hits.
    pub with_hits_percent: Option<f64>,
    /// How much of its time the busiest worker was on a processor.
    pub busiest_worker_percent: f64,
}

/// What the figures amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All was answered in time.
    Ok,
    /// Some answers were errors or wrong.
    Errors,
    /// Answers came too late, or no rate was found.
    Slow,
    /// The generator was too slow.
    GeneratorLimit,
}

impl Load {
    /// The figures of `tally`, made at `rate` for `seconds`.
    #[must_use]
    pub fn new(rate: u64, seconds: f64, tally: &Tally, processor_seconds: Option<f64>) -> Self {
        let answers = tally.answered + tally.errors.values().sum::<u64>();
        let queries = tally.queries_seen;
        Self {
            rate,
            seconds,
            asked: tally.asked,
            unasked: tally.unasked,
            answered: tally.answered,
            errors: tally.errors.clone(),
            answered_per_second: ratio(tally.answered as f64, (tally.last_answer_ns as f64 / 1e9).max(seconds)),
            processor_seconds,
            per_processor_second: per_processor_second(tally.answered, processor_seconds),
            latency_us: tally.latency.percentiles(),
            lateness_us: tally.lateness.percentiles(),
            answer_bytes_mean: ratio(tally.answer_bytes as f64, answers as f64),
            hits_mean: (queries > 0).then(|| tally.hits as f64 / queries as f64),
            with_hits_percent: (queries > 0).then(|| tally.queries_with_hits as f64 * 100.0 / queries as f64),
            busiest_worker_percent: tally.busiest_percent,
        }
    }

    /// Whether it was carried with its 99th percentile below `p99_us_max`, and else because of whom it was not.
    #[must_use]
    pub fn outcome(&self, p99_us_max: Option<f64>) -> Outcome {
        let (latency_us, lateness_us) = (self.latency_us.p99, self.lateness_us.p99);
        let is_slow = self.unasked > 0 || p99_us_max.is_some_and(|bound| latency_us > bound);
        let is_generator = self.is_imprecise() || self.busiest_worker_percent > BUSY_PERCENT_MAX;
        match is_slow {
            _ if !self.errors.is_empty() => Outcome::Lossy,
            true if is_generator => Outcome::GeneratorLimit,
            true => Outcome::Lossy,
            // Whatever the directory's own part was: this rate was not asked for in time.
            false if p99_us_max.is_some_and(|bound| lateness_us > bound) => Outcome::GeneratorLimit,
            false => Outcome::Carried,
        }
    }

    /// Whether a good part of the latency is the generator's.
    #[must_use]
    pub fn is_imprecise(&self) -> bool {
        let (latency_us, lateness_us) = (self.latency_us.p99, self.lateness_us.p99);
        lateness_us > LATENESS_US_MIN && lateness_us > latency_us * LATENESS_SHARE_MAX
    }
}

impl Report {
    /// The verdict on `phases`.
    #[must_use]
    pub fn judge(phases: &[Phase], p99_us_max: Option<f64>) -> Verdict {
        let verdicts = phases.iter().map(|phase| {
            let outcome = phase.load.as_ref().map(|load| load.outcome(p99_us_max));
            match (&phase.search, &phase.load) {
                (_, Some(load)) if !load.errors.is_empty() => Verdict::Errors,
                (Some(SearchReport { finding: Finding::Nothing { limit, .. }, .. }), _) => match limit {
                    crate::search::Limit::Relay => Verdict::Slow,
                    crate::search::Limit::Generator => Verdict::GeneratorLimit,
                },
                // A search has judged its own trials.
                (Some(_), _) => Verdict::Ok,
                (None, _) => match outcome {
                    Some(Outcome::Lossy) => Verdict::Slow,
                    Some(Outcome::GeneratorLimit) => Verdict::GeneratorLimit,
                    Some(Outcome::Carried) | None => Verdict::Ok,
                },
            }
        });
        let severity = |verdict: &Verdict| {
            [Verdict::Ok, Verdict::GeneratorLimit, Verdict::Slow, Verdict::Errors]
                .iter()
                .position(|other| other == verdict)
        };
        verdicts.max_by_key(severity).unwrap_or(Verdict::Ok)
    }
}

/// Requests to a second of processor time, if that was long enough to tell.
#[must_use]
pub fn per_processor_second(requests: u64, processor_seconds: Option<f64>) -> Option<f64> {
    processor_seconds.filter(|seconds| *seconds >= PROCESSOR_SECONDS_MIN).map(|seconds| requests as f64 / seconds)
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A second of 1000 requests, answered after `latency_us` and written after `lateness_us`.
    pub fn load(latency_us: u64, lateness_us: u64, change: impl FnOnce(&mut Tally)) -> Load {
        let mut tally = Tally { asked: 1000, answered: 1000, ..Tally::default() };
        for _ in 0..1000 {
            tally.latency.record(latency_us * 1000);
            tally.lateness.record(lateness_us * 1000);
        }
        change(&mut tally);
        Load::new(1000, 1.0, &tally, Some(0.5))
    }

    #[test]
    fn figures_follow_from_the_tally() {
        let load = load(2_000, 50, |tally| {
            tally.answer_bytes = 300_000;
            (tally.queries_seen, tally.queries_with_hits, tally.hits) = (4, 3, 20);
            tally.last_answer_ns = 2_000_000_000;
        });
        assert_eq!((load.answered_per_second, load.per_processor_second), (500.0, Some(2000.0)));
        assert_eq!((load.hits_mean, load.with_hits_percent), (Some(5.0), Some(75.0)));
        assert!((load.answer_bytes_mean - 300.0).abs() < 1e-9);
        assert_eq!(per_processor_second(5, Some(0.01)), None, "a single tick tells nothing");
    }

    #[test]
    fn the_directory_is_blamed_for_what_is_its_own_alone() {
        let bound = Some(50_000.0);
        assert_eq!(load(2_000, 50, |_| ()).outcome(bound), Outcome::Carried);
        assert_eq!(load(60_000, 50, |_| ()).outcome(None), Outcome::Carried);
        assert_eq!(load(60_000, 50, |_| ()).outcome(bound), Outcome::Lossy);
        assert_eq!(load(60_000, 20_000, |_| ()).outcome(bound), Outcome::GeneratorLimit);
        assert_eq!(load(60_000, 50, |tally| tally.busiest_percent = 99.0).outcome(bound), Outcome::GeneratorLimit);
        assert_eq!(load(2_000, 50, |tally| tally.unasked = 1).outcome(None), Outcome::Lossy);
        let refused = load(2_000, 50, |tally| tally.errors = BTreeMap::from([("rate limited".to_owned(), 1)]));
        assert_eq!(refused.outcome(None), Outcome::Lossy);
    }

    #[test]
    fn the_worst_phase_is_the_verdict() {
        let phase = |load| Phase { kind: Kind::Lookup, load: Some(load), search: None };
        let refused = load(2_000, 50, |tally| tally.errors = BTreeMap::from([("rate limited".to_owned(), 1)]));
        let slow = load(60_000, 50, |_| ());
        let bound = Some(50_000.0);
        assert_eq!(Report::judge(&[phase(load(9, 1, |_| ()))], bound), Verdict::Ok);
        assert_eq!(Report::judge(&[phase(slow.clone()), phase(load(9, 1, |_| ()))], bound), Verdict::Slow);
        assert_eq!(Report::judge(&[phase(slow), phase(refused)], bound), Verdict::Errors);
        let nothing = Finding::Nothing { tried_pps: 100, limit: crate::search::Limit::Generator };
        let search = SearchReport { finding: nothing, trials: Vec::new() };
        let phase = Phase { kind: Kind::Query, load: None, search: Some(search) };
        assert_eq!(Report::judge(&[phase], bound), Verdict::GeneratorLimit);
    }
}
