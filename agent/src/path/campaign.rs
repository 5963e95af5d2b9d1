//! When probes go to all endpoints of a peer, and how long to rest where that was of no use.

use std::time::Duration;

use crate::Time;

/// When probes go out in a campaign, from its beginning.
const STEPS: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(120),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// Steps with which a punch request goes. Public brokers take one a second and host.
const PUNCHES: [usize; 3] = [0, 5, 6];
/// Between campaigns without success; doubled each time.
const REST_MIN: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_mins(4);
/// After a direct path has died the cause may be gone soon, as when a router starts anew; doubled each time, unless the
/// path had worked for so long.
const REST_AFTER_DEATH_MIN: Duration = Duration::from_secs(1);
const REST_AFTER_DEATH_MAX: Duration = Duration::from_mins(1);
const WORKS: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Not begun, or nobody cares.
    Idle,
    Running {
        began: Time,
        step: usize,
    },
    Resting {
        until: Time,
    },
}

/// What falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Probes to all; a punch request with them; a rest after them.
    Step { punches: bool, rest: Option<Duration> },
    /// The rest is over.
    Rested,
}

/// The search for a direct path.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    phase: Phase,
    rest: Duration,
    rest_after_death: Duration,
}

impl Default for Campaign {
    fn default() -> Self {
        Self { phase: Phase::Idle, rest: REST_MIN, rest_after_death: REST_AFTER_DEATH_MIN }
    }
}

impl Campaign {
    /// Whether nothing is under way, nor a rest.
    pub const fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// Whether one is under way.
    pub const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// Whether nothing is to be done for a while.
    pub const fn is_resting(&self) -> bool {
        matches!(self.phase, Phase::Resting { .. })
    }

    /// Begins; the first step is due at once.
    pub const fn begin(&mut self, now: Time) {
        self.phase = Phase::Running { began: now, step: 0 };
    }

    /// Begins behind the first step, which has been done.
    pub const fn go_on(&mut self, now: Time) {
        self.phase = Phase::Running { began: now, step: 1 };
    }

    /// Ends, and forgets that it was ever of no use.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// A direct path was found.
    pub const fn handle_success(&mut self) {
        self.phase = Phase::Idle;
        self.rest = REST_MIN;
    }

    /// A direct path that had worked so long is dead. When the rest ends.
    pub fn handle_death(&mut self, now: Time, worked: Duration) -> Time {
        if worked >= WORKS {
            self.rest_after_death = REST_AFTER_DEATH_MIN;
        }
        let until = now + self.rest_after_death;
        self.rest_after_death = (self.rest_after_death * 2).min(REST_AFTER_DEATH_MAX);
        self.phase = Phase::Resting { until };
        until
    }

    /// When [`Campaign::handle_timeout`] has something to say.
    pub fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Running { began, step } => STEPS.get(step).map(|after| began + *after),
            Phase::Resting { until } => Some(until),
            Phase::Idle => None,
        }
    }

    /// What falls due at `now`, if anything.
    pub fn handle_timeout(&mut self, now: Time) -> Option<Due> {
        if self.deadline().is_none_or(|due| now < due) {
            return None;
        }
        let Phase::Running { began, step } = self.phase else {
            self.phase = Phase::Idle;
            return Some(Due::Rested);
        };
        self.phase = Phase::Running { began, step: step + 1 };
        let rest = (step + 1 == STEPS.len()).then_some(self.rest);
        if let Some(rest) = rest {
            self.phase = Phase::Resting { until: now + rest };
            self.rest = (rest * 2).min(REST_MAX);
        }
        Some(Due::Step { punches: PUNCHES.contains(&step), rest })
    }
}
