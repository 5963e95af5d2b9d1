//! A report as tables: for a terminal, and as Markdown.

use std::fmt::Write;

use crate::goals::{self, Bound};
use crate::load::Load;
use crate::report::{Paced, PacedSlice, Report, Saturated, Slice, Spread};
use crate::units::{self, NONE, count, duration, load_words, nanoseconds, percent};

/// Columns of a terminal. A wider table is cut into several, each with the contenders.
const WIDTH_MAX: usize = 120;
/// Below this share of a core the relay had time to spare.
const CORE_SHARE_BUSY: f64 = 0.9;
const FLOOR: &str = "floor";
const NAIVE: &str = "naive";
const DIRECT: &str = "direct";
const IDLE_NOTE: &str = "* The relay had time to spare: the generator was the limit, or both waited for each other. The CPU \
                         figures hold, the rate is not the most it can do.";

/// All of a report, for a terminal.
#[must_use]
pub fn terminal(report: &Report) -> String {
    let mut out = String::new();
    for (key, value) in &report.host {
        writeln!(out, "{key}: {value}").expect("a string takes all");
    }
    for table in tables(report) {
        table.write_terminal(&mut out);
    }
    for remark in &report.remarks {
        writeln!(out, "\n{remark}").expect("a string takes all");
    }
    out
}

/// All of a report, as GitHub's Markdown.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    for (key, value) in &report.host {
        writeln!(out, "- {key}: {value}").expect("a string takes all");
    }
    for table in tables(report) {
        table.write_markdown(&mut out);
    }
    for remark in &report.remarks {
        writeln!(out, "\n{remark}").expect("a string takes all");
    }
    out
}

fn tables(report: &Report) -> Vec<Table> {
    let loads = distinct(report.saturated.iter().map(|one| one.load));
    let places = distinct(loads.iter().map(|load| load.place));
    let matrices = places.into_iter().map(|place| {
        let loads: Vec<_> = loads.iter().filter(|load| load.place == place).collect();
        matrix(report, &format!("CPU ns per packet, × floor: {place}"), &loads)
    });
    let paced = distinct(report.paced.iter().map(|one| (one.load, one.rate_pps, one.burst)));
    [contenders(report)]
        .into_iter()
        .chain(matrices)
        .chain(loads.iter().map(|load| saturated(report, load)))
        .chain([scaled(report)])
        .chain(paced.into_iter().map(|(load, rate_pps, burst)| latency(report, &load, rate_pps, burst)))
        .chain([goals(report)])
        .filter(|table| !table.rows.is_empty())
        .collect()
}

fn contenders(report: &Report) -> Table {
    let rows = report.contenders.iter().map(|one| vec![one.name.clone(), one.what.clone()]).collect();
    Table { texts: 2, ..Table::new("Contenders", ["contender", "what it does"], rows) }
}

/// Contenders down, loads across.
fn matrix(report: &Report, title: &str, loads: &[&Load]) -> Table {
    let rows = names(report).into_iter().map(|name| {
        let cells = loads.iter().map(|load| {
            let ns = median(report.saturated(name, load).map_or(&[], |one| &one.rounds), Slice::cpu_ns_per_packet);
            let ratio =
                report.cpu_ratio((name, load), (FLOOR, load)).map(|ratio| format!(" ×{}", units::ratio(ratio.median)));
            ns.map_or(NONE.to_owned(), |ns| nanoseconds(ns) + &ratio.unwrap_or_default())
        });
        (name, cells.collect::<Vec<_>>())
    });
    let measured = rows.filter(|(_, cells)| cells.iter().any(|cell| cell != NONE));
    let rows = measured.map(|(name, cells)| [vec![name.to_owned()], cells].concat()).collect();
    let mut table = Table::new(title, ["contender"], rows);
    table.columns.extend(loads.iter().map(|load| load_words(load)));
    table
}

/// One load, all there is to say.
fn saturated(report: &Report, load: &Load) -> Table {
    let measured = names(report).into_iter().filter_map(|name| report.saturated(name, load));
    let measured: Vec<_> = measured.filter(|one| !one.rounds.is_empty()).collect();
    let mut has_idle = false;
    let rows = measured.iter().map(|Saturated { contender, rounds, .. }| {
        let ratio = |to| text(report.cpu_ratio((contender, load), (to, load)), units::ratio);
        let core_share = median(rounds, Slice::core_share);
        let idle = core_share.is_some_and(|share| share < CORE_SHARE_BUSY);
        has_idle |= idle;
        vec![
            contender.clone(),
            text(Spread::of(rounds.iter().map(Slice::cpu_ns_per_packet)), nanoseconds),
            ratio(FLOOR),
            ratio(NAIVE),
            median(rounds, Slice::delivered_pps).map_or(NONE.to_owned(), count),
            median(rounds, Slice::pps_per_core).map_or(NONE.to_owned(), count),
            loss(rounds).map_or(NONE.to_owned(), percent),
            core_share.map_or(NONE.to_owned(), |share| format!("{share:.2}{}", if idle { "*" } else { " " })),
        ]
    });
    let columns = ["contender", "ns/packet", "× floor", "× naive", "pps delivered", "pps a core", "loss", "core share"];
    let rows = rows.collect();
    let mut table = Table::new(load.to_string(), columns, rows);
    table.notes.push(format!("{}: median (least–most).", rounds_words(measured.iter().map(|one| one.rounds.len()))));
    table.notes.extend(has_idle.then(|| IDLE_NOTE.to_owned()));
    table
}

/// What more sessions cost our relay.
fn scaled(report: &Report) -> Table {
    let rows = report.scaled.iter().map(|one| {
        let fewest = report.scaled.iter().filter(|other| is_like(&other.load, &one.load));
        let fewest = fewest.min_by_key(|other| other.load.sessions).unwrap_or(one);
        vec![
            one.load.to_string(),
            text(Spread::of(one.rounds.iter().map(Slice::cpu_ns_per_packet)), nanoseconds),
            text(Spread::of_ratios(&one.rounds, &fewest.rounds, Slice::cpu_ns_per_packet), units::ratio),
        ]
    });
    Table::new("pilot-relay by sessions", ["load", "ns/packet", "× the fewest"], rows.collect())
}

/// The same but for the number of sessions.
fn is_like(one: &Load, other: &Load) -> bool {
    Load { sessions: other.sessions, ..*one } == *other
}

/// What has to be reached, and whether it is.
fn goals(report: &Report) -> Table {
    let rows = goals::goals(report).into_iter().map(|goal| {
        let bound = match goal.bound {
            Bound::AtMost(bound) => format!("≤ {bound}"),
            Bound::AtLeast(bound) => format!("≥ {bound}"),
        };
        let verdict = match goal.is_met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not judged",
        };
        vec![goal.what.clone(), bound, text(goal.figure, units::ratio), verdict.to_owned()]
    });
    let rows = if report.saturated.is_empty() && report.scaled.is_empty() { Vec::new() } else { rows.collect() };
    let mut table = Table::new("Goals", ["goal", "bound", "measured", "verdict"], rows);
    table.notes.push(
        "Ratios: medians of same rounds. Judged from five rounds on, where at most 0.1 % was lost. In bursts a relay that \
         groups has the less to group the more destinations there are."
            .to_owned(),
    );
    table
}

/// All at one rate: what waiting costs.
fn latency(report: &Report, load: &Load, rate_pps: u64, burst: u32) -> Table {
    let find = |name: &str| {
        let is_it = |one: &&Paced| (one.load, one.rate_pps, one.burst) == (*load, rate_pps, burst);
        report.paced.iter().filter(is_it).find(|one| one.contender == name).map(|one| one.rounds.as_slice())
    };
    let direct = find(DIRECT).unwrap_or_default();
    let quantiles: [fn(&PacedSlice) -> f64; 3] =
        [|one| one.p50_ns as f64, |one| one.p99_ns as f64, |one| one.p999_ns as f64];
    // What all others are compared with comes first.
    let names = distinct([DIRECT].into_iter().chain(names(report)));
    let measured: Vec<_> = names.into_iter().filter_map(|name| Some((name, find(name)?))).collect();
    let rows = measured.iter().map(|(name, rounds)| {
        let slices: Vec<_> = rounds.iter().map(|one| one.slice).collect();
        let is_relay = *name != DIRECT;
        let of_relay =
            |figure: Option<f64>, words: fn(f64) -> String| figure.filter(|_| is_relay).map_or(NONE.to_owned(), words);
        let mut row = vec![
            (*name).to_owned(),
            of_relay(median(&slices, Slice::cpu_ns_per_packet), nanoseconds),
            of_relay(median(&slices, Slice::core_share), |share| format!("{share:.2}")),
            loss(&slices).map_or(NONE.to_owned(), percent),
        ];
        row.extend(quantiles.map(|quantile| median(rounds, quantile).map_or(NONE.to_owned(), duration)));
        row.extend(quantiles.map(|quantile| {
            let added = rounds.iter().zip(direct).map(|(ours, direct)| quantile(ours) - quantile(direct));
            of_relay(Spread::of(added).map(|added| added.median), |added| {
                format!("{}{}", if added < 0.0 { "" } else { "+" }, duration(added))
            })
        }));
        row
    });
    let columns = [
        "contender",
        "ns/packet",
        "core share",
        "loss",
        "p50",
        "p99",
        "p99.9",
        "p50 added",
        "p99 added",
        "p99.9 added",
    ];
    let title = format!("{load}; {} packets a second, {burst} due at a time", count(rate_pps as f64));
    let rows = rows.collect();
    let mut table = Table::new(title, columns, rows);
    let rounds = rounds_words(measured.iter().map(|(_, rounds)| rounds.len()));
    table.notes.push(format!(
        "{rounds}: medians, from the instant a datagram was due. Added: minus {DIRECT}'s of the same round."
    ));
    table
}

/// In the order of the report, then those it forgot to describe.
fn names(report: &Report) -> Vec<&str> {
    let described = report.contenders.iter().map(|one| one.name.as_str());
    let saturated = report.saturated.iter().map(|one| one.contender.as_str());
    distinct(described.chain(saturated).chain(report.paced.iter().map(|one| one.contender.as_str())))
}

fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct
}

fn median<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> Option<f64> {
    Spread::of(rounds.iter().map(figure)).map(|spread| spread.median)
}

/// Of all rounds together: a median would hide a single bad one.
fn loss(rounds: &[Slice]) -> Option<f64> {
    let (sent, delivered) =
        rounds.iter().fold((0, 0), |(sent, delivered), one| (sent + one.sent, delivered + one.delivered));
    Some(Slice { sent, delivered, ..Slice::default() }.loss()).filter(|loss| loss.is_finite())
}

fn text(spread: Option<Spread>, words: impl Fn(f64) -> String) -> String {
    spread.map_or(NONE.to_owned(), |Spread { min, median, max }| {
        if min == max { words(median) } else { format!("{} ({}–{})", words(median), words(min), words(max)) }
    })
}

fn rounds_words(rounds: impl Iterator<Item = usize> + Clone) -> String {
    match (rounds.clone().min(), rounds.max()) {
        (Some(min), Some(max)) if min == max => format!("{max} rounds"),
        (min, max) => format!("{} to {} rounds", min.unwrap_or(0), max.unwrap_or(0)),
    }
}

struct Table {
    title: String,
    /// So many columns hold text, the others figures.
    texts: usize,
    /// Each in one or more lines.
    columns: Vec<Vec<String>>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    fn new<const N: usize>(title: impl Into<String>, columns: [&str; N], rows: Vec<Vec<String>>) -> Self {
        let columns = columns.map(|column| vec![column.to_owned()]).to_vec();
        Self { title: title.into(), texts: 1, columns, rows, notes: Vec::new() }
    }

    fn write_terminal(&self, out: &mut String) {
        writeln!(out, "\n{}", self.title).expect("a string takes all");
        for columns in self.columns_within(WIDTH_MAX) {
            out.push('\n');
            let lines = columns.iter().map(|column| self.columns[*column].len()).max().unwrap_or(0);
            for line in 0..lines {
                // Short headings stand at the bottom.
                let cell = |column: usize| {
                    let heading = &self.columns[column];
                    (line + heading.len()).checked_sub(lines).map_or("", |line| heading[line].as_str())
                };
                self.write_line(out, &columns, cell);
            }
            for row in &self.rows {
                self.write_line(out, &columns, |column| &row[column]);
            }
        }
        for note in &self.notes {
            writeln!(out, "{}", wrapped(note)).expect("a string takes all");
        }
    }

    fn write_line<'a>(&self, out: &mut String, columns: &[usize], cell: impl Fn(usize) -> &'a str) {
        let cells = columns.iter().map(|column| {
            let (cell, width) = (cell(*column), self.width(*column));
            if *column < self.texts { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end()).expect("a string takes all");
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| &row[column]).chain(&self.columns[column]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }

    /// Groups of columns that fit, the first column in each.
    fn columns_within(&self, width_max: usize) -> Vec<Vec<usize>> {
        let mut groups = Vec::new();
        let (mut group, mut width) = (vec![0], self.width(0));
        for column in 1..self.columns.len() {
            let more = 2 + self.width(column);
            if width + more > width_max && group.len() > 1 {
                groups.push(std::mem::replace(&mut group, vec![0]));
                width = self.width(0);
            }
            group.push(column);
            width += more;
        }
        groups.push(group);
        groups
    }

    fn write_markdown(&self, out: &mut String) {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        write!(out, "\n**{}**\n\n", self.title).expect("a string takes all");
        out.push_str(&line(self.columns.iter().map(|heading| heading.join("<br>")).collect()));
        let rules = (0..self.columns.len()).map(|column| if column < self.texts { "---" } else { "---:" }.to_owned());
        out.push_str(&line(rules.collect()));
        for row in &self.rows {
            out.push_str(&line(
                row.iter().map(|cell| cell.trim_end().replace('|', "\\|").replace('*', "\\*")).collect(),
            ));
        }
        for note in &self.notes {
            write!(out, "\n{}\n", note.replace('*', "\\*")).expect("a string takes all");
        }
    }
}

fn wrapped(text: &str) -> String {
    let (mut out, mut width) = (String::new(), 0);
    for word in text.split_whitespace() {
        let more = word.chars().count();
        if width > 0 {
            let fits = width + 1 + more <= WIDTH_MAX;
            out.push(if fits { ' ' } else { '\n' });
            width = if fits { width + 1 } else { 0 };
        }
        out.push_str(word);
        width += more;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example_report;

    #[test]
    fn the_figures_are_there() {
        for text in [terminal(&example_report::report()), markdown(&example_report::report())] {
            for expected in
                ["pilot-relay", "coturn", "2720 (2584–2992)", "0.78 (0.78–0.78)", "2720 ×0.78", "126 k", "+12 µs"]
            {
                assert!(text.contains(expected), "{expected} is missing in:\n{text}");
            }
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }

    #[test]
    fn a_terminal_is_wide_enough() {
        for line in terminal(&example_report::report()).lines() {
            assert!(line.chars().count() <= WIDTH_MAX, "{line}");
        }
    }

    #[test]
    fn a_relay_with_time_to_spare_is_marked() {
        let mut report = example_report::report();
        report.saturated.retain(|one| one.contender == "floor");
        assert!(!terminal(&report).contains("time to spare"));
        report.saturated[0].rounds.iter_mut().for_each(|one| one.seconds *= 2.0);
        assert!(terminal(&report).contains("time to spare"));
    }

    #[test]
    fn what_was_not_measured_is_left_out_or_dashed() {
        assert_eq!(terminal(&Report::default()), "");
        assert_eq!(markdown(&Report::default()), "");
        let mut report = example_report::report();
        report.saturated.retain(|one| one.contender != "floor");
        report.paced.retain(|one| one.contender != "direct");
        report.saturated[0].rounds = vec![Slice::default()];
        report.saturated[1].rounds.clear();
        let text = terminal(&report);
        assert!(text.contains(NONE) && !text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
