//! What is taken for lost, and when that was wrong: loss detection by time (RACK, RFC 8985, 6.2), and a reordering window
//! that widens with each mistake.

use std::time::Duration;

use super::{Fate, Loss, Outcome, Record, Recovery, Sent};
use crate::Time;

/// Segments acknowledged beyond a hole that prove a loss, as long as no reordering was seen (RFC 5681).
const DUPLICATE_THRESHOLD: usize = 3;
/// The reordering window grows in steps of a quarter of the shortest round trip, up to the smoothed one.
const REORDERING_STEPS_MAX: u32 = 16;
/// Recoveries without a needless retransmission after which the window is narrow again (RFC 8985, 6.2).
const REORDERING_PERSISTENCE: u32 = 16;

/// The latest transmission known to have arrived (RFC 8985, 5.2).
#[derive(Clone, Debug)]
pub(super) struct Rack {
    sent_at: Time,
    end: u64,
    pub(super) rtt: Option<Duration>,
    /// The highest byte known to have arrived.
    farthest: u64,
    reordering_seen: bool,
    reordering_steps: u32,
    widened_at: Time,
    calm_recoveries: u32,
}

impl Rack {
    pub(super) const fn new() -> Self {
        Self {
            sent_at: Time(0),
            end: 0,
            rtt: None,
            farthest: 0,
            reordering_seen: false,
            reordering_steps: 1,
            widened_at: Time(0),
            calm_recoveries: 0,
        }
    }

    /// `record` has arrived, `rtt` after it was sent last.
    pub(super) fn on_arrived(&mut self, record: &Record, rtt: Duration) {
        self.reordering_seen |= record.transmissions == 1 && record.end < self.farthest;
        self.farthest = self.farthest.max(record.end);
        if (record.sent_at, record.end) >= (self.sent_at, self.end) {
            (self.sent_at, self.end, self.rtt) = (record.sent_at, record.end, Some(rtt));
        }
    }

    fn is_after(&self, record: &Record) -> bool {
        (self.sent_at, self.end) > (record.sent_at, record.end)
    }
}

/// From the first loss until all that was sent by then is acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Episode {
    end: u64,
    marked: u32,
    disproved: u32,
    /// When a retransmission timeout fell into it.
    pub(super) timed_out_at: Option<Time>,
}

impl Recovery {
    /// A segment was taken for lost that was not: the reordering window was too narrow.
    pub(super) fn on_needless_mark(&mut self, now: Time, was_resent: bool) {
        self.spurious_retransmissions += u64::from(was_resent);
        if let Some(episode) = &mut self.episode {
            episode.disproved += 1;
        }
        self.rack.reordering_seen = true;
        self.rack.calm_recoveries = 0;
        if now.since(self.rack.widened_at) >= self.rtt.smoothed().unwrap_or_default() {
            self.rack.widened_at = now;
            self.rack.reordering_steps = (self.rack.reordering_steps + 1).min(REORDERING_STEPS_MAX);
        }
    }

    /// What the needless timeout took for lost is in flight after all, and nothing else was wrong.
    pub(super) fn take_back_timeout(&mut self) {
        self.episode = None;
        for Sent { record, .. } in &mut self.sent {
            if record.fate == Fate::Lost && record.transmissions == 1 {
                record.fate = Fate::InFlight;
                self.lost_segments -= 1;
                self.in_flight_bytes += record.len();
            }
        }
    }

    pub(super) fn end_episode(&mut self) -> Option<Outcome> {
        let start = self.unacknowledged();
        let episode = self.episode.take_if(|episode| start >= episode.end)?;
        if episode.disproved >= episode.marked {
            return Some(Outcome::Spurious);
        }
        self.rack.calm_recoveries += 1;
        if self.rack.calm_recoveries >= REORDERING_PERSISTENCE {
            self.rack.reordering_steps = 1;
        }
        Some(Outcome::Repaired)
    }

    /// Takes for lost what was sent long enough before something that has arrived (RFC 8985, 6.2 step 5).
    pub(super) fn detect_losses(&mut self, now: Time) -> Loss {
        self.reordering_due = None;
        let Some(rtt) = self.rack.rtt else { return Loss::default() };
        let patience = rtt + self.reordering_window();
        let mut lost = Vec::new();
        for (index, Sent { record, .. }) in self.sent.iter().enumerate() {
            if record.fate == Fate::InFlight && self.rack.is_after(record) {
                let due = record.sent_at + patience;
                if due <= now {
                    lost.push(index);
                } else {
                    self.reordering_due = Some(self.reordering_due.map_or(due, |other| other.min(due)));
                }
            } else if record.transmissions == 1 && !self.rack.is_after(record) {
                // All beyond it was sent later still.
                break;
            }
        }
        self.mark_lost(lost)
    }

    pub(super) fn mark_lost(&mut self, indices: impl IntoIterator<Item = usize>) -> Loss {
        let mut loss = Loss::default();
        for index in indices {
            let record = &mut self.sent[index].record;
            record.fate = Fate::Lost;
            self.in_flight_bytes -= record.len();
            self.lost_segments += 1;
            loss.bytes += record.len();
            loss.begins_episode |= self.episode.is_none();
            let fresh = Episode { end: self.next, marked: 0, disproved: 0, timed_out_at: None };
            self.episode.get_or_insert(fresh).marked += 1;
        }
        loss
    }

    pub(super) fn reordering_window(&self) -> Duration {
        let proven = self.episode.is_some() || self.sacked_segments >= DUPLICATE_THRESHOLD;
        if !self.rack.reordering_seen && proven {
            return Duration::ZERO;
        }
        let quarter = self.rtt.minimum().unwrap_or_default() / 4;
        (quarter * self.rack.reordering_steps).min(self.rtt.smoothed().unwrap_or_default())
    }
}
