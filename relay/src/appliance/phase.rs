//! How far the appliance has come in its life, as `/healthz` and the service manager are told.

use std::sync::atomic::{AtomicU8, Ordering};

/// A part of the appliance's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Not everything is served yet.
    Starting,
    /// All is well.
    Serving,
    /// No session begins any more.
    Draining,
    /// On its way out.
    Stopping,
}

impl Phase {
    /// Every part, in order.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Serving, Self::Draining, Self::Stopping];

    /// In a word.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "ok",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

/// The present phase, for all threads. It only goes forward.
#[derive(Debug)]
pub struct CurrentPhase(AtomicU8);

impl CurrentPhase {
    /// At the beginning.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU8::new(Phase::Starting as u8))
    }

    /// Which it is.
    #[must_use]
    pub fn get(&self) -> Phase {
        Phase::ALL[usize::from(self.0.load(Ordering::Acquire))]
    }

    /// Goes on to `phase`, unless that is behind us: what is being drained is not said to serve.
    pub fn advance(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_goes_forward_only() {
        let phase = CurrentPhase::new();
        assert_eq!(phase.get(), Phase::Starting);
        phase.advance(Phase::Draining);
        phase.advance(Phase::Serving);
        assert_eq!(phase.get(), Phase::Draining);
        assert_eq!(Phase::ALL.map(|phase| Phase::ALL[phase as usize]), Phase::ALL);
    }
}
