//! What workers tell while they work, for the view: counters, and snapshots of the run so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;

use crate::tally::Tally;
use crate::timeline::{Counts, empty_latency};

/// How often a worker publishes.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);
/// What is not back after this is taken for lost, for the time being.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// One counter, on a cache line of its own. Workers add to it once a batch.
#[derive(Debug, Default)]
pub struct Counter(CachePadded<AtomicU64>);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The run so far: one part for each worker, which alone writes it.
#[derive(Debug)]
pub struct Live {
    interval_ns: u64,
    parts: Vec<Mutex<Part>>,
}

#[derive(Debug)]
struct Part {
    counts: Vec<Counts>,
    recent: Histogram<u32>,
}

/// The run so far, over all workers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams delivered.
    pub delivered: u64,
    /// Share not delivered of those that were due more than a second ago.
    pub loss_percent: f64,
    /// Median and 99th percentile of what was delivered since the last snapshot, in nanoseconds.
    pub latency_ns: Option<(u64, u64)>,
}

impl Live {
    /// Room for `workers` workers that each keep a timeline with intervals of `interval_ns`.
    #[must_use]
    pub fn new(workers: u32, interval_ns: u64) -> Self {
        let part = || Mutex::new(Part { counts: Vec::new(), recent: empty_latency() });
        Self { interval_ns, parts: (0..workers).map(|_| part()).collect() }
    }

    /// Replaces what worker `worker` has told by its `tally`, and moves its `recent` latencies here.
    pub fn publish(&self, worker: u32, tally: &Tally, recent: &mut Histogram<u32>) {
        let mut part = lock(&self.parts[worker as usize]);
        part.counts.clear();
        part.counts.extend(tally.timeline.counts());
        part.recent += &*recent;
        recent.reset();
    }

    /// The run so far. Latencies are those since the last call.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (mut counts, mut recent) = (Vec::new(), empty_latency());
        for part in &self.parts {
            let mut part = lock(part);
            counts.resize(counts.len().max(part.counts.len()), Counts::default());
            for (sum, count) in counts.iter_mut().zip(&part.counts) {
                sum.sent += count.sent;
                sum.delivered += count.delivered;
            }
            recent += &part.recent;
            part.recent.reset();
        }
        let all = total(&counts);
        let newest = counts.iter().rposition(|count| count.sent > 0).unwrap_or(0);
        let unsettled = SETTLED_AFTER.as_nanos().div_ceil(self.interval_ns.into()) as usize;
        let settled = total(&counts[..newest.saturating_sub(unsettled).min(counts.len())]);
        let lost = settled.sent.saturating_sub(settled.delivered);
        Snapshot {
            sent: all.sent,
            delivered: all.delivered,
            loss_percent: if settled.sent == 0 { 0.0 } else { lost as f64 * 100.0 / settled.sent as f64 },
            latency_ns: (!recent.is_empty()).then(|| (recent.value_at_quantile(0.5), recent.value_at_quantile(0.99))),
        }
    }
}

fn total(counts: &[Counts]) -> Counts {
    counts.iter().fold(Counts::default(), |sum, count| Counts {
        sent: sum.sent + count.sent,
        delivered: sum.delivered + count.delivered,
    })
}

/// A part stays readable though its worker panicked; the panic itself is raised where the worker is joined.
fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_under_way_is_not_yet_lost() {
        let second_ns = 1_000_000_000;
        let mut tally = Tally::new(10 * second_ns);
        let live = Live::new(2, crate::timeline::interval_ns(10 * second_ns));
        let mut recent = empty_latency();
        for (due_ns, is_delivered) in [(0, true), (1, true), (2, true), (3, false), (5 * second_ns, false)] {
            tally.record_departure(due_ns, due_ns);
            if is_delivered {
                tally.record_delivery(due_ns, due_ns + 50_000);
                recent.saturating_record(50_000);
            }
        }
        live.publish(1, &tally, &mut recent);
        assert!(recent.is_empty());
        let snapshot = live.snapshot();
        assert_eq!((snapshot.sent, snapshot.delivered, snapshot.loss_percent), (5, 3, 25.0));
        assert!(snapshot.latency_ns.unwrap().0.abs_diff(50_000) < 500);
        assert_eq!(live.snapshot().latency_ns, None, "nothing since");
    }
}
