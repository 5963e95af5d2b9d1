//! Loss recovery: the scoreboard of what is in flight (RFC 6675), and what acknowledgements tell of it, needless
//! timeouts included (RFC 5682). What is lost is found in `rack` by order and time (RFC 8985), in `timeout` by silence.
//!
//! The wire has no timestamps and no duplicate SACK. Whether a retransmission was needless is told by its round trip:
//! an acknowledgement that comes faster than the path allows is for the first transmission.

mod rack;
mod timeout;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use self::rack::{Episode, Rack};
pub(super) use self::timeout::TimedOut;
use super::delivery::{DeliveryRate, RateSample, Snapshot};
use super::rtt::RttEstimator;
use crate::Time;

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
            rack: Rack::new(),
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
        }
        self.rack.on_arrived(&record, rtt);
        let timed_out_at = self.episode.as_ref().and_then(|episode| episode.timed_out_at);
        record.transmissions == 1 && timed_out_at.is_some_and(|timed_out_at| record.sent_at < timed_out_at)
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
