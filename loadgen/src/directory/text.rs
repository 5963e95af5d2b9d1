//! The report on a directory in words.

use std::fmt;

use super::report::{Load, Phase, Report, Step, Verdict, Workload};
use crate::numbers::{figure, grouped, time};
use crate::search::{Finding, Limit};

const MEBIBYTE: f64 = 1_048_576.0;

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Workload { registry, nodes, groups, connections, workers, .. } = &self.workload;
        let process = self.process.map_or("process not seen".to_owned(), |process| format!("process {}", process.pid));
        writeln!(
            out,
            "directory         {registry}, {process}; {} nodes in {groups} groups, {connections} connections, \
             {workers} workers",
            grouped((*nodes).into())
        )?;
        for step in &self.enrolment {
            writeln!(out, "{step}")?;
        }
        if !self.phases.is_empty() {
            writeln!(
                out,
                "{:<17} {:>9} {:>9} {:>7} {:>9} {:>9} {:>9} {:>11} {:>9}",
                "kind", "rate/s", "answered", "errors", "p50", "p99", "max", "per core-s", "bytes"
            )?;
        }
        for phase in &self.phases {
            write!(out, "{phase}")?;
        }
        if let Some(process) = self.process {
            writeln!(
                out,
                "memory            {:.1} MiB resident before, {:.1} MiB after, {:.1} MiB at most",
                process.before.resident_bytes as f64 / MEBIBYTE,
                process.after.resident_bytes as f64 / MEBIBYTE,
                process.after.peak_bytes as f64 / MEBIBYTE,
            )?;
        }
        for remark in self.remarks() {
            writeln!(out, "note              {remark}")?;
        }
        writeln!(
            out,
            "verdict           {}",
            match self.verdict {
                Verdict::Ok => "ok",
                Verdict::Errors => "not all answers were right",
                Verdict::Slow => "answers came too late",
                Verdict::GeneratorLimit => "this is the generator's limit, not the directory's",
            }
        )
    }
}

impl Report {
    /// What a reader must know before believing the figures.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let loads = || self.phases.iter().filter_map(|phase| phase.load.as_ref().map(|load| (phase.kind, load)));
        for (kind, load) in loads() {
            for (text, count) in &load.errors {
                remarks.push(format!("{}: {count} × {text}", kind.name()));
            }
        }
        if loads().any(|(_, load)| load.errors.keys().any(|text| text.contains("rate limited"))) {
            remarks.push(
                "the directory's limits answered, not the directory: run on its host, or start it with --exempt".into(),
            );
        }
        for (kind, load) in loads().filter(|(_, load)| load.is_imprecise()) {
            remarks.push(format!(
                "{}: the lateness of {} at p99 is a good part of the latency: the generator's",
                kind.name(),
                time(load.lateness_us.p99)
            ));
        }
        if self.process.is_none() {
            remarks.push("the directory's process is not to be seen from here: nothing is said per core".into());
        } else if self.host.is_shared_with_relay {
            remarks.push(format!(
                "directory and generator share the {} processors of this host; a core is a second of the directory's \
                 processor time, the kernel's work for it included",
                self.host.processors
            ));
        }
        remarks
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:<17} {} in {:.1} s, {}/s",
            self.name,
            grouped(self.requests),
            self.seconds,
            figure(self.per_second)
        )?;
        if let Some(per_core) = self.per_processor_second {
            write!(out, ", {} per core-second", figure(per_core))?;
        }
        match self.memory {
            Some(memory) => write!(out, "; {:.1} MiB resident then", memory.resident_bytes as f64 / MEBIBYTE),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(load) = &self.load {
            writeln!(out, "{:<17} {load}", self.kind.name())?;
        }
        let Some(search) = &self.search else { return Ok(()) };
        match search.finding {
            Finding::Highest { .. } | Finding::AtLeast { .. } => {
                if let Some(load) = search.trials.last() {
                    writeln!(out, "  at its maximum  {load}")?;
                }
                match search.finding {
                    Finding::AtLeast { .. } => writeln!(out, "  or more: the generator is the limit"),
                    _ => Ok(()),
                }
            }
            Finding::Nothing { tried_pps, limit: Limit::Relay } => {
                writeln!(out, "{:<17} too slow even at {}/s", self.kind.name(), grouped(tried_pps))
            }
            Finding::Nothing { tried_pps, limit: Limit::Generator } => writeln!(
                out,
                "{:<17} nothing found: this host could not make even {}/s in time",
                self.kind.name(),
                grouped(tried_pps)
            ),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors: u64 = self.errors.values().sum();
        write!(
            out,
            "{:>9} {:>9} {:>7} {:>9} {:>9} {:>9} {:>11} {:>9}",
            grouped(self.rate),
            grouped(self.answered),
            grouped(errors),
            time(self.latency_us.p50),
            time(self.latency_us.p99),
            time(self.latency_us.max),
            self.per_processor_second.map_or("–".to_owned(), figure),
            figure(self.answer_bytes_mean),
        )?;
        if self.unasked > 0 {
            write!(out, "  {} not asked", grouped(self.unasked))?;
        }
        match (self.hits_mean, self.with_hits_percent) {
            (Some(hits), Some(with)) => write!(out, "  {} hits, {} % have any", figure(hits), figure(with)),
            _ => Ok(()),
        }
    }
}
