//! Who holds an id, and where a node is that has no session.

use std::time::Duration;

use wire::NodeId;
use wire::beacon::Message;

use super::{Admission, Handoff, Send, Server};
use crate::admission::is_service_port;
use crate::contests::{Arrival, Claim, Contest, Kind};
use crate::endpoint::{Endpoint, LocalId, Path};
use crate::events::{Event, Refusal, What};
use crate::locals::{Local, Service};
use crate::metrics::Counter;
use crate::sessions::{Activity, Full, Grade, Session, Slot};
use crate::time::Time;

/// Activity is noted at this grain, so that a busy session does not keep its cache line dirty.
const SEEN_GRAIN: Duration = Duration::from_secs(1);
/// A sign of life names no id, so whoever took over a holder's endpoint could give it, and need not have said who it is.
/// It counts for a holder that has spoken as the node itself within this time; daemons do once a minute.
const HOLDER_SILENT_MAX: Duration = Duration::from_secs(150);
/// A session without proof may be evicted after this silence when the table is full.
const UNPROVEN_GRACE: Duration = Duration::from_secs(90);
const EVICTION_SEARCH: usize = 256;

/// How a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Holds,
    Contested,
    Refused,
}

impl Server {
    /// Decides who holds an id owned here.
    pub(super) fn claim(&mut self, now: Time, claim: Claim) -> Outcome {
        let Claim { node, path, .. } = claim;
        let grade = self.grade(node, &path.remote);
        let is_barred = self.is_barred(grade);
        let Some((slot, held)) = self.sessions.find_own(node) else {
            if is_barred {
                return self.refuse_unproven(now, &claim);
            }
            self.contests.note_arrival(now, &claim);
            return self.begin_session(now, claim, grade);
        };
        if held.path.remote == path.remote {
            if is_barred && !held.claimed {
                self.contests.end(node);
                self.sessions.remove(slot);
                self.counters.count(Counter::SessionsExpired);
                self.note(now, node, What::SessionLapsed);
                return Outcome::Refused;
            }
            let session = Session { path, extended: claim.extended, ..held };
            if session != held {
                self.sessions.update(slot, session);
            }
            self.touch(now, slot, node);
            let grade = self.held_grade(node, &held);
            self.sessions.set_grade(slot, grade);
            return Outcome::Holds;
        }
        if is_barred {
            return self.refuse_unproven(now, &claim);
        }
        self.contests.note_arrival(now, &claim);
        let held_grade = self.held_grade(node, &held);
        let silent = now.since(self.sessions.activity(slot).seen) > HOLDER_SILENT_MAX;
        if self.rules.admission == Admission::Open || grade > held_grade || (grade == held_grade && silent) {
            self.displace(now, claim, grade);
            return Outcome::Holds;
        }
        if self.sessions.activity(slot).contested {
            self.contests.improve(claim, grade);
            return Outcome::Contested;
        }
        let candidate = path.remote;
        if !self.contests.begin(now, claim, grade, held.path, held_grade) {
            self.counters.count(Counter::ClaimsRefused);
            self.note(now, node, What::ClaimRefused { candidate, why: Refusal::Held });
            return Outcome::Refused;
        }
        self.counters.count(Counter::ContestsStarted);
        self.note(now, node, What::ContestStarted { holder: held.path.remote, candidate });
        self.sessions.activity(slot).contested = true;
        self.probe(held.path);
        Outcome::Contested
    }

    pub(super) fn grade(&self, node: NodeId, endpoint: &Endpoint) -> Grade {
        if self.membership.proves(node, endpoint.ip) { Grade::ProvenAddress } else { Grade::Unproven }
    }

    /// How well the holder of a session is proven, as of now.
    pub(super) fn held_grade(&self, node: NodeId, held: &Session) -> Grade {
        if held.claimed { Grade::SignedClaim } else { self.grade(node, &held.path.remote) }
    }

    /// Whether who has shown no more than this is not let in.
    pub(super) fn is_barred(&self, grade: Grade) -> bool {
        self.rules.admission == Admission::Strict && grade == Grade::Unproven
    }

    fn refuse_unproven(&mut self, now: Time, claim: &Claim) -> Outcome {
        self.counters.count(Counter::ClaimsUnproven);
        self.note(now, claim.node, What::ClaimRefused { candidate: claim.path.remote, why: Refusal::Unproven });
        Outcome::Refused
    }

    pub(super) fn begin_session(&mut self, now: Time, claim: Claim, grade: Grade) -> Outcome {
        if self.draining {
            self.counters.count(Counter::ClaimsWhileDraining);
            return Outcome::Refused;
        }
        if !self.may_be_stored(claim.node) {
            // A claim on its way between shards, and a question under way, may outlive the node.
            return Outcome::Refused;
        }
        let claimed = grade == Grade::SignedClaim;
        let session = Session { path: claim.path, extended: claim.extended, claimed };
        let quota = self.quotas.of(claim.node);
        let activity = Activity { seen: now, grade, quota, ..Activity::default() };
        let inserted = self.sessions.insert(claim.node, session, activity).or_else(|Full| {
            let notes = &mut self.notes;
            let stale = |node: NodeId, _: &Session, activity: &Activity| {
                let is_stale = activity.grade == Grade::Unproven && now.since(activity.seen) > UNPROVEN_GRACE;
                if is_stale {
                    notes.push(Event { at: now, node, what: What::SessionExpired });
                }
                is_stale
            };
            let evicted = self.sessions.sweep(EVICTION_SEARCH, stale);
            self.counters.add(Counter::SessionsExpired, evicted as u64);
            self.sessions.insert(claim.node, session, activity)
        });
        match inserted {
            Ok(_) => {
                // A recall under way is about where the node was; it is here now.
                self.contests.end(claim.node);
                self.counters.count(Counter::SessionsStarted);
                self.note(now, claim.node, What::SessionStarted { at: claim.path.remote, grade });
                Outcome::Holds
            }
            Err(Full) => {
                self.counters.count(Counter::ClaimsNoRoom);
                let what = What::ClaimRefused { candidate: claim.path.remote, why: Refusal::NoRoom };
                self.note(now, claim.node, what);
                Outcome::Refused
            }
        }
    }

    /// Gives the id to `claim`, whoever holds it.
    pub(super) fn displace(&mut self, now: Time, claim: Claim, grade: Grade) {
        self.contests.end(claim.node);
        let Some((slot, held)) = self.sessions.find_own(claim.node) else {
            self.begin_session(now, claim, grade);
            return;
        };
        let activity = self.sessions.activity(slot);
        *activity = Activity { seen: now, grade, contested: false, ..*activity };
        let claimed = grade == Grade::SignedClaim;
        self.sessions.update(slot, Session { path: claim.path, extended: claim.extended, claimed });
        self.counters.count(Counter::SessionsMoved);
        self.note(now, claim.node, What::SessionMoved { from: held.path.remote, to: claim.path.remote });
    }

    /// The holder of `slot` was heard: it lives, and a contest for its id is over.
    pub(super) fn touch(&mut self, now: Time, slot: Slot, node: NodeId) {
        if now.since(self.sessions.activity(slot).seen) >= SEEN_GRAIN {
            self.sessions.note_heard(slot, now);
        }
        let activity = self.sessions.activity(slot);
        if activity.contested {
            activity.contested = false;
            if self.contests.end(node) {
                self.counters.count(Counter::ContestsHeld);
                self.note(now, node, What::ContestHeld);
            }
        }
    }

    pub(super) fn note_activity(&mut self, now: Time, node: NodeId) {
        if self.sessions.owns(node)
            && let Some((slot, _)) = self.sessions.find_own(node)
        {
            self.touch(now, slot, node);
        }
    }

    /// A sign of life from an endpoint that was asked for one.
    pub(super) fn answered(&mut self, now: Time, endpoint: &Endpoint) {
        while let Some(contest) = self.contests.answered(endpoint) {
            let Contest { claim, grade, kind, .. } = contest;
            match (kind, self.sessions.find_own(claim.node)) {
                (Kind::Contest, Some((slot, _))) => {
                    let heard = self.sessions.activity(slot).seen;
                    // Only a neighbour behind the same NAT can have been given the port, and only there does the node
                    // come back on another. It is asked, so that forged sources alone gain nothing: the thief would have
                    // to listen at the holder's address, and to get by before the holder's next word.
                    if claim.path.remote.ip == endpoint.ip
                        && self.neighbour(endpoint, claim.node).is_some_and(|neighbour| neighbour.at > heard)
                        && self.contests.take_over(now, claim, grade)
                    {
                        self.probe(claim.path);
                    } else {
                        self.hold(now, slot, claim.node);
                    }
                }
                (Kind::Takeover, Some(_)) => {
                    self.win(now, &claim);
                    self.displace(now, claim, grade);
                }
                (Kind::Recall, None) if !self.is_barred(grade) && !self.is_a_neighbours(endpoint, claim.node) => {
                    self.counters.count(Counter::SessionsRecalled);
                    self.note(now, claim.node, What::SessionRecalled { at: claim.path.remote });
                    self.begin_session(now, claim, grade);
                }
                _ => {}
            }
        }
    }

    /// The last to come to `endpoint`, where that is another node than `node` and one that does not share its socket. A
    /// sign of life without an id may then be the neighbour's.
    fn neighbour(&self, endpoint: &Endpoint, node: NodeId) -> Option<Arrival> {
        self.contests.last_arrival(endpoint).filter(|arrival| arrival.node != node && !arrival.extended)
    }

    /// Whether such a neighbour holds `endpoint`.
    fn is_a_neighbours(&self, endpoint: &Endpoint, node: NodeId) -> bool {
        let session = self.neighbour(endpoint, node).and_then(|neighbour| self.sessions.find(neighbour.node));
        session.is_some_and(|session| session.path.remote == *endpoint)
    }

    /// A contest for the session in `slot` is over, and nothing has changed.
    fn hold(&mut self, now: Time, slot: Slot, node: NodeId) {
        self.counters.count(Counter::ContestsHeld);
        self.sessions.activity(slot).contested = false;
        self.note(now, node, What::ContestHeld);
    }

    /// A contest gives the id to who claimed it.
    fn win(&mut self, now: Time, claim: &Claim) {
        self.counters.count(Counter::ContestsWon);
        self.note(now, claim.node, What::ContestWon { candidate: claim.path.remote });
    }

    /// Somebody wants to reach a node that has no session. It costs what a discover costs. Says whether it
    /// is asked, or its own shard told to.
    pub(super) fn want(&mut self, now: Time, node: NodeId, from: Path) -> bool {
        let known = self.may_be_stored(node) && self.recall_at(node).is_some();
        if !known || !self.charge_control(now, from) {
            return false;
        }
        match self.sessions.owner(node) {
            owner if owner == self.shard => self.recall(now, node, from.local),
            owner => self.push_handoff(owner, Handoff::Recall(node, from.local)),
        }
    }

    /// Where a node without a session may be asked for a sign of life.
    fn recall_at(&self, node: NodeId) -> Option<Endpoint> {
        let remote = self.membership.last_endpoint(node).filter(may_be_asked)?;
        let is_barred = self.rules.admission == Admission::Strict && !self.membership.proves(node, remote.ip);
        (!is_barred).then_some(remote)
    }

    /// Asks a node for a sign of life where it last registered, from an address of the right family: the one it is
    /// wanted through, else the first. Says whether it is being asked.
    pub(super) fn recall(&mut self, now: Time, node: NodeId, wanted_through: LocalId) -> bool {
        let Some(remote) = self.recall_at(node) else { return false };
        let usable = |local: &Local| {
            local.present && local.service == Service::Beacon && local.bound.is_ipv4() == remote.socket_addr().is_ipv4()
        };
        let local = match self.locals.get(wanted_through) {
            Some(local) if usable(local) => Some(wanted_through),
            _ => self.locals.iter().find(|(_, local)| usable(local)).map(|(id, _)| id),
        };
        let Some(local) = local else { return false };
        let path = Path { remote, local };
        let claim = Claim { node, path, extended: false };
        if self.sessions.find_own(node).is_none() && self.contests.recall(now, claim, self.grade(node, &remote)) {
            self.probe(path);
            self.note(now, node, What::RecallStarted { at: remote });
        }
        self.contests.awaited_by(&remote) == Some(self.shard)
    }

    /// Asks a holder for a sign of life: a punch command that names our own address.
    pub(super) fn probe(&mut self, holder: Path) {
        if let Some(local) = self.locals.get(holder.local) {
            self.push_send(Send::new(holder, &Message::PunchCommand(local.seen_as)));
        }
    }

    /// The one asked did not answer; a session that has moved meanwhile is not what was asked about.
    pub(super) fn handle_silence(&mut self, now: Time, Contest { claim, grade, asked, kind, .. }: Contest) {
        match (kind, self.sessions.find_own(claim.node)) {
            (Kind::Contest, found) if found.is_none_or(|(_, held)| held.path.remote == asked.remote) => {
                self.win(now, &claim);
                self.displace(now, claim, grade);
            }
            (Kind::Takeover, Some((slot, _))) => self.hold(now, slot, claim.node),
            _ => {}
        }
    }
}

/// Whoever registers names an endpoint of its choice; none of this host's own, and no service's.
fn may_be_asked(endpoint: &Endpoint) -> bool {
    let ip = endpoint.ip();
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_service_port(endpoint.port))
}
