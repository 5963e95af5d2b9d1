//! What the relay has to reach, and whether it does: ratios only, so that they hold on other machines.

use crate::load::{Load, Place, Traffic};
use crate::report::{PacedSlice, Report, Saturated, Slice, Spread};

const OURS: &str = "pilot-relay";
const FLOOR: &str = "floor";
const NAIVE: &str = "naive";
const COTURN: &str = "coturn";
const DIRECT: &str = "direct";

/// One goal.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// In words.
    pub what: String,
    /// What the figure may be.
    pub bound: Bound,
    /// What was measured.
    pub figure: Spread,
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
    pub fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtMost(bound) => self.figure.median <= bound,
            Bound::AtLeast(bound) => self.figure.median >= bound,
        }
    }
}

/// The goals for which `report` has figures.
#[must_use]
pub fn goals(report: &Report) -> Vec<Goal> {
    let load = |traffic: Traffic| traffic.load(Place::Loopback, 256, 1000);
    let (random, runs, active) = (load(Traffic::Random), load(Traffic::Runs16), load(Traffic::Active16Gro));
    let cost = |ours: &str, theirs: &str, load: &Load| report.cpu_ratio((ours, load), (theirs, load));
    let scaled = |traffic: Traffic, sessions: u32| {
        let find = |sessions| {
            let load = traffic.load(Place::Loopback, 256, sessions);
            report.scaled.iter().find(|one: &&Saturated| one.load == load).map(|one| one.rounds.as_slice())
        };
        Spread::of_ratios(find(sessions)?, find(1000)?, Slice::cpu_ns_per_packet)
    };
    let all = [
        ("CPU per packet, random destinations, against the floor", Bound::AtMost(0.80), cost(OURS, FLOOR, &random)),
        ("CPU per packet, runs of 16, against the floor", Bound::AtMost(0.28), cost(OURS, FLOOR, &runs)),
        ("how many times cheaper than naive, 16 active", Bound::AtLeast(14.0), cost(NAIVE, OURS, &active)),
        ("CPU per packet, random destinations, against coturn", Bound::AtMost(0.40), cost(OURS, COTURN, &random)),
        ("100 k sessions against 1 k, arriving singly", Bound::AtMost(1.15), scaled(Traffic::Singly, 100_000)),
        ("100 k sessions against 1 k, in bursts: less to group", Bound::AtMost(1.15), scaled(Traffic::Random, 100_000)),
        ("1 M sessions against 1 k, arriving singly", Bound::AtMost(1.3), scaled(Traffic::Singly, 1_000_000)),
        ("1 M sessions against 1 k, in bursts: less to group", Bound::AtMost(1.3), scaled(Traffic::Random, 1_000_000)),
        ("p50 added at half load, against naive", Bound::AtMost(1.1), added(report, |one| one.p50_ns)),
        ("p99 added at half load, against naive", Bound::AtMost(2.0), added(report, |one| one.p99_ns)),
    ];
    let measured = |(what, bound, figure): (&str, Bound, Option<Spread>)| {
        Some(Goal { what: what.to_owned(), bound, figure: figure? })
    };
    all.into_iter().filter_map(measured).collect()
}

/// Added latency, ours against naive's, on loopback.
fn added(report: &Report, quantile: fn(&PacedSlice) -> u64) -> Option<Spread> {
    let find = |name: &str| {
        let is_it = |one: &&crate::report::Paced| one.contender == name && one.load.place == Place::Loopback;
        report.paced.iter().find(is_it).map(|one| one.rounds.as_slice())
    };
    let (ours, naive, direct) = (find(OURS)?, find(NAIVE)?, find(DIRECT)?);
    let rounds = ours.iter().zip(naive).zip(direct);
    Spread::of(rounds.map(|((ours, naive), direct)| {
        let added = |one| quantile(one) as f64 - quantile(direct) as f64;
        added(ours) / added(naive)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example_report;

    #[test]
    fn a_goal_is_met_or_not_by_its_median() {
        let figure = Spread { min: 0.5, median: 0.8, max: 2.0 };
        let goal = |bound| Goal { what: String::new(), bound, figure };
        assert!(goal(Bound::AtMost(0.8)).is_met() && goal(Bound::AtLeast(0.8)).is_met());
        assert!(!goal(Bound::AtMost(0.79)).is_met() && !goal(Bound::AtLeast(0.81)).is_met());
    }

    #[test]
    fn only_what_was_measured_is_judged() {
        assert_eq!(goals(&Report::default()), []);
        let goals = goals(&example_report::report());
        let figure = |what: &str| goals.iter().find(|goal| goal.what.contains(what)).map(|goal| goal.figure.median);
        assert_eq!(figure("random destinations, against the floor").map(|ratio| (ratio * 100.0).round()), Some(78.0));
        assert!(figure("coturn").is_some() && figure("1 M sessions against 1 k, in bursts").is_some());
    }
}
