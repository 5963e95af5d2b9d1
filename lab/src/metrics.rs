//! Reads the appliance's Prometheus text and checks its books.

use std::fmt;

/// One scrape of `/metrics`.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// Wraps the text of a scrape.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Sum over all label sets of the series called `name`.
    #[must_use]
    pub fn sum(&self, name: &str) -> u64 {
        self.series(name).map(|(_, value)| value).sum()
    }

    /// Whether the series exists at all: a sum of zero says nothing about a name that was misspelt.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.series(name).next().is_some()
    }

    /// Labels and value of every line of the series, zeros left out.
    #[must_use]
    pub fn non_zero(&self, name: &str) -> Vec<(String, u64)> {
        self.series(name).filter(|(_, value)| *value > 0).map(|(labels, value)| (labels.to_owned(), value)).collect()
    }

    fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        self.0.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(labelled) => labelled.split_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.trim().parse::<f64>().ok()? as u64))
        })
    }
}

/// The relay's books: every datagram received was forwarded, answered, deferred or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accounting {
    /// Datagrams taken from the network.
    pub received: u64,
    /// Datagrams sent on to another node.
    pub forwarded: u64,
    /// Datagrams that got an answer.
    pub answered: u64,
    /// Datagrams handed to another thread.
    pub deferred: u64,
    /// Datagrams dropped, all reasons together.
    pub dropped: u64,
}

impl Accounting {
    /// Reads the books from a scrape.
    ///
    /// # Panics
    /// When a series is missing.
    #[must_use]
    #[track_caller]
    pub fn of(metrics: &Metrics) -> Self {
        let sum = |what: &str| {
            let name = format!("pilot_relay_datagrams_{what}_total");
            assert!(metrics.has(&name), "/metrics lacks {name}");
            metrics.sum(&name)
        };
        Self {
            received: sum("received"),
            forwarded: sum("forwarded"),
            answered: sum("answered"),
            deferred: sum("deferred"),
            dropped: sum("dropped"),
        }
    }

    /// Whether nothing was lost between the columns.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.received == self.forwarded + self.answered + self.deferred + self.dropped
    }
}

impl fmt::Display for Accounting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, forwarded, answered, deferred, dropped } = self;
        write!(
            out,
            "received {received} = forwarded {forwarded} + answered {answered} + deferred {deferred} + dropped {dropped}"
        )
    }
}
