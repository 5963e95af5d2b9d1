//! The accounts of a run and what they say: counts and histograms of each worker, their sum, the verdict, text, JSON.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// A datagram that leaves later than this after it was due counts as late.
pub const LATE: Duration = Duration::from_millis(10);
/// Share of late datagrams above which latencies tell more about the generator than about the relay.
const LATE_PERCENT_MAX: f64 = 1.0;
/// Share of the planned rate that must have been reached.
const RATE_REACHED_MIN: f64 = 0.99;
/// A pause of the whole generator that is forgiven at the end of the plan.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// The longest time a histogram tells apart; longer ones count as this.
const HISTOGRAM_MAX: Duration = Duration::from_secs(60);
const SIGNIFICANT_DIGITS: u8 = 3;

/// What one worker counted, or several together.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Datagrams the kernel took.
    pub sent: u64,
    /// Datagrams of the plan that were never sent, because the generator was too far behind.
    pub unsent: u64,
    /// Datagrams the kernel refused to send.
    pub refused: u64,
    /// Datagrams sent later than [`LATE`].
    pub late: u64,
    /// First arrivals at the right peer, intact.
    pub delivered: u64,
    /// Those among them that came after a later one of their pair.
    pub reordered: u64,
    /// Further arrivals.
    pub duplicated: u64,
    /// Arrivals so far behind that first and further ones cannot be told apart.
    pub stale: u64,
    /// Arrivals with a changed length or content.
    pub corrupt: u64,
    /// Arrivals at the wrong peer or under the wrong sender's name.
    pub misdelivered: u64,
    /// Arrivals that are not of this run.
    pub foreign: u64,
    /// Sessions renewed.
    pub renewed: u64,
    /// Datagrams that reached this host but were dropped because the generator did not read in time.
    pub overrun: u64,
    /// When the last datagram was sent, after the start of the load.
    pub last_sent: Duration,
    /// From due to arrival, in nanoseconds.
    pub latency: Histogram<u64>,
    /// From due to sent, in nanoseconds.
    pub lateness: Histogram<u64>,
}

impl Tally {
    /// Records that datagrams due at `due_ns` left at `now_ns`.
    pub fn record_departure(&mut self, due_ns: u64, now_ns: u64) {
        let lateness = now_ns.saturating_sub(due_ns);
        self.lateness.saturating_record(lateness);
        self.late += u64::from(u128::from(lateness) > LATE.as_nanos());
    }

    /// Records a first arrival.
    pub fn record_delivery(&mut self, due_ns: u64, arrived_ns: u64) {
        self.delivered += 1;
        self.latency.saturating_record(arrived_ns.saturating_sub(due_ns));
    }

    /// Adds what another worker counted.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.refused += other.refused;
        self.late += other.late;
        self.delivered += other.delivered;
        self.reordered += other.reordered;
        self.duplicated += other.duplicated;
        self.stale += other.stale;
        self.corrupt += other.corrupt;
        self.misdelivered += other.misdelivered;
        self.foreign += other.foreign;
        self.renewed += other.renewed;
        self.overrun += other.overrun;
        self.last_sent = self.last_sent.max(other.last_sent);
        self.latency += &other.latency;
        self.lateness += &other.lateness;
    }
}

impl Default for Tally {
    fn default() -> Self {
        let longest = u64::try_from(HISTOGRAM_MAX.as_nanos()).expect("a minute");
        let empty = Histogram::new_with_bounds(1, longest, SIGNIFICANT_DIGITS).expect("constant bounds are valid");
        Self {
            sent: 0,
            unsent: 0,
            refused: 0,
            late: 0,
            delivered: 0,
            reordered: 0,
            duplicated: 0,
            stale: 0,
            corrupt: 0,
            misdelivered: 0,
            foreign: 0,
            renewed: 0,
            overrun: 0,
            last_sent: Duration::ZERO,
            latency: empty.clone(),
            lateness: empty,
        }
    }
}

/// What was asked for, as far as the report repeats it.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    /// Simulated peers.
    pub peers: u32,
    /// Where they sit.
    pub placement: String,
    /// Datagrams per second.
    pub rate_pps: u64,
    /// How long.
    pub seconds: f64,
    /// Bytes of payload.
    pub size_bytes: usize,
    /// Datagrams due at the same moment.
    pub burst: u64,
    /// Consecutive datagrams of one pair.
    pub run: u64,
    /// Threads.
    pub workers: u32,
    /// Seed of pairs and senders.
    pub seed: u64,
    /// Tolerated loss.
    pub max_loss_percent: f64,
}

/// How the peers became known.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Enrolment {
    /// Peers that the relay delivers to.
    pub registered: u32,
    /// Time for all registrations with the directory, unless there was none.
    pub directory_seconds: Option<f64>,
    /// Time until the relay had delivered a probe to every peer.
    pub relay_seconds: f64,
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// Half are shorter.
    pub p50: f64,
    /// 99 % are shorter.
    pub p99: f64,
    /// 99.9 % are shorter.
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        Self {
            p50: microseconds(histogram.value_at_quantile(0.5)),
            p99: microseconds(histogram.value_at_quantile(0.99)),
            p99_9: microseconds(histogram.value_at_quantile(0.999)),
            max: microseconds(histogram.max()),
        }
    }
}

/// What the figures amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Loss is tolerable, and the load was what was asked for.
    Ok,
    /// The relay lost more than is tolerated.
    Loss,
    /// The load was not what was asked for, or the generator itself lost too much: the figures show its limit.
    GeneratorLimit,
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
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
    /// Sent and not delivered.
    pub lost: u64,
    /// Those among the lost that this host dropped because the generator did not read in time.
    pub overrun: u64,
    /// The relay's share of loss: lost without overrun, of sent.
    pub loss_percent: f64,
    /// Delivered after a later one of the same pair.
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
    /// From due to sent: the generator's own part of the latency.
    pub lateness_us: Percentiles,
    /// Datagrams that left later than 10 ms after they were due.
    pub late: u64,
    /// What it amounts to.
    pub verdict: Verdict,
}

impl Report {
    /// Draws up the report.
    #[must_use]
    pub fn new(workload: Workload, enrolment: Enrolment, tally: &Tally) -> Self {
        let lost = tally.sent.saturating_sub(tally.delivered);
        let overrun = tally.overrun.min(lost);
        let sending_seconds = tally.last_sent.as_secs_f64().max(workload.seconds);
        let mut report = Self {
            workload,
            enrolment,
            sent: tally.sent,
            sending_seconds,
            sent_pps: tally.sent as f64 / sending_seconds,
            unsent: tally.unsent,
            refused: tally.refused,
            delivered: tally.delivered,
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
            latency_us: (&tally.latency).into(),
            lateness_us: (&tally.lateness).into(),
            late: tally.late,
            verdict: Verdict::Ok,
        };
        report.verdict = report.judge();
        report
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

    /// Whether nearly all was sent, nearly in time. Short runs are not failed for one pause.
    fn is_rate_reached(&self) -> bool {
        let planned = self.sent + self.unsent + self.refused;
        self.sent as f64 >= planned as f64 * RATE_REACHED_MIN
            && self.sending_seconds <= self.workload.seconds / RATE_REACHED_MIN + PAUSE_MAX.as_secs_f64()
    }

    /// What a reader must know before believing the figures.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.is_rate_reached() {
            remarks.push(format!(
                "the generator reached {:.0} of {} datagrams a second: lower --rate, or add --workers",
                self.sent_pps, self.workload.rate_pps
            ));
        }
        if self.refused > 0 {
            remarks.push(format!("this host refused to send {} datagrams; they count as never sent", self.refused));
        }
        if self.overrun > 0 {
            remarks.push(format!(
                "{} of the lost reached this host and were dropped in the generator's own sockets; they do not count as \
                 the relay's loss",
                self.overrun
            ));
        }
        if self.is_late() {
            remarks.push(format!(
                "{} left more than {} ms late and in bursts: latencies and losses are the generator's too",
                self.late,
                LATE.as_millis()
            ));
        }
        remarks
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Workload { peers, rate_pps, seconds, size_bytes, burst, max_loss_percent, placement, .. } = &self.workload;
        let Enrolment { registered, directory_seconds, relay_seconds } = self.enrolment;
        let directory = directory_seconds.map(|seconds| format!("in {seconds:.1} s with the directory, "));
        writeln!(
            out,
            "registered    {registered} of {peers} {}in {relay_seconds:.1} s with the relay; {placement}",
            directory.unwrap_or_default()
        )?;
        writeln!(
            out,
            "sent          {} in {seconds} s, {:.0}/s of {rate_pps}/s asked for, {size_bytes} bytes each, bursts of {burst}",
            self.sent, self.sent_pps
        )?;
        writeln!(out, "delivered     {}", self.delivered)?;
        writeln!(out, "lost          {} ({:.4} %)", self.lost, self.loss_percent)?;
        writeln!(out, "reordered     {}", self.reordered)?;
        writeln!(out, "duplicated    {}", self.duplicated)?;
        writeln!(
            out,
            "wrong         {} corrupt, {} misdelivered, {} stale, {} foreign",
            self.corrupt, self.misdelivered, self.stale, self.foreign
        )?;
        writeln!(out, "latency       {} from due to arrival", self.latency_us)?;
        writeln!(out, "lateness      {} from due to sent, the generator's part", self.lateness_us)?;
        for remark in self.remarks() {
            writeln!(out, "note          {remark}")?;
        }
        match self.verdict {
            Verdict::Ok => writeln!(out, "verdict       ok, loss is within {max_loss_percent} %"),
            Verdict::Loss => writeln!(out, "verdict       loss is above {max_loss_percent} %"),
            Verdict::GeneratorLimit => writeln!(out, "verdict       this is the generator's limit, not the relay's"),
        }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, p99_9, max } = self;
        write!(out, "p50 {p50:.0} µs  p99 {p99:.0} µs  p99.9 {p99_9:.0} µs  max {max:.0} µs")
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload {
            peers: 4,
            placement: "each at its own address".to_owned(),
            rate_pps: 1000,
            seconds: 1.0,
            size_bytes: 256,
            burst: 1,
            run: 1,
            workers: 1,
            seed: 1,
            max_loss_percent: 0.1,
        }
    }

    fn report(tally: &Tally) -> Report {
        let enrolment = Enrolment { registered: 4, directory_seconds: Some(0.25), relay_seconds: 0.5 };
        Report::new(workload(), enrolment, tally)
    }

    fn all_sent() -> Tally {
        Tally { sent: 1000, last_sent: Duration::from_millis(999), ..Tally::default() }
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
    fn lateness_is_recorded_and_remarked() {
        let mut tally = Tally { delivered: 1000, ..all_sent() };
        for number in 0..1000 {
            tally.record_departure(0, if number < 20 { 10_000_001 } else { 10_000_000 });
        }
        assert_eq!(tally.late, 20);
        let report = report(&tally);
        assert_eq!((report.late, report.verdict), (20, Verdict::Ok));
        assert!(report.to_string().contains("20 left more than 10 ms late"));
    }

    #[test]
    fn latency_counts_from_due() {
        let mut tally = Tally::default();
        for latency in 1..=1000 {
            tally.record_delivery(5_000, 5_000 + latency * 1000);
        }
        let percentiles = Percentiles::from(&tally.latency);
        assert!((percentiles.p50 - 500.0).abs() < 1.0, "{percentiles}");
        assert!((percentiles.p99 - 990.0).abs() < 1.0, "{percentiles}");
        assert!((percentiles.max - 1000.0).abs() < 1.0, "{percentiles}");
    }

    #[test]
    fn workers_add_up() {
        let mut one = Tally { delivered: 1, foreign: 2, ..all_sent() };
        one.record_delivery(0, 5);
        let mut both = one.clone();
        both.add(&one);
        assert_eq!((both.sent, both.delivered, both.foreign, both.latency.len()), (2000, 4, 4, 2));
        assert_eq!(both.last_sent, one.last_sent);
    }

    #[test]
    fn json_has_a_stable_shape() {
        let value = serde_json::to_value(report(&all_sent())).unwrap();
        let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let expected = [
            "corrupt",
            "delivered",
            "directory_seconds",
            "duplicated",
            "foreign",
            "late",
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
            "sending_seconds",
            "sent",
            "sent_pps",
            "stale",
            "unsent",
            "verdict",
            "workload",
        ];
        assert_eq!(keys, expected);
        assert_eq!(value["verdict"], "loss");
        assert_eq!(value["workload"]["rate_pps"], 1000);
        assert_eq!(value["latency_us"]["p99_9"], 0.0);
    }
}
