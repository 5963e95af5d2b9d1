//! What segments of the peer do to a stream: the handshake, data, acknowledgements and the end.

use std::time::Duration;

use wire::packet::Flags;
use wire::stream::{SackBlocks, Sequence};

use super::congestion::Acknowledged;
use super::recovery::{Loss, Outcome, Progress};
use super::recv::Arrival;
use super::timers::Timer;
use super::{End, FIRST_OFFSET, IDLE_MAX, LINGER_MAX, Segment, State, Stream};
use crate::Time;

/// A lone segment is acknowledged after this (section 8.3); each second one at once.
const ACK_DELAY: Duration = Duration::from_millis(5);
const ACK_EVERY_SEGMENTS: u32 = 2;
/// An old peer sends its FIN once and may not repeat what the FIN overtook.
const PENDING_FIN_MAX: Duration = Duration::from_secs(10);

impl Stream {
    /// Takes in a segment from the peer.
    pub fn handle_segment(&mut self, now: Time, segment: &Segment<'_>) {
        if self.state == State::Closed {
            return;
        }
        if segment.flags.contains(Flags::RST) {
            let refused = self.state == State::SynSent;
            return self.finish(if refused { End::Refused } else { End::Reset });
        }
        if self.state != State::TimeWait {
            self.timers.start(Timer::Idle, now + IDLE_MAX);
        }
        if segment.flags.contains(Flags::SYN) {
            self.handle_syn(now, segment);
        } else if self.state != State::SynSent {
            self.handle_established(now, segment);
        }
        self.update_timers(now);
    }

    fn handle_syn(&mut self, now: Time, segment: &Segment<'_>) {
        let answers = segment.flags.contains(Flags::ACK);
        match self.state {
            State::SynSent if answers && segment.acknowledgement == Sequence::of(FIRST_OFFSET) => {
                self.state = State::Established;
                self.window_segments = segment.window_segments;
                self.timers.stop(Timer::Handshake);
                if self.syn_attempts == 1 {
                    self.recovery.rtt_mut().sample(now, now.since(self.syn_sent_at));
                }
                self.due.ack = true;
                if self.closes_early {
                    self.begin_to_close(now);
                }
            }
            // RFC 9293 3.10.7.3: it speaks for a connection of a life before; the next SYN finds it gone.
            State::SynSent if answers => self.due.rst = true,
            State::SynSent | State::TimeWait | State::Closed => {}
            // Our answer to it was lost.
            State::Established | State::FinWait if answers => self.due.ack = true,
            State::Established | State::FinWait => self.due.syn_ack = true,
        }
    }

    fn handle_established(&mut self, now: Time, segment: &Segment<'_>) {
        let Some(start) = segment.sequence.nearest(self.received.next()) else { return };
        let acknowledges = segment.flags.contains(Flags::ACK);
        let sack = if acknowledges { SackBlocks::decode(segment.payload).ok() } else { None };
        let data = if sack.is_none() { segment.payload } else { &[] };
        let fin = segment.flags.contains(Flags::FIN);
        if acknowledges {
            self.handle_ack(now, segment, &sack.unwrap_or_default(), !fin);
        }
        if self.state == State::TimeWait {
            // The answer to its first FIN may have been lost; a FIN|ACK must not be answered.
            self.due.ack |= fin && !acknowledges;
            return;
        }
        if !data.is_empty() {
            self.handle_data(start, data);
        } else if !fin && self.reopened_answers > 0 && sack.is_none() {
            self.reopened_answers -= 1;
            self.due.ack = true;
        }
        if fin && self.peer_end.is_none() && start + data.len() as u64 >= self.received.next() {
            self.peer_end = Some(start + data.len() as u64);
            self.timers.start(Timer::PendingFin, now + PENDING_FIN_MAX);
        }
        self.take_fin(now, acknowledges && fin);
        if self.due.ack || self.due.fin_ack || self.segments_to_acknowledge == 0 {
            return;
        }
        if !self.timers.runs(Timer::DelayedAck) {
            self.timers.start(Timer::DelayedAck, now + ACK_DELAY);
        }
    }

    fn handle_data(&mut self, start: u64, data: &[u8]) {
        self.reopened_answers = 0;
        self.segments_to_acknowledge += 1;
        let in_order = self.received.insert(start, data, self.peer_end) == Arrival::InOrder;
        self.due.ack |= !in_order || self.segments_to_acknowledge >= ACK_EVERY_SEGMENTS;
    }

    /// Once all before the peer's FIN is here: the end of the stream, and of ours with it.
    fn take_fin(&mut self, now: Time, is_answer: bool) {
        if self.peer_end != Some(self.received.next()) || self.peer_end_reached {
            return;
        }
        self.peer_end_reached = true;
        self.end = Some(End::Finished);
        // A FIN|ACK answers our FIN, or is the first FIN of a peer that must not be led to answer us.
        self.due.fin_ack = !is_answer;
        self.due.ack = is_answer && self.state == State::Established;
        self.unsent.clear();
        self.recovery.abandon();
        self.wait_for_stragglers(now);
    }

    fn handle_ack(&mut self, now: Time, segment: &Segment<'_>, sack: &SackBlocks, window_counts: bool) {
        let unacknowledged = self.recovery.unacknowledged();
        let Some(acknowledged) = segment.acknowledgement.nearest(unacknowledged) else { return };
        if acknowledged > self.recovery.next() {
            return;
        }
        if window_counts {
            self.update_window(acknowledged, segment.window_segments);
        }
        let blocks = sack.offsets(unacknowledged).filter(|block| block.end <= self.recovery.next());
        let blocks: Vec<_> = blocks.collect();
        let progress = self.recovery.handle_ack(now, acknowledged, blocks.into_iter());
        self.handle_progress(now, &progress);
        if self.state == State::FinWait {
            if progress.delivered_bytes > 0 {
                self.timers.start(Timer::Linger, now + LINGER_MAX);
            }
            if self.fin_sent && self.recovery.is_empty() {
                self.end = Some(End::Finished);
                self.wait_for_stragglers(now);
            }
        }
    }

    /// A window that is lower at the same acknowledgement is old news, or the zero of an old keepalive.
    const fn update_window(&mut self, acknowledged: u64, window_segments: u16) {
        let newer = acknowledged > self.window_at;
        if newer || acknowledged == self.window_at && window_segments > self.window_segments {
            (self.window_at, self.window_segments) = (acknowledged, window_segments);
        }
    }

    fn handle_progress(&mut self, now: Time, progress: &Progress) {
        self.handle_loss(now, progress.loss);
        match progress.outcome {
            Some(Outcome::Repaired) => self.congestion.on_repaired(),
            Some(Outcome::Spurious) => self.congestion.on_spurious(),
            None => {}
        }
        if progress.delivered_bytes > 0 {
            self.congestion.on_acknowledged(&Acknowledged {
                now,
                delivered_bytes: progress.delivered_bytes,
                prior_in_flight_bytes: progress.prior_in_flight_bytes,
                in_flight_bytes: self.recovery.in_flight_bytes(),
                delivered_total_bytes: self.recovery.delivered_bytes(),
                rtt: progress.rtt,
                smoothed_rtt: self.recovery.rtt().smoothed(),
                rate: progress.rate,
            });
        }
    }

    pub(super) fn handle_loss(&mut self, now: Time, loss: Loss) {
        if loss.bytes > 0 {
            self.congestion.on_lost(now, loss.bytes, loss.begins_episode);
        }
    }
}
