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
//! | `config`, `state` | what a stream may use, where it stands |
//! | `input`, `output` | what segments of the peer do; what leaves next |
//! | `segment` | a segment without its addresses |
//! | `send`, `recv` | bytes not yet sent, bytes not yet read |
//! | `recovery`, `rtt` | what is in flight, what is lost, when to ask again |
//! | `delivery`, `congestion`, `pacing` | how fast the path is, how much to send, when |
//! | `timers` | why a stream wants to be woken |

mod config;
mod congestion;
mod delivery;
mod input;
mod output;
mod pacing;
mod recovery;
mod recv;
mod rtt;
mod segment;
mod send;
mod state;
mod timers;

use std::time::Duration;

use wire::stream::SACK_LEN_MAX;

use crate::Time;
use congestion::Congestion;
use output::{Due, Forced};
use pacing::Pacer;
use recovery::{Recovery, TimedOut};
use recv::ReceiveBuffer;
use send::SendBuffer;
use timers::{Timer, Timers};

pub use config::{Config, SEGMENT_BYTES};
pub use congestion::Algorithm;
pub use segment::Segment;
pub use state::{End, Metrics, State};

/// Data starts behind the SYN.
const FIRST_OFFSET: u64 = 1;
/// SYNs that are sent, the first included (section 11).
const SYN_ATTEMPTS_MAX: u32 = 7;
const PERSIST_MIN: Duration = Duration::from_millis(500);
const PERSIST_MAX: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const IDLE_MAX: Duration = Duration::from_secs(120);
const TIME_WAIT: Duration = Duration::from_secs(10);
/// A peer that takes nothing of the rest does not keep a closed stream for ever.
const LINGER_MAX: Duration = Duration::from_secs(120);
/// Probes that are answered after the window has opened, lest the news was lost; two ends do not answer for ever.
const REOPENED_ANSWERS_MAX: u8 = 8;

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

    /// Ends the connection without a word to the peer, with whom there is nothing to be said any more.
    pub fn ban(&mut self) {
        self.finish(End::Banned);
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
