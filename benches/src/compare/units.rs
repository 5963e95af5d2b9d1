//! Figures in words, the same in tables and plots.

use crate::load::{Load, Pattern};

/// What stands for a figure that could not be measured.
pub const NONE: &str = "–";

/// `0.9`, `92`, `2720`.
#[must_use]
pub fn nanoseconds(figure: f64) -> String {
    if figure.abs() < 10.0 { format!("{figure:.1}") } else { format!("{figure:.0}") }
}

/// `1.25`, `0.073`.
#[must_use]
pub fn ratio(figure: f64) -> String {
    if figure < 0.1 { format!("{figure:.3}") } else { format!("{figure:.2}") }
}

/// `850 ns`, `38 µs`, `1.2 ms`, with two figures at least.
#[must_use]
pub fn duration(ns: f64) -> String {
    let (value, unit) = match ns.abs() {
        ..1e3 => return format!("{ns:.0} ns"),
        1e3..1e6 => (ns / 1e3, "µs"),
        1e6..1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    if value.abs() < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// `950`, `334 k`, `1.02 M`.
#[must_use]
pub fn count(figure: f64) -> String {
    let (value, unit) = match figure {
        ..1e3 => return format!("{figure:.0}"),
        1e3..999.5e3 => (figure / 1e3, "k"),
        _ => (figure / 1e6, "M"),
    };
    let text = if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

/// `0.00 %`, `100 %`. What is not zero does not look like it.
#[must_use]
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        percent if percent.abs() < 0.005 => "<0.01 %".to_owned(),
        percent if percent.abs() < 10.0 => format!("{percent:.2} %"),
        percent => format!("{percent:.0} %"),
    }
}

/// What tells a load from others at the same place: a few short words each.
#[must_use]
pub fn load_words(load: &Load) -> Vec<String> {
    let Load { payload_bytes, sessions, pattern, arrivals, sink_merges, .. } = load;
    let pattern = match pattern {
        Pattern::Random => "random peers".to_owned(),
        Pattern::Runs(run) => format!("runs of {run}"),
        Pattern::Active(active) => format!("{active} active peers"),
    };
    let mut words = vec![pattern, format!("{payload_bytes} B"), format!("{} sessions", count(f64::from(*sessions)))];
    words.push(arrivals.to_string());
    words.extend(sink_merges.then(|| "GRO receiver".to_owned()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!([0.94, 92.4, 2720.4].map(nanoseconds), ["0.9", "92", "2720"]);
        assert_eq!(
            [850.0, 1200.0, 38e3, 999.6e3, 1.25e6, 2e9].map(duration),
            ["850 ns", "1.2 µs", "38 µs", "1000 µs", "1.2 ms", "2.0 s"]
        );
        assert_eq!(
            [12.0, 1e3, 1.5e3, 334e3, 999.7e3, 1e6, 1.02e6].map(count),
            ["12", "1 k", "1.5 k", "334 k", "1 M", "1 M", "1.02 M"]
        );
        assert_eq!([0.0, 0.000_01, 0.001, 0.5].map(percent), ["0 %", "<0.01 %", "0.10 %", "50 %"]);
    }
}
