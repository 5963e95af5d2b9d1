//! The loss timer: the end of the reordering window, the tail probe (RFC 8985, 7), the retransmission timeout (RFC 6298).

use std::time::Duration;

use super::{Fate, Loss, Recovery, Sent};
use crate::Time;

/// Timeouts in a row without any progress, after which the peer is given up (section 8.3).
const ATTEMPTS_MAX: u32 = 8;
/// A peer may hold back a lone acknowledgement so long (section 8.3, old versions).
const PEER_ACK_DELAY_MAX: Duration = Duration::from_millis(40);

/// What the loss timer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Reordering,
    TailProbe,
    Retransmission,
}

/// What the loss timer led to.
#[derive(Clone, Copy, Debug)]
pub(in crate::stream) enum TimedOut {
    Lost(Loss),
    /// A retransmission timeout; what follows is the loss it assumes.
    Retransmit(Loss),
    /// A segment must leave whatever window and pacing say: the tail probe.
    Probe,
    GiveUp,
}

impl Recovery {
    /// When [`Recovery::handle_timeout`] is to be called.
    pub(in crate::stream) fn poll_timeout(&self) -> Option<Time> {
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
    pub(in crate::stream) fn handle_timeout(&mut self, now: Time, window_closed: bool) -> Option<TimedOut> {
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
