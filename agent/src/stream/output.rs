//! What leaves a stream next: handshake, acknowledgements, data new and lost, the end.

use wire::codec::Writer;
use wire::packet::Flags;
use wire::stream::Sequence;

use super::recovery::Outgoing;
use super::timers::Timer;
use super::{KEEPALIVE_INTERVAL, Segment, State, Stream};
use crate::Time;

/// A segment that leaves whatever window and pacing say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forced {
    /// New data, or else the last segment again.
    TailProbe,
    /// The first lost segment.
    Retransmission,
    /// New data beyond a closed window.
    WindowProbe,
}

/// What is to be sent besides data.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    pub(super) syn: bool,
    pub(super) syn_ack: bool,
    pub(super) fin_ack: bool,
    pub(super) ack: bool,
    pub(super) rst: bool,
}

/// What leaves next.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// A segment without data: flags and sequence number.
    Control(Flags, u64),
    Ack,
    Lost,
    Last,
    New,
    Fin,
}

impl Stream {
    /// The next segment to be sent now.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Segment<'_>> {
        let next = self.next(now)?;
        let acknowledgement = self.acknowledgement();
        let window_segments = self.received.window_segments();
        let segment = |flags: Flags, start: u64, payload| Segment {
            flags,
            sequence: Sequence::of(start),
            acknowledgement,
            window_segments,
            payload,
        };
        if !matches!(self.state, State::TimeWait | State::Closed) {
            self.timers.start(Timer::Keepalive, now + KEEPALIVE_INTERVAL);
        }
        if !matches!(next, Next::Control(Flags::SYN | Flags::FIN, _) | Next::Fin) {
            self.advertised_segments = window_segments;
            self.on_acknowledging();
        }
        match next {
            Next::Control(flags, start) => Some(segment(flags, start, &[])),
            Next::Ack => {
                let start = self.recovery.next();
                let payload = self.write_sack();
                Some(Segment { payload, ..segment(Flags::ACK, start, &[]) })
            }
            Next::Fin => {
                self.fin_sent = true;
                let start = self.recovery.send(now, Vec::new(), true).start;
                Some(segment(Flags::FIN, start, &[]))
            }
            Next::New | Next::Lost | Next::Last => {
                let outgoing = self.send_data(now, next)?;
                let flags = if outgoing.fin { Flags::FIN } else { Flags::ACK };
                Some(segment(flags, outgoing.start, outgoing.payload))
            }
        }
    }

    /// Decides what leaves next.
    fn next(&mut self, now: Time) -> Option<Next> {
        if std::mem::take(&mut self.due.rst) {
            return Some(Next::Control(Flags::RST, self.recovery.next()));
        }
        match self.state {
            State::Closed => return None,
            State::SynSent => return std::mem::take(&mut self.due.syn).then(|| self.send_syn(now)),
            State::Established | State::FinWait | State::TimeWait => {}
        }
        if std::mem::take(&mut self.due.syn_ack) {
            return Some(Next::Control(Flags::SYN | Flags::ACK, 0));
        }
        if std::mem::take(&mut self.due.fin_ack) {
            return Some(Next::Control(Flags::FIN | Flags::ACK, self.recovery.next()));
        }
        // Data cannot carry the blocks of a selective acknowledgement.
        if self.due.ack && self.received.has_hole() {
            return Some(Next::Ack);
        }
        self.next_data(now).or_else(|| self.due.ack.then_some(Next::Ack))
    }

    fn next_data(&mut self, now: Time) -> Option<Next> {
        if self.state == State::TimeWait {
            return None;
        }
        match self.forced.take() {
            Some(Forced::Retransmission) if self.recovery.has_lost() => return Some(Next::Lost),
            Some(Forced::TailProbe) if self.peer_has_room() && !self.unsent.is_empty() => return Some(Next::New),
            Some(Forced::TailProbe) => return (!self.recovery.is_empty()).then_some(Next::Last),
            Some(Forced::WindowProbe) if !self.unsent.is_empty() => return Some(Next::New),
            _ => {}
        }
        if self.fin_is_next() {
            return Some(Next::Fin);
        }
        if self.has_data_to_send() {
            let lost = self.recovery.has_lost();
            return (self.pacer.earliest() <= now).then_some(if lost { Next::Lost } else { Next::New });
        }
        let window_is_open = self.recovery.in_flight_bytes() < self.congestion.window_bytes();
        if self.unsent.is_empty() && !self.recovery.has_lost() && window_is_open {
            self.recovery.on_app_limited();
        }
        None
    }

    /// Whether data could leave at once, but for pacing.
    pub(super) fn has_data_to_send(&self) -> bool {
        if matches!(self.state, State::SynSent | State::TimeWait | State::Closed) {
            return false;
        }
        let in_flight_bytes = self.recovery.in_flight_bytes();
        let fits = |bytes| in_flight_bytes == 0 || in_flight_bytes + bytes <= self.congestion.window_bytes();
        if let Some(bytes) = self.recovery.first_lost_bytes() {
            return fits(bytes);
        }
        let held = self.timers.runs(Timer::Nagle) && self.held_until().is_some();
        self.unsent.next_bytes().is_some_and(|bytes| !held && self.peer_has_room() && fits(bytes))
    }

    fn peer_has_room(&self) -> bool {
        self.recovery.segments() < usize::from(self.window_segments)
    }

    pub(super) fn held_until(&self) -> Option<Time> {
        self.unsent.held_until(!self.recovery.is_empty() && self.state == State::Established)
    }

    fn fin_is_next(&self) -> bool {
        self.state == State::FinWait && self.unsent.is_empty() && self.recovery.is_empty() && !self.fin_sent
    }

    fn send_syn(&mut self, now: Time) -> Next {
        self.timers.start(Timer::Handshake, now + self.recovery.rtt().timeout(self.syn_attempts));
        self.syn_attempts += 1;
        self.syn_sent_at = now;
        Next::Control(Flags::SYN, 0)
    }

    fn send_data(&mut self, now: Time, next: Next) -> Option<Outgoing<'_>> {
        if self.recovery.is_empty() {
            self.congestion.on_restart(now);
        }
        let bytes_per_second = self.congestion.bytes_per_second();
        let outgoing = match next {
            Next::Lost => self.recovery.resend_lost(now),
            Next::Last => self.recovery.resend_last(now),
            _ => self.unsent.take(now).map(|payload| self.recovery.send(now, payload, false)),
        }?;
        let segment_bytes = u64::from(self.config.segment_bytes_max);
        self.pacer.on_sent(now, outgoing.payload.len() as u64, segment_bytes, bytes_per_second);
        Some(outgoing)
    }

    fn write_sack(&mut self) -> &[u8] {
        let blocks = self.received.sack_blocks();
        blocks.encode(&mut Writer::new(&mut self.sack));
        &self.sack[..blocks.encoded_len()]
    }

    fn acknowledgement(&self) -> Sequence {
        match self.state {
            State::SynSent => Sequence::of(0),
            _ => Sequence::of(self.received.next() + u64::from(self.peer_end_reached)),
        }
    }

    const fn on_acknowledging(&mut self) {
        self.due.ack = false;
        self.segments_to_acknowledge = 0;
        self.timers.stop(Timer::DelayedAck);
    }
}
