//! Hole punching: who is introduced to whom.
//!
//! In `grace` whoever holds an id may ask for any node. In `strict` the directory is asked whether it would tell the one
//! where the other is; the two are introduced when the answer comes. No answer is kept: trust may end at any time.

use wire::NodeId;
use wire::beacon::Message;

use super::{Action, Admission, REPLY_MAX, Send, Server, encode};
use crate::authority::{Introduction, Question};
use crate::endpoint::Path;
use crate::events::What;
use crate::metrics::{Counter, DropReason};
use crate::sessions::Session;
use crate::time::Time;

impl Server {
    pub(super) fn punch(
        &mut self,
        now: Time,
        from: Path,
        requester: NodeId,
        target: NodeId,
        reply: &mut [u8; REPLY_MAX],
    ) -> Action {
        if self.rules.admission != Admission::Open && !self.admit_requester(now, from, requester) {
            return Action::Drop(DropReason::SourceMismatch);
        }
        if self.rules.admission == Admission::Strict {
            let within = self.punches.charge(&[(self.prefix_punches, 1)], from.remote.ip, now);
            if !within || !self.punches_in_all.take(now) {
                return Action::Drop(DropReason::QuestionBudget);
            }
            return self.ask(Question::Introduction(Introduction { requester, from, target }));
        }
        let Some(session) = self.introduced(now, from, requester, target) else {
            return Action::Drop(DropReason::UnknownDestination);
        };
        let send = Send::new(session.path, &Message::PunchCommand(from.remote.socket_addr()));
        let len = encode(reply, &Message::PunchCommand(session.path.remote.socket_addr()));
        Action::ReplyAndSend { len, send }
    }

    /// The directory has said whether the two may be introduced.
    pub(super) fn introduce(&mut self, now: Time, asked: Introduction, allowed: bool) {
        let Introduction { requester, from, target } = asked;
        if !allowed {
            self.counters.count(Counter::PunchesRefused);
            return self.note(now, requester, What::PunchRefused { peer: target });
        }
        // It may have left since it asked.
        let is_there = self.sessions.find(requester).is_some_and(|session| session.path.remote == from.remote);
        if !is_there {
            return;
        }
        if let Some(session) = self.introduced(now, from, requester, target) {
            self.push_send(Send::new(from, &Message::PunchCommand(session.path.remote.socket_addr())));
            self.push_send(Send::new(session.path, &Message::PunchCommand(from.remote.socket_addr())));
        }
    }

    /// Where the target is, both being about to be told of each other; one without a session is asked for.
    fn introduced(&mut self, now: Time, from: Path, requester: NodeId, target: NodeId) -> Option<Session> {
        let Some(session) = self.sessions.find(target).filter(|session| self.is_present(session.path.local)) else {
            self.note_present(now, requester, What::PunchUnknown { peer: target });
            self.want(now, target, from);
            return None;
        };
        self.note_present(now, requester, What::PunchBrokered { peer: target, at: session.path.remote });
        self.note_present(now, target, What::PunchedBy { peer: requester, at: from.remote });
        Some(session)
    }
}
