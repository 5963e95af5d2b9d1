//! Two reports side by side: what differs, by how much, and what of it is more than the runs' own noise.
//!
//! The rule: a figure has changed when it moved in the same direction in at least three quarters of the intervals of
//! the runs, each compared with its counterpart. Of two equal runs with independent intervals, one figure would pass
//! that by chance less than once in forty for [`INTERVALS_MIN`] intervals, one of the five that are known by interval
//! less than once in eight, and any practically never for a hundred intervals. What is constant within a run but
//! differs between runs (another placement of threads, a neighbour on the machine) no single pair of runs can tell from
//! a real change: repeat both.
//!
//! Searches are compared by the range in which each leaves the highest rate: a change is known when the ranges lie
//! apart, and that there is none only when both searches found the relay's limit, not the generator's.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::numbers;
use crate::report::{Report, Verdict, Workload};
use crate::saturation::Sign;
use crate::search::{Finding, Limit, RESOLUTION};
use crate::timeline::Interval;

/// Fewer intervals than this prove nothing.
pub const INTERVALS_MIN: usize = 24;
/// Share of the intervals that must have moved in the same direction.
const SHARE_MOVED_MIN: f64 = 0.75;
const RULE: &str = "changed: moved the same way in at least three quarters of the runs' intervals; whether another \
                    pair of runs would do so too, only repeating them shows";
const SEARCH_RULE: &str = "changed: the ranges in which the searches leave the highest rate lie apart by more than \
                           their resolution; whether another pair would too, only repeating them shows";

/// Whether a figure changed by more than noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It did.
    Changed,
    /// It did not.
    WithinNoise,
    /// It is known for the whole runs only, or these were too short, or a search ended at the generator's limit.
    Unknown,
}

/// One figure of both reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    pub figure: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// In the first report.
    pub a: f64,
    /// In the second report.
    pub b: f64,
    /// The second by the first, unless that is 0.
    pub ratio: Option<f64>,
    /// Whether that is more than noise.
    pub change: Change,
}

/// Two reports side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Names of the reports.
    pub reports: [String; 2],
    /// All figures.
    pub rows: Vec<Row>,
    /// What else differs, or kept a run from showing what the relay can do, and may be the reason.
    pub differences: Vec<String>,
    /// How change is told from noise.
    pub rule: &'static str,
}

/// The reports are of different loads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot compare: {}; only runs of the same load can be compared", .0.join(", "))]
pub struct Mismatch(Vec<String>);

/// Sets `b` against `a`, which are called `names`.
///
/// # Errors
/// [`Mismatch`] names every setting of the load that differs.
pub fn compare(names: [String; 2], a: &Report, b: &Report) -> Result<Comparison, Mismatch> {
    let differing = different_loads(a, b);
    if !differing.is_empty() {
        return Err(Mismatch(differing));
    }
    let (rows, rule) = match (&a.search, &b.search) {
        (Some(a), Some(b)) => (vec![found_row(a.finding, b.finding)], SEARCH_RULE),
        _ => (run_rows(a, b), RULE),
    };
    let limits = [("A", a), ("B", b)].into_iter().filter_map(|(name, report)| generators_limit(name, report));
    let differences = limits.chain(different_circumstances(a, b)).collect();
    Ok(Comparison { reports: names, rows, differences, rule })
}

fn different_loads(a: &Report, b: &Report) -> Vec<String> {
    if a.search.is_some() != b.search.is_some() {
        return vec!["one is a search with --find-max, the other is not".to_owned()];
    }
    let load = |Report { workload, search, .. }: &Report| {
        let Workload { peers, shape, rate, seconds, size, burst, run, placement, max_loss_percent, .. } =
            workload.clone();
        let mut load = vec![
            ("peers", peers.to_string()),
            ("shape", shape),
            ("size", size),
            ("run", run.to_string()),
            ("placement", placement),
            ("seconds", seconds.to_string()),
        ];
        match search {
            // A search chooses rate and burst, by these.
            Some(search) => {
                let trial = search.trials.iter().find(|trial| !trial.is_confirmation);
                let seconds = trial.map_or_else(|| "none".to_owned(), |trial| trial.seconds.to_string());
                load.extend([("trial", seconds), ("max-loss", max_loss_percent.to_string())]);
            }
            None => load.extend([("rate", rate), ("burst", burst.to_string())]),
        }
        load
    };
    differing(load(a), load(b))
}

fn different_circumstances(a: &Report, b: &Report) -> Vec<String> {
    let circumstances = |Report { circumstances, workload, .. }: &Report| {
        let host = &circumstances.host;
        vec![
            ("relay", workload.relay.clone()),
            ("workers", workload.workers.to_string()),
            ("seed", workload.seed.to_string()),
            ("loadgen", circumstances.version.clone()),
            ("processor", format!("{} × {}", host.processors, host.processor)),
            ("kernel", host.kernel.clone()),
        ]
    };
    differing(circumstances(a), circumstances(b))
}

fn differing(a: Vec<(&str, String)>, b: Vec<(&str, String)>) -> Vec<String> {
    let pairs = a.into_iter().zip(b).filter(|((_, a), (_, b))| a != b);
    pairs.map(|((name, a), (_, b))| format!("{name} {a} against {b}")).collect()
}

/// What to know about the report `name` if the generator, not the relay, made its figures what they are.
fn generators_limit(name: &str, report: &Report) -> Option<String> {
    let why = match report.search.as_ref().map(|search| search.finding) {
        Some(Finding::Highest { .. } | Finding::Nothing { limit: Limit::Relay, .. }) => return None,
        Some(Finding::AtLeast { .. }) => "its rate is a lower bound".to_owned(),
        Some(Finding::Nothing { limit: Limit::Generator, .. }) => "it found nothing".to_owned(),
        None if report.saturation.is_empty() && report.verdict != Verdict::GeneratorLimit => return None,
        None => report.saturation.iter().map(Sign::name).collect::<Vec<_>>().join(", "),
    };
    Some(format!("{name} was limited by the generator: {why}"))
}

/// The rate that was found, and between which rates the highest one lies.
fn found_pps(finding: Finding) -> (f64, RangeInclusive<f64>) {
    match finding {
        Finding::Highest { rate_pps, failed_pps } => (rate_pps as f64, rate_pps as f64..=failed_pps as f64),
        Finding::AtLeast { rate_pps } => (rate_pps as f64, rate_pps as f64..=f64::INFINITY),
        Finding::Nothing { tried_pps, limit: Limit::Relay } => (0.0, 0.0..=tried_pps as f64),
        Finding::Nothing { limit: Limit::Generator, .. } => (0.0, 0.0..=f64::INFINITY),
    }
}

fn found_row(a: Finding, b: Finding) -> Row {
    let ((found_a, range_a), (found_b, range_b)) = (found_pps(a), found_pps(b));
    let is_above =
        |one: &RangeInclusive<f64>, other: &RangeInclusive<f64>| *one.start() > other.end() * (1.0 + RESOLUTION);
    let change = match (a, b) {
        _ if is_above(&range_a, &range_b) || is_above(&range_b, &range_a) => Change::Changed,
        (Finding::Highest { .. }, Finding::Highest { .. }) => Change::WithinNoise,
        _ => Change::Unknown,
    };
    Row { figure: "highest rate", unit: "/s", a: found_a, b: found_b, ratio: ratio(found_a, found_b), change }
}

/// A figure's value in a whole run.
type OfRun = fn(&Report) -> f64;
/// A figure's value in an interval, if it has one.
type OfInterval = fn(&Interval) -> Option<f64>;

fn run_rows(a: &Report, b: &Report) -> Vec<Row> {
    let whole_only: OfInterval = |_| None;
    let figures: [(&str, &str, OfRun, OfInterval); 9] = [
        ("delivered", "/s", |report| report.delivered_pps, |interval| Some(interval.delivered_pps)),
        ("loss", "%", |report| report.loss_percent, loss_percent),
        ("p50", "µs", |report| report.latency_us.p50, |interval| Some(interval.latency_us?.p50)),
        ("p90", "µs", |report| report.latency_us.p90, whole_only),
        ("p99", "µs", |report| report.latency_us.p99, |interval| Some(interval.latency_us?.p99)),
        ("p99.9", "µs", |report| report.latency_us.p99_9, |interval| Some(interval.latency_us?.p99_9)),
        ("max", "µs", |report| report.latency_us.max, whole_only),
        ("late p99", "µs", |report| report.lateness_us.p99, whole_only),
        ("busiest worker", "%", |report| report.busiest_worker_percent, whole_only),
    ];
    let row = |(figure, unit, whole, of_interval): (_, _, OfRun, OfInterval)| {
        let (whole_a, whole_b) = (whole(a), whole(b));
        let intervals = planned(a).zip(planned(b));
        let pairs: Vec<_> = intervals.filter_map(|(a, b)| Some((of_interval(a)?, of_interval(b)?))).collect();
        Row { figure, unit, a: whole_a, b: whole_b, ratio: ratio(whole_a, whole_b), change: change(&pairs) }
    };
    figures.into_iter().map(row).collect()
}

fn loss_percent(interval: &Interval) -> Option<f64> {
    (interval.due > 0).then(|| interval.lost as f64 * 100.0 / interval.due as f64)
}

/// The intervals in which there was something to send.
fn planned(report: &Report) -> impl Iterator<Item = &Interval> {
    let end = report.workload.seconds - report.timeline.interval_seconds / 2.0;
    report.timeline.intervals.iter().take_while(move |interval| interval.at_seconds < end)
}

fn change(pairs: &[(f64, f64)]) -> Change {
    if pairs.len() < INTERVALS_MIN {
        return Change::Unknown;
    }
    let rose = pairs.iter().filter(|(a, b)| b > a).count();
    let fell = pairs.iter().filter(|(a, b)| b < a).count();
    let is_changed = rose.max(fell) as f64 >= pairs.len() as f64 * SHARE_MOVED_MIN;
    if is_changed { Change::Changed } else { Change::WithinNoise }
}

fn ratio(a: f64, b: f64) -> Option<f64> {
    (a != 0.0).then(|| b / a)
}

impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = &self.reports;
        writeln!(out, "A  {a}\nB  {b}\n")?;
        writeln!(out, "{:<16}{:>14}{:>14}{:>9}", "", "A", "B", "B / A")?;
        for Row { figure, unit, a, b, ratio, change } in &self.rows {
            let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}"));
            let value = |value: f64| format!("{} {unit:<2}", numbers::figure(value));
            let change = match change {
                Change::Changed => "changed",
                Change::WithinNoise => "within noise",
                Change::Unknown => "unknown",
            };
            let line = format!("{figure:<16}{:>14}{:>14}{ratio:>9}  {change}", value(*a), value(*b));
            writeln!(out, "{}", line.trim_end())?;
        }
        if !self.differences.is_empty() {
            writeln!(out)?;
        }
        for difference in &self.differences {
            writeln!(out, "may be the reason: {difference}")?;
        }
        writeln!(out, "\n{}", self.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{SearchReport, example};
    use crate::tally::Tally;

    /// A run of a second in which datagram `number` took `latency_us(number)`.
    fn run(latency_us: impl Fn(u64) -> u64) -> Report {
        let mut tally = Tally::new(1_000_000_000);
        for number in 0..1000 {
            let due_ns = number * 1_000_000;
            tally.record_departure(due_ns, due_ns);
            tally.record_sent(due_ns, 1, 0);
            tally.record_delivery(due_ns, due_ns + latency_us(number) * 1000);
        }
        example(&tally)
    }

    fn compared(a: &Report, b: &Report) -> Comparison {
        compare(["a.json".to_owned(), "b.json".to_owned()], a, b).unwrap()
    }

    fn change_of(comparison: &Comparison, figure: &str) -> Change {
        comparison.rows.iter().find(|row| row.figure == figure).unwrap().change
    }

    #[test]
    fn a_steady_change_is_told_from_noise() {
        let noisy = |salt: u64| move |number: u64| 100 + crate::plan::mix(number ^ salt) % 50;
        let same = compared(&run(noisy(1)), &run(noisy(2)));
        for figure in ["delivered", "loss", "p50", "p99"] {
            assert_eq!(change_of(&same, figure), Change::WithinNoise, "{figure}");
        }
        let slower = compared(&run(noisy(1)), &run(|number| 40 + noisy(2)(number)));
        assert_eq!(change_of(&slower, "p50"), Change::Changed);
        assert_eq!(change_of(&slower, "p90"), Change::Unknown);
        let p50 = slower.rows.iter().find(|row| row.figure == "p50").unwrap();
        assert!((p50.ratio.unwrap() - 1.32).abs() < 0.1, "{p50:?}");
    }

    #[test]
    fn one_bad_moment_is_noise() {
        let comparison = compared(&run(|_| 100), &run(|number| if number < 100 { 50_000 } else { 100 }));
        assert_eq!(change_of(&comparison, "p99"), Change::WithinNoise);
    }

    #[test]
    fn short_runs_prove_nothing() {
        assert_eq!(change(&[(1.0, 2.0); INTERVALS_MIN - 1]), Change::Unknown);
        assert_eq!(change(&[(1.0, 2.0); INTERVALS_MIN]), Change::Changed);
    }

    #[test]
    fn different_loads_are_refused_and_named() {
        let (a, mut b) = (run(|_| 100), run(|_| 100));
        b.workload.peers = 5;
        b.workload.size = "imix".to_owned();
        let error = compare([String::new(), String::new()], &a, &b).unwrap_err().to_string();
        assert!(error.contains("peers 4 against 5, size 256 against imix"), "{error}");
        let search = found(Finding::AtLeast { rate_pps: 9 });
        let error = compare([String::new(), String::new()], &a, &search).unwrap_err();
        assert!(error.to_string().contains("one is a search"));
        let mut other = search.clone();
        other.workload.max_loss_percent = 5.0;
        other.search.as_mut().unwrap().trials[0].seconds = 3.0;
        let error = compare([String::new(), String::new()], &search, &other).unwrap_err().to_string();
        assert!(error.contains("trial 1 against 3, max-loss 0.1 against 5"), "{error}");
    }

    /// The report of a search with that result.
    fn found(finding: Finding) -> Report {
        let trial = run(|_| 100);
        let trials = vec![trial.as_trial(false), trial.as_trial(true)];
        trial.with_search(SearchReport { finding, trials })
    }

    fn highest(rate_pps: u64) -> Finding {
        Finding::Highest { rate_pps, failed_pps: rate_pps + rate_pps / 50 }
    }

    #[test]
    fn searches_are_compared_by_what_they_found() {
        let at_least = |rate_pps| Finding::AtLeast { rate_pps };
        let nothing = |limit| Finding::Nothing { tried_pps: 100, limit };
        for (a, b, expected) in [
            (highest(100_000), highest(105_000), Change::WithinNoise),
            (highest(100_000), highest(107_000), Change::Changed),
            (at_least(60_000), highest(100_000), Change::Unknown),
            (at_least(100_000), highest(100_000), Change::Unknown),
            (at_least(120_000), highest(100_000), Change::Changed),
            (at_least(60_000), at_least(120_000), Change::Unknown),
            (nothing(Limit::Relay), highest(100_000), Change::Changed),
            (nothing(Limit::Relay), nothing(Limit::Relay), Change::Unknown),
            (nothing(Limit::Generator), highest(100_000), Change::Unknown),
        ] {
            for (a, b) in [(a, b), (b, a)] {
                assert_eq!(change_of(&compared(&found(a), &found(b)), "highest rate"), expected, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn the_generators_limit_is_mentioned() {
        let bound = compared(&found(Finding::AtLeast { rate_pps: 60_000 }), &found(highest(100_000)));
        assert_eq!(bound.differences, ["A was limited by the generator: its rate is a lower bound"]);
        let mut tally = Tally { sent: 900, delivered: 900, unsent: 100, ..Tally::new(1_000_000_000) };
        tally.busiest_percent = 99.0;
        let cut = compared(&run(|_| 100), &example(&tally));
        assert_eq!(cut.differences, ["B was limited by the generator: behind, busy"]);
        assert!(compared(&run(|_| 100), &run(|_| 100)).differences.is_empty());
    }

    /// What the module's description says about chance, from the binomial distribution.
    #[test]
    fn equal_runs_seldom_look_changed() {
        for intervals in INTERVALS_MIN..=120 {
            let moved_min = (intervals as f64 * SHARE_MOVED_MIN).ceil() as usize;
            let ways = |moved: usize| (0..moved).map(|at| (intervals - at) as f64 / (at + 1) as f64).product::<f64>();
            let upwards = (moved_min..=intervals).map(ways).sum::<f64>() / 2_f64.powf(intervals as f64);
            assert!(2.0 * upwards < 1.0 / 40.0, "{intervals}");
        }
    }

    #[test]
    fn another_host_is_mentioned() {
        let (a, mut b) = (run(|_| 100), run(|_| 100));
        b.circumstances.host.kernel = "Linux 7.0".to_owned();
        let text = compared(&a, &b).to_string();
        assert!(text.contains("may be the reason: kernel Linux 6.18 against Linux 7.0"), "{text}");
        assert!(text.contains("p50") && text.contains("1.000"), "{text}");
    }
}
