//! The report as a page: one file without anything to fetch, for a light or dark screen of any width.

mod date;
mod plot;

use std::fmt::{Display, Write};

use self::plot::{Axis, Plot, Scale, Series, Style};
use crate::numbers::{figure, grouped, time};
use crate::report::{Report, SearchReport, TrialReport, Verdict};
use crate::search::{Finding, Outcome};
use crate::timeline::{Interval, IntervalLatency};

const STYLE: &str = include_str!("page/style.css");
/// A loss axis shows at least this much, in percent: nothing lost must not look like something.
const LOSS_TOP_PERCENT: f64 = 0.1;

/// Writes the page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    let workload = &report.workload;
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Load on {relay}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header><h1>Load on {relay}</h1><p class=\"faint\">{headline}<br>{date}</p></header>\n",
        relay = escape(&workload.relay),
        headline = escape(&headline(report)),
        date = date::utc(report.circumstances.started_unix_seconds),
    );
    push_verdict(&mut out, report);
    push_cards(&mut out, report);
    if let Some(search) = &report.search {
        push_search(&mut out, search);
    }
    let of_what = if report.search.is_some() { "The last trial" } else { "The run" };
    let _ = writeln!(out, "<h2>{of_what}</h2>\n<div class=\"plots\">");
    for plot in [rate_plot(report), loss_plot(report), latency_plot(report), distribution_plot(report)] {
        out.push_str(&plot.draw());
    }
    out.push_str("</div>\n<h2>Details</h2>\n<div class=\"panels\">\n");
    push_details(&mut out, report);
    let _ = write!(
        out,
        "</div>\n<footer>Datagrams are due at fixed times whatever happens to them; latency counts from those times until \
         the kernel of the receiving host has the datagram. Loss belongs to the moment at which a datagram was due. Made \
         by loadgen {}.</footer>\n</body>\n</html>\n",
        escape(&report.circumstances.version)
    );
    out
}

fn headline(report: &Report) -> String {
    let workload = &report.workload;
    format!(
        "{} peers, {}, {}/s of {} bytes for {} s",
        grouped(workload.peers.into()),
        workload.shape,
        spaced(&workload.rate),
        workload.size,
        figure(workload.seconds)
    )
}

/// Groups the digits of a rate as asked for, which may be a ramp.
fn spaced(rate: &str) -> String {
    let numbers: Vec<_> = rate.split("..").map(|number| number.parse().map_or(number.to_owned(), grouped)).collect();
    numbers.join(" to ")
}

fn push_verdict(out: &mut String, report: &Report) {
    let has_failed = report.conditions.iter().any(|checked| checked.is_true);
    let class = match (report.verdict, report.search.as_ref().map(|search| search.finding)) {
        (Verdict::GeneratorLimit, _) => "generator_limit",
        (Verdict::Loss, _) => "loss",
        (Verdict::Ok, _) if has_failed => "loss",
        (Verdict::Ok, Some(Finding::AtLeast { .. })) => "generator_limit",
        (Verdict::Ok, _) => "ok",
    };
    let mut sentence = report.conclusion();
    if let Some(first) = sentence.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let _ = write!(out, "<div class=\"verdict {class}\">{}", escape(&sentence));
    let conditions = report.conditions.iter().map(ToString::to_string);
    let remarks: Vec<_> = conditions.chain(report.remarks()).collect();
    if !remarks.is_empty() {
        out.push_str("<ul>");
        for remark in remarks {
            let _ = write!(out, "<li>{}</li>", escape(&remark));
        }
        out.push_str("</ul>");
    }
    out.push_str("</div>\n");
}

fn push_cards(out: &mut String, report: &Report) {
    let latency = report.latency_us;
    out.push_str("<dl class=\"cards\">");
    for (name, value) in [
        ("delivered a second", grouped(report.delivered_pps.round() as u64)),
        ("loss", format!("{} %", figure(report.loss_percent))),
        ("latency, median", time(latency.p50)),
        ("99 % within", time(latency.p99)),
        ("99.9 % within", time(latency.p99_9)),
    ] {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out.push_str("</dl>\n");
}

fn push_search(out: &mut String, search: &SearchReport) {
    let outcomes = [
        (Outcome::Carried, "carried", "good"),
        (Outcome::Lossy, "lost too many", "bad"),
        (Outcome::GeneratorLimit, "generator's limit", "limit"),
    ];
    let numbered: Vec<_> = (1_u32..).zip(&search.trials).map(|(number, trial)| (f64::from(number), trial)).collect();
    let series = outcomes.map(|(outcome, name, class)| Series {
        name,
        class,
        style: Style::Dots,
        points: numbered
            .iter()
            .map(|(number, trial)| (*number, (trial.outcome == outcome).then_some(trial.rate_pps as f64)))
            .collect(),
    });
    let notes = numbered.iter().map(|(number, trial)| (*number, trial_note(*number, trial))).collect();
    let plot = Plot {
        title: "Rates tried",
        x: Axis { name: "trial", scale: Scale::Whole, label: |tick| tick.to_string() },
        y: Axis { name: "datagrams a second", scale: Scale::Log, label: short },
        y_top_min: 0.0,
        series: series.into(),
        notes,
    };
    out.push_str("<h2>The search</h2>\n<div class=\"plots\">");
    out.push_str(&plot.draw());
    out.push_str(
        "<div class=\"panel\"><table class=\"trials\"><tr><th>asked/s</th><th>delivered/s</th><th>loss</th><th>p99</th>\
         <th></th></tr>",
    );
    for trial in &search.trials {
        let (class, outcome) = match trial.outcome {
            Outcome::Carried if trial.is_confirmation => ("ok", "confirmed"),
            Outcome::Carried => ("ok", "carried"),
            Outcome::Lossy => ("loss", "lossy"),
            Outcome::GeneratorLimit => ("generator_limit", "generator"),
        };
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{} %</td><td>{}</td><td class=\"{class}\">{outcome}</td></tr>",
            grouped(trial.rate_pps),
            grouped(trial.delivered_pps.round() as u64),
            figure(trial.loss_percent),
            time(trial.latency_us.p99),
        );
    }
    out.push_str("</table></div></div>\n");
}

fn trial_note(number: f64, trial: &TrialReport) -> String {
    format!("trial {number}: {}", trial.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
}

fn seconds_axis() -> Axis {
    Axis { name: "seconds", scale: Scale::Linear, label: figure }
}

/// The intervals until all was sent; what trickles in later is no rate.
fn intervals(report: &Report) -> impl Iterator<Item = &Interval> {
    report.timeline.intervals.iter().take_while(|interval| interval.at_seconds < report.sending_seconds)
}

/// A series over the intervals of the run; each value stands in the middle of its interval.
fn over_time(
    report: &Report,
    name: &'static str,
    class: &'static str,
    style: Style,
    value: impl Fn(&Interval) -> Option<f64>,
) -> Series {
    let middle = report.timeline.interval_seconds / 2.0;
    let points = intervals(report).map(|interval| (interval.at_seconds + middle, value(interval))).collect();
    Series { name, class, style, points }
}

fn notes(report: &Report, text: impl Fn(&Interval) -> String) -> Vec<(f64, String)> {
    let middle = report.timeline.interval_seconds / 2.0;
    let note = |interval: &Interval| {
        (interval.at_seconds + middle, format!("{} s: {}", figure(interval.at_seconds), text(interval)))
    };
    intervals(report).map(note).collect()
}

fn rate_plot(report: &Report) -> Plot {
    Plot {
        title: "Datagrams a second",
        x: seconds_axis(),
        y: Axis { name: "datagrams a second", scale: Scale::Linear, label: short },
        y_top_min: 0.0,
        series: vec![
            over_time(report, "sent", "two", Style::Line, |interval| Some(interval.sent_pps)),
            over_time(report, "delivered", "one", Style::Area, |interval| Some(interval.delivered_pps)),
        ],
        notes: notes(report, |interval| {
            let (sent, delivered) = (interval.sent_pps.round() as u64, interval.delivered_pps.round() as u64);
            format!("{}/s sent, {}/s delivered", grouped(sent), grouped(delivered))
        }),
    }
}

fn loss_plot(report: &Report) -> Plot {
    let percent = |interval: &Interval| match interval.due {
        0 => None,
        due => Some(interval.lost as f64 * 100.0 / due as f64),
    };
    Plot {
        title: "Loss",
        x: seconds_axis(),
        y: Axis { name: "loss", scale: Scale::Linear, label: |percent| format!("{} %", figure(percent)) },
        y_top_min: LOSS_TOP_PERCENT,
        series: vec![over_time(report, "loss", "three", Style::Area, percent)],
        notes: notes(report, |interval| {
            format!("{} of {} due then were lost", grouped(interval.lost), grouped(interval.due))
        }),
    }
}

fn latency_plot(report: &Report) -> Plot {
    let line = |name, class, of: fn(&IntervalLatency) -> f64| {
        over_time(report, name, class, Style::Line, move |interval| interval.latency_us.as_ref().map(of))
    };
    Plot {
        title: "Latency over time",
        x: seconds_axis(),
        y: Axis { name: "latency", scale: Scale::Log, label: time },
        y_top_min: 0.0,
        series: vec![
            line("p99.9", "three", |latency| latency.p99_9),
            line("p99", "two", |latency| latency.p99),
            line("p50", "one", |latency| latency.p50),
        ],
        notes: notes(report, |interval| match interval.latency_us {
            Some(latency) => {
                format!("p50 {}, p99 {}, p99.9 {}", time(latency.p50), time(latency.p99), time(latency.p99_9))
            }
            None => "nothing delivered".to_owned(),
        }),
    }
}

fn distribution_plot(report: &Report) -> Plot {
    // Every factor of ten towards 100 % is one step to the right.
    let place = |percentile: f64| -(1.0 - percentile / 100.0).log10();
    let points = report.latency_curve.iter().map(|point| (place(point.percentile), Some(point.us))).collect();
    let note = |point: &crate::latency::CurvePoint| {
        (place(point.percentile), format!("{:.3} % within {}", point.percentile, time(point.us)))
    };
    Plot {
        title: "Latency distribution",
        x: Axis { name: "percent not slower", scale: Scale::Whole, label: nines },
        y: Axis { name: "latency", scale: Scale::Log, label: time },
        y_top_min: 0.0,
        series: vec![Series { name: "latency", class: "one", style: Style::Area, points }],
        notes: report.latency_curve.iter().map(note).collect(),
    }
}

/// The percentage that is so many factors of ten away from 100 %.
fn nines(steps: f64) -> String {
    let decimals = (steps as usize).saturating_sub(2);
    format!("{:.decimals$} %", 100.0 - 10_f64.powf(2.0 - steps))
}

/// `50k`, `1.2M`.
fn short(number: f64) -> String {
    match number {
        number if number >= 1e6 => format!("{}M", figure(number / 1e6)),
        number if number >= 1e3 => format!("{}k", figure(number / 1e3)),
        number => figure(number),
    }
}

fn push_details(out: &mut String, report: &Report) {
    let Report { workload, circumstances, enrolment, .. } = report;
    let host = &circumstances.host;
    let shared = if host.is_shared_with_relay { "yes, they share its processors" } else { "no" };
    let directory = enrolment.directory_seconds.map_or("not asked".to_owned(), |seconds| format!("{seconds:.1} s"));
    push_panel(
        out,
        "Load",
        &[
            ("Peers", &grouped(workload.peers.into())),
            ("Who sends to whom", &workload.shape),
            ("Datagrams a second", &spaced(&workload.rate)),
            ("Seconds", &figure(workload.seconds)),
            ("Payload bytes", &workload.size),
            ("Due at once", &workload.burst),
            ("In a row on a flow", &workload.run),
            ("Tolerated loss", &format!("{} %", workload.max_loss_percent)),
            ("Peers sit", &workload.placement),
            ("Seed", &workload.seed),
        ],
    );
    push_panel(
        out,
        "Accounts",
        &[
            ("Sent", &grouped(report.sent)),
            ("Delivered", &grouped(report.delivered)),
            ("Lost", &grouped(report.lost)),
            ("of these, on this host", &grouped(report.overrun)),
            ("Never sent", &grouped(report.unsent)),
            ("Refused by this host", &grouped(report.refused)),
            ("Reordered", &grouped(report.reordered)),
            ("Duplicated", &grouped(report.duplicated)),
            ("Corrupt", &grouped(report.corrupt)),
            ("Misdelivered", &grouped(report.misdelivered)),
            ("Stale", &grouped(report.stale)),
            ("Foreign", &grouped(report.foreign)),
        ],
    );
    push_panel(
        out,
        "Generator",
        &[
            ("Processors", &format!("{} × {}", host.processors, host.processor)),
            ("Kernel", &host.kernel),
            ("Relay on this host", &shared),
            ("Workers", &workload.workers),
            ("Busiest worker", &format!("{} %", figure(report.busiest_worker_percent))),
            ("Left late by, p99", &time(report.lateness_us.p99)),
            ("Left late by, max", &time(report.lateness_us.max)),
            ("More than 10 ms late", &grouped(report.late)),
            ("Directory", &directory),
            ("Known to the relay in", &format!("{:.1} s", enrolment.relay_seconds)),
            ("Sessions renewed", &grouped(report.renewed)),
        ],
    );
}

fn push_panel(out: &mut String, title: &str, rows: &[(&str, &dyn Display)]) {
    let _ = write!(out, "<div class=\"panel\"><h3>{title}</h3><table>");
    for (name, value) in rows {
        let _ = write!(out, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value.to_string()));
    }
    out.push_str("</table></div>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Condition;
    use crate::report::example;
    use crate::tally::Tally;

    fn report() -> Report {
        let mut tally = Tally::new(1_000_000_000);
        for number in 0..1000 {
            let due_ns = number * 1_000_000;
            tally.record_departure(due_ns, due_ns);
            tally.record_sent(due_ns, 1, 0);
            if number % 10 != 0 {
                tally.record_delivery(due_ns, due_ns + 50_000 + number * 100);
            }
        }
        example(&tally)
    }

    #[test]
    fn the_page_stands_alone_and_is_escaped() {
        let page = page(&report());
        for foreign in ["http://", "https://", "<script", "src=", "<link", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("Test &lt;CPU&gt;") && !page.contains("<CPU>"));
        assert_eq!(page.matches("<svg").count(), 4);
        assert_eq!(page.matches("<figure>").count(), page.matches("</figure>").count());
        assert!(page.contains("Loss is above 0.1 %") && page.contains("verdict loss"));
        assert!(page.contains("1 of 10 due then were lost"));
    }

    #[test]
    fn conditions_and_trials_are_shown() {
        let mut report = report();
        report.check(&Condition::parse_list("p99>1us").unwrap());
        let trials = vec![report.as_trial(false), report.as_trial(true)];
        let search = SearchReport { finding: Finding::AtLeast { rate_pps: 1000 }, trials };
        let page = page(&report.with_search(search));
        assert!(page.contains("p99&gt;1us is true") && page.contains("The search"), "{page}");
        assert_eq!((page.matches("<svg").count(), page.matches("<circle").count()), (5, 2));
    }

    #[test]
    fn a_run_without_any_delivery_has_a_page_too() {
        let page = page(&example(&Tally::new(1_000_000_000)));
        assert!(!page.contains("NaN") && !page.contains("inf "));
    }

    #[test]
    fn percentiles_are_labelled_by_their_nines() {
        assert_eq!([0.0, 1.0, 2.0, 3.0, 4.0].map(nines), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        assert_eq!([500.0, 50_000.0, 1_200_000.0].map(short), ["500", "50k", "1.2M"]);
    }
}
