//! Counters, and their text for Prometheus. Any thread counts; nobody waits.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wire::registry::Operation;

use crate::service::Figures;

/// What has happened since the start.
#[derive(Debug)]
pub struct Metrics {
    requests: [AtomicU64; Operation::NAMES.len()],
    requests_invalid: AtomicU64,
    errors: AtomicU64,
    connections: AtomicU64,
    connections_open: AtomicU64,
    closed: [AtomicU64; CloseReason::NAMES.len()],
    commits: AtomicU64,
    commits_failed: AtomicU64,
    changes: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: [const { AtomicU64::new(0) }; Operation::NAMES.len()],
            requests_invalid: AtomicU64::default(),
            errors: AtomicU64::default(),
            connections: AtomicU64::default(),
            connections_open: AtomicU64::default(),
            closed: [const { AtomicU64::new(0) }; CloseReason::NAMES.len()],
            commits: AtomicU64::default(),
            commits_failed: AtomicU64::default(),
            changes: AtomicU64::default(),
        }
    }
}

/// Why the directory, not the client, ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// All connections are taken.
    Full,
    /// All connections of that address are taken.
    FullForAddress,
    /// It opened in the binary mode.
    BinaryMode,
    /// A length beyond the limit.
    TooLong,
    /// A frame or TLS handshake was not finished in time.
    FrameTimeout,
    /// Nothing came for long.
    IdleTimeout,
    /// Answers were not taken in time.
    WriteTimeout,
    /// Far above its rate.
    RateLimited,
    /// Memory for large messages is used up.
    NoMemory,
    /// TLS was asked for and is off, was required and not used, or failed.
    Tls,
}

impl CloseReason {
    const NAMES: [&'static str; 10] = [
        "full",
        "full_for_address",
        "binary_mode",
        "too_long",
        "frame_timeout",
        "idle_timeout",
        "write_timeout",
        "rate_limited",
        "no_memory",
        "tls",
    ];
}

impl Metrics {
    pub(crate) fn request(&self, operation: &Operation) {
        self.requests[operation.index()].fetch_add(1, Relaxed);
    }

    pub(crate) fn request_invalid(&self) {
        self.requests_invalid.fetch_add(1, Relaxed);
    }

    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.fetch_add(1, Relaxed);
        self.connections_open.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections_open.fetch_sub(1, Relaxed);
    }

    pub(crate) fn closed(&self, reason: CloseReason) {
        self.closed[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn committed(&self, changes: usize) {
        self.commits.fetch_add(1, Relaxed);
        self.changes.fetch_add(changes as u64, Relaxed);
    }

    pub(crate) fn commit_failed(&self) {
        self.commits_failed.fetch_add(1, Relaxed);
    }

    /// The counters with `figures` of the service, in the Prometheus text format.
    #[must_use]
    pub fn text(&self, figures: &Figures) -> String {
        let mut out = String::new();
        let requests = Operation::NAMES.iter().zip(&self.requests).map(|(name, count)| (*name, count.load(Relaxed)));
        family(&mut out, "requests_total", "counter", "Requests by type.", "type", requests);
        let closed = CloseReason::NAMES.iter().zip(&self.closed).map(|(name, count)| (*name, count.load(Relaxed)));
        family(&mut out, "closed_total", "counter", "Connections ended by the directory.", "reason", closed);
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        for (name, kind, help, value) in [
            ("requests_invalid_total", "counter", "Messages that were no request.", load(&self.requests_invalid)),
            ("errors_total", "counter", "Requests answered with an error.", load(&self.errors)),
            ("connections_total", "counter", "Connections accepted.", load(&self.connections)),
            ("connections_open", "gauge", "Connections now open.", load(&self.connections_open)),
            ("commits_total", "counter", "Batches of changes made durable.", load(&self.commits)),
            (
                "commits_failed_total",
                "counter",
                "Commits that failed and were tried again.",
                load(&self.commits_failed),
            ),
            ("changes_total", "counter", "Changes made durable.", load(&self.changes)),
            ("nodes", "gauge", "Registered nodes.", figures.nodes as u64),
            ("nodes_online", "gauge", "Nodes seen in the last five minutes.", figures.nodes_online as u64),
            ("networks", "gauge", "Networks besides the backbone.", figures.networks as u64),
            ("trust_pairs", "gauge", "Directed trust relations.", figures.trust_pairs as u64),
        ] {
            header(&mut out, name, kind, help);
            let _ = writeln!(out, "pilot_directory_{name} {value}");
        }
        out
    }
}

fn family<'a>(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    label: &str,
    values: impl Iterator<Item = (&'a str, u64)>,
) {
    header(out, name, kind, help);
    for (value, count) in values {
        let _ = writeln!(out, "pilot_directory_{name}{{{label}=\"{value}\"}} {count}");
    }
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP pilot_directory_{name} {help}\n# TYPE pilot_directory_{name} {kind}");
}
