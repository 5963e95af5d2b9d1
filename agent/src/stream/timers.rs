//! The timers of a stream: one slot for each reason to be woken, but for losses, which `recovery` times itself.

use crate::Time;

/// Why a stream wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Send the SYN again.
    Handshake,
    /// An acknowledgement was held back long enough.
    DelayedAck,
    /// Ask whether a closed window has opened.
    Persist,
    /// A short write was held back long enough (RFC 896).
    Nagle,
    /// Say something, so that the peer knows of us.
    Keepalive,
    /// The peer has been silent for too long.
    Idle,
    /// The bytes before the peer's FIN do not come.
    PendingFin,
    /// The peer has taken nothing of what was left when the application closed.
    Linger,
    /// Nothing of this connection can be on its way any more.
    TimeWait,
}

const COUNT: usize = Timer::TimeWait as usize + 1;

/// When each timer is due, if it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers([Option<Time>; COUNT]);

impl Timers {
    pub(super) const fn set(&mut self, timer: Timer, due: Option<Time>) {
        self.0[timer as usize] = due;
    }

    pub(super) const fn start(&mut self, timer: Timer, due: Time) {
        self.set(timer, Some(due));
    }

    pub(super) const fn stop(&mut self, timer: Timer) {
        self.set(timer, None);
    }

    pub(super) const fn runs(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// Stops `timer` and says so when it is due.
    pub(super) fn expire(&mut self, timer: Timer, now: Time) -> bool {
        self.0[timer as usize].take_if(|due| *due <= now).is_some()
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.0.iter().flatten().min().copied()
    }

    pub(super) fn stop_all(&mut self) {
        *self = Self::default();
    }
}
