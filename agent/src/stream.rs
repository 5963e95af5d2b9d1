//! Streams: ordered bytes between two ports (section 8), wire-compatible with every Pilot daemon, with a modern sender.
//!
//! ```text
//!               connect                                accept (a SYN came)
//!                  │                                        │
//!                  ▼          SYN|ACK                       ▼
//!               SynSent ──────────────────────────────► Established
//!                                                  close │       │ FIN in order: FIN|ACK
//!                                                        ▼       ▼
//!                                                     FinWait ─► TimeWait ─ 10 s ─► Closed
//!                                                        FIN acknowledged
//! ```
//!
//! A [`Stream`] is a plain value: segments, time and the application's bytes go in, segments and times come out. After
//! every call the driver takes [`Stream::poll_transmit`] until it is empty, then waits for a segment or for
//! [`Stream::poll_timeout`]. Times are durations since any one moment, the same for all calls.
//!
//! Where the versions disagree this side does what all of them bear (section 8.1):
//!
//! * Only the first FIN is answered with FIN|ACK, a repeated one with a plain ACK, a FIN|ACK with nothing that could be
//!   answered: two old daemons bounce FIN|ACK for seconds.
//! * A FIN leaves when all data is acknowledged, since an old receiver forgets what it misses; it is sent again like
//!   data. One that has overtaken data waits for it.
//! * There is no half-close: who closes wants no more data either.
//! * A zero window counts only with news of what arrived: old keepalives say zero and mean nothing.
//!
//! | module | subject |
//! |---|---|
//! | `segment` | a segment without its addresses |
//! | `send`, `recv` | bytes not yet sent, bytes not yet read |
//! | `recovery`, `rtt` | what is in flight, what is lost, when to ask again |
//! | `delivery`, `congestion`, `pacing` | how fast the path is, how much to send, when |
//! | `timers` | why a stream wants to be woken |

mod congestion;
mod delivery;
mod pacing;
mod recovery;
mod recv;
mod rtt;
mod segment;
mod send;
mod timers;

use std::time::Duration;

use wire::codec::Writer;
use wire::packet::Flags;
use wire::stream::{SACK_LEN_MAX, SackBlocks, Sequence};

use crate::Time;
use congestion::{Acknowledged, Congestion};
use pacing::Pacer;
use recovery::{Loss, Outcome, Outgoing, Progress, Recovery, TimedOut};
use recv::{Arrival, ReceiveBuffer};
use send::SendBuffer;
use timers::{Timer, Timers};

pub use congestion::Algorithm;
pub use segment::Segment;

/// The longest segment that stays whole when sealed and relayed (section 8.2).
pub const SEGMENT_BYTES: u16 = 1152;

/// Data starts behind the SYN.
const FIRST_OFFSET: u64 = 1;
/// SYNs that are sent, the first included (section 11).
const SYN_ATTEMPTS_MAX: u32 = 7;
/// A lone segment is acknowledged after this (section 8.3); each second one at once.
const ACK_DELAY: Duration = Duration::from_millis(5);
const ACK_EVERY_SEGMENTS: u32 = 2;
const PERSIST_MIN: Duration = Duration::from_millis(500);
const PERSIST_MAX: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const IDLE_MAX: Duration = Duration::from_secs(120);
const TIME_WAIT: Duration = Duration::from_secs(10);
/// An old peer sends its FIN once and may not repeat what the FIN overtook.
const PENDING_FIN_MAX: Duration = Duration::from_secs(10);
/// A peer that takes nothing of the rest does not keep a closed stream for ever.
const LINGER_MAX: Duration = Duration::from_secs(120);
/// Probes that are answered after the window has opened, lest the news was lost; two ends do not answer for ever.
const REOPENED_ANSWERS_MAX: u8 = 8;

/// What a stream may use.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Longest segment sent, at least 2.
    pub segment_bytes_max: u16,
    /// Segments kept for the application and advertised as the window.
    pub receive_slots: u16,
    /// Bytes written and not acknowledged.
    pub send_buffer_bytes: usize,
    /// Hold short writes back while others are on their way (RFC 896). Off: agents ask and answer.
    pub nagle: bool,
    /// Who decides how much to send.
    pub algorithm: Algorithm,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes_max: SEGMENT_BYTES,
            receive_slots: 1024,
            send_buffer_bytes: 4 << 20,
            nagle: false,
            algorithm: Algorithm::Bbr,
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The SYN is on its way.
    SynSent,
    /// Data goes both ways.
    Established,
    /// The application has closed; what it wrote and the FIN are on their way.
    FinWait,
    /// Both ends are done; repeated segments are still recognised. A new SYN for this pair of ports may replace it.
    TimeWait,
    /// Nothing will be sent or taken any more.
    Closed,
}

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// One end closed, the other knows.
    #[error("closed")]
    Finished,
    /// Nobody listens there, or there are too many connections.
    #[error("connection refused")]
    Refused,
    /// The peer gave the connection up.
    #[error("connection reset by peer")]
    Reset,
    /// The peer does not answer.
    #[error("the peer does not answer")]
    TimedOut,
    /// The peer has closed, and some of its last bytes never came.
    #[error("the end of the stream is missing")]
    Truncated,
    /// This end gave the connection up.
    #[error("connection aborted")]
    Aborted,
}

/// How a connection fares.
#[derive(Clone, Copy, Debug)]
pub struct Metrics {
    /// None before the first measurement.
    pub smoothed_rtt: Option<Duration>,
    /// Of about the last ten seconds.
    pub minimum_rtt: Option<Duration>,
    /// Most that may be in flight.
    pub congestion_window_bytes: u64,
    /// The rate of pacing.
    pub bytes_per_second: u64,
    /// Sent and neither acknowledged nor taken for lost.
    pub in_flight_bytes: u64,
    /// Segments sent again, tail probes included.
    pub retransmissions: u64,
    /// Of these, needless as far as can be told.
    pub spurious_retransmissions: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
}

/// One end of a connection.
#[derive(Clone, Debug)]
pub struct Stream {
    config: Config,
    state: State,
    end: Option<End>,
    timers: Timers,

    unsent: SendBuffer,
    recovery: Recovery,
    congestion: Congestion,
    pacer: Pacer,
    /// Segments the peer had room for when it acknowledged up to `window_at`.
    window_segments: u16,
    window_at: u64,
    forced: Option<Forced>,
    persist_attempts: u32,
    syn_attempts: u32,
    syn_sent_at: Time,
    /// The application closed before the connection was there.
    closes_early: bool,
    fin_sent: bool,

    received: ReceiveBuffer,
    /// Where the peer's stream ends; its FIN takes this number.
    peer_end: Option<u64>,
    peer_end_reached: bool,
    advertised_segments: u16,
    segments_to_acknowledge: u32,
    reopened_answers: u8,
    sack: [u8; SACK_LEN_MAX],

    due: Due,
}

/// A segment that leaves whatever window and pacing say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forced {
    /// New data, or else the last segment again.
    TailProbe,
    /// The first lost segment.
    Retransmission,
    /// New data beyond a closed window.
    WindowProbe,
}

/// What is to be sent besides data.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    syn: bool,
    syn_ack: bool,
    fin_ack: bool,
    ack: bool,
    rst: bool,
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
    /// Begins a connection: the SYN is the first segment to be sent.
    #[must_use]
    pub fn connect(now: Time, config: Config) -> Self {
        let mut stream = Self::new(now, config, State::SynSent);
        stream.due.syn = true;
        stream
    }

    /// Takes up the connection that `syn` asks for: established at once.
    #[must_use]
    pub fn accept(now: Time, config: Config, syn: &Segment<'_>) -> Self {
        let mut stream = Self::new(now, config, State::Established);
        stream.window_segments = syn.window_segments;
        stream.due.syn_ack = true;
        stream
    }

    fn new(now: Time, config: Config, state: State) -> Self {
        let segment_bytes = config.segment_bytes_max.max(2);
        let mut stream = Self {
            config,
            state,
            end: None,
            timers: Timers::default(),
            unsent: SendBuffer::new(usize::from(segment_bytes), config.nagle),
            recovery: Recovery::new(FIRST_OFFSET),
            congestion: Congestion::new(config.algorithm, u64::from(segment_bytes)),
            pacer: Pacer::default(),
            window_segments: 0,
            window_at: FIRST_OFFSET,
            forced: None,
            persist_attempts: 0,
            syn_attempts: 0,
            syn_sent_at: now,
            closes_early: false,
            fin_sent: false,
            received: ReceiveBuffer::new(FIRST_OFFSET, config.receive_slots),
            peer_end: None,
            peer_end_reached: false,
            advertised_segments: config.receive_slots,
            segments_to_acknowledge: 0,
            reopened_answers: 0,
            sack: [0; SACK_LEN_MAX],
            due: Due::default(),
        };
        stream.timers.start(Timer::Idle, now + IDLE_MAX);
        stream.timers.start(Timer::Keepalive, now + KEEPALIVE_INTERVAL);
        stream
    }

    /// Where the connection stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether nothing will be sent or taken any more.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether a new SYN for this pair of ports may take its place.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::TimeWait | State::Closed)
    }

    /// Why no more bytes will come, once that is so; what has arrived before can still be read.
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// Bytes that [`Stream::read`] would give.
    #[must_use]
    pub fn readable_bytes(&self) -> usize {
        self.received.readable_bytes()
    }

    /// Bytes that [`Stream::write`] would take.
    #[must_use]
    pub fn writable_bytes(&self) -> usize {
        let outstanding = (self.recovery.next() - self.recovery.unacknowledged()) as usize;
        match self.state {
            State::SynSent | State::Established if !self.closes_early => {
                self.config.send_buffer_bytes.saturating_sub(self.unsent.bytes() + outstanding)
            }
            _ => 0,
        }
    }

    /// How the connection fares.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics {
            smoothed_rtt: self.recovery.rtt().smoothed(),
            minimum_rtt: self.recovery.rtt().minimum(),
            congestion_window_bytes: self.congestion.window_bytes(),
            bytes_per_second: self.congestion.bytes_per_second(),
            in_flight_bytes: self.recovery.in_flight_bytes(),
            retransmissions: self.recovery.retransmissions(),
            spurious_retransmissions: self.recovery.spurious_retransmissions(),
            timeouts: self.recovery.timeouts(),
        }
    }

    /// Takes bytes to be sent, as many as there is room for; none once the stream takes no more, see [`Stream::state`].
    pub fn write(&mut self, now: Time, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.writable_bytes());
        self.unsent.write(now, &bytes[..taken]);
        self.update_timers(now);
        taken
    }

    /// Gives bytes that have arrived in order, as many as `out` holds. A peer may wait for the room that this makes.
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        let count = self.received.read(out);
        if self.state == State::Established && self.received.has_opened(self.advertised_segments) {
            self.due.ack = true;
            if self.advertised_segments == 0 {
                self.reopened_answers = REOPENED_ANSWERS_MAX;
            }
        }
        count
    }

    /// The application is done: what it wrote is still delivered, what comes is thrown away.
    pub fn close(&mut self, now: Time) {
        match self.state {
            State::SynSent if self.unsent.is_empty() => self.abort(),
            State::SynSent => self.closes_early = true,
            State::Established => self.begin_to_close(now),
            State::FinWait | State::TimeWait | State::Closed => {}
        }
    }

    /// Gives the connection up with an RST.
    pub fn abort(&mut self) {
        if self.state != State::Closed {
            self.give_up(End::Aborted);
        }
    }

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

    /// Does what is due. Early and late calls do no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.timers.expire(Timer::Handshake, now) {
            if self.syn_attempts == SYN_ATTEMPTS_MAX {
                return self.give_up(End::TimedOut);
            }
            self.due.syn = true;
        }
        if self.timers.expire(Timer::Idle, now) || self.timers.expire(Timer::Linger, now) {
            return self.give_up(End::TimedOut);
        }
        if self.timers.expire(Timer::PendingFin, now) {
            return self.give_up(End::Truncated);
        }
        if self.timers.expire(Timer::TimeWait, now) {
            return self.finish(End::Finished);
        }
        if self.timers.expire(Timer::DelayedAck, now) || self.timers.expire(Timer::Keepalive, now) {
            self.due.ack = true;
        }
        if self.timers.expire(Timer::Persist, now) {
            self.probe_window();
        }
        self.handle_loss_timeout(now);
        self.timers.expire(Timer::Nagle, now);
        self.update_timers(now);
    }

    /// When [`Stream::handle_timeout`] and [`Stream::poll_transmit`] are to be called again, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let paced = self.has_data_to_send().then(|| self.pacer.earliest());
        [self.timers.next(), self.recovery.poll_timeout(), paced].into_iter().flatten().min()
    }

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

    // --- receiving ---

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

    fn handle_loss(&mut self, now: Time, loss: Loss) {
        if loss.bytes > 0 {
            self.congestion.on_lost(now, loss.bytes, loss.begins_episode);
        }
    }

    // --- timeouts ---

    fn handle_loss_timeout(&mut self, now: Time) {
        match self.recovery.handle_timeout(now, self.window_segments == 0) {
            None => {}
            Some(TimedOut::Lost(loss)) => self.handle_loss(now, loss),
            Some(TimedOut::Probe) => self.forced = Some(Forced::TailProbe),
            Some(TimedOut::Retransmit(loss)) => {
                self.handle_loss(now, loss);
                self.congestion.on_timeout(self.recovery.in_flight_bytes());
                self.forced = Some(Forced::Retransmission);
            }
            Some(TimedOut::GiveUp) => self.give_up(End::TimedOut),
        }
    }

    /// First an empty ACK (section 8.5). Old peers do not answer that, so the next probe is data: it is dropped or taken.
    fn probe_window(&mut self) {
        self.persist_attempts += 1;
        if self.persist_attempts == 1 {
            self.due.ack = true;
        } else {
            self.forced = Some(Forced::WindowProbe);
        }
    }

    fn update_timers(&mut self, now: Time) {
        if matches!(self.state, State::TimeWait | State::Closed) {
            return;
        }
        let held_until = self.held_until().filter(|until| *until > now);
        self.timers.set(Timer::Nagle, held_until);
        let waits_for_window = self.window_segments == 0 && !self.unsent.is_empty() && self.recovery.is_empty();
        if !waits_for_window || self.state == State::SynSent {
            self.timers.stop(Timer::Persist);
            if self.window_segments > 0 {
                self.persist_attempts = 0;
            }
        } else if !self.timers.runs(Timer::Persist) {
            let after = PERSIST_MIN.saturating_mul(1 << self.persist_attempts.min(16)).min(PERSIST_MAX);
            self.timers.start(Timer::Persist, now + after);
        }
    }

    // --- sending ---

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
    fn has_data_to_send(&self) -> bool {
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

    fn held_until(&self) -> Option<Time> {
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

    // --- ending ---

    fn begin_to_close(&mut self, now: Time) {
        self.state = State::FinWait;
        self.received.discard();
        self.timers.start(Timer::Linger, now + LINGER_MAX);
        self.update_timers(now);
    }

    fn wait_for_stragglers(&mut self, now: Time) {
        self.state = State::TimeWait;
        self.timers.stop_all();
        self.timers.start(Timer::TimeWait, now + TIME_WAIT);
    }

    fn give_up(&mut self, end: End) {
        self.finish(end);
        self.due.rst = true;
    }

    fn finish(&mut self, end: End) {
        self.state = State::Closed;
        self.end.get_or_insert(end);
        self.due = Due::default();
        self.timers.stop_all();
        self.unsent.clear();
        self.recovery.abandon();
    }
}
