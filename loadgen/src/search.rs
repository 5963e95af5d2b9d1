//! The search for the highest rate that a relay carries: which rate to try next, and what the trials amount to.
//!
//! A plain value; making the load of a trial is left to [`run`](crate::run). The rate doubles until a trial fails, then
//! the gap between carried and failed is halved until it is small, then the highest carried rate is confirmed by a
//! long trial, and lowered a little until one succeeds. A rate has failed when it failed twice: on a shared machine one
//! trial proves little. A trial that failed because of the generator bounds the search, but never blames the relay.

use serde::{Deserialize, Serialize};

/// Carried and failed rate are close enough when they differ by this share of the carried one.
pub const RESOLUTION: f64 = 0.03;
/// The lowest rate that is tried.
pub const RATE_PPS_MIN: u64 = 100;
/// By how much the rate is lowered after a long trial failed.
const STEP_BACK: f64 = 0.05;
/// Long trials, at most.
const CONFIRMATIONS_MAX: u32 = 8;

/// What a trial showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Loss was tolerable.
    Carried,
    /// The relay lost more than is tolerated.
    Lossy,
    /// The generator could not make the load, or lost datagrams itself.
    GeneratorLimit,
}

/// The trial to make next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Datagrams per second.
    pub rate_pps: u64,
    /// Whether it is a long one that confirms the result.
    pub is_confirmation: bool,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The relay's.
    Relay,
    /// The generator's, on this host.
    Generator,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Finding {
    /// The relay carries this rate and not much more.
    Highest {
        /// Datagrams per second, confirmed.
        rate_pps: u64,
        /// The lowest rate at which the relay lost too much.
        failed_pps: u64,
    },
    /// The relay carries this rate; how much more cannot be told, since the generator makes no more.
    AtLeast {
        /// Datagrams per second, confirmed.
        rate_pps: u64,
    },
    /// No rate held, in a long trial or at all.
    Nothing {
        /// The lowest rate that was tried last.
        tried_pps: u64,
        /// Who failed there.
        limit: Limit,
    },
}

/// A search under way.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    rate_max_pps: u64,
    trial: Trial,
    /// The highest rate that was carried.
    carried_pps: Option<u64>,
    /// The lowest rate that failed, and because of whom.
    failed: Option<(u64, Limit)>,
    /// How the current rate failed the first time.
    suspicion: Option<Outcome>,
    confirmations: u32,
}

impl Search {
    /// A search that begins at `start_pps` and does not go beyond `rate_max_pps`.
    #[must_use]
    pub fn new(start_pps: u64, rate_max_pps: u64) -> Self {
        let rate_pps = start_pps.clamp(RATE_PPS_MIN, rate_max_pps);
        Self {
            rate_max_pps,
            trial: Trial { rate_pps, is_confirmation: false },
            carried_pps: None,
            failed: None,
            suspicion: None,
            confirmations: 0,
        }
    }

    /// The trial to make now.
    #[must_use]
    pub const fn trial(&self) -> Trial {
        self.trial
    }

    /// Takes the outcome of [`Self::trial`] and moves on to the next one, until something is found.
    pub fn handle_outcome(&mut self, outcome: Outcome) -> Option<Finding> {
        if self.trial.is_confirmation { self.handle_confirmation(outcome) } else { self.handle_exploration(outcome) }
    }

    fn handle_exploration(&mut self, outcome: Outcome) -> Option<Finding> {
        let rate_pps = self.trial.rate_pps;
        match (outcome, self.suspicion.take()) {
            (Outcome::Carried, _) => self.carried_pps = Some(rate_pps),
            (failed, None) => {
                self.suspicion = Some(failed);
                return None;
            }
            (Outcome::Lossy, Some(Outcome::Lossy)) => self.failed = Some((rate_pps, Limit::Relay)),
            _ => self.failed = Some((rate_pps, Limit::Generator)),
        }
        match (self.carried_pps, self.failed) {
            (Some(carried), None) if carried < self.rate_max_pps => self.explore(carried.saturating_mul(2)),
            (Some(carried), Some((failed, _))) if (failed - carried) as f64 > carried as f64 * RESOLUTION => {
                self.explore(carried.midpoint(failed));
            }
            (Some(carried), _) => self.confirm(carried),
            (None, Some((tried_pps, limit))) if tried_pps <= RATE_PPS_MIN => {
                return Some(Finding::Nothing { tried_pps, limit });
            }
            (None, _) => self.explore(rate_pps / 2),
        }
        None
    }

    fn handle_confirmation(&mut self, outcome: Outcome) -> Option<Finding> {
        let rate_pps = self.trial.rate_pps;
        let limit = match outcome {
            Outcome::Carried => {
                return Some(match self.failed {
                    Some((failed_pps, Limit::Relay)) => Finding::Highest { rate_pps, failed_pps },
                    Some((_, Limit::Generator)) | None => Finding::AtLeast { rate_pps },
                });
            }
            Outcome::Lossy => Limit::Relay,
            Outcome::GeneratorLimit => Limit::Generator,
        };
        self.failed = Some((rate_pps, limit));
        let lower_pps = (rate_pps as f64 * (1.0 - STEP_BACK)) as u64;
        if self.confirmations == CONFIRMATIONS_MAX || lower_pps < RATE_PPS_MIN {
            return Some(Finding::Nothing { tried_pps: rate_pps, limit });
        }
        self.confirm(lower_pps);
        None
    }

    fn explore(&mut self, rate_pps: u64) {
        let rate_pps = rate_pps.clamp(RATE_PPS_MIN, self.rate_max_pps);
        self.trial = Trial { rate_pps, is_confirmation: false };
    }

    fn confirm(&mut self, rate_pps: u64) {
        self.confirmations += 1;
        self.trial = Trial { rate_pps, is_confirmation: true };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE_MAX: u64 = 100_000_000;

    /// Runs a search against `relay`, which says how each trial goes.
    fn search(start_pps: u64, mut relay: impl FnMut(Trial) -> Outcome) -> (Finding, Vec<Trial>) {
        let (mut search, mut trials) = (Search::new(start_pps, RATE_MAX), Vec::new());
        loop {
            let trial = search.trial();
            trials.push(trial);
            assert!(trials.len() < 120, "the search ends: {trials:?}");
            if let Some(finding) = search.handle_outcome(relay(trial)) {
                return (finding, trials);
            }
        }
    }

    fn up_to(capacity: u64) -> impl Fn(Trial) -> Outcome {
        move |trial| if trial.rate_pps <= capacity { Outcome::Carried } else { Outcome::Lossy }
    }

    #[test]
    fn the_rate_doubles_then_closes_in_then_is_confirmed() {
        let (finding, trials) = search(50_000, up_to(260_000));
        let rates: Vec<_> = trials.iter().map(|trial| trial.rate_pps).collect();
        assert_eq!(rates[..6], [50_000, 100_000, 200_000, 400_000, 400_000, 300_000], "failures are tried twice");
        let last = trials[trials.len() - 1];
        assert!(last.is_confirmation && trials.iter().filter(|trial| trial.is_confirmation).count() == 1);
        assert!(matches!(finding, Finding::Highest { rate_pps, .. } if rate_pps == last.rate_pps));
    }

    #[test]
    fn a_relay_that_carries_nothing_ends_the_search() {
        let (finding, _) = search(50_000, |_| Outcome::Lossy);
        assert_eq!(finding, Finding::Nothing { tried_pps: RATE_PPS_MIN, limit: Limit::Relay });
        let (finding, _) = search(50_000, |_| Outcome::GeneratorLimit);
        assert_eq!(finding, Finding::Nothing { tried_pps: RATE_PPS_MIN, limit: Limit::Generator });
    }

    #[test]
    fn a_rate_that_never_holds_for_long_is_not_claimed() {
        let relay = |trial: Trial| if trial.is_confirmation { Outcome::Lossy } else { up_to(90_000)(trial) };
        assert!(matches!(search(50_000, relay).0, Finding::Nothing { limit: Limit::Relay, .. }));
    }

    #[test]
    fn one_failure_alone_proves_nothing() {
        let mut is_first = true;
        let (finding, _) =
            search(50_000, |trial| if std::mem::take(&mut is_first) { Outcome::Lossy } else { up_to(260_000)(trial) });
        assert!(matches!(finding, Finding::Highest { rate_pps, .. } if rate_pps > 250_000));
    }

    #[test]
    fn what_failed_once_by_the_generator_is_not_blamed_on_the_relay() {
        let mut turn = 0;
        let (finding, _) = search(50_000, |trial| {
            turn += 1;
            match up_to(90_000)(trial) {
                Outcome::Lossy if turn % 2 == 0 => Outcome::GeneratorLimit,
                outcome => outcome,
            }
        });
        assert!(matches!(finding, Finding::AtLeast { .. }), "{finding:?}");
    }

    proptest! {
        #[test]
        fn the_capacity_is_found_from_anywhere(capacity in 200_u64..RATE_MAX, start in 1_u64..RATE_MAX) {
            let (finding, _) = search(start, up_to(capacity));
            match finding {
                Finding::Highest { rate_pps, failed_pps } => {
                    prop_assert!(rate_pps <= capacity && failed_pps > capacity);
                    prop_assert!(rate_pps as f64 >= capacity as f64 * (1.0 - RESOLUTION) - 1.0);
                }
                finding => prop_assert!(false, "{finding:?}"),
            }
        }

        /// The generator gives out first: the relay is never blamed, whatever it would have done beyond.
        #[test]
        fn the_generators_limit_is_a_lower_bound(limit in 200_u64..10_000_000, more in 0_u64..10_000_000) {
            let relay = up_to(limit + more);
            let (finding, _) = search(50_000, |trial| match trial.rate_pps > limit {
                true => Outcome::GeneratorLimit,
                false => relay(trial),
            });
            match finding {
                Finding::AtLeast { rate_pps } => {
                    prop_assert!(rate_pps <= limit && rate_pps as f64 >= limit as f64 * (1.0 - RESOLUTION) - 1.0);
                }
                finding => prop_assert!(false, "{finding:?}"),
            }
        }

        /// One trial in ten goes wrong for no reason of the relay's. The result is never above what it carries, and
        /// seldom needs to be far below.
        #[test]
        fn noise_makes_the_result_cautious_not_wrong(capacity in 10_000_u64..1_000_000, seed: u64) {
            let mut turn = 0;
            let (finding, _) = search(50_000, |trial| {
                turn += 1;
                let is_disturbed = crate::plan::mix(seed ^ turn).is_multiple_of(10);
                if is_disturbed { Outcome::Lossy } else { up_to(capacity)(trial) }
            });
            if let Finding::Highest { rate_pps, .. } = finding {
                prop_assert!(rate_pps <= capacity);
            }
        }
    }
}
