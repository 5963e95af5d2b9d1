//! Loss recovery: the scoreboard of what is in flight (RFC 6675), loss detection by time and tail probes (RACK-TLP,
//! RFC 8985), the retransmission timeout (RFC 6298) and when it was needless (RFC 5682).
//!
//! The wire has no timestamps and no duplicate SACK. Whether a retransmission was needless is told by its round trip:
//! an acknowledgement that comes faster than the path allows is for the first transmission.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::delivery::{DeliveryRate, RateSample, Snapshot};
use super::rtt::RttEstimator;
use crate::Time;

/// Timeouts in a row without any progress, after which the peer is given up (section 8.3).
const ATTEMPTS_MAX: u32 = 8;
/// Segments acknowledged beyond a hole that prove a loss, as long as no reordering was seen (RFC 5681).
const DUPLICATE_THRESHOLD: usize = 3;
/// A peer may hold back a lone acknowledgement so long (section 8.3, old versions).
const PEER_ACK_DELAY_MAX: Duration = Duration::from_millis(40);
/// The reordering window grows in steps of a quarter of the shortest round trip, up to the smoothed one.
const REORDERING_STEPS_MAX: u32 = 16;
/// Recoveries without a needless retransmission after which the window is narrow again (RFC 8985, 6.2).
const REORDERING_PERSISTENCE: u32 = 16;

/// One segment from its first transmission until all before it is acknowledged.
#[derive(Clone, Debug)]
struct Sent {
    payload: Vec<u8>,
    record: Record,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    start: u64,
    end: u64,
    fin: bool,
    sent_at: Time,
    transmissions: u32,
    fate: Fate,
    snapshot: Snapshot,
}

impl Record {
    const fn len(&self) -> u64 {
        self.end - self.start
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    InFlight,
    /// Not in flight any more, and to be sent again.
    Lost,
    /// The peer holds it, beyond a hole.
    Sacked,
}

/// A segment to be sent, first or again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) start: u64,
    pub(super) payload: &'a [u8],
    pub(super) fin: bool,
}

/// What one acknowledgement changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Bytes the peer is now known to hold, and did not before.
    pub(super) delivered_bytes: u64,
    pub(super) prior_in_flight_bytes: u64,
    pub(super) rtt: Option<Duration>,
    pub(super) rate: Option<RateSample>,
    pub(super) loss: Loss,
    /// The last episode is over, or its cause has turned out to be none.
    pub(super) outcome: Option<Outcome>,
}

/// Segments newly taken for lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loss {
    pub(super) bytes: u64,
    /// It is the first of an episode: congestion control reacts once to each.
    pub(super) begins_episode: bool,
}

/// How an episode of losses ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// What was lost has been repaired.
    Repaired,
    /// Nothing was lost.
    Spurious,
}

/// What the loss timer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Reordering,
    TailProbe,
    Retransmission,
}

/// What the loss timer led to.
#[derive(Clone, Copy, Debug)]
pub(super) enum TimedOut {
    Lost(Loss),
    /// A retransmission timeout; what follows is the loss it assumes.
    Retransmit(Loss),
    /// A segment must leave whatever window and pacing say: the tail probe.
    Probe,
    GiveUp,
}

/// The latest transmission known to have arrived (RFC 8985, 5.2).
#[derive(Clone, Debug, Default)]
struct Rack {
    sent_at: Time,
    end: u64,
    rtt: Option<Duration>,
    /// The highest byte known to have arrived.
    farthest: u64,
    reordering_seen: bool,
    reordering_steps: u32,
    widened_at: Time,
    calm_recoveries: u32,
}

impl Rack {
    fn is_after(&self, record: &Record) -> bool {
        (self.sent_at, self.end) > (record.sent_at, record.end)
    }
}

/// From the first loss until all that was sent by then is acknowledged.
#[derive(Clone, Debug)]
struct Episode {
    end: u64,
    marked: u32,
    disproved: u32,
    /// When a retransmission timeout fell into it.
    timed_out_at: Option<Time>,
}

#[derive(Clone, Debug)]
pub(super) struct Recovery {
    sent: VecDeque<Sent>,
    next: u64,
    in_flight_bytes: u64,
    lost_segments: usize,
    sacked_segments: usize,
    rtt: RttEstimator,
    delivery: DeliveryRate,
    rack: Rack,
    reordering_due: Option<Time>,
    episode: Option<Episode>,
    /// The end of what was sent when a tail probe left that is not answered yet.
    probe_end: Option<u64>,
    /// The retransmission timeout runs from the last progress, the tail probe also from the last new segment.
    timeout_base: Time,
    probe_base: Time,
    attempts: u32,
    retransmissions: u64,
    spurious_retransmissions: u64,
    timeouts: u64,
}

impl Recovery {
    pub(super) fn new(first: u64) -> Self {
        Self {
            sent: VecDeque::new(),
            next: first,
            in_flight_bytes: 0,
            lost_segments: 0,
            sacked_segments: 0,
            rtt: RttEstimator::default(),
            delivery: DeliveryRate::default(),
            rack: Rack { reordering_steps: 1, ..Rack::default() },
            reordering_due: None,
            episode: None,
            probe_end: None,
            timeout_base: Time(0),
            probe_base: Time(0),
            attempts: 0,
            retransmissions: 0,
            spurious_retransmissions: 0,
            timeouts: 0,
        }
    }

    /// The next byte that was never sent.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The first byte that is not acknowledged.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.sent.front().map_or(self.next, |first| first.record.start)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Segments that take a slot of the peer: all that are not acknowledged in order, those it holds included.
    pub(super) fn segments(&self) -> usize {
        self.sent.len()
    }

    pub(super) const fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    pub(super) const fn has_lost(&self) -> bool {
        self.lost_segments > 0
    }

    pub(super) const fn rtt(&self) -> &RttEstimator {
        &self.rtt
    }

    pub(super) const fn rtt_mut(&mut self) -> &mut RttEstimator {
        &mut self.rtt
    }

    pub(super) const fn delivered_bytes(&self) -> u64 {
        self.delivery.delivered_bytes()
    }

    pub(super) const fn retransmissions(&self) -> u64 {
        self.retransmissions
    }

    pub(super) const fn spurious_retransmissions(&self) -> u64 {
        self.spurious_retransmissions
    }

    pub(super) const fn timeouts(&self) -> u64 {
        self.timeouts
    }

    /// Forgets all that was sent: the peer wants no more.
    pub(super) fn abandon(&mut self) {
        self.sent.clear();
        (self.in_flight_bytes, self.lost_segments, self.sacked_segments) = (0, 0, 0);
        (self.reordering_due, self.episode, self.probe_end) = (None, None, None);
    }

    pub(super) const fn on_app_limited(&mut self) {
        self.delivery.on_app_limited(self.in_flight_bytes);
    }

    /// Takes a new segment into flight.
    pub(super) fn send(&mut self, now: Time, payload: Vec<u8>, fin: bool) -> Outgoing<'_> {
        if self.sent.is_empty() {
            self.timeout_base = now;
        }
        self.probe_base = now;
        let snapshot = self.delivery.on_sent(now, self.in_flight_bytes == 0);
        let (start, end) = (self.next, self.next + payload.len() as u64 + u64::from(fin));
        let record = Record { start, end, fin, sent_at: now, transmissions: 1, fate: Fate::InFlight, snapshot };
        self.next = end;
        self.in_flight_bytes += record.len();
        self.sent.push_back(Sent { payload, record });
        self.outgoing(self.sent.len() - 1)
    }

    /// Bytes of the segment that [`Recovery::resend_lost`] would send.
    pub(super) fn first_lost_bytes(&self) -> Option<u64> {
        self.first_lost().map(|index| self.sent[index].record.len())
    }

    /// Sends the first lost segment again.
    pub(super) fn resend_lost(&mut self, now: Time) -> Option<Outgoing<'_>> {
        let index = self.first_lost()?;
        self.lost_segments -= 1;
        Some(self.resend(now, index))
    }

    /// Sends the last segment that the peer is not known to hold again: a tail probe.
    pub(super) fn resend_last(&mut self, now: Time) -> Option<Outgoing<'_>> {
        let index = self.sent.iter().rposition(|sent| sent.record.fate != Fate::Sacked)?;
        match self.sent[index].record.fate {
            Fate::Lost => self.lost_segments -= 1,
            _ => self.in_flight_bytes -= self.sent[index].record.len(),
        }
        Some(self.resend(now, index))
    }

    fn resend(&mut self, now: Time, index: usize) -> Outgoing<'_> {
        let snapshot = self.delivery.on_sent(now, self.in_flight_bytes == 0);
        let record = &mut self.sent[index].record;
        (record.sent_at, record.fate, record.snapshot) = (now, Fate::InFlight, snapshot);
        record.transmissions += 1;
        self.in_flight_bytes += record.len();
        self.retransmissions += 1;
        self.outgoing(index)
    }

    fn outgoing(&self, index: usize) -> Outgoing<'_> {
        let Sent { payload, record } = &self.sent[index];
        Outgoing { start: record.start, payload, fin: record.fin }
    }

    fn first_lost(&self) -> Option<usize> {
        if self.lost_segments == 0 {
            return None;
        }
        self.sent.iter().position(|sent| sent.record.fate == Fate::Lost)
    }

    /// Takes in an acknowledgement of all before `acknowledged` and of `blocks` beyond it.
    pub(super) fn handle_ack(
        &mut self,
        now: Time,
        acknowledged: u64,
        blocks: impl Iterator<Item = Range<u64>>,
    ) -> Progress {
        let mut progress = Progress { prior_in_flight_bytes: self.in_flight_bytes, ..Progress::default() };
        let mut spurious_timeout = false;
        let before = self.unacknowledged();
        while let Some(first) = self.sent.pop_front_if(|first| first.record.end <= acknowledged) {
            if first.record.fate == Fate::Sacked {
                self.sacked_segments -= 1;
            } else {
                spurious_timeout |= self.deliver(now, first.record, &mut progress);
            }
        }
        for block in blocks {
            let from = self.sent.partition_point(|sent| sent.record.start < block.start);
            for index in from..self.sent.len() {
                let record = self.sent[index].record;
                if record.end > block.end {
                    break;
                }
                if record.fate != Fate::Sacked {
                    self.sent[index].record.fate = Fate::Sacked;
                    self.sacked_segments += 1;
                    spurious_timeout |= self.deliver(now, record, &mut progress);
                }
            }
        }
        if progress.delivered_bytes == 0 && self.unacknowledged() == before {
            return progress;
        }
        (self.timeout_base, self.probe_base, self.attempts) = (now, now, 0);
        if let Some(rtt) = progress.rtt {
            self.rtt.sample(now, rtt);
        }
        progress.rate = self.delivery.take_sample(self.rtt.minimum());
        self.probe_end = self.probe_end.filter(|end| self.unacknowledged() < *end);
        if spurious_timeout {
            self.take_back_timeout();
            progress.outcome = Some(Outcome::Spurious);
        }
        progress.loss = self.detect_losses(now);
        progress.outcome = progress.outcome.or(self.end_episode());
        progress
    }

    /// Accounts for a segment that has arrived. Says whether that proves a retransmission timeout needless: a segment
    /// sent before it, and only once, arrived after it (RFC 5682, 3).
    fn deliver(&mut self, now: Time, record: Record, progress: &mut Progress) -> bool {
        match record.fate {
            Fate::Lost => self.lost_segments -= 1,
            _ => self.in_flight_bytes -= record.len(),
        }
        progress.delivered_bytes += record.len();
        self.delivery.on_delivered(now, record.len(), record.sent_at, record.snapshot);
        let rtt = now.since(record.sent_at);
        let too_fast = self.rtt.minimum().is_some_and(|minimum| rtt < minimum);
        if record.transmissions > 1 && too_fast || record.fate == Fate::Lost {
            self.on_needless_mark(now, record.transmissions > 1);
            if record.transmissions > 1 {
                return false;
            }
        }
        if record.transmissions == 1 {
            progress.rtt = Some(progress.rtt.map_or(rtt, |other| other.min(rtt)));
            self.rack.reordering_seen |= record.end < self.rack.farthest;
        }
        self.rack.farthest = self.rack.farthest.max(record.end);
        if (record.sent_at, record.end) >= (self.rack.sent_at, self.rack.end) {
            (self.rack.sent_at, self.rack.end, self.rack.rtt) = (record.sent_at, record.end, Some(rtt));
        }
        let timed_out_at = self.episode.as_ref().and_then(|episode| episode.timed_out_at);
        record.transmissions == 1 && timed_out_at.is_some_and(|timed_out_at| record.sent_at < timed_out_at)
    }

    /// A segment was taken for lost that was not: the reordering window was too narrow.
    fn on_needless_mark(&mut self, now: Time, was_resent: bool) {
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
    fn take_back_timeout(&mut self) {
        self.episode = None;
        for Sent { record, .. } in &mut self.sent {
            if record.fate == Fate::Lost && record.transmissions == 1 {
                record.fate = Fate::InFlight;
                self.lost_segments -= 1;
                self.in_flight_bytes += record.len();
            }
        }
    }

    fn end_episode(&mut self) -> Option<Outcome> {
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
    fn detect_losses(&mut self, now: Time) -> Loss {
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

    fn mark_lost(&mut self, indices: impl IntoIterator<Item = usize>) -> Loss {
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

    fn reordering_window(&self) -> Duration {
        let proven = self.episode.is_some() || self.sacked_segments >= DUPLICATE_THRESHOLD;
        if !self.rack.reordering_seen && proven {
            return Duration::ZERO;
        }
        let quarter = self.rtt.minimum().unwrap_or_default() / 4;
        (quarter * self.rack.reordering_steps).min(self.rtt.smoothed().unwrap_or_default())
    }

    /// When [`Recovery::handle_timeout`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.due().map(|(at, _)| at)
    }

    fn due(&self) -> Option<(Time, Due)> {
        if self.sent.is_empty() {
            return None;
        }
        let retransmission = (self.timeout_base + self.rtt.timeout(self.attempts), Due::Retransmission);
        let earlier = match self.reordering_due {
            Some(at) => Some((at, Due::Reordering)),
            None if self.probe_timer_runs() => {
                self.probe_timeout().map(|after| (self.probe_base + after, Due::TailProbe))
            }
            None => None,
        };
        Some(earlier.filter(|(at, _)| *at < retransmission.0).unwrap_or(retransmission))
    }

    /// One probe at a time, and only while nothing else is known to be wrong (RFC 8985, 7.2).
    const fn probe_timer_runs(&self) -> bool {
        self.probe_end.is_none() && self.attempts == 0 && self.episode.is_none() && self.sacked_segments == 0
    }

    fn probe_timeout(&self) -> Option<Duration> {
        let lone = if self.sent.len() == 1 { PEER_ACK_DELAY_MAX } else { Duration::ZERO };
        self.rtt.smoothed().map(|smoothed| smoothed * 2 + lone)
    }

    /// To be called at the time of [`Recovery::poll_timeout`].
    /// Nobody is given up while the peer's `window_closed`: it may not answer for that reason alone.
    pub(super) fn handle_timeout(&mut self, now: Time, window_closed: bool) -> Option<TimedOut> {
        let (at, due) = self.due()?;
        if at > now {
            return None;
        }
        Some(match due {
            Due::Reordering => TimedOut::Lost(self.detect_losses(now)),
            Due::TailProbe => {
                (self.probe_end, self.timeout_base) = (Some(self.next), now);
                TimedOut::Probe
            }
            Due::Retransmission if self.attempts >= ATTEMPTS_MAX && !window_closed => TimedOut::GiveUp,
            Due::Retransmission => TimedOut::Retransmit(self.retransmission_timeout(now)),
        })
    }

    fn retransmission_timeout(&mut self, now: Time) -> Loss {
        self.attempts += 1;
        self.timeouts += 1;
        (self.timeout_base, self.probe_end, self.reordering_due) = (now, None, None);
        if self.sent.front().is_some_and(|first| first.record.fate == Fate::Sacked) {
            self.distrust_sacks();
        }
        // Not all that is unacknowledged, only what is old enough (RFC 8985, 6.3).
        let patience = self.rack.rtt.unwrap_or_else(|| self.rtt.timeout(0)) + self.reordering_window();
        let old = |(index, sent): (usize, &Sent)| {
            let overdue = index == 0 || sent.record.sent_at + patience <= now;
            (sent.record.fate == Fate::InFlight && overdue).then_some(index)
        };
        let lost: Vec<usize> = self.sent.iter().enumerate().filter_map(old).collect();
        let loss = self.mark_lost(lost);
        if let Some(episode) = &mut self.episode {
            episode.timed_out_at = Some(now);
        }
        loss
    }

    /// The first segment is said to be held and yet not acknowledged: the peer threw away what it held (RFC 6675, 5.1).
    fn distrust_sacks(&mut self) {
        for Sent { record, .. } in &mut self.sent {
            if record.fate == Fate::Sacked {
                record.fate = Fate::InFlight;
                self.in_flight_bytes += record.len();
            }
        }
        self.sacked_segments = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 100;

    fn at(milliseconds: u64) -> Time {
        Time(milliseconds * 1_000_000)
    }

    /// `count` segments of 100 bytes sent one a millisecond, over a path whose round trip of 40 ms is known.
    fn sent(count: u64) -> Recovery {
        let mut recovery = Recovery::new(0);
        recovery.rtt.sample(at(0), Duration::from_millis(40));
        for index in 0..count {
            recovery.send(at(index), vec![0; SEGMENT as usize], false);
        }
        recovery
    }

    fn ack(recovery: &mut Recovery, milliseconds: u64, segments: u64, sacked: Range<u64>) -> Progress {
        let block = sacked.start * SEGMENT..sacked.end * SEGMENT;
        recovery.handle_ack(
            at(milliseconds),
            segments * SEGMENT,
            std::iter::once(block).filter(|block| !block.is_empty()),
        )
    }

    fn resent(recovery: &mut Recovery, milliseconds: u64) -> Vec<u64> {
        std::iter::from_fn(|| recovery.resend_lost(at(milliseconds)).map(|outgoing| outgoing.start / SEGMENT)).collect()
    }

    #[test]
    fn three_beyond_a_hole_prove_a_loss() {
        let mut recovery = sent(8);
        ack(&mut recovery, 41, 0, 1..2);
        ack(&mut recovery, 42, 0, 1..3);
        assert_eq!(resent(&mut recovery, 42), [0; 0]);
        let progress = ack(&mut recovery, 43, 0, 1..4);
        assert_eq!((progress.loss.bytes, progress.loss.begins_episode), (SEGMENT, true));
        assert_eq!(recovery.in_flight_bytes(), 4 * SEGMENT);
        assert_eq!(resent(&mut recovery, 43), [0]);
        let progress = ack(&mut recovery, 83, 8, 0..0);
        assert_eq!((progress.outcome, recovery.in_flight_bytes()), (Some(Outcome::Repaired), 0));
    }

    #[test]
    fn fewer_prove_it_after_the_reordering_window() {
        let mut recovery = sent(2);
        ack(&mut recovery, 41, 0, 1..2);
        // Sent at 0, a round trip of 40 ms, and a quarter of the shortest.
        assert_eq!(recovery.poll_timeout(), Some(at(50)));
        assert!(matches!(recovery.handle_timeout(at(50), false), Some(TimedOut::Lost(loss)) if loss.bytes == SEGMENT));
    }

    #[test]
    fn a_lost_retransmission_is_found_without_a_timeout() {
        let mut recovery = sent(8);
        ack(&mut recovery, 43, 0, 1..4);
        assert_eq!(resent(&mut recovery, 43), [0]);
        recovery.send(at(44), vec![0; SEGMENT as usize], false);
        ack(&mut recovery, 84, 0, 1..9);
        assert_eq!((resent(&mut recovery, 84), recovery.timeouts()), (vec![0], 0));
    }

    #[test]
    fn after_reordering_was_seen_three_prove_nothing() {
        let mut recovery = sent(12);
        ack(&mut recovery, 43, 0, 1..4);
        assert_eq!(resent(&mut recovery, 43), [0]);
        // Far faster than the path: the first transmission has arrived, only late.
        let progress = ack(&mut recovery, 44, 4, 0..0);
        assert_eq!((recovery.spurious_retransmissions(), progress.outcome), (1, None));
        assert_eq!(ack(&mut recovery, 48, 4, 5..8).loss.bytes, 0);
        assert_eq!(ack(&mut recovery, 49, 12, 0..0).outcome, Some(Outcome::Spurious));
    }

    #[test]
    fn the_tail_is_probed_after_two_round_trips_and_only_once() {
        let mut recovery = sent(3);
        assert_eq!(recovery.poll_timeout(), Some(at(2 + 80)));
        assert!(matches!(recovery.handle_timeout(at(82), false), Some(TimedOut::Probe)));
        assert_eq!(recovery.resend_last(at(82)).map(|outgoing| outgoing.start), Some(2 * SEGMENT));
        assert_eq!(recovery.poll_timeout(), Some(at(82 + 200)), "then the retransmission timeout");
    }

    #[test]
    fn a_timeout_takes_for_lost_only_what_is_old() {
        let mut recovery = sent(1);
        recovery.probe_end = Some(SEGMENT);
        recovery.send(at(190), vec![0; SEGMENT as usize], false);
        assert!(
            matches!(recovery.handle_timeout(at(200), false), Some(TimedOut::Retransmit(loss)) if loss.bytes == SEGMENT)
        );
        assert_eq!(resent(&mut recovery, 200), [0]);
        assert_eq!(recovery.poll_timeout(), Some(at(200 + 400)), "doubled");
    }

    #[test]
    fn a_needless_timeout_is_taken_back() {
        let mut recovery = sent(4);
        recovery.probe_end = Some(4 * SEGMENT);
        recovery.handle_timeout(at(300), false);
        assert_eq!(recovery.resend_lost(at(300)).map(|outgoing| outgoing.start), Some(0));
        // The second was sent once, before the timeout: it was late, not lost, and so are the others.
        let progress = ack(&mut recovery, 310, 2, 0..0);
        assert_eq!(progress.outcome, Some(Outcome::Spurious));
        assert_eq!((recovery.has_lost(), recovery.in_flight_bytes()), (false, 2 * SEGMENT));
    }

    #[test]
    fn the_peer_is_given_up_after_eight_but_not_behind_a_closed_window() {
        let mut recovery = sent(1);
        let mut now = at(0);
        for _ in 0..8 {
            recovery.probe_end = Some(SEGMENT);
            now = recovery.poll_timeout().expect("something is in flight");
            assert!(matches!(recovery.handle_timeout(now, false), Some(TimedOut::Retransmit(_))));
            recovery.resend_lost(now);
        }
        let last = recovery.poll_timeout().expect("something is in flight");
        assert_eq!(last.since(now), Duration::from_secs(10));
        assert!(matches!(recovery.clone().handle_timeout(last, true), Some(TimedOut::Retransmit(_))));
        assert!(matches!(recovery.handle_timeout(last, false), Some(TimedOut::GiveUp)));
    }

    #[test]
    fn what_a_peer_throws_away_is_sent_again() {
        let mut recovery = sent(2);
        ack(&mut recovery, 41, 0, 0..2);
        assert_eq!(recovery.in_flight_bytes(), 0);
        let due = recovery.poll_timeout().expect("nothing is acknowledged in order");
        recovery.handle_timeout(due, false);
        assert_eq!(resent(&mut recovery, 300), [0, 1]);
    }
}
