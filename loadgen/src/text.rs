//! The report in words.

use std::fmt;

use crate::numbers::{grouped, time};
use crate::report::{Enrolment, Report, TrialReport, Verdict, Workload};
use crate::search::{Finding, Limit, Outcome};

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Workload { peers, rate, seconds, size, burst, shape, placement, .. } = &self.workload;
        let Enrolment { registered, directory_seconds, relay_seconds } = self.enrolment;
        let directory = directory_seconds.map(|seconds| format!("in {seconds:.1} s with the directory, "));
        writeln!(
            out,
            "registered    {registered} of {peers} {}in {relay_seconds:.1} s with the relay; {placement}",
            directory.unwrap_or_default()
        )?;
        if let Some(search) = &self.search {
            writeln!(out, "trials        {}; the figures below are of the last one", search.trials.len())?;
        }
        writeln!(
            out,
            "sent          {} in {seconds} s, {:.0}/s of {rate}/s asked for, {size} bytes each, bursts of {burst}; {shape}",
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
        if self.latency_beyond > 0 {
            writeln!(out, "              {} took longer than 60 s and count as that", self.latency_beyond)?;
        }
        writeln!(out, "lateness      {} from due to sent, the generator's part", self.lateness_us)?;
        for remark in self.remarks() {
            writeln!(out, "note          {remark}")?;
        }
        for checked in &self.conditions {
            writeln!(out, "condition     {checked}")?;
        }
        writeln!(out, "verdict       {}", self.conclusion())
    }
}

impl Report {
    /// What a reader must know before believing the figures.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        let host = &self.circumstances.host;
        let is_shared = self.search.is_some() && host.is_shared_with_relay;
        let shared = is_shared.then(|| {
            format!(
                "relay and generator share the {} processors of this host: alone the relay may carry more",
                host.processors
            )
        });
        self.saturation.iter().map(ToString::to_string).chain(shared)
    }

    /// The verdict or the result of the search, and the conditions that are true, in a sentence.
    #[must_use]
    pub fn conclusion(&self) -> String {
        let max_loss = self.workload.max_loss_percent;
        let broken: Vec<_> = self
            .conditions
            .iter()
            .filter(|checked| checked.is_true)
            .map(|checked| checked.condition.as_str())
            .collect();
        let verdict = match (&self.search, self.verdict) {
            (Some(search), _) => search.finding.to_string(),
            (None, Verdict::Ok) if broken.is_empty() => format!("ok, loss is within {max_loss} %"),
            (None, Verdict::Ok) => format!("loss is within {max_loss} %"),
            (None, Verdict::Loss) => format!("loss is above {max_loss} %"),
            (None, Verdict::GeneratorLimit) => "this is the generator's limit, not the relay's".to_owned(),
        };
        match self.verdict {
            _ if broken.is_empty() => verdict,
            Verdict::GeneratorLimit => format!("{verdict}; nothing follows from {}", broken.join(" and ")),
            Verdict::Ok | Verdict::Loss => format!("failed by {}; {verdict}", broken.join(" and ")),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Highest { rate_pps, failed_pps } => write!(
                out,
                "the relay carries {} datagrams a second; at {} it loses too many",
                grouped(rate_pps),
                grouped(failed_pps)
            ),
            Self::AtLeast { rate_pps } => write!(
                out,
                "the relay carries at least {} datagrams a second; the generator on this host is the limit",
                grouped(rate_pps)
            ),
            Self::Nothing { tried_pps, limit: Limit::Relay } => {
                write!(out, "no rate held: the relay loses too many even at {} datagrams a second", grouped(tried_pps))
            }
            Self::Nothing { tried_pps, limit: Limit::Generator } => write!(
                out,
                "nothing found: this host could not make even {} datagrams a second in time",
                grouped(tried_pps)
            ),
        }
    }
}

impl fmt::Display for TrialReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Carried if self.is_confirmation => "confirmed".to_owned(),
            Outcome::Carried => "carried".to_owned(),
            Outcome::Lossy => "the relay lost too many".to_owned(),
            Outcome::GeneratorLimit => {
                let signs: Vec<_> = self.saturation.iter().map(crate::saturation::Sign::name).collect();
                format!("the generator's limit: {}", signs.join(", "))
            }
        };
        write!(
            out,
            "{:>10}/s for {} s  delivered {:>10}/s  loss {:>8.4} %  p99 {:>9}  {outcome}",
            grouped(self.rate_pps),
            self.seconds,
            grouped(self.delivered_pps as u64),
            self.loss_percent,
            time(self.latency_us.p99),
        )
    }
}
