//! A report as pictures: SVG for a README, on a card of its own so that any background does.
//!
//! Every figure stands beside its mark, so nothing has to be read off an axis or looked up in a legend.

mod canvas;

use canvas::{Anchor, Canvas, Style};

use crate::load::Load;
use crate::report::{Paced, PacedSlice, Report, Saturated, Slice, Spread};
use crate::units::{self, count, duration, load_words, nanoseconds};

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 32.0;
/// Below title and subtitle.
const TOP: f64 = 96.0;
const FLOOR: &str = "floor";
/// Contenders that begin so are drawn in colour.
const OURS: &str = "pilot-relay";

/// CPU time per packet: a row for each contender, a panel for each of `loads`, and in each panel a line where the floor
/// is. `None` when nothing of it was measured.
#[must_use]
pub fn cost_by_contender(report: &Report, loads: &[Load]) -> Option<String> {
    const PANELS_A_ROW: usize = 3;
    const GAP: f64 = 28.0;
    const ROW: f64 = 34.0;
    const FOOT: f64 = 30.0;
    /// Room for the figures after the longest bar: nanoseconds, and how many times the floor.
    const FIGURES: f64 = 116.0;
    const RATIOS: f64 = 58.0;

    let cost = |name: &str, load: &Load| report.saturated(name, load).and_then(cost);
    let loads: Vec<_> = loads.iter().filter(|load| report.saturated.iter().any(|one| one.load == **load)).collect();
    let is_measured = |name: &&str| loads.iter().any(|load| cost(name, load).is_some());
    let names: Vec<_> = report.contenders.iter().map(|one| one.name.as_str()).filter(is_measured).collect();
    let costs = || names.iter().flat_map(|name| loads.iter().filter_map(|load| cost(name, load)));
    let scale_max = costs().map(|spread| spread.max).reduce(f64::max)?;

    let (common, own) = words_of(&loads);
    let names_width = names_width(&names);
    let panels = loads.len().min(PANELS_A_ROW) as f64;
    let panel_width = (WIDTH - 2.0 * MARGIN - names_width - GAP * (panels - 1.0)) / panels;
    let headings: Vec<_> = own.iter().map(|words| heading(words, panel_width + GAP)).collect();
    let heading_height = 40.0 + 19.0 * headings.iter().map(Vec::len).max().unwrap_or(0) as f64;
    let panel_height = heading_height + ROW * names.len() as f64 + FOOT;
    let height = TOP + panel_height * loads.len().div_ceil(PANELS_A_ROW) as f64;
    let mut canvas = Canvas::new(WIDTH, height);
    canvas.title(
        "CPU time per relayed packet",
        &[&["ns of a core, the kernel's share included: median, least and most".to_owned()], &common[..]]
            .concat()
            .join(" · "),
    );

    for (nth, (load, heading)) in loads.iter().zip(headings).enumerate() {
        let (column, line) = ((nth % PANELS_A_ROW) as f64, (nth / PANELS_A_ROW) as f64);
        let left = MARGIN + names_width + column * (panel_width + GAP);
        let top = TOP + line * panel_height;
        let x = |ns: f64| left + ns / scale_max * (panel_width - FIGURES);
        let (rows, right) = (top + heading_height, left + panel_width);
        for (nth, line) in heading.iter().enumerate() {
            let style = if nth == 0 { Style::Strong } else { Style::Muted };
            canvas.text((left, top + 16.0 + 19.0 * nth as f64), Anchor::Start, &[(style, line)]);
        }
        canvas.text((right - RATIOS, rows - 6.0), Anchor::End, &[(Style::Muted, "ns")]);
        canvas.text((right, rows - 6.0), Anchor::End, &[(Style::Muted, "× floor")]);
        if let Some(floor) = cost(FLOOR, load) {
            let bottom = rows + ROW * names.len() as f64;
            canvas.dashes((x(floor.median), rows - 4.0), (x(floor.median), bottom + 2.0));
            canvas.text((x(floor.median), bottom + 16.0), Anchor::Middle, &[(Style::Muted, "floor")]);
        }
        for (nth, name) in names.iter().enumerate() {
            let middle = rows + ROW * (nth as f64 + 0.5);
            if column == 0.0 {
                canvas.text((left - 14.0, middle + 5.0), Anchor::End, &[(name_style(name), name)]);
            }
            let Some(Spread { min, median, max }) = cost(name, load) else {
                canvas.text((left, middle + 5.0), Anchor::Start, &[(Style::Muted, "not measured")]);
                continue;
            };
            canvas.bar((left, middle - 9.0), (x(median) - left, 18.0), is_ours(name));
            canvas.whisker((x(min), middle), (x(max), middle));
            let figure = [(name_style(name), &*nanoseconds(median))];
            canvas.text((right - RATIOS, middle + 5.0), Anchor::End, &figure);
            if let Some(ratio) = report.cpu_ratio((name, load), (FLOOR, load)) {
                canvas.text((right, middle + 5.0), Anchor::End, &[(name_style(name), &units::ratio(ratio.median))]);
            }
        }
    }
    Some(canvas.finish())
}

/// Latency quantiles of all contenders that were measured as `like` was, on a logarithmic axis. `None` when none was.
#[must_use]
pub fn latency_by_contender(report: &Report, like: &Paced) -> Option<String> {
    const ROW: f64 = 52.0;
    const FOOT: f64 = 52.0;
    /// Room for the figures at both ends.
    const FIGURES: f64 = 118.0;

    let is_alike = |one: &&Paced| (one.load, one.rate_pps, one.burst) == (like.load, like.rate_pps, like.burst);
    let rows: Vec<_> = report.paced.iter().filter(is_alike).filter_map(|one| Some((one, quantiles(one)?))).collect();
    let all = || rows.iter().flat_map(|(_, quantiles)| quantiles.iter().copied());
    let (least, most) = (all().reduce(f64::min)?, all().reduce(f64::max)?);

    let names: Vec<_> = rows.iter().map(|(one, _)| one.contender.as_str()).collect();
    let left = MARGIN + names_width(&names) + FIGURES;
    let right = WIDTH - MARGIN - FIGURES;
    let x = |ns: f64| left + (ns / least).ln() / (most / least).ln().max(f64::MIN_POSITIVE) * (right - left);
    let bottom = TOP + ROW * rows.len() as f64;
    let mut canvas = Canvas::new(WIDTH, bottom + FOOT);
    let (words, rate) = (words_of(&[&like.load]).0.join(" · "), count(like.rate_pps as f64));
    canvas.title("Latency at the same rate", &format!("from due to received, {rate} packets a second · {words}"));

    let grid = (0..12).flat_map(|decade| [1.0, 3.0].map(|digit| digit * 10_f64.powi(decade)));
    for ns in grid.filter(|ns| (least..=most).contains(ns)) {
        canvas.hairline((x(ns), TOP - 4.0), (x(ns), bottom));
        canvas.text((x(ns), bottom + 20.0), Anchor::Middle, &[(Style::Muted, &duration(ns).replace(".0 ", " "))]);
    }
    for (nth, (one, [p50, p99, p999])) in rows.iter().enumerate() {
        let (name, middle) = (one.contender.as_str(), TOP + ROW * (nth as f64 + 0.5) + 6.0);
        canvas.text((left - FIGURES - 14.0, middle + 5.0), Anchor::End, &[(name_style(name), name)]);
        canvas.track((x(*p50), middle), (x(*p999), middle), is_ours(name));
        for ns in [p50, p99, p999] {
            canvas.dot((x(*ns), middle), is_ours(name));
        }
        // To the left, above, to the right: they cannot meet, however close the dots are.
        let labels = [
            (p50, "p50", (-12.0, 5.0), Anchor::End),
            (p99, "p99", (0.0, -13.0), Anchor::Middle),
            (p999, "p99.9", (12.0, 5.0), Anchor::Start),
        ];
        for (ns, quantile, (dx, dy), anchor) in labels {
            let words = [(Style::Muted, quantile), (name_style(name), &*duration(*ns))];
            canvas.text((x(*ns) + dx, middle + dy), anchor, &words);
        }
    }
    Some(canvas.finish())
}

/// What more sessions cost our relay: CPU time per packet under loads that are `like` but for their sessions. `None` when
/// there are not two of them.
#[must_use]
pub fn cost_by_sessions(report: &Report, like: &Load) -> Option<String> {
    const HEIGHT: f64 = 330.0;
    const FOOT: f64 = 56.0;
    /// From the sides of the card to the first and last point.
    const SIDE: f64 = 150.0;

    let is_alike = |load: &Load| Load { sessions: like.sessions, ..*load } == *like;
    let ours = report.scaled.iter().filter(|one| is_alike(&one.load));
    let mut points: Vec<_> = ours.filter_map(|one| Some((one, cost(one)?))).collect();
    points.sort_by_key(|(one, _)| one.load.sessions);
    let [(first, _), .., (last, _)] = &points[..] else { return None };
    let scale_max = 1.2 * points.iter().map(|(_, spread)| spread.max).fold(0.0, f64::max);

    let decades = |sessions: u32| f64::from(sessions.max(1)).log10();
    let (from, to) = (decades(first.load.sessions), decades(last.load.sessions));
    let x = |one: &Saturated| SIDE + (decades(one.load.sessions) - from) / (to - from) * (WIDTH - 2.0 * SIDE);
    let (top, bottom) = (TOP, HEIGHT - FOOT);
    let y = |ns: f64| bottom - ns / scale_max * (bottom - top);
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    let all: Vec<_> = points.iter().map(|(one, _)| &one.load).collect();
    let common = words_of(&all).0.join(" · ");
    canvas.title(
        &format!("{OURS}: CPU time per packet by sessions"),
        &format!("ns of a core, the kernel's share included: median, least and most · {common}"),
    );

    canvas.hairline((MARGIN, bottom), (WIDTH - MARGIN, bottom));
    canvas.text((MARGIN, bottom - 6.0), Anchor::Start, &[(Style::Muted, "0")]);
    for pair in points.windows(2) {
        let [from, to] = [&pair[0], &pair[1]].map(|(one, spread)| (x(one), y(spread.median)));
        canvas.track(from, to, true);
    }
    for (one, Spread { min, median, max }) in &points {
        canvas.whisker((x(one), y(*min)), (x(one), y(*max)));
        canvas.dot((x(one), y(*median)), true);
        let is_first = one.load == first.load;
        let ratio = Spread::of_ratios(&one.rounds, &first.rounds, Slice::cpu_ns_per_packet).filter(|_| !is_first);
        let ratio = ratio.map(|ratio| format!("×{}", units::ratio(ratio.median))).unwrap_or_default();
        let figures = format!("{} ns", nanoseconds(*median));
        canvas.text((x(one), y(*max) - 14.0), Anchor::Middle, &[(Style::Ours, &figures), (Style::Muted, &ratio)]);
        let sessions = format!("{} sessions", count(f64::from(one.load.sessions)));
        canvas.text((x(one), bottom + 26.0), Anchor::Middle, &[(Style::Plain, &sessions)]);
    }
    Some(canvas.finish())
}

fn cost(one: &Saturated) -> Option<Spread> {
    Spread::of(one.rounds.iter().map(Slice::cpu_ns_per_packet))
}

/// Medians of p50, p99 and p99.9; none may be 0, which a logarithmic axis does not have.
fn quantiles(one: &Paced) -> Option<[f64; 3]> {
    let median = |quantile: fn(&PacedSlice) -> u64| {
        Spread::of(one.rounds.iter().map(|round| quantile(round) as f64)).map(|spread| spread.median.max(1.0))
    };
    Some([median(|one| one.p50_ns)?, median(|one| one.p99_ns)?, median(|one| one.p999_ns)?])
}

/// What all loads have in common, and what each has not.
fn words_of(loads: &[&Load]) -> (Vec<String>, Vec<Vec<String>>) {
    let words = |load: &&Load| [load_words(load), vec![load.place.to_string()]].concat();
    let all: Vec<Vec<String>> = loads.iter().map(words).collect();
    let is_common = |word: &String| all.iter().all(|words| words.contains(word));
    let common = all.first().into_iter().flatten().filter(|word| is_common(word)).cloned().collect();
    let own = all.iter().map(|words| words.iter().filter(|word| !is_common(word)).cloned().collect()).collect();
    (common, own)
}

/// What a panel's load has of its own, in lines of at most `width`; the first stands out.
fn heading(words: &[String], width: f64) -> Vec<String> {
    let characters_max = (width / canvas::GLYPH_WIDTH) as usize;
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        let fits = |line: &&mut String| line.chars().count() + 3 + word.chars().count() <= characters_max;
        match lines.get_mut(1..).and_then(<[String]>::last_mut).filter(fits) {
            Some(line) => *line += &format!(" · {word}"),
            None => lines.push(word.clone()),
        }
    }
    lines
}

fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

fn name_style(name: &str) -> Style {
    if is_ours(name) { Style::Ours } else { Style::Plain }
}

/// Room for the longest name and the gap after it, in whatever font there is.
fn names_width(names: &[&str]) -> f64 {
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    canvas::GLYPH_WIDTH * longest as f64 + 14.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example_report::{self, ACTIVE, MANY, RANDOM, RUNS};

    fn assert_sound(svg: &str, expected: &[&str]) {
        for expected in expected {
            assert!(svg.contains(expected), "{expected} is missing in:\n{svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn the_figures_are_there() {
        let report = example_report::report();
        let cost = cost_by_contender(&report, &[RANDOM, RUNS, ACTIVE]).unwrap();
        assert_sound(&cost, &["2720", "0.78", "coturn", "runs of 16", "GRO receiver"]);
        let latency = latency_by_contender(&report, &report.paced[0]).unwrap();
        assert_sound(&latency, &["33 µs", "1.1 ms", "p99.9", "80 k packets a second"]);
        let sessions = cost_by_sessions(&report, &RANDOM).unwrap();
        assert_sound(&sessions, &["2720 ns", "×1.08", "1 M sessions"]);
    }

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        let nothing = Report::default();
        let mut report = example_report::report();
        assert_eq!(cost_by_contender(&nothing, &[RANDOM]), None);
        assert_eq!(cost_by_contender(&report, &[]), None);
        assert_eq!(latency_by_contender(&nothing, &report.paced[0]), None);
        assert_eq!(cost_by_sessions(&report, &RUNS), None, "with one point there is nothing to compare");

        report.saturated.retain(|one| one.contender != FLOOR && (one.contender != "coturn" || one.load != MANY));
        report.saturated[0].rounds = vec![Slice::default()];
        report.saturated[1].rounds.clear();
        assert_sound(&cost_by_contender(&report, &[RANDOM, MANY]).unwrap(), &["not measured"]);
        report.paced.truncate(1);
        report.paced[0].rounds = vec![PacedSlice::default()];
        assert_sound(&latency_by_contender(&report, &report.paced[0]).unwrap(), &["direct"]);
    }

    #[test]
    fn names_cannot_break_the_picture() {
        let mut report = example_report::report();
        report.contenders[0].name = "<a & b>".to_owned();
        report.saturated[0].contender = "<a & b>".to_owned();
        assert_sound(&cost_by_contender(&report, &[RANDOM]).unwrap(), &["&lt;a &amp; b&gt;"]);
    }
}
