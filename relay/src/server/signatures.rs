//! Signed claims (0C): asked for with a challenge, checked beside the data path, then believed at once.
//!
//! A session that was claimed so is worth more than one at a proven address, for as long as it stands: silence and the
//! claims of others end it as they end any other, a fresh signature moves it. The agent sends a claim of zeros beside each
//! of its discovers, which costs nothing where the session is claimed already, so one that a restart has lost is soon back.

use wire::NodeId;
use wire::beacon::{COOKIE_LEN, Message};

use super::{Action, Admission, PENDING_MAX, REPLY_MAX, Server, answer};
use crate::admission::Budget;
use crate::authority::{Question, Verdict};
use crate::contests::Claim;
use crate::endpoint::Path;
use crate::events::{Refusal, What};
use crate::metrics::{Counter, DropReason};
use crate::sessions::{Grade, Session};
use crate::time::Time;

/// Of what a shard may ask, the part that one source prefix may: one in so many. So no few prefixes take what is for all.
const PREFIX_PART: u64 = 8;
/// What a signature that is none costs its source prefix, which receives what is sent to it, beside the question itself.
const FORGED_COST: u64 = 10;

/// What one shard may ask a second: its share of what all may.
#[derive(Debug)]
pub(super) struct Allowance {
    budget: Budget,
    spent: Time,
}

impl Allowance {
    pub(super) fn share(per_second: u64, shards: usize) -> Self {
        let share = per_second.div_ceil(shards as u64);
        Self { budget: Budget::new(share, share), spent: Time::default() }
    }

    /// What one source prefix may ask a second, at most.
    pub(super) fn of_prefix(per_second: u64, shards: usize) -> Budget {
        if per_second == 0 {
            return Budget::unlimited();
        }
        let part = per_second.div_ceil(shards as u64 * PREFIX_PART);
        Budget::new(part, part)
    }

    /// `budget`, of which no more is spent at once than [`Self::of_prefix`] a second.
    pub(super) fn bound(budget: Budget, per_second: u64, shards: usize) -> Budget {
        if per_second == 0 { budget } else { budget.at_once(per_second.div_ceil(shards as u64 * PREFIX_PART)) }
    }

    pub(super) fn take(&mut self, now: Time) -> bool {
        self.budget.charge(&mut self.spent, now, 1)
    }
}

impl Server {
    /// A node claims its id: without a cookie it is given one, with one its signature is checked.
    pub(super) fn signed_claim(
        &mut self,
        now: Time,
        from: Path,
        node: NodeId,
        (cookie, signature): (&[u8; COOKIE_LEN], &[u8; 64]),
        reply: &mut [u8; REPLY_MAX],
    ) -> Action {
        // Without somebody who knows the nodes' keys claims could not be checked, and where the last claim wins need not.
        let cookies = self.rules.cookies.as_ref().filter(|_| self.rules.admission != Admission::Open);
        let Some(cookies) = cookies else { return Action::Drop(DropReason::UnknownType) };
        if !self.may_be_stored(node) {
            return Action::Drop(DropReason::UnknownClaimant);
        }
        if *cookie == [0; COOKIE_LEN] {
            if self.sessions.find(node).is_some_and(|session| session.claimed && session.path == from) {
                self.counters.count(Counter::ClaimsStanding);
                return Action::Defer;
            }
            let cookie = cookies.make(now, node, &from.remote);
            let challenge = Message::Challenge { relay_key: cookies.relay_key(), cookie: &cookie };
            let action = answer(reply, from.local, &challenge);
            self.counters.count(Counter::Challenges);
            return action;
        }
        if !cookies.fits(now, node, &from.remote, cookie) {
            return Action::Drop(DropReason::StaleCookie);
        }
        let within = self.claims.charge(&[(self.prefix_claims, 1)], from.remote.ip, now);
        if !within || !self.claims_in_all.take(now) {
            return Action::Drop(DropReason::QuestionBudget);
        }
        let claim = Claim { node, path: from, extended: false };
        self.ask(Question::Signature { claim, cookie: *cookie, signature: *signature })
    }

    /// A signature was checked.
    pub(super) fn claimed(&mut self, now: Time, claim: Claim, verdict: Verdict) {
        let Claim { node, path, .. } = claim;
        match verdict {
            Verdict::Signed => {}
            Verdict::Forged => {
                self.counters.count(Counter::ClaimsForged);
                self.claims.fine(self.prefix_claims, FORGED_COST, path.remote.ip, now);
                self.note(now, node, What::ClaimRefused { candidate: path.remote, why: Refusal::Forged });
                return;
            }
            Verdict::Repeated => return self.counters.count(Counter::ClaimsRepeated),
        }
        // It may have been forgotten since it was asked.
        if !self.may_be_stored(node) {
            return;
        }
        self.counters.count(Counter::ClaimsSigned);
        match self.sessions.find_own(node) {
            Some((slot, held)) if held.path.remote == path.remote => {
                self.sessions.update(slot, Session { path, claimed: true, ..held });
                self.sessions.set_grade(slot, Grade::SignedClaim);
                self.touch(now, slot, node);
                self.note(now, node, What::ClaimSigned { at: path.remote });
            }
            Some(_) => {
                self.contests.note_arrival(now, &claim);
                self.displace(now, claim, Grade::SignedClaim);
                self.note(now, node, What::ClaimSigned { at: path.remote });
            }
            None => {
                self.contests.note_arrival(now, &claim);
                self.begin_session(now, claim, Grade::SignedClaim);
            }
        }
    }

    /// Puts a question, which the shard fetches with [`Self::poll_question`].
    pub(super) fn ask(&mut self, question: Question) -> Action {
        if self.questions.len() >= PENDING_MAX {
            return Action::Drop(DropReason::QuestionBudget);
        }
        self.questions.push_back(question);
        Action::Defer
    }

    /// The next question for who knows the nodes.
    pub fn poll_question(&mut self) -> Option<Question> {
        self.questions.pop_front()
    }
}
