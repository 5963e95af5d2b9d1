//! Who is there. A sign of life makes a node present; silence, deregistration, or the end of its last connection with
//! nothing after it, make it absent. Nothing of this is on disk.
//!
//! Counts are kept, not counted: per network, in all, and the sum of what present nodes report. The deadlines of present
//! nodes stand in order, so that a sweep costs what expires and not what is there.

use std::collections::BTreeSet;
use std::time::Duration;

use wire::NodeId;
use wire::registry::answer::Happened;
use wire::registry::request::Report;

use super::overview::PathFigures;
use super::{Now, PRESENCE_TIMEOUT, Service};

/// Silence after the end of a node's last connection that makes it absent. Two heartbeats of the slowest release: it
/// reconnects with the first one after the end, and the second is to spare.
pub const UNPLUGGED_TIMEOUT: Duration = Duration::from_secs(120);
/// Nodes that one sweep makes absent, and connections whose end it looks after.
const SWEPT_MAX: usize = 1024;
/// A deadline on file may be earlier than the true one by so much, so that busy nodes are not filed again each time.
const FILED_EARLY_MAX: Duration = Duration::from_secs(1);
/// What one node is believed to reach, and to have sent: 1 PiB.
const REPORTED_PEERS_MAX: u32 = 1 << 20;
const REPORTED_BYTES_MAX: u64 = 1 << 50;

/// What is known of a node's presence.
#[derive(Debug, Default)]
pub(super) struct Life {
    seen: Option<Now>,
    /// Since when no connection of it has lived that carried a signature of its own, nor was there a sign of life.
    unplugged: Option<Duration>,
    /// Its entry in [`Presence::deadlines`]; present as long as there is one.
    filed: Option<Duration>,
    report: Option<Box<Report>>,
}

impl Life {
    /// Between two sweeps this is ahead of the counts.
    pub(super) fn is_online(&self, now: Now) -> bool {
        self.filed.is_some() && self.deadline().is_some_and(|deadline| now.monotonic < deadline)
    }

    /// Counted as present.
    pub(super) const fn is_present(&self) -> bool {
        self.filed.is_some()
    }

    pub(super) const fn last_seen_unix_seconds(&self) -> Option<u64> {
        match self.seen {
            Some(seen) => Some(seen.unix_seconds),
            None => None,
        }
    }

    pub(super) fn report(&self) -> Option<Report> {
        self.report.as_deref().copied()
    }

    /// Whether there was a sign of life lately, also of one that does not belong.
    pub(super) fn was_heard_since(&self, then: Duration) -> bool {
        self.seen.is_some_and(|seen| seen.monotonic >= then)
    }

    fn deadline(&self) -> Option<Duration> {
        let silent = self.seen?.monotonic + PRESENCE_TIMEOUT;
        Some(self.unplugged.map_or(silent, |since| silent.min(since + UNPLUGGED_TIMEOUT)))
    }
}

/// Who is there, in all.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// One for each present node.
    deadlines: BTreeSet<(Duration, NodeId)>,
    /// Nodes of which a connection has ended since the last sweep.
    unplugged: BTreeSet<NodeId>,
    /// Present nodes that offer something.
    offering: usize,
    reports: Reports,
}

/// Sums wide enough that what was added can be taken away again.
#[derive(Debug, Default)]
struct Reports {
    count: usize,
    direct: u64,
    relayed: u64,
    direct_bytes: u128,
    relayed_bytes: u128,
}

impl Reports {
    fn add(&mut self, report: &Report) {
        self.count += 1;
        self.direct += u64::from(report.direct);
        self.relayed += u64::from(report.relayed);
        self.direct_bytes += u128::from(report.direct_bytes);
        self.relayed_bytes += u128::from(report.relayed_bytes);
    }

    fn subtract(&mut self, report: &Report) {
        self.count -= 1;
        self.direct -= u64::from(report.direct);
        self.relayed -= u64::from(report.relayed);
        self.direct_bytes -= u128::from(report.direct_bytes);
        self.relayed_bytes -= u128::from(report.relayed_bytes);
    }
}

impl Presence {
    /// Present nodes.
    pub(super) fn count(&self) -> usize {
        self.deadlines.len()
    }

    /// Present nodes that have published what they can do.
    pub(super) const fn offering(&self) -> usize {
        self.offering
    }

    /// A present node offers something from now on, or no more.
    pub(super) const fn offers(&mut self, offers: bool) {
        if offers {
            self.offering += 1;
        } else {
            self.offering -= 1;
        }
    }

    pub(super) fn paths(&self) -> PathFigures {
        let Reports { count, direct, relayed, direct_bytes, relayed_bytes } = self.reports;
        PathFigures {
            reporting: count,
            direct,
            relayed,
            direct_bytes: u64::try_from(direct_bytes).unwrap_or(u64::MAX),
            relayed_bytes: u64::try_from(relayed_bytes).unwrap_or(u64::MAX),
        }
    }

    /// A connection that carried signatures of `nodes` has ended.
    pub(super) fn unplugged(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.unplugged.extend(nodes);
    }

    fn file(&mut self, node: NodeId, life: &mut Life, deadline: Duration) {
        if let Some(filed) = life.filed.replace(deadline) {
            self.deadlines.remove(&(filed, node));
        }
        self.deadlines.insert((deadline, node));
    }
}

impl Service {
    /// Makes those absent whose time is over, a bounded number at once: true when there may be more.
    pub fn sweep(&mut self, now: Now) -> bool {
        self.collect(now);
        self.questions.sweep(now);
        for _ in 0..SWEPT_MAX {
            let Some(node) = self.presence.unplugged.pop_first() else { break };
            if !self.proofs.is_connected(node) && self.nodes.find(node).is_ok() {
                self.unplug(now, node);
            }
        }
        for _ in 0..SWEPT_MAX {
            let Some((deadline, node)) = self.presence.deadlines.first().copied() else {
                return !self.presence.unplugged.is_empty();
            };
            if deadline > now.monotonic {
                return !self.presence.unplugged.is_empty();
            }
            let life = &mut self.nodes.entry(node).life;
            match life.deadline().filter(|deadline| *deadline > now.monotonic) {
                Some(later) => self.presence.file(node, life, later),
                None => self.departed(now, node),
            }
        }
        true
    }

    /// A sign of life.
    pub(super) fn saw(&mut self, node: NodeId, now: Now) {
        self.capabilities.saw(node, now.monotonic);
        let belongs = self.nodes.find(node).is_ok();
        let life = &mut self.nodes.entry(node).life;
        life.seen = Some(now);
        life.unplugged = None;
        if !belongs {
            return;
        }
        let deadline = now.monotonic + PRESENCE_TIMEOUT;
        match life.filed {
            Some(filed) if filed.abs_diff(deadline) < FILED_EARLY_MAX => {}
            Some(_) => self.presence.file(node, life, deadline),
            None => {
                self.presence.file(node, life, deadline);
                self.networks.came(node);
                if self.capabilities.offered(node).is_some() {
                    self.presence.offers(true);
                }
                self.changed(now, node, Happened::Online);
            }
        }
    }

    /// No connection lives that carried a signature of `node`.
    fn unplug(&mut self, now: Now, node: NodeId) {
        let life = &mut self.nodes.entry(node).life;
        life.unplugged = Some(now.monotonic);
        if let (Some(filed), Some(deadline)) = (life.filed, life.deadline())
            && deadline < filed
        {
            self.presence.file(node, life, deadline);
        }
    }

    /// A node is absent from now on, if it was present.
    pub(super) fn departed(&mut self, now: Now, node: NodeId) {
        let life = &mut self.nodes.entry(node).life;
        let Some(filed) = life.filed.take() else { return };
        self.presence.deadlines.remove(&(filed, node));
        if let Some(report) = life.report.take() {
            self.presence.reports.subtract(&report);
        }
        self.networks.went(node);
        if self.capabilities.offered(node).is_some() {
            self.presence.offers(false);
        }
        self.changed(now, node, Happened::Offline);
    }

    /// Takes what a present node reports of itself in the place of what it reported before. Nobody can check it, so it
    /// is believed up to a bound.
    pub(super) fn report(&mut self, node: NodeId, report: Option<Report>) {
        let life = &mut self.nodes.entry(node).life;
        if life.filed.is_none() {
            return;
        }
        let report = report.map(|report| Report {
            direct: report.direct.min(REPORTED_PEERS_MAX),
            relayed: report.relayed.min(REPORTED_PEERS_MAX),
            direct_bytes: report.direct_bytes.min(REPORTED_BYTES_MAX),
            relayed_bytes: report.relayed_bytes.min(REPORTED_BYTES_MAX),
            ..report
        });
        if let Some(report) = &report {
            self.presence.reports.add(report);
        }
        if let Some(before) = std::mem::replace(&mut life.report, report.map(Box::new)) {
            self.presence.reports.subtract(&before);
        }
    }
}
