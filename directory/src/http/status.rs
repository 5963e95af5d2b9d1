//! Which figures anyone may see: sums, never a node. Names of groups are shown when anyone may join; others are counted,
//! since a name alone may say too much.

use std::fmt::Write as _;
use std::time::Duration;

use axum::body::Bytes;
use serde::Serialize;

use crate::history::rates::RelayRates;
use crate::history::{History, Sample};
use crate::service::Now;
use crate::service::overview::{GroupFigures, Overview, PathFigures};

/// Groups named on the page; the others are summed up.
const GROUPS_MAX: usize = 24;
/// Points of a chart of a day.
const DAY_POINTS_MAX: usize = 360;
/// Days of growth shown, and points of it.
const GROWTH_DAYS: u64 = 90;
const GROWTH_POINTS_MAX: usize = 360;

/// The network at a glance, for anyone.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Unix seconds.
    pub at: u64,
    /// Nodes.
    pub nodes: Nodes,
    /// Groups that anyone may join, the backbone first, then those with the most present members.
    pub groups: Vec<Group>,
    /// Further ones of these.
    pub more_groups: GroupSum,
    /// Groups that ask for an invitation or a token.
    pub private_groups: GroupSum,
    /// How agents reach each other.
    pub paths: Paths,
    /// What the relay does a second; `None` without a relay, and in its first seconds.
    pub relay: Option<RelayRates>,
}

/// Counts of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Nodes {
    /// Registered.
    pub registered: usize,
    /// Present.
    pub online: usize,
    /// Present, and they say what they can do.
    pub capable: usize,
}

/// A group that anyone may join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its members.
    pub members: usize,
    /// Of these, present.
    pub online: usize,
}

/// Groups without their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GroupSum {
    /// How many.
    pub groups: usize,
    /// Their members; one that is in two of them counts twice.
    pub members: usize,
    /// Of these, present.
    pub online: usize,
}

/// How agents reach each other, as far as they tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Paths {
    /// Agents that tell.
    pub reporting: usize,
    /// Peers they reach directly.
    pub direct: u64,
    /// Peers they reach through a relay.
    pub relayed: u64,
    /// The part of these that is direct, 0 to 1; `None` when there are none.
    pub direct_share: Option<f64>,
}

impl Status {
    /// What of `overview` and `relay` anyone may see.
    #[must_use]
    pub fn new(now: Now, overview: &Overview, relay: Option<&RelayRates>) -> Self {
        let (mut open, private): (Vec<_>, Vec<_>) = overview.groups.iter().partition(|group| is_open(group));
        // The backbone has number 0.
        open.sort_by_key(|group| (group.id != 0, std::cmp::Reverse((group.online, group.members)), group.id));
        let more = open.split_off(open.len().min(GROUPS_MAX));
        let named =
            |group: &GroupFigures| Group { name: group.name.clone(), members: group.members, online: group.online };
        Self {
            at: now.unix_seconds,
            nodes: Nodes { registered: overview.nodes, online: overview.online, capable: overview.capabilities },
            groups: open.into_iter().map(named).collect(),
            more_groups: sum(&more),
            private_groups: sum(&private),
            paths: paths(&overview.paths),
            relay: relay.cloned(),
        }
    }
}

fn is_open(group: &GroupFigures) -> bool {
    group.id == 0 || group.join_rule == "open"
}

fn sum(groups: &[&GroupFigures]) -> GroupSum {
    GroupSum {
        groups: groups.len(),
        members: groups.iter().map(|group| group.members).sum(),
        online: groups.iter().map(|group| group.online).sum(),
    }
}

fn paths(figures: &PathFigures) -> Paths {
    let peers = figures.direct.saturating_add(figures.relayed);
    Paths {
        reporting: figures.reporting,
        direct: figures.direct,
        relayed: figures.relayed,
        direct_share: (peers > 0).then(|| figures.direct as f64 / peers as f64),
    }
}

/// The past, for charts: `recent` in steps of seconds, `day` in steps of minutes, each point `[Unix seconds, agents
/// online, packets/s, bit/s]`; `growth` in hours, each `[Unix seconds, registered, most online]`.
#[must_use]
pub fn history_json(now: Now, history: &History) -> Bytes {
    let mut text = format!("{{\"at\":{},\"recent\":[", now.unix_seconds);
    push_points(&mut text, now, history.recent().copied());
    text.push_str("],\"day\":[");
    let minutes: Vec<Sample> = history.minutes().copied().collect();
    push_points(
        &mut text,
        now,
        minutes.chunks(minutes.len().div_ceil(DAY_POINTS_MAX).max(1)).map(crate::history::mean),
    );
    text.push_str("],\"growth\":[");
    let hours: Vec<_> = history.growth().since(now.unix_seconds.saturating_sub(GROWTH_DAYS * 86_400)).collect();
    let every = hours.len().div_ceil(GROWTH_POINTS_MAX).max(1);
    // Counted from the end, so that the newest hour is always there.
    let shown = hours.iter().rev().step_by(every).rev();
    for (index, hour) in shown.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(text, "{comma}[{},{},{}]", hour.began, hour.registered, hour.online_peak);
    }
    text.push_str("]}");
    text.into()
}

fn push_points(text: &mut String, now: Now, samples: impl Iterator<Item = Sample>) {
    for (index, sample) in samples.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let ago: Duration = now.monotonic.saturating_sub(sample.at);
        let at = now.unix_seconds.saturating_sub(ago.as_secs());
        let Sample { online, packets_per_second, bits_per_second, .. } = sample;
        let _ = write!(text, "{comma}[{at},{online},{packets_per_second:.1},{bits_per_second:.0}]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Reading;

    fn group(id: u16, name: &str, join_rule: &str, online: usize) -> GroupFigures {
        GroupFigures { id, name: name.into(), join_rule: join_rule.into(), members: online * 2, online }
    }

    #[test]
    fn private_groups_are_counted_and_not_named() {
        let groups = vec![
            group(0, "BACKBONE", "", 3),
            group(1, "RESEARCH", "open", 5),
            group(2, "SECRET-MERGER", "invite", 7),
            group(3, "PAYROLL", "token", 1),
            group(4, "TRAVEL", "open", 9),
        ];
        let status = Status::new(Now::default(), &Overview { groups, ..Overview::default() }, None);
        let names: Vec<_> = status.groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["BACKBONE", "TRAVEL", "RESEARCH"]);
        assert_eq!(status.private_groups, GroupSum { groups: 2, members: 16, online: 8 });
        let json = serde_json::to_string(&status).unwrap();
        assert!(!json.contains("SECRET") && !json.contains("PAYROLL"), "{json}");
    }

    #[test]
    fn many_groups_are_summed_up() {
        let groups = (0..1000).map(|id| group(id, &format!("G{id}"), "open", usize::from(id))).collect();
        let status = Status::new(Now::default(), &Overview { groups, ..Overview::default() }, None);
        assert_eq!((status.groups.len(), status.groups[0].name.as_str()), (GROUPS_MAX, "G0"));
        assert_eq!((status.groups[1].name.as_str(), status.more_groups.groups), ("G999", 1000 - GROUPS_MAX));
    }

    #[test]
    fn a_share_needs_peers() {
        let figures = PathFigures { reporting: 4, direct: 3, relayed: 1, ..PathFigures::default() };
        assert_eq!(paths(&figures).direct_share, Some(0.75));
        assert_eq!(paths(&PathFigures { reporting: 4, ..PathFigures::default() }).direct_share, None);
    }

    #[test]
    fn history_is_json_and_bounded() {
        let mut history = History::default();
        for step in 0..50_000_u64 {
            let now = Now { monotonic: Duration::from_secs(step * 2), unix_seconds: 1_800_000_000 + step * 2 };
            history.record(now, Reading { registered: step, online: step, relay: None });
        }
        let now = Now { monotonic: Duration::from_secs(100_000), unix_seconds: 1_800_100_000 };
        let text = history_json(now, &history);
        assert!(text.len() < 64 * 1024, "{} bytes", text.len());
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let len = |name: &str| json[name].as_array().unwrap().len();
        assert_eq!((len("recent"), len("day"), len("growth")), (300, 360, 28));
        assert_eq!(json["recent"][299], serde_json::json!([1_800_099_998, 49_999, 0.0, 0]));
        assert_eq!(json["growth"][27][1], 49_999);
    }
}
