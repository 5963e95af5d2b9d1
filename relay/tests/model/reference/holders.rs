//! Who holds an id, and the signs of life that decide it.

use std::net::IpAddr;
use std::time::Duration;

use relay::Time;
use relay::admission::is_service_port;
use relay::contests::Claim;
use relay::endpoint::{Endpoint, LocalId, Path};
use relay::locals::{Local, Service};
use relay::server::{Admission, Handoff};
use relay::sessions::{Grade, shard_of};
use wire::NodeId;

use super::{Arrival, Holder, Kind, Outcome, Question, Reference, SECOND, endpoint_message};

/// A holder that was silent for so long gives way to an equal.
const SILENT: Duration = Duration::from_secs(150);
/// A session without proof that was silent for so long gives way when there is no room.
const STALE: Duration = Duration::from_secs(90);

impl Reference {
    pub(super) fn may_be_stored(&self, node: NodeId) -> bool {
        node.is_node() && (self.admission == Admission::Open || !self.has_authority || self.known.contains_key(&node))
    }

    pub(super) fn proves(&self, node: NodeId, Endpoint { ip, .. }: Endpoint) -> bool {
        let is_it = |proven: &IpAddr| relay::endpoint::mapped(*proven) == ip;
        !ip.is_unspecified() && self.known.get(&node).is_some_and(|known| known.proven.iter().any(is_it))
    }

    pub(super) fn grade(&self, node: NodeId, at: Endpoint) -> Grade {
        if self.proves(node, at) { Grade::ProvenAddress } else { Grade::Unproven }
    }

    fn held_grade(&self, node: NodeId, held: &Holder) -> Grade {
        if held.claimed { Grade::SignedClaim } else { self.grade(node, held.path.remote) }
    }

    fn is_barred(&self, grade: Grade) -> bool {
        self.admission == Admission::Strict && grade == Grade::Unproven
    }

    /// A signed claim wins at once.
    pub(super) fn claimed(&mut self, shard: usize, now: Time, claim: Claim) {
        if !self.may_be_stored(claim.node) {
            return;
        }
        let held = self.sessions.get(&claim.node).map(|holder| holder.path.remote);
        if held == Some(claim.path.remote) {
            self.hear(shard, now, claim.node);
            self.holder(claim.node, |holder| {
                (holder.path, holder.claimed, holder.grade) = (claim.path, true, Grade::SignedClaim);
            });
            return;
        }
        self.note_arrival(shard, now, claim);
        match held {
            Some(_) => self.displace(shard, now, claim, Grade::SignedClaim),
            None => {
                self.begin(shard, now, claim, Grade::SignedClaim);
            }
        }
    }

    pub(super) fn claim(&mut self, shard: usize, now: Time, claim: Claim) -> Outcome {
        let Claim { node, path, extended } = claim;
        let grade = self.grade(node, path.remote);
        let is_barred = self.is_barred(grade);
        let held = self.sessions.get(&node).cloned();
        let is_claimed_here = held.as_ref().is_some_and(|held| held.claimed && held.path.remote == path.remote);
        if is_barred && !is_claimed_here {
            // Where it stood without proof it stands no longer.
            if held.is_some_and(|held| held.path.remote == path.remote) {
                self.end_question(shard, node);
                self.sessions.remove(&node);
            }
            return Outcome::Refused;
        }
        let Some(held) = held else {
            self.note_arrival(shard, now, claim);
            return self.begin(shard, now, claim, grade);
        };
        if held.path.remote == path.remote {
            self.hear(shard, now, node);
            let grade = self.held_grade(node, &held);
            self.holder(node, |holder| {
                (holder.path, holder.extended, holder.grade) = (path, extended, grade);
            });
            return Outcome::Holds;
        }
        self.note_arrival(shard, now, claim);
        let held_grade = self.held_grade(node, &held);
        let is_silent = now.since(held.seen) > SILENT;
        if self.admission == Admission::Open || grade > held_grade || (grade == held_grade && is_silent) {
            self.displace(shard, now, claim, grade);
            return Outcome::Holds;
        }
        if held.contested {
            let mut questions = self.shards[shard].questions.iter_mut();
            if let Some(question) = questions.find(|question| question.claim.node == node)
                && question.kind == Kind::Contest
                && question.grade < grade
            {
                (question.claim, question.grade) = (claim, grade);
            }
            return Outcome::Contested;
        }
        let (tries, interval) = if grade < held_grade { (4, 175) } else { (2, 350) };
        if !self.ask(shard, now, Kind::Contest, claim, grade, held.path, tries, interval) {
            return Outcome::Refused;
        }
        self.holder(node, |holder| holder.contested = true);
        self.ask_for_life(shard, held.path);
        Outcome::Contested
    }

    pub(super) fn begin(&mut self, shard: usize, now: Time, claim: Claim, grade: Grade) -> Outcome {
        if !self.may_be_stored(claim.node) {
            return Outcome::Refused;
        }
        let shards = self.shards.len();
        let used =
            |reference: &Self| reference.sessions.keys().filter(|node| shard_of(**node, shards) == shard).count();
        if used(self) >= self.room {
            self.sessions.retain(|node, holder| {
                let is_stale = holder.grade == Grade::Unproven && now.since(holder.seen) > STALE;
                shard_of(*node, shards) != shard || !is_stale
            });
        }
        if used(self) >= self.room {
            return Outcome::Refused;
        }
        let Claim { node, path, extended } = claim;
        let holder = Holder {
            path,
            extended,
            claimed: grade == Grade::SignedClaim,
            seen: now,
            grade,
            contested: false,
            traces: (0, 0),
            sweeps_survived: 0,
        };
        self.sessions.insert(node, holder);
        self.end_question(shard, node);
        Outcome::Holds
    }

    pub(super) fn displace(&mut self, shard: usize, now: Time, claim: Claim, grade: Grade) {
        self.end_question(shard, claim.node);
        if !self.sessions.contains_key(&claim.node) {
            self.begin(shard, now, claim, grade);
            return;
        }
        self.holder(claim.node, |holder| {
            (holder.path, holder.extended) = (claim.path, claim.extended);
            (holder.claimed, holder.seen, holder.grade) = (grade == Grade::SignedClaim, now, grade);
            holder.contested = false;
        });
    }

    /// The node has spoken from where it is held.
    pub(super) fn hear(&mut self, shard: usize, now: Time, node: NodeId) {
        let mut was_contested = false;
        self.holder(node, |holder| {
            if now.since(holder.seen) >= SECOND {
                holder.seen = now;
            }
            was_contested = std::mem::take(&mut holder.contested);
        });
        if was_contested {
            self.end_question(shard, node);
        }
    }

    // Signs of life.

    #[expect(clippy::too_many_arguments, reason = "they are what a question is")]
    pub(super) fn ask(
        &mut self,
        shard: usize,
        now: Time,
        kind: Kind,
        claim: Claim,
        grade: Grade,
        asked: Path,
        tries: u8,
        interval_ms: u64,
    ) -> bool {
        let questions = &mut self.shards[shard].questions;
        let is_asked = questions.iter().any(|question| question.asked.remote == asked.remote);
        if !is_asked {
            let interval = Duration::from_millis(interval_ms);
            questions.push(Question {
                kind,
                claim,
                grade,
                asked,
                tries_left: tries - 1,
                interval,
                due: now + interval,
            });
        }
        !is_asked
    }

    pub(super) fn ask_for_life(&mut self, shard: usize, path: Path) {
        let ours: Endpoint = self.local(shard, path.local).seen_as.into();
        self.sends.push((path, endpoint_message(0x04, ours)));
    }

    pub(super) fn end_question(&mut self, shard: usize, node: NodeId) {
        let questions = &mut self.shards[shard].questions;
        if let Some(index) = questions.iter().position(|question| question.claim.node == node) {
            questions.swap_remove(index);
        }
    }

    pub(super) fn answered(&mut self, shard: usize, now: Time, from: Endpoint) {
        while let Some(index) = self.shards[shard].questions.iter().position(|question| question.asked.remote == from) {
            let Question { kind, claim, grade, .. } = self.shards[shard].questions.swap_remove(index);
            let neighbour = self.last_arrival(from).filter(|arrival| arrival.node != claim.node && !arrival.extended);
            let held = self.sessions.get(&claim.node).cloned();
            match (kind, held) {
                (Kind::Contest, Some(held)) => {
                    // Another has come to the holder's endpoint since the holder last spoke: it may have answered.
                    let is_doubtful =
                        claim.path.remote.ip == from.ip && neighbour.is_some_and(|neighbour| neighbour.at > held.seen);
                    if is_doubtful && self.ask(shard, now, Kind::Takeover, claim, grade, claim.path, 2, 350) {
                        self.ask_for_life(shard, claim.path);
                    } else {
                        self.holder(claim.node, |holder| holder.contested = false);
                    }
                }
                (Kind::Takeover, Some(_)) => self.displace(shard, now, claim, grade),
                (Kind::Recall, None) if !self.is_barred(grade) => {
                    let stands_here = |node| self.sessions.get(&node).is_some_and(|other| other.path.remote == from);
                    if !neighbour.is_some_and(|neighbour| stands_here(neighbour.node)) {
                        self.begin(shard, now, claim, grade);
                    }
                }
                _ => {}
            }
        }
    }

    pub(super) fn silence(&mut self, shard: usize, now: Time, Question { kind, claim, grade, asked, .. }: Question) {
        let held = self.sessions.get(&claim.node).cloned();
        match (kind, held) {
            (Kind::Contest, held) if held.as_ref().is_none_or(|held| held.path.remote == asked.remote) => {
                self.displace(shard, now, claim, grade);
            }
            (Kind::Takeover, Some(_)) => self.holder(claim.node, |holder| holder.contested = false),
            _ => {}
        }
    }

    /// Somebody wants a node that has no session.
    pub(super) fn want(&mut self, shard: usize, now: Time, node: NodeId, through: LocalId) {
        if self.may_be_stored(node) && self.last_endpoint(node).is_some() {
            self.tell_owner(shard, now, Handoff::Recall(node, through), node);
        }
    }

    pub(super) fn recall(&mut self, shard: usize, now: Time, node: NodeId, through: LocalId) {
        let Some(remote) = self.last_endpoint(node) else { return };
        let fits = |local: &Local| {
            local.present && local.service == Service::Beacon && local.bound.is_ipv4() == remote.socket_addr().is_ipv4()
        };
        let locals = &self.shards[shard].locals;
        let local = if locals.get(usize::from(through.0)).is_some_and(fits) {
            through
        } else if let Some(index) = locals.iter().position(fits) {
            LocalId(index as u16)
        } else {
            return;
        };
        let path = Path { remote, local };
        let claim = Claim { node, path, extended: false };
        let grade = self.grade(node, remote);
        if !self.sessions.contains_key(&node) && self.ask(shard, now, Kind::Recall, claim, grade, path, 2, 500) {
            self.ask_for_life(shard, path);
        }
    }

    /// Where a node may be asked: before a restart, else at its last signed registration; nowhere at this host itself.
    pub(super) fn last_endpoint(&self, node: NodeId) -> Option<Endpoint> {
        let known = || self.known.get(&node).and_then(|known| known.last).filter(|last| last.port != 0);
        let last = self.remembered.get(&node).copied().or_else(known)?;
        let ip = last.ip();
        let is_host = !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && !is_service_port(last.port);
        (is_host && !self.is_barred(self.grade(node, last))).then_some(last)
    }

    pub(super) fn note_arrival(&mut self, shard: usize, at: Time, Claim { node, path, extended }: Claim) {
        self.shards[shard].arrivals.insert(path.remote, Arrival { node, at, extended });
    }

    pub(super) fn last_arrival(&self, endpoint: Endpoint) -> Option<Arrival> {
        self.shards.iter().filter_map(|shard| shard.arrivals.get(&endpoint)).max_by_key(|arrival| arrival.at).copied()
    }
}
