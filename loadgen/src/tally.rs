//! What one worker counted, or several together.

use std::time::Duration;

use crate::latency::Times;
use crate::timeline::Timeline;

/// A datagram that leaves later than this after it was due counts as late.
pub const LATE: Duration = Duration::from_millis(10);

/// Counts, histograms and the timeline of a run.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Datagrams the kernel took.
    pub sent: u64,
    /// Datagrams of the plan that were never sent, because the generator was too far behind.
    pub unsent: u64,
    /// Datagrams the kernel refused to send.
    pub refused: u64,
    /// Datagrams sent later than [`LATE`].
    pub late: u64,
    /// First arrivals at the right peer, intact.
    pub delivered: u64,
    /// Those among them that came after a later one of their flow.
    pub reordered: u64,
    /// Further arrivals.
    pub duplicated: u64,
    /// Arrivals so far behind that first and further ones cannot be told apart.
    pub stale: u64,
    /// Arrivals with a changed length or content.
    pub corrupt: u64,
    /// Arrivals at the wrong peer or under the wrong sender's name.
    pub misdelivered: u64,
    /// Arrivals that are not of this run.
    pub foreign: u64,
    /// Sessions renewed.
    pub renewed: u64,
    /// Datagrams that reached this host but were dropped because the generator did not read in time.
    pub overrun: u64,
    /// When the last datagram was sent, after the start of the load.
    pub last_sent: Duration,
    /// Share of the sending time that the busiest worker's thread spent on a processor.
    pub busiest_percent: f64,
    /// From due to arrival.
    pub latency: Times,
    /// From due to sent.
    pub lateness: Times,
    /// All of it over time.
    pub timeline: Timeline,
}

impl Tally {
    /// An empty tally of a run that is planned to last `duration_ns`.
    #[must_use]
    pub fn new(duration_ns: u64) -> Self {
        Self {
            sent: 0,
            unsent: 0,
            refused: 0,
            late: 0,
            delivered: 0,
            reordered: 0,
            duplicated: 0,
            stale: 0,
            corrupt: 0,
            misdelivered: 0,
            foreign: 0,
            renewed: 0,
            overrun: 0,
            last_sent: Duration::ZERO,
            busiest_percent: 0.0,
            latency: Times::default(),
            lateness: Times::default(),
            timeline: Timeline::new(duration_ns),
        }
    }

    /// Records that a datagram due at `due_ns` was handed to the kernel at `now_ns`.
    pub fn record_departure(&mut self, due_ns: u64, now_ns: u64) {
        let lateness = now_ns.saturating_sub(due_ns);
        self.lateness.record(lateness);
        self.late += u64::from(u128::from(lateness) > LATE.as_nanos());
        self.timeline.record_departure(due_ns, now_ns);
    }

    /// Records what the kernel did with the departures of `now_ns`.
    pub fn record_sent(&mut self, now_ns: u64, sent: u64, refused: u64) {
        self.sent += sent;
        self.last_sent = Duration::from_nanos(now_ns);
        if refused > 0 {
            self.refused += refused;
            self.timeline.record_refusals(now_ns, refused);
        }
    }

    /// Records a first arrival.
    pub fn record_delivery(&mut self, due_ns: u64, arrived_ns: u64) {
        self.delivered += 1;
        self.latency.record(arrived_ns.saturating_sub(due_ns));
        self.timeline.record_delivery(due_ns, arrived_ns);
    }

    /// Adds what another worker counted in the same run.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.refused += other.refused;
        self.late += other.late;
        self.delivered += other.delivered;
        self.reordered += other.reordered;
        self.duplicated += other.duplicated;
        self.stale += other.stale;
        self.corrupt += other.corrupt;
        self.misdelivered += other.misdelivered;
        self.foreign += other.foreign;
        self.renewed += other.renewed;
        self.overrun += other.overrun;
        self.last_sent = self.last_sent.max(other.last_sent);
        self.busiest_percent = self.busiest_percent.max(other.busiest_percent);
        self.latency.add(&other.latency);
        self.lateness.add(&other.lateness);
        self.timeline.add(&other.timeline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_is_later_than_ten_milliseconds() {
        let mut tally = Tally::new(1_000_000_000);
        for number in 0..1000 {
            tally.record_departure(0, if number < 20 { 10_000_001 } else { 10_000_000 });
        }
        assert_eq!((tally.late, tally.lateness.count()), (20, 1000));
    }

    #[test]
    fn latency_counts_from_due() {
        let mut tally = Tally::new(1_000_000_000);
        tally.record_delivery(5_000, 505_000);
        assert!((tally.latency.percentiles().p50 - 500.0).abs() < 1.0);
    }

    #[test]
    fn workers_add_up() {
        let mut one = Tally { sent: 1000, foreign: 2, busiest_percent: 40.0, ..Tally::new(1_000_000_000) };
        one.record_delivery(0, 5);
        let mut both = Tally { last_sent: Duration::from_secs(1), busiest_percent: 30.0, ..one.clone() };
        both.add(&one);
        assert_eq!((both.sent, both.delivered, both.foreign, both.latency.count()), (2000, 2, 4, 2));
        assert_eq!((both.last_sent, both.busiest_percent), (Duration::from_secs(1), 40.0));
    }
}
