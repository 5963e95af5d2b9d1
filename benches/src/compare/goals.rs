//! What the relay has to reach, and whether it does: ratios only, so that they hold on other machines.

use crate::load::{Load, Place, Traffic};
use crate::report::{Paced, PacedSlice, Report, Slice, Spread};

const OURS: &str = "pilot-relay";
const FLOOR: &str = "floor";
const NAIVE: &str = "naive";
const COTURN: &str = "coturn";
const DIRECT: &str = "direct";
const OURS_SPINNING: &str = "pilot-relay-spin";
/// Rounds below which nothing is judged.
const ROUNDS_MIN: usize = 5;
/// Share of packets that may be lost where cost is judged.
const LOSS_MAX: f64 = 0.001;

/// One goal.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// In words.
    pub what: String,
    /// What the figure may be.
    pub bound: Bound,
    /// What was measured; `None` if it was not, or too little to judge by.
    pub figure: Option<Spread>,
}

/// What a ratio may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
}

impl Goal {
    /// Whether the median keeps to the bound.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        let median = self.figure?.median;
        Some(match self.bound {
            Bound::AtMost(bound) => median <= bound,
            Bound::AtLeast(bound) => median >= bound,
        })
    }
}

/// All goals, with what `report` has to say of them.
#[must_use]
pub fn goals(report: &Report) -> Vec<Goal> {
    let load = |traffic: Traffic| traffic.load(Place::Loopback, 256, 1000);
    let (random, runs, active) = (load(Traffic::Random), load(Traffic::Runs16), load(Traffic::Active16Gro));
    let cost = |ours: &str, theirs: &str, load: &Load| {
        let rounds = |name| sound(&report.saturated(name, load)?.rounds);
        Spread::of_ratios(rounds(ours)?, rounds(theirs)?, Slice::cpu_ns_per_packet)
    };
    let scaled = |traffic: Traffic, sessions: u32| {
        let rounds = |sessions| {
            let load = traffic.load(Place::Loopback, 256, sessions);
            sound(&report.scaled.iter().find(|one| one.load == load)?.rounds)
        };
        Spread::of_ratios(rounds(sessions)?, rounds(1000)?, Slice::cpu_ns_per_packet)
    };
    let million = report.resident.iter().find(|one| one.sessions == 1_000_000);
    let mebibytes = million.and_then(|one| Spread::of([one.bytes as f64 / f64::from(1 << 20)]));
    let most = |what: &str, bound, figure| Goal { what: what.to_owned(), bound: Bound::AtMost(bound), figure };
    let mut goals = vec![
        most("CPU, random pairs in bursts, × floor", 0.80, cost(OURS, FLOOR, &random)),
        most("CPU, runs of 16 in bursts, × floor", 0.28, cost(OURS, FLOOR, &runs)),
        Goal {
            what: "CPU of naive, 16 active in bursts, × ours".to_owned(),
            bound: Bound::AtLeast(14.0),
            figure: cost(NAIVE, OURS, &active),
        },
        most("CPU, random pairs in bursts, × coturn", 0.40, cost(OURS, COTURN, &random)),
        most("CPU at 100 k sessions, singly, × at 1 k", 1.15, scaled(Traffic::Singly, 100_000)),
        most("CPU at 100 k sessions, in bursts, × at 1 k", 1.15, scaled(Traffic::Random, 100_000)),
        most("CPU at 1 M sessions, singly, × at 1 k", 1.3, scaled(Traffic::Singly, 1_000_000)),
        most("CPU at 1 M sessions, in bursts, × at 1 k", 1.3, scaled(Traffic::Random, 1_000_000)),
        most("p50 added at half load, × naive", 1.1, added(report, OURS, |one| one.p50_ns)),
        most("p99 added at half load, × naive", 2.0, added(report, OURS, |one| one.p99_ns)),
        most("p50 added, 50 µs of spinning, × naive", 1.1, added(report, OURS_SPINNING, |one| one.p50_ns)),
        most("p99 added, 50 µs of spinning, × naive", 2.0, added(report, OURS_SPINNING, |one| one.p99_ns)),
        most("MiB resident at 1 M sessions", 256.0, mebibytes),
    ];
    for given in report.contenders.iter().filter(|one| one.is_given) {
        let name = &given.name;
        goals.push(most(&format!("CPU, random pairs in bursts, × {name}"), 0.55, cost(OURS, name, &random)));
        goals.push(most(&format!("CPU, runs of 16 in bursts, × {name}"), 0.2, cost(OURS, name, &runs)));
    }
    goals
}

/// Rounds to judge by: enough of them, and nearly nothing lost, for a packet lost early is a cheap one.
fn sound(rounds: &[Slice]) -> Option<&[Slice]> {
    let (sent, delivered) = rounds.iter().fold((0, 0), |sum, one| (sum.0 + one.sent, sum.1 + one.delivered));
    let loss = Slice { sent, delivered, ..Slice::default() }.loss();
    (rounds.len() >= ROUNDS_MIN && loss <= LOSS_MAX).then_some(rounds)
}

/// Added latency on loopback, of `name` against naive's: medians of what each adds to the direct path in the same round.
fn added(report: &Report, name: &str, quantile: fn(&PacedSlice) -> u64) -> Option<Spread> {
    let find = |name: &str| {
        let is_it = |one: &&Paced| one.contender == name && one.load.place == Place::Loopback;
        report.paced.iter().find(is_it).map(|one| one.rounds.as_slice()).filter(|rounds| rounds.len() >= ROUNDS_MIN)
    };
    let direct = find(DIRECT)?;
    let added = |rounds: &[PacedSlice]| {
        let added = rounds.iter().zip(direct).map(|(one, direct)| quantile(one) as f64 - quantile(direct) as f64);
        Spread::of(added).map(|added| added.median)
    };
    let (ours, naive) = (added(find(name)?)?, added(find(NAIVE)?)?);
    // Of what cannot be told from nothing there is no ratio.
    if naive > 0.0 { Spread::of([ours / naive]) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example_report;

    #[test]
    fn a_goal_is_met_or_not_by_its_median() {
        let figure = Some(Spread { min: 0.5, median: 0.8, max: 2.0 });
        let is_met = |bound, figure| Goal { what: String::new(), bound, figure }.is_met();
        assert_eq!([0.8, 0.79].map(|bound| is_met(Bound::AtMost(bound), figure)), [Some(true), Some(false)]);
        assert_eq!([0.8, 0.81].map(|bound| is_met(Bound::AtLeast(bound), figure)), [Some(true), Some(false)]);
        assert_eq!(is_met(Bound::AtMost(0.8), None), None);
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert!(goals(&Report::default()).iter().all(|goal| goal.is_met().is_none()));
        let mut report = example_report::report();
        let median = |report: &Report, what: &str| {
            let goals = goals(report);
            let goal = goals.iter().find(|goal| goal.what.starts_with(what)).expect("it is a goal");
            goal.figure.map(|figure| (figure.median * 100.0).round())
        };
        assert_eq!(median(&report, "CPU, random pairs in bursts, × floor"), Some(78.0));
        assert_eq!(median(&report, "CPU at 1 M sessions, in bursts"), Some(117.0));
        assert_eq!(median(&report, "CPU at 1 M sessions, singly"), None);
        // One percent lost, or too few rounds: no verdict.
        report.saturated.iter_mut().for_each(|one| one.rounds[0].delivered -= 10_000);
        assert_eq!(median(&report, "CPU, random pairs in bursts, × floor"), None);
        report.scaled.iter_mut().for_each(|one| one.rounds.truncate(4));
        assert_eq!(median(&report, "CPU at 1 M sessions, in bursts"), None);
    }

    #[test]
    fn a_relay_that_was_given_has_goals_of_its_own() {
        let mut report = example_report::report();
        report.contenders.last_mut().expect("there are some").is_given = true;
        assert_eq!(goals(&report).len(), goals(&example_report::report()).len() + 2);
    }
}
