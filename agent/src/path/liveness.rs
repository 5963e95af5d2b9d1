//! Whether the direct path in use still works: what is sent must be followed by something heard.

use std::time::Duration;

use crate::Time;

/// Silence after something was sent, in round trips and within bounds, before a probe goes.
const SILENCE_RTTS: u32 = 4;
const SILENCE_MIN: Duration = Duration::from_millis(300);
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// Between probes without answer.
const RETRY_RTTS: u32 = 2;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_millis(500);
/// Probes without answer that end it.
const PROBES_MAX: u8 = 4;
/// Reports of the network, with nothing heard between, that end it. One may be forged or late.
const REPORTS_MAX: u8 = 2;

/// What to do about silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ask the peer for a sign of life.
    Probe,
    /// The path is of no use any more.
    Dead,
}

/// The liveness of one path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Liveness {
    deadline: Option<Time>,
    /// When the first of these probes was sent.
    probed_at: Option<Time>,
    probes: u8,
    reports: u8,
}

impl Liveness {
    /// Something was sent there.
    pub fn handle_sent(&mut self, now: Time, rtt: Option<Duration>) {
        if self.deadline.is_none() {
            self.deadline = Some(now + within(rtt, SILENCE_RTTS, SILENCE_MIN, SILENCE_MAX));
        }
    }

    /// The peer lives, and the path works.
    pub fn handle_heard(&mut self) {
        *self = Self::default();
    }

    /// The network reports that something did not arrive; whether that is the end.
    #[must_use]
    pub fn handle_unreachable(&mut self, now: Time) -> bool {
        self.reports = self.reports.saturating_add(1);
        self.deadline = Some(now);
        self.reports >= REPORTS_MAX
    }

    /// Whether something that was sent still waits for a sign of life, beyond what is usual.
    #[must_use]
    pub const fn is_doubted(&self) -> bool {
        self.probes > 0 || self.reports > 0
    }

    /// When the sign of life was first asked for that still has not come.
    #[must_use]
    pub const fn probed_at(&self) -> Option<Time> {
        self.probed_at
    }

    /// Whether a probe has had time enough to be answered, and more, and was not.
    #[must_use]
    pub fn is_overdue(&self, now: Time, rtt: Option<Duration>) -> bool {
        let usual = rtt.unwrap_or_default();
        self.probed_at.is_some_and(|at| now.since(at) >= usual + usual / 2)
    }

    /// When [`Liveness::handle_timeout`] has something to say.
    #[must_use]
    pub const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// What falls due at `now`, if anything.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Time, rtt: Option<Duration>) -> Option<Verdict> {
        if self.deadline.is_none_or(|due| now < due) {
            return None;
        }
        if self.probes == PROBES_MAX {
            return Some(Verdict::Dead);
        }
        self.probes += 1;
        self.probed_at.get_or_insert(now);
        self.deadline = Some(now + within(rtt, RETRY_RTTS, RETRY_MIN, RETRY_MAX));
        Some(Verdict::Probe)
    }
}

fn within(rtt: Option<Duration>, rtts: u32, min: Duration, max: Duration) -> Duration {
    rtt.map_or(max, |rtt| (rtt * rtts).clamp(min, max))
}
