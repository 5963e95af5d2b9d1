//! A verdict on one thing: how it stands, what was found, and what to type to change it.

use serde_json::{Map, Value};

use super::topics::Topic;

/// How a thing stands, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing has to change, or it could not be looked at.
    Note,
    /// The relay works, and would work better.
    Warn,
    /// The relay does not start, or nodes do not reach it.
    Problem,
}

impl Status {
    /// All of them, from best to worst.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Note, Self::Warn, Self::Problem];

    /// The word for people and scripts.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Problem => "problem",
        }
    }
}

/// One verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What was looked at.
    pub topic: Topic,
    /// How it stands.
    pub status: Status,
    /// What was found, in plain words.
    pub finding: String,
    /// What to type, or to do, about it.
    pub advice: Option<String>,
    /// The figures behind it.
    pub values: Map<String, Value>,
}

impl Topic {
    /// As it should be.
    pub fn ok(self, finding: impl Into<String>) -> Check {
        self.verdict(Status::Ok, finding, None)
    }

    /// Worth knowing.
    pub fn note(self, finding: impl Into<String>) -> Check {
        self.verdict(Status::Note, finding, None)
    }

    /// Could be better; `advice` says how.
    pub fn warn(self, finding: impl Into<String>, advice: impl Into<String>) -> Check {
        self.verdict(Status::Warn, finding, Some(advice.into()))
    }

    /// Must be changed; `advice` says how.
    pub fn problem(self, finding: impl Into<String>, advice: impl Into<String>) -> Check {
        self.verdict(Status::Problem, finding, Some(advice.into()))
    }

    fn verdict(self, status: Status, finding: impl Into<String>, advice: Option<String>) -> Check {
        Check { topic: self, status, finding: finding.into(), advice, values: Map::new() }
    }
}

impl Check {
    /// Adds what one may do all the same.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Adds a figure; an absent one becomes null.
    #[must_use]
    pub fn value(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.values.insert(name.to_owned(), value.into());
        self
    }
}

/// `sysctl -w`, the change that lasts until the next boot.
pub fn sysctl(key: &str, value: impl std::fmt::Display) -> String {
    format!("sysctl -w {key}={value}")
}

/// Bytes as a person reads them.
pub fn bytes(count: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    match count {
        u64::MAX => "no limit".to_owned(),
        0..MIB => format!("{} KiB", count / KIB),
        MIB..GIB if count.is_multiple_of(MIB) => format!("{} MiB", count / MIB),
        MIB..GIB => format!("{:.1} MiB", count as f64 / MIB as f64),
        _ => format!("{:.1} GiB", count as f64 / GIB as f64),
    }
}

/// CPU numbers as the kernel writes lists: `0-3,8`.
pub fn cpu_list(cpus: &[usize]) -> String {
    let runs = cpus.chunk_by(|one, next| one + 1 == *next);
    let texts = runs.map(|run| match run {
        [only] => only.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    texts.collect::<Vec<_>>().join(",")
}

/// `CPU 3`, `CPUs 0-3,8`.
pub fn cpus_named(cpus: &[usize]) -> String {
    let noun = if cpus.len() == 1 { "CPU" } else { "CPUs" };
    format!("{noun} {}", cpu_list(cpus))
}

/// `one shard`, `2 shards`.
pub fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("one {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!([212_992, 4 << 20, 3 << 29].map(bytes), ["208 KiB", "4 MiB", "1.5 GiB"]);
        assert_eq!(bytes(u64::MAX), "no limit");
        assert_eq!([&[0, 1, 2, 5][..], &[3], &[]].map(cpu_list), ["0-2,5", "3", ""]);
        assert_eq!([&[0, 1][..], &[7]].map(cpus_named), ["CPUs 0-1", "CPU 7"]);
        assert_eq!([1, 2].map(|count| counted(count, "shard")), ["one shard", "2 shards"]);
    }
}
