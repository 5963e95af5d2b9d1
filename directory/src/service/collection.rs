//! Which registrations are forgotten. Silence deletes no fact of a node that has proven to hold its key, unless the
//! administrator wants it; what never proved itself must not fill the database.
//!
//! | registration | forgotten | its number |
//! |---|---|---|
//! | never signed anything, in a directory open to all | after a day | goes to the next newcomer |
//! | waits for approval | after a week without a signature, or when it deregisters | goes to the next newcomer |
//! | waits for approval, and was in before or has made a network | after a week without a signature | stays with the key |
//! | belongs, and is gone for `forget_after_days` | then, where that is not 0 | stays with the key |
//! | banned | never | stays with the key |
//!
//! Nothing is forgotten within a day after the start, so that all who live can come back first. When a node was last seen
//! is known to the day, written in batches.
//!
//! A clock that jumps makes nobody absent: from then on absence counts anew, by the clock that cannot jump, as long as the
//! process lives. So everybody has his whole time again, and then is forgotten as before.

use std::collections::BTreeSet;
use std::time::Duration;

use wire::NodeId;
use wire::registry::Answer;

use super::{Now, Service};
use crate::enrolment::{Approval, Enrolment, Standing};
use crate::facts::{Change, NodeFact};

const SECONDS_PER_DAY: u64 = 86_400;
/// Registrations that never signed anything, and such that wait, are kept for so long.
const UNPROVEN_KEPT_SECONDS: u64 = SECONDS_PER_DAY;
const WAITING_KEPT_SECONDS: u64 = 7 * SECONDS_PER_DAY;
/// After the start.
const QUIET: Duration = Duration::from_secs(SECONDS_PER_DAY);
/// The clock has jumped when it differs by so much from the one that cannot.
const JUMP_SECONDS: u64 = 3600;
/// Numbers looked at in one sweep, once a second.
const EXAMINED_MAX: usize = 1024;
/// Between two batches of days; and how many nodes a batch has.
const SEEN_INTERVAL: Duration = Duration::from_secs(60);
const SEEN_MAX: usize = 4096;

/// What was noticed of a clock that was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockJumps {
    /// How often.
    pub count: u64,
    /// By how many seconds at the latest, forth or back.
    pub latest_seconds: i64,
}

/// Where the search for what can be forgotten stands.
#[derive(Debug, Default)]
pub(super) struct Collection {
    /// The first sweep, or the first after the clock has jumped last.
    anchor: Option<Now>,
    jumps: ClockJumps,
    /// Up to here all numbers were looked at.
    hand: NodeId,
    /// Nodes whose day is not on its way to the disk yet.
    seen: BTreeSet<NodeId>,
    seen_written: Duration,
}

impl Collection {
    /// What was noticed of the clock since the start.
    pub(super) const fn jumps(&self) -> ClockJumps {
        self.jumps
    }

    /// Since the start, or since the clock has jumped last.
    fn elapsed(&mut self, now: Now) -> Duration {
        let anchor = self.anchor.get_or_insert(now);
        let elapsed = now.monotonic.saturating_sub(anchor.monotonic);
        let expected = anchor.unix_seconds.saturating_add(elapsed.as_secs());
        if now.unix_seconds.abs_diff(expected) <= JUMP_SECONDS {
            return elapsed;
        }
        let latest_seconds = now.unix_seconds.wrapping_sub(expected).cast_signed();
        self.jumps = ClockJumps { count: self.jumps.count + 1, latest_seconds };
        *anchor = now;
        Duration::ZERO
    }

    /// For how long nothing was heard of a node, as far as that can be known. What the clock said before it jumped, or says
    /// of a time that is still to come, cannot be compared with the present; what has passed since the anchor can.
    fn silent_seconds(&self, now: Now, fact: &NodeFact) -> u64 {
        let signed = fact.last_seen_day.map(|day| u64::from(day) * SECONDS_PER_DAY);
        let told = [signed, Some(fact.key_set_at)].into_iter().flatten();
        let last = told.clone().filter(|at| *at <= now.unix_seconds).max();
        let silent = last.map_or(u64::MAX, |last| now.unix_seconds - last);
        if self.jumps.count == 0 && told.max() == last {
            return silent;
        }
        let since_anchor = self.anchor.map_or(Duration::ZERO, |anchor| now.monotonic.saturating_sub(anchor.monotonic));
        silent.min(since_anchor.as_secs())
    }
}

/// Days since 1970.
pub(super) fn day_of(now: Now) -> u32 {
    u32::try_from(now.unix_seconds / SECONDS_PER_DAY).unwrap_or(u32::MAX)
}

impl Service {
    /// `node` has signed something.
    pub(super) fn note_day(&mut self, node: NodeId, now: Now) {
        let today = Some(day_of(now));
        let fact = &mut self.nodes.entry(node).fact;
        if fact.last_seen_day != today {
            fact.last_seen_day = today;
            self.collection.seen.insert(node);
        }
    }

    /// Forgets what can be forgotten among the next numbers, and sends the days on their way.
    pub(super) fn collect(&mut self, now: Now) {
        self.write_days(now);
        if self.collection.elapsed(now) < QUIET {
            return;
        }
        let after = self.collection.hand;
        let last = self.nodes.last_number();
        let end = NodeId(after.0.saturating_add(EXAMINED_MAX as u32).min(last.0));
        let nodes = self.nodes.enrolled_after(after).take_while(|node| node.fact.id <= end);
        let absent = nodes.filter(|node| !node.life.is_present());
        let due: Vec<(NodeId, Due)> =
            absent.filter_map(|node| Some((node.fact.id, self.due(now, &node.fact)?))).collect();
        for (id, due) in due {
            match due {
                Due::Vacate => self.vacate(now, id),
                Due::Forget => self.deregister(now, id),
            }
        }
        self.collection.hand = if end >= last { NodeId(0) } else { end };
    }

    fn due(&self, now: Now, fact: &NodeFact) -> Option<Due> {
        let policy = &self.enrolled.policy;
        let silent = self.collection.silent_seconds(now, fact);
        let is_absent = !self.proofs.is_connected(fact.id);
        match fact.standing()? {
            Standing::Pending if silent > WAITING_KEPT_SECONDS && is_absent => Some(Due::Vacate),
            Standing::Approved
                if fact.last_seen_day.is_none()
                    && fact.approval == Approval::Admitted
                    && policy.enrolment == Enrolment::Open
                    && silent > UNPROVEN_KEPT_SECONDS =>
            {
                Some(Due::Vacate)
            }
            Standing::Approved if policy.forget_after_days > 0 => {
                let is_over = silent / SECONDS_PER_DAY > policy.forget_after_days.into();
                (fact.last_seen_day.is_some() && is_over && is_absent).then_some(Due::Forget)
            }
            _ => None,
        }
    }

    /// Ends a registration whose key never proved itself or was never let in. Where others may hold something of its
    /// number all the same, that stays with the key.
    pub(super) fn vacate(&mut self, now: Now, id: NodeId) {
        self.deregister(now, id);
        let was_in = self.nodes.entry(id).fact.approval == Approval::Former;
        if !was_in && !self.has_made_network(id) {
            self.collection.seen.remove(&id);
            self.update(id, |fact| fact.vacant = true);
        }
    }

    /// A node goes by its own wish. One that was never let in leaves nothing behind.
    pub(super) fn sign_off(&mut self, now: Now, id: NodeId) -> Answer {
        if self.nodes.waits(id) {
            self.vacate(now, id);
        } else {
            self.deregister(now, id);
        }
        Answer::Deregister
    }

    fn write_days(&mut self, now: Now) {
        if self.collection.seen.is_empty() || now.monotonic < self.collection.seen_written + SEEN_INTERVAL {
            return;
        }
        let today = day_of(now);
        let mut nodes = Vec::new();
        while nodes.len() < SEEN_MAX
            && let Some(node) = self.collection.seen.pop_first()
        {
            // One that was seen before midnight is written down as of today.
            nodes.push(node);
        }
        if self.collection.seen.is_empty() {
            self.collection.seen_written = now.monotonic;
        }
        self.changes.push(Change::Seen(today, nodes));
    }
}

enum Due {
    /// The number goes to the next newcomer, unless others may hold something of it.
    Vacate,
    /// The number stays.
    Forget,
}
