//! Figures as text for Prometheus (exposition format 0.0.4). Names follow its conventions: base units in the name,
//! `_total` behind what only grows, and a help line for each family.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What is behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// Comes and goes.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// Families, as text.
#[derive(Debug)]
pub struct Text {
    prefix: &'static str,
    out: String,
}

impl Text {
    /// No families yet; names begin with `prefix`, as `pilot_directory_`.
    #[must_use]
    pub const fn new(prefix: &'static str) -> Self {
        Self { prefix, out: String::new() }
    }

    /// Begins a family.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let prefix = self.prefix;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.out, "# HELP {prefix}{name} {help}\n# TYPE {prefix}{name} {kind}");
    }

    /// A line of the family `name`.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.out, "{}{name}", self.prefix);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.out, "{before}{label}=\"{text}\"");
        }
        let _ = writeln!(self.out, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A counter that stands alone.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, Kind::Counter, help);
        self.sample(name, &[], value);
    }

    /// A gauge that stands alone.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, help);
        self.sample(name, &[], value);
    }

    /// The lines of one histogram of the family `name`.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut count = 0;
        for (index, bucket) in histogram.buckets.iter().enumerate() {
            count += bucket.load(Relaxed);
            let bound = histogram.bounds.get(index).map(|bound| histogram.scaled(*bound).to_string());
            let le = bound.unwrap_or_else(|| "+Inf".to_owned());
            let labels: Vec<_> = labels.iter().copied().chain([("le", le.as_str())]).collect();
            self.sample(&format!("{name}_bucket"), &labels, count);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.scaled(histogram.sum.load(Relaxed)));
        self.sample(&format!("{name}_count"), labels, count);
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.out
    }
}

/// Counts by size; any thread counts, nobody waits.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, each included, ascending.
    bounds: &'static [u64],
    /// What is counted in one unit of the text.
    scale: u64,
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Durations in nanoseconds, seconds in the text: half a millisecond to ten seconds.
    #[must_use]
    pub fn durations() -> Self {
        const BOUNDS_NS: &[u64] = &[
            500_000,
            1_000_000,
            2_500_000,
            5_000_000,
            10_000_000,
            25_000_000,
            100_000_000,
            1_000_000_000,
            10_000_000_000,
        ];
        Self::new(BOUNDS_NS, 1_000_000_000)
    }

    /// Numbers of things: 1 to 10 000.
    #[must_use]
    pub fn sizes() -> Self {
        Self::new(&[1, 3, 10, 30, 100, 300, 1000, 3000, 10_000], 1)
    }

    fn new(bounds: &'static [u64], scale: u64) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, scale, buckets, sum: AtomicU64::new(0) }
    }

    /// Counts one.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Whether nothing has been counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.load(Relaxed) == 0)
    }

    fn scaled(&self, value: u64) -> f64 {
        value as f64 / self.scale as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_its_bounds_are_included() {
        let histogram = Histogram::sizes();
        [0, 1, 2, 10, 11, 20_000].into_iter().for_each(|value| histogram.observe(value));
        let mut text = Text::new("pilot_");
        text.family("size", Kind::Histogram, "Sizes.");
        text.histogram("size", &[("of", "a\"b\\\n")], &histogram);
        let text = text.finish();
        let wanted = [
            "# HELP pilot_size Sizes.",
            "# TYPE pilot_size histogram",
            r#"pilot_size_bucket{of="a\"b\\\n",le="1"} 2"#,
            r#"pilot_size_bucket{of="a\"b\\\n",le="3"} 3"#,
            r#"pilot_size_bucket{of="a\"b\\\n",le="10"} 4"#,
            r#"pilot_size_bucket{of="a\"b\\\n",le="30"} 5"#,
            r#"pilot_size_bucket{of="a\"b\\\n",le="+Inf"} 6"#,
            r#"pilot_size_sum{of="a\"b\\\n"} 20024"#,
            r#"pilot_size_count{of="a\"b\\\n"} 6"#,
        ];
        for line in wanted {
            assert!(text.lines().any(|written| written == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn durations_are_written_in_seconds() {
        let histogram = Histogram::durations();
        assert!(histogram.is_empty());
        histogram.observe(1_500_000_000);
        let mut text = Text::new("");
        text.histogram("d", &[], &histogram);
        let text = text.finish();
        assert!(text.contains("d_bucket{le=\"0.0005\"} 0\n") && text.contains("d_sum 1.5\nd_count 1\n"), "{text}");
    }
}
