//! Counters, and their text for Prometheus. Any thread counts; nobody waits.

use std::array::from_fn;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use telemetry::prometheus::{Histogram, Kind, Text};
use wire::registry::Operation;

use crate::enrolment::Standing;
use crate::service::Figures;
use crate::service::overview::Overview;

/// What has happened since the start.
#[derive(Debug)]
pub struct Metrics {
    requests: [AtomicU64; Operation::NAMES.len()],
    durations: [Histogram; Operation::NAMES.len()],
    requests_invalid: AtomicU64,
    errors: AtomicU64,
    connections: AtomicU64,
    connections_open: AtomicU64,
    served: [AtomicU64; Transport::NAMES.len()],
    closed: [AtomicU64; CloseReason::NAMES.len()],
    commits_failed: AtomicU64,
    commit_durations: Histogram,
    commit_sizes: Histogram,
    changes_waiting: AtomicU64,
}

/// A question for changes that waits.
#[derive(Debug)]
pub struct ChangesWait<'a>(&'a Metrics);

impl Drop for ChangesWait<'_> {
    fn drop(&mut self) {
        self.0.changes_waiting.fetch_sub(1, Relaxed);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: from_fn(|_| AtomicU64::new(0)),
            durations: from_fn(|_| Histogram::durations()),
            requests_invalid: AtomicU64::default(),
            errors: AtomicU64::default(),
            connections: AtomicU64::default(),
            connections_open: AtomicU64::default(),
            served: from_fn(|_| AtomicU64::new(0)),
            closed: from_fn(|_| AtomicU64::new(0)),
            commits_failed: AtomicU64::default(),
            commit_durations: Histogram::durations(),
            commit_sizes: Histogram::sizes(),
            changes_waiting: AtomicU64::default(),
        }
    }
}

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP alone.
    Plain,
    /// TLS.
    Tls,
}

impl Transport {
    const NAMES: [&'static str; 2] = ["plain", "tls"];
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
    /// Too many strangers ask at once.
    Busy,
}

impl CloseReason {
    const NAMES: [&'static str; 11] = [
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
        "busy",
    ];
}

impl Metrics {
    pub(crate) fn request(&self, operation: &Operation) {
        self.requests[operation.index()].fetch_add(1, Relaxed);
    }

    /// A request has its answer, `took` after the batch it came in.
    pub(crate) fn answered(&self, operation: &Operation, took: Duration) {
        self.durations[operation.index()].observe(ns(took));
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

    pub(crate) fn connection_served(&self, transport: Transport) {
        self.served[transport as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections_open.fetch_sub(1, Relaxed);
    }

    pub(crate) fn closed(&self, reason: CloseReason) {
        self.closed[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn committed(&self, changes: usize, took: Duration) {
        self.commit_sizes.observe(changes as u64);
        self.commit_durations.observe(ns(took));
    }

    pub(crate) fn commit_failed(&self) {
        self.commits_failed.fetch_add(1, Relaxed);
    }

    /// A question for changes waits, as long as the value lives.
    pub fn changes_wait(&self) -> ChangesWait<'_> {
        self.changes_waiting.fetch_add(1, Relaxed);
        ChangesWait(self)
    }

    /// The counters with figures of the service, in the Prometheus text format.
    #[must_use]
    pub fn text(&self, figures: &Figures, overview: &Overview) -> String {
        let mut out = Text::new("pilot_directory_");
        self.requests_text(&mut out);
        self.connections_text(&mut out);
        self.commits_text(&mut out);
        let value = |count: usize| count as u64;
        for (name, help, value) in [
            ("nodes", "Registered nodes that belong.", value(figures.nodes)),
            ("nodes_online", "Nodes that have shown a sign of life lately.", value(figures.nodes_online)),
            ("networks", "Networks besides the backbone.", value(figures.networks)),
            ("trust_pairs", "Directed trust relations.", value(figures.trust_pairs)),
            ("capabilities_online", "Nodes online that say what they can do.", value(overview.capabilities)),
            ("nodes_reporting", "Nodes online that report on their paths.", value(overview.paths.reporting)),
        ] {
            out.gauge(name, help, value);
        }
        let help = "Valid signatures that came from another address while a connection from the first lived.";
        out.counter("signatures_replayed_total", help, figures.signatures_replayed);
        let help = "Jumps of the clock by more than an hour; from each on absence of nodes counts anew.";
        out.counter("clock_jumps_total", help, figures.clock_jumps);
        out.family("nodes_by_standing", Kind::Gauge, "Registered nodes, by whether they belong.");
        let standings = [figures.nodes, figures.nodes_pending, figures.nodes_banned];
        for (standing, count) in Standing::ALL.iter().zip(standings) {
            out.sample("nodes_by_standing", &[("standing", standing.label())], value(count));
        }
        let groups = overview.groups.iter().filter(|group| group.id != 0);
        let (members, online) =
            groups.fold((0, 0), |(members, online), group| (members + group.members, online + group.online));
        out.gauge("group_members", "Memberships of all networks besides the backbone.", members);
        out.gauge("group_members_online", "Of these, of nodes that are online.", online);
        out.family("peer_paths", Kind::Gauge, "Peers that the reporting nodes reach, by path.");
        out.sample("peer_paths", &[("path", "direct")], overview.paths.direct);
        out.sample("peer_paths", &[("path", "relay")], overview.paths.relayed);
        out.finish()
    }

    fn requests_text(&self, out: &mut Text) {
        by(out, "requests_total", "Requests by type.", "type", &Operation::NAMES, &self.requests);
        let name = "request_duration_seconds";
        out.family(name, Kind::Histogram, "From the arrival of a batch to the answer, by type; types that came.");
        let durations = Operation::NAMES.iter().zip(&self.durations);
        for (operation, durations) in durations.filter(|(_, durations)| !durations.is_empty()) {
            out.histogram(name, &[("type", operation)], durations);
        }
        out.counter("requests_invalid_total", "Messages that were no request.", self.requests_invalid.load(Relaxed));
        out.counter("errors_total", "Requests answered with an error.", self.errors.load(Relaxed));
        let waiting = self.changes_waiting.load(Relaxed);
        out.gauge("changes_waiting", "Questions for changes that wait for their answer.", waiting);
    }

    fn connections_text(&self, out: &mut Text) {
        out.counter("connections_total", "Connections accepted.", self.connections.load(Relaxed));
        out.gauge("connections_open", "Connections now open.", self.connections_open.load(Relaxed));
        let help = "Connections that have begun to speak, by how.";
        by(out, "connections_served_total", help, "transport", &Transport::NAMES, &self.served);
        let help = "Connections ended by the directory, by why.";
        by(out, "connections_closed_total", help, "reason", &CloseReason::NAMES, &self.closed);
    }

    fn commits_text(&self, out: &mut Text) {
        let name = "commit_duration_seconds";
        out.family(name, Kind::Histogram, "Time to make a batch of changes durable.");
        out.histogram(name, &[], &self.commit_durations);
        let name = "commit_changes";
        out.family(name, Kind::Histogram, "Changes made durable together.");
        out.histogram(name, &[], &self.commit_sizes);
        let failed = self.commits_failed.load(Relaxed);
        out.counter("commits_failed_total", "Commits that failed and were tried again.", failed);
    }
}

/// A counter for each of `names`.
fn by(out: &mut Text, name: &str, help: &str, label: &str, names: &[&str], counts: &[AtomicU64]) {
    out.family(name, Kind::Counter, help);
    for (value, count) in names.iter().zip(counts) {
        out.sample(name, &[(label, value)], count.load(Relaxed));
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
