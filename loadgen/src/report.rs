//! What a run, or a search, amounts to: figures, verdict, and everything needed to show or compare them. Written as JSON
//! by `--json` and read back by `--compare`.

use serde::{Deserialize, Serialize};

use crate::conditions::{Checked, Condition, Figure};
use crate::latency::{Curve, Percentiles};
use crate::saturation::{BUSY_PERCENT_MAX, LATE_PERCENT_MAX, LATENESS_SHARE_MAX, LATENESS_US_MIN, Sign};
use crate::search::{Finding, Limit, Outcome, RESOLUTION};
use crate::tally::Tally;
use crate::timeline::Series;

/// Share of the planned rate that must have been reached.
const RATE_REACHED_MIN: f64 = 0.99;
/// A pause of the whole generator that is forgiven at the end of the plan, in seconds.
const PAUSE_SECONDS_MAX: f64 = 0.25;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// The relay.
    pub relay: String,
    /// Simulated peers.
    pub peers: u32,
    /// Where they sit.
    pub placement: String,
    /// Who sends to whom.
    pub shape: String,
    /// Datagrams per second, as asked for.
    pub rate: String,
    /// Datagrams per second, on average.
    pub rate_pps: u64,
    /// How long.
    pub seconds: f64,
    /// Bytes of payload, as asked for.
    pub size: String,
    /// Bytes of payload, on average.
    pub size_bytes: u64,
    /// Datagrams due at the same moment.
    pub burst: u64,
    /// Consecutive datagrams of one flow.
    pub run: u64,
    /// Threads.
    pub workers: u32,
    /// Seed of identities, flows and their order.
    pub seed: u64,
    /// Tolerated loss.
    pub max_loss_percent: f64,
}

/// Where and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Circumstances {
    /// Version of this program.
    pub version: String,
    /// When the load began, in seconds since 1970.
    pub started_unix_seconds: u64,
    /// This host.
    pub host: Host,
}

/// The host that made the load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The processor's model.
    pub processor: String,
    /// How many of them the program may use.
    pub processors: u32,
    /// Name and release of the kernel.
    pub kernel: String,
    /// Whether the relay is on this host too, so that both share its processors.
    pub is_shared_with_relay: bool,
}

/// How the peers became known.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Enrolment {
    /// Peers that the relay delivers to.
    pub registered: u32,
    /// Time for all registrations with the directory, unless there was none.
    pub directory_seconds: Option<f64>,
    /// Time until the relay had delivered a probe to every peer.
    pub relay_seconds: f64,
}

/// What the figures amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Loss is tolerable, and the load was what was asked for.
    Ok,
    /// The relay lost more than is tolerated.
    Loss,
    /// The load was not what was asked for, or the generator itself lost too much: the figures show its limit.
    GeneratorLimit,
}

/// A trial of a search, in short.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialReport {
    /// Datagrams per second that were asked for.
    pub rate_pps: u64,
    /// How long.
    pub seconds: f64,
    /// Whether it was to confirm the result.
    pub is_confirmation: bool,
    /// What it showed.
    pub outcome: Outcome,
    /// Datagrams sent a second.
    pub sent_pps: f64,
    /// Datagrams delivered a second.
    pub delivered_pps: f64,
    /// The relay's share of loss.
    pub loss_percent: f64,
    /// From due to arrival.
    pub latency_us: Percentiles,
    /// Signs of the generator's limit.
    pub saturation: Vec<Sign>,
}

/// How the highest rate was searched for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchReport {
    /// The result.
    pub finding: Finding,
    /// All trials, in order.
    pub trials: Vec<TrialReport>,
}

/// The result of a run; of a search, the result of its last trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where and when.
    #[serde(flatten)]
    pub circumstances: Circumstances,
    /// What was asked for.
    pub workload: Workload,
    /// How the peers became known.
    #[serde(flatten)]
    pub enrolment: Enrolment,
    /// Datagrams sent.
    pub sent: u64,
    /// From the start to the last of them, or the planned time if that is longer.
    pub sending_seconds: f64,
    /// Rate at which they were sent.
    pub sent_pps: f64,
    /// Datagrams of the plan never sent.
    pub unsent: u64,
    /// Datagrams the kernel refused to send.
    pub refused: u64,
    /// Datagrams delivered, each counted once.
    pub delivered: u64,
    /// Rate at which they were delivered.
    pub delivered_pps: f64,
    /// Sent and not delivered.
    pub lost: u64,
    /// Those among the lost that this host dropped because the generator did not read in time.
    pub overrun: u64,
    /// The relay's share of loss: lost without overrun, of sent.
    pub loss_percent: f64,
    /// Delivered after a later one of the same flow.
    pub reordered: u64,
    /// Delivered again.
    pub duplicated: u64,
    /// Too far behind to be judged; not among the delivered.
    pub stale: u64,
    /// Changed on the way.
    pub corrupt: u64,
    /// Handed to the wrong peer, or under the wrong sender's name.
    pub misdelivered: u64,
    /// Not of this run.
    pub foreign: u64,
    /// Sessions renewed during the load.
    pub renewed: u64,
    /// From due to arrival at the receiving peer's socket.
    pub latency_us: Percentiles,
    /// Latencies too long for the histogram; they count as its longest.
    pub latency_beyond: u64,
    /// The distribution of latencies.
    pub latency_curve: Curve,
    /// From due to sent: the generator's own part of the latency.
    pub lateness_us: Percentiles,
    /// Datagrams that left later than 10 ms after they were due.
    pub late: u64,
    /// Share of the sending time that the busiest worker's thread spent on a processor.
    pub busiest_worker_percent: f64,
    /// Signs of the generator's limit.
    pub saturation: Vec<Sign>,
    /// The run over time.
    pub timeline: Series,
    /// The search, if this was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchReport>,
    /// What became of the conditions of `--fail-if`.
    pub conditions: Vec<Checked>,
    /// What it amounts to, conditions apart.
    pub verdict: Verdict,
}

impl Report {
    /// Draws up the report of a run.
    #[must_use]
    pub fn new(circumstances: Circumstances, workload: Workload, enrolment: Enrolment, tally: &Tally) -> Self {
        let lost = tally.sent.saturating_sub(tally.delivered);
        let overrun = tally.overrun.min(lost);
        let sending_seconds = tally.last_sent.as_secs_f64().max(workload.seconds);
        let mut report = Self {
            circumstances,
            workload,
            enrolment,
            sent: tally.sent,
            sending_seconds,
            sent_pps: tally.sent as f64 / sending_seconds,
            unsent: tally.unsent,
            refused: tally.refused,
            delivered: tally.delivered,
            delivered_pps: tally.delivered as f64 / sending_seconds,
            lost,
            overrun,
            loss_percent: percent(lost - overrun, tally.sent),
            reordered: tally.reordered,
            duplicated: tally.duplicated,
            stale: tally.stale,
            corrupt: tally.corrupt,
            misdelivered: tally.misdelivered,
            foreign: tally.foreign,
            renewed: tally.renewed,
            latency_us: tally.latency.percentiles(),
            latency_beyond: tally.latency.beyond(),
            latency_curve: tally.latency.curve(),
            lateness_us: tally.lateness.percentiles(),
            late: tally.late,
            busiest_worker_percent: tally.busiest_percent,
            saturation: Vec::new(),
            timeline: tally.timeline.series(),
            search: None,
            conditions: Vec::new(),
            verdict: Verdict::Ok,
        };
        report.saturation = report.signs();
        report.verdict = report.judge();
        report
    }

    /// The report of a search whose last trial this was.
    #[must_use]
    pub fn with_search(self, search: SearchReport) -> Self {
        let verdict = match search.finding {
            Finding::Highest { .. } | Finding::AtLeast { .. } => Verdict::Ok,
            Finding::Nothing { limit: Limit::Relay, .. } => Verdict::Loss,
            Finding::Nothing { limit: Limit::Generator, .. } => Verdict::GeneratorLimit,
        };
        Self { search: Some(search), verdict, ..self }
    }

    /// Checks `conditions` and keeps what became of them.
    pub fn check(&mut self, conditions: &[Condition]) {
        self.conditions = conditions.iter().map(|condition| condition.check(self.figure(condition.figure()))).collect();
    }

    /// A figure by name; latencies exist only if something was delivered.
    #[must_use]
    pub fn figure(&self, figure: Figure) -> Option<f64> {
        let latency = |us: f64| (self.delivered > 0).then_some(us);
        match figure {
            Figure::Loss => Some(self.loss_percent),
            Figure::P50 => latency(self.latency_us.p50),
            Figure::P90 => latency(self.latency_us.p90),
            Figure::P99 => latency(self.latency_us.p99),
            Figure::P999 => latency(self.latency_us.p99_9),
            Figure::Max => latency(self.latency_us.max),
            Figure::Rate => Some(self.delivered_pps),
            Figure::Late => Some(percent(self.late, self.sent + self.refused)),
            Figure::Duplicated => Some(percent(self.duplicated, self.sent)),
            Figure::Reordered => Some(percent(self.reordered, self.sent)),
        }
    }

    /// What this run shows as a trial of a search. Unlike [`Verdict`], it never holds against the relay what it lost
    /// while the generator was late, and no rate counts as carried that was not really made: the next trial knows better.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.verdict {
            Verdict::Ok if !self.is_behind() => Outcome::Carried,
            Verdict::Ok => Outcome::GeneratorLimit,
            Verdict::Loss if !self.is_late() => Outcome::Lossy,
            Verdict::Loss | Verdict::GeneratorLimit => Outcome::GeneratorLimit,
        }
    }

    /// This run as a trial of a search.
    #[must_use]
    pub fn as_trial(&self, is_confirmation: bool) -> TrialReport {
        TrialReport {
            rate_pps: self.workload.rate_pps,
            seconds: self.workload.seconds,
            is_confirmation,
            outcome: self.outcome(),
            sent_pps: self.sent_pps,
            delivered_pps: self.delivered_pps,
            loss_percent: self.loss_percent,
            latency_us: self.latency_us,
            saturation: self.saturation.clone(),
        }
    }

    fn judge(&self) -> Verdict {
        let max_loss = self.workload.max_loss_percent;
        // A generator that is behind catches up in bursts nobody asked for. What these lose is not the relay's fault,
        // but no more than they are.
        let excused = if self.is_late() { self.late } else { 0 };
        let inexcusable = (self.lost - self.overrun).saturating_sub(excused);
        if percent(inexcusable, self.sent) > max_loss {
            Verdict::Loss
        } else if percent(self.lost, self.sent) > max_loss || !self.is_rate_reached() {
            Verdict::GeneratorLimit
        } else {
            Verdict::Ok
        }
    }

    fn is_late(&self) -> bool {
        percent(self.late, self.sent + self.refused) > LATE_PERCENT_MAX
    }

    /// Whether the latencies are more the generator's than they may be without saying so.
    fn is_imprecise(&self) -> bool {
        let (lateness_us, latency_us) = (self.lateness_us.p99, self.latency_us.p99);
        self.delivered > 0 && lateness_us > LATENESS_US_MIN && lateness_us > latency_us * LATENESS_SHARE_MAX
    }

    /// Whether nearly all was sent, nearly in time. Short runs are not failed for one pause.
    fn is_rate_reached(&self) -> bool {
        let planned = self.sent + self.unsent + self.refused;
        self.sent as f64 >= planned as f64 * RATE_REACHED_MIN
            && self.sending_seconds <= self.workload.seconds / RATE_REACHED_MIN + PAUSE_SECONDS_MAX
    }

    /// Whether less was sent than a search can tell apart, pause or not.
    fn is_behind(&self) -> bool {
        !self.is_rate_reached() || self.sent_pps < self.workload.rate_pps as f64 * (1.0 - RESOLUTION)
    }

    fn signs(&self) -> Vec<Sign> {
        let (lateness_p99_us, latency_p99_us) = (self.lateness_us.p99, self.latency_us.p99);
        let signs = [
            (self.is_behind(), Sign::Behind { sent_pps: self.sent_pps, asked_pps: self.workload.rate_pps }),
            (self.refused > 0, Sign::Refused { datagrams: self.refused }),
            (self.overrun > 0, Sign::Overrun { datagrams: self.overrun }),
            (self.is_late(), Sign::Late { datagrams: self.late, p99_us: lateness_p99_us }),
            (self.is_imprecise() && !self.is_late(), Sign::Imprecise { lateness_p99_us, latency_p99_us }),
            (self.busiest_worker_percent > BUSY_PERCENT_MAX, Sign::Busy { percent: self.busiest_worker_percent }),
        ];
        signs.into_iter().filter_map(|(is_there, sign)| is_there.then_some(sign)).collect()
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// A report of four peers at 1000 datagrams a second for a second, for tests.
#[cfg(test)]
pub(crate) fn example(tally: &Tally) -> Report {
    let circumstances = Circumstances {
        version: "0.0.0".to_owned(),
        started_unix_seconds: 1_795_368_000,
        host: Host {
            processor: "Test <CPU>".to_owned(),
            processors: 2,
            kernel: "Linux 6.18".to_owned(),
            is_shared_with_relay: true,
        },
    };
    let workload = Workload {
        relay: "127.0.0.1:9001".to_owned(),
        peers: 4,
        placement: "each at its own address".to_owned(),
        shape: "pairs".to_owned(),
        rate: "1000".to_owned(),
        rate_pps: 1000,
        seconds: 1.0,
        size: "256".to_owned(),
        size_bytes: 256,
        burst: 1,
        run: 1,
        workers: 1,
        seed: 1,
        max_loss_percent: 0.1,
    };
    let enrolment = Enrolment { registered: 4, directory_seconds: Some(0.25), relay_seconds: 0.5 };
    Report::new(circumstances, workload, enrolment, tally)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(tally: &Tally) -> Report {
        example(tally)
    }

    fn all_sent() -> Tally {
        Tally { sent: 1000, last_sent: Duration::from_millis(999), ..Tally::new(1_000_000_000) }
    }

    #[test]
    fn nothing_lost_is_ok() {
        let report = report(&Tally { delivered: 1000, ..all_sent() });
        assert_eq!((report.verdict, report.lost, report.loss_percent), (Verdict::Ok, 0, 0.0));
        assert!((report.sent_pps - 1000.0).abs() < 0.1);
    }

    #[test]
    fn loss_at_the_limit_is_ok_and_above_it_is_not() {
        assert_eq!(report(&Tally { delivered: 999, ..all_sent() }).verdict, Verdict::Ok);
        assert_eq!(report(&Tally { delivered: 998, ..all_sent() }).verdict, Verdict::Loss);
    }

    #[test]
    fn what_the_generator_drops_is_not_the_relays_loss() {
        let report = report(&Tally { delivered: 900, overrun: 100, ..all_sent() });
        assert_eq!((report.verdict, report.lost), (Verdict::GeneratorLimit, 100));
        assert_eq!(report.loss_percent, 0.0);
        assert!(report.to_string().contains("dropped in the generator's own sockets"));
    }

    #[test]
    fn a_rate_not_reached_is_the_generators_limit() {
        let cut = report(&Tally { sent: 900, delivered: 900, unsent: 100, ..all_sent() });
        assert_eq!(cut.verdict, Verdict::GeneratorLimit);
        let slow = report(&Tally { delivered: 1000, last_sent: Duration::from_millis(1500), ..all_sent() });
        assert_eq!(slow.verdict, Verdict::GeneratorLimit);
        assert!(slow.to_string().contains("reached 667 of 1000 datagrams a second"), "{slow}");
    }

    #[test]
    fn losses_of_a_generator_that_is_behind_are_not_blamed_on_the_relay() {
        let verdict = |late, delivered| report(&Tally { late, delivered, ..all_sent() }).verdict;
        assert_eq!(verdict(100, 900), Verdict::GeneratorLimit);
        assert_eq!(verdict(100, 898), Verdict::Loss, "more is lost than was late");
        assert_eq!(verdict(10, 990), Verdict::Loss, "one late in a hundred is no excuse");
        assert_eq!(verdict(1000, 1000), Verdict::Ok, "late but delivered");
    }

    #[test]
    fn a_pause_is_forgiven_in_a_short_run() {
        let ended = |millis| report(&Tally { delivered: 1000, last_sent: Duration::from_millis(millis), ..all_sent() });
        assert_eq!(ended(1250).verdict, Verdict::Ok);
        assert_eq!(ended(1270).verdict, Verdict::GeneratorLimit);
    }

    #[test]
    fn every_sign_of_the_generators_limit_is_named() {
        let strained = Tally {
            sent: 900,
            unsent: 50,
            refused: 50,
            delivered: 800,
            overrun: 100,
            late: 20,
            busiest_percent: 99.0,
            ..all_sent()
        };
        let names: Vec<_> = report(&strained).saturation.iter().map(Sign::name).collect();
        assert_eq!(names, ["behind", "refused", "overrun", "late", "busy"]);
        assert!(report(&Tally { delivered: 1000, busiest_percent: 80.0, ..all_sent() }).saturation.is_empty());
    }

    #[test]
    fn latencies_that_are_partly_the_generators_are_marked() {
        let signs = |lateness_us: u64, latency_us: u64| {
            let mut tally = Tally { delivered: 999, ..all_sent() };
            tally.record_departure(0, lateness_us * 1000);
            tally.record_delivery(0, latency_us * 1000);
            report(&tally).saturation
        };
        let [Sign::Imprecise { lateness_p99_us, latency_p99_us }] = signs(5_000, 6_000)[..] else { panic!("a sign") };
        assert!((lateness_p99_us - 5_000.0).abs() < 50.0 && (latency_p99_us - 6_000.0).abs() < 50.0);
        assert_eq!(signs(1_000, 4_200), [], "less than a quarter");
        assert_eq!(signs(90, 100), [], "the grain of the timers");
        let mut silent = all_sent();
        silent.record_departure(0, 5_000_000);
        assert_eq!(report(&silent).saturation, [], "no latency, no share of it");
    }

    #[test]
    fn true_conditions_prove_nothing_at_the_generators_limit() {
        let conclusion = |tally| {
            let mut report = report(&tally);
            report.check(&Condition::parse_list("rate<5k").unwrap());
            report.conclusion()
        };
        assert_eq!(conclusion(Tally { delivered: 1000, ..all_sent() }), "failed by rate<5k; loss is within 0.1 %");
        let cut = conclusion(Tally { sent: 900, delivered: 900, unsent: 100, ..all_sent() });
        assert_eq!(cut, "this is the generator's limit, not the relay's; nothing follows from rate<5k");
    }

    #[test]
    fn a_search_never_blames_the_relay_for_a_late_generator() {
        let outcome = |late, delivered| report(&Tally { late, delivered, ..all_sent() }).outcome();
        assert_eq!(outcome(0, 1000), Outcome::Carried);
        assert_eq!(outcome(0, 900), Outcome::Lossy);
        assert_eq!(outcome(100, 500), Outcome::GeneratorLimit);
        let slow = report(&Tally { delivered: 1000, last_sent: Duration::from_millis(1100), ..all_sent() });
        assert_eq!((slow.verdict, slow.outcome()), (Verdict::Ok, Outcome::GeneratorLimit), "forgiven, but not carried");
        let overrun = report(&Tally { overrun: 100, delivered: 900, ..all_sent() });
        assert_eq!(overrun.outcome(), Outcome::GeneratorLimit);
    }

    #[test]
    fn conditions_are_checked_against_the_figures() {
        let mut report = report(&Tally { delivered: 990, ..all_sent() });
        report.check(&Condition::parse_list("loss>0.5%,rate<980,late>0%").unwrap());
        assert_eq!(report.conditions.iter().map(|checked| checked.is_true).collect::<Vec<_>>(), [true, false, false]);
        let mut silent = example(&all_sent());
        silent.check(&Condition::parse_list("p99>1s").unwrap());
        assert!(silent.conditions[0].is_true, "no latency is no good latency");
    }

    #[test]
    fn a_report_is_read_back_as_it_was_written() {
        let mut tally = Tally { delivered: 0, ..all_sent() };
        tally.record_departure(0, 5_000);
        tally.record_delivery(0, 50_000);
        let mut report = report(&tally);
        report.check(&Condition::parse_list("p99>1s").unwrap());
        let search = SearchReport { finding: Finding::AtLeast { rate_pps: 7 }, trials: vec![report.as_trial(true)] };
        let written = serde_json::to_string(&report.with_search(search)).unwrap();
        let read: Report = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), written);
    }

    #[test]
    fn json_has_a_stable_shape() {
        let value = serde_json::to_value(report(&all_sent())).unwrap();
        let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let expected = [
            "busiest_worker_percent",
            "conditions",
            "corrupt",
            "delivered",
            "delivered_pps",
            "directory_seconds",
            "duplicated",
            "foreign",
            "host",
            "late",
            "latency_beyond",
            "latency_curve",
            "latency_us",
            "lateness_us",
            "loss_percent",
            "lost",
            "misdelivered",
            "overrun",
            "refused",
            "registered",
            "relay_seconds",
            "renewed",
            "reordered",
            "saturation",
            "sending_seconds",
            "sent",
            "sent_pps",
            "stale",
            "started_unix_seconds",
            "timeline",
            "unsent",
            "verdict",
            "version",
            "workload",
        ];
        assert_eq!(keys, expected);
        assert_eq!(value["verdict"], "loss");
        assert_eq!(value["workload"]["rate_pps"], 1000);
        assert_eq!(value["latency_us"]["p99_9"], 0.0);
    }
}
