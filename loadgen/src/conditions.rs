//! Conditions that make a run a failure: `loss>0.1%`, `p99>=5ms`, `rate<50000`.
//!
//! A condition is a figure, a comparison and a limit with the figure's unit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::numbers;

/// A figure of a report that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The relay's loss, in percent.
    Loss,
    /// Median latency, in microseconds.
    P50,
    /// Latency that 90 % stay below.
    P90,
    /// Latency that 99 % stay below.
    P99,
    /// Latency that 99.9 % stay below.
    P999,
    /// The longest latency.
    Max,
    /// Datagrams delivered a second.
    Rate,
    /// Datagrams sent late, in percent.
    Late,
    /// Datagrams delivered again, in percent.
    Duplicated,
    /// Datagrams delivered out of order, in percent.
    Reordered,
}

/// What a limit of a figure is written in, and how much that is.
type Units = &'static [(&'static str, f64)];

const PERCENT: Units = &[("%", 1.0)];
const TIME: Units = &[("us", 1.0), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)];
const PER_SECOND: Units = &[("", 1.0), ("/s", 1.0), ("k", 1e3), ("k/s", 1e3), ("M", 1e6), ("M/s", 1e6)];

/// Every figure, its name, its units. p999 has two names.
const FIGURES: [(&str, Figure, Units); 11] = [
    ("loss", Figure::Loss, PERCENT),
    ("p50", Figure::P50, TIME),
    ("p90", Figure::P90, TIME),
    ("p99", Figure::P99, TIME),
    ("p999", Figure::P999, TIME),
    ("p99.9", Figure::P999, TIME),
    ("max", Figure::Max, TIME),
    ("rate", Figure::Rate, PER_SECOND),
    ("late", Figure::Late, PERCENT),
    ("duplicated", Figure::Duplicated, PERCENT),
    ("reordered", Figure::Reordered, PERCENT),
];

/// The longer ones first, so that `>=` is not read as `>`.
const COMPARISONS: [(&str, Comparison); 4] = [
    (">=", |value, limit| value >= limit),
    ("<=", |value, limit| value <= limit),
    (">", |value, limit| value > limit),
    ("<", |value, limit| value < limit),
];

type Comparison = fn(f64, f64) -> bool;

/// A condition under which a run has failed.
#[derive(Clone, Debug)]
pub struct Condition {
    figure: Figure,
    comparison: Comparison,
    /// In the figure's basic unit: percent, microseconds, datagrams per second.
    limit: f64,
    text: String,
}

/// What became of a condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// As it was written.
    pub condition: String,
    /// The figure, in percent, microseconds or datagrams per second, unless there is none.
    pub value: Option<f64>,
    /// Whether the condition is true, and the run has failed.
    pub is_true: bool,
}

impl Condition {
    /// Reads a list with commas between.
    ///
    /// # Errors
    /// Says what is wrong with the first wrong one, and what would be right.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(str::parse).collect()
    }

    /// The figure that is compared.
    #[must_use]
    pub const fn figure(&self) -> Figure {
        self.figure
    }

    /// Compares. A figure that does not exist, such as the latency of nothing, makes every condition true.
    #[must_use]
    pub fn check(&self, value: Option<f64>) -> Checked {
        let is_true = value.is_none_or(|value| (self.comparison)(value, self.limit));
        Checked { condition: self.text.clone(), value, is_true }
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let comparisons = || COMPARISONS.map(|(sign, _)| sign).join(" ");
        let at = text
            .find(['<', '>'])
            .ok_or_else(|| format!("'{text}' compares nothing; use one of {} as in loss>0.1%", comparisons()))?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let (sign, comparison) =
            COMPARISONS.into_iter().find(|(sign, _)| rest.starts_with(sign)).expect("it begins with < or >");
        let (_, figure, units) = FIGURES.into_iter().find(|(known, ..)| *known == name).ok_or_else(|| {
            format!("'{name}' in '{text}' is no figure; use one of {}", FIGURES.map(|(known, ..)| known).join(" "))
        })?;
        let limit = rest[sign.len()..].trim();
        let unit_at = limit.find(|at: char| !at.is_ascii_digit() && at != '.').unwrap_or(limit.len());
        let (number, unit) = (&limit[..unit_at], limit[unit_at..].trim());
        let wrong = || {
            let written: Vec<_> =
                units.iter().filter(|(unit, _)| *unit != "µs").map(|(unit, _)| format!("1{unit}")).collect();
            format!("'{limit}' in '{text}' is no limit for {name}; write it like {}", written.join(" or "))
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let (_, scale) = units.iter().find(|(known, _)| *known == unit).ok_or_else(wrong)?;
        Ok(Self { figure, comparison, limit: number * scale, text: text.to_owned() })
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { condition, value, is_true } = self;
        let is_what = if *is_true { "is true" } else { "is not true" };
        let shown = |value| match condition.parse::<Condition>() {
            Ok(condition) => condition.figure.show(value),
            Err(_) => value.to_string(),
        };
        match value {
            Some(value) => write!(out, "{condition} {is_what}: {}", shown(*value)),
            None => write!(out, "{condition} {is_what}: nothing was delivered"),
        }
    }
}

impl Figure {
    /// A value of it as people read it.
    fn show(self, value: f64) -> String {
        match self {
            Self::Loss | Self::Late | Self::Duplicated | Self::Reordered => format!("{} %", numbers::figure(value)),
            Self::P50 | Self::P90 | Self::P99 | Self::P999 | Self::Max => numbers::time(value),
            Self::Rate => format!("{}/s", numbers::figure(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn conditions_are_read_with_their_units() {
        for (text, figure, below, above) in [
            ("loss>0.1%", Figure::Loss, 0.1, 0.100_1),
            (" loss >= 0.1 % ", Figure::Loss, 0.099, 0.1),
            ("p50>5ms", Figure::P50, 5_000.0, 5_001.0),
            ("p90>7us", Figure::P90, 7.0, 7.1),
            ("p99.9>1s", Figure::P999, 1e6, 1e6 + 1.0),
            ("p999>1.5µs", Figure::P999, 1.5, 1.6),
            ("rate>50k", Figure::Rate, 50_000.0, 50_001.0),
            ("rate>2M/s", Figure::Rate, 2e6, 2e6 + 1.0),
        ] {
            let condition: Condition = text.parse().unwrap();
            assert_eq!(condition.figure(), figure, "{text}");
            assert!(!condition.check(Some(below)).is_true && condition.check(Some(above)).is_true, "{text}");
        }
        let condition: Condition = "rate<=10".parse().unwrap();
        assert!(condition.check(Some(10.0)).is_true && !condition.check(Some(10.1)).is_true);
    }

    #[test]
    fn what_became_of_a_condition_is_told_in_its_unit() {
        for (text, value, told) in [
            ("loss>0.1%", Some(0.25), "loss>0.1% is true: 0.25 %"),
            ("p99>5ms", Some(1200.0), "p99>5ms is not true: 1.2 ms"),
            ("rate<50k", Some(10.0), "rate<50k is true: 10/s"),
            ("max>1s", None, "max>1s is true: nothing was delivered"),
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().check(value).to_string(), told);
        }
    }

    #[test]
    fn a_list_has_commas() {
        assert_eq!(Condition::parse_list("loss>0.1%,p99>5ms").unwrap().len(), 2);
        assert!(Condition::parse_list("loss>0.1%,").is_err());
    }

    #[test]
    fn no_latency_at_all_is_a_failure() {
        assert!("p99>1s".parse::<Condition>().unwrap().check(None).is_true);
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        for (text, mention) in [
            ("", "compares nothing"),
            ("loss", "use one of >= <= > <"),
            ("loss=1%", "compares nothing"),
            ("lost>1%", "is no figure; use one of loss p50"),
            ("loss>1", "'1' in 'loss>1' is no limit for loss; write it like 1%"),
            ("loss>x%", "no limit for loss"),
            ("p99>5", "write it like 1us or 1ms or 1s"),
            ("p99>5min", "write it like 1us or 1ms or 1s"),
            ("rate<5%", "no limit for rate"),
            ("p99>-5ms", "no limit for p99"),
            ("p99>>5ms", "no limit for p99"),
            ("p99>1.2.3ms", "no limit for p99"),
        ] {
            let error = text.parse::<Condition>().expect_err(text);
            assert!(error.contains(mention), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text: String) {
            let _ = Condition::parse_list(&text);
            let _ = Condition::parse_list(&format!("p99>{text}"));
        }
    }
}
