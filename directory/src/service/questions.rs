//! When our agents' questions were signed: `query` and `changes` show whoever asks what it may see, so a recording of one
//! must be worth nothing to others.
//!
//! A question says when it was signed. One of long ago or ahead of time is refused with the directory's time, by which agents
//! correct themselves; one that has been asked already is refused on any other connection. Questions of older agents say
//! no time. They count where their node is connected, by whose own signatures that is known (in IPv6 its /64, as hosts
//! have several addresses there): there a recording tells nobody anything who could not ask the node's host.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use wire::NodeId;
pub use wire::registry::answer::CLOCKS_APART_MAX_SECONDS;
use wire::registry::{Operation, Signature};

use super::{Caller, ConnectionId, Now, Refusal, Service};

/// Questions remembered of one node. An agent asks some twenty in the time they count; who asks more has what came on another
/// connection refused that was signed no later than what is forgotten.
const REMEMBERED_MAX: usize = 32;
/// Between two looks for nodes whose questions have all become too old.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// The first half of a signature is as unique as the whole.
type Fingerprint = [u8; 16];

/// The questions that could be repeated now.
#[derive(Debug, Default)]
pub(super) struct Questions {
    by_node: HashMap<NodeId, Asked>,
    /// What was asked before this process began, nobody remembers.
    began_unix_seconds: u64,
    forget_at: Duration,
}

#[derive(Debug, Default)]
struct Asked {
    /// Oldest first.
    recent: VecDeque<Question>,
    /// The latest time of signing among those pushed out.
    forgotten: u64,
}

#[derive(Debug)]
struct Question {
    fingerprint: Fingerprint,
    connection: ConnectionId,
    signed_at: u64,
}

impl Questions {
    /// Nothing that was signed before now counts.
    pub(super) const fn begin(&mut self, unix_seconds: u64) {
        self.began_unix_seconds = unix_seconds;
    }

    /// Takes note of a question that nobody else has asked.
    fn note(
        &mut self,
        now: Now,
        node: NodeId,
        connection: ConnectionId,
        signature: &Signature,
        signed_at: u64,
    ) -> Result<(), Refusal> {
        // After a step back of this host's clock the start lies ahead.
        let began = self.began_unix_seconds.min(now.unix_seconds);
        if signed_at < began || signed_at.abs_diff(now.unix_seconds) > CLOCKS_APART_MAX_SECONDS {
            return Err(Refusal::QuestionOfAnotherTime { signed_at, now: now.unix_seconds });
        }
        let repeated = Err(Refusal::QuestionRepeated { now: now.unix_seconds });
        let fingerprint = *signature.0.first_chunk().expect("a signature is longer");
        let asked = self.by_node.entry(node).or_default();
        asked.forget(now.unix_seconds);
        let mut here = false;
        for question in &asked.recent {
            here |= question.connection == connection;
            if question.fingerprint == fingerprint {
                return if question.connection == connection { Ok(()) } else { repeated };
            }
        }
        // It may be one of those that are forgotten.
        if !here && signed_at <= asked.forgotten {
            return repeated;
        }
        if asked.recent.len() >= REMEMBERED_MAX
            && let Some(oldest) = asked.recent.pop_front()
        {
            asked.forgotten = asked.forgotten.max(oldest.signed_at);
        }
        asked.recent.push_back(Question { fingerprint, connection, signed_at });
        Ok(())
    }

    /// Gives back the memory of nodes that have not asked for long.
    pub(super) fn sweep(&mut self, now: Now) {
        if now.monotonic < self.forget_at {
            return;
        }
        self.forget_at = now.monotonic + FORGET_INTERVAL;
        self.by_node.retain(|_, asked| {
            asked.forget(now.unix_seconds);
            !asked.recent.is_empty() || !is_too_old(asked.forgotten, now.unix_seconds)
        });
        self.by_node.shrink_to(self.by_node.len() * 2);
    }
}

impl Asked {
    fn forget(&mut self, now_unix_seconds: u64) {
        self.recent.retain(|question| !is_too_old(question.signed_at, now_unix_seconds));
    }
}

const fn is_too_old(signed_at: u64, now_unix_seconds: u64) -> bool {
    signed_at.saturating_add(CLOCKS_APART_MAX_SECONDS) < now_unix_seconds
}

impl Service {
    /// Lets a signed question pass that is no recording.
    pub(super) fn hear(
        &mut self,
        now: Now,
        caller: &Caller<'_>,
        node: NodeId,
        operation: &Operation,
        signature: &Signature,
    ) -> Result<(), Refusal> {
        if !operation.may_bind_time() {
            return Ok(());
        }
        let heard = match operation.signed_at() {
            Some(signed_at) => self.questions.note(now, node, caller.connection, signature, signed_at),
            None if self.proofs.is_near(node, caller.ip) => Ok(()),
            None => Err(Refusal::QuestionUnbound(node)),
        };
        if matches!(heard, Err(Refusal::QuestionRepeated { .. })) {
            self.replays.note(node, caller.ip);
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use wire::registry::Base64;

    use super::*;

    const NODE: NodeId = NodeId(7);
    const START: u64 = 1_790_000_000;

    fn at(seconds: u64) -> Now {
        Now { monotonic: Duration::from_secs(seconds), unix_seconds: START + seconds }
    }

    fn signature(number: u8) -> Signature {
        Base64([number; 64])
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_cannot_be_repeated() {
        let mut questions = Questions::default();
        questions.begin(START);
        let (own, other) = (ConnectionId(1), ConnectionId(2));
        let asked = |questions: &mut Questions, connection, number: u8| {
            questions.note(at(100), NODE, connection, &signature(number), START + u64::from(number))
        };
        for number in 1..=100 {
            assert_eq!(asked(&mut questions, own, number), Ok(()));
        }
        assert_eq!(questions.by_node[&NODE].recent.len(), REMEMBERED_MAX);
        for number in 1..=100 {
            let repeated = Err(Refusal::QuestionRepeated { now: START + 100 });
            assert_eq!(asked(&mut questions, other, number), repeated, "{number}");
        }
        assert_eq!(asked(&mut questions, other, 101), Ok(()), "a new one is welcome anywhere");
        assert_eq!(asked(&mut questions, own, 100), Ok(()), "one connection is one asker");

        questions.sweep(at(100 + CLOCKS_APART_MAX_SECONDS));
        assert_eq!(questions.by_node.len(), 1, "the last one still counts");
        questions.sweep(at(300 + CLOCKS_APART_MAX_SECONDS));
        assert!(questions.by_node.is_empty());
    }

    #[test]
    fn the_window_is_as_wide_as_it_says_and_begins_with_the_process() {
        let ask = |now: Now, signed_at| {
            let mut questions = Questions::default();
            questions.begin(START);
            questions.note(now, NODE, ConnectionId(1), &signature(1), signed_at)
        };
        let now = at(CLOCKS_APART_MAX_SECONDS * 2);
        let refused =
            |signed_at| Err(Refusal::QuestionOfAnotherTime { signed_at, now: START + CLOCKS_APART_MAX_SECONDS * 2 });
        let oldest = START + CLOCKS_APART_MAX_SECONDS;
        assert_eq!((ask(now, oldest), ask(now, oldest - 1)), (Ok(()), refused(oldest - 1)));
        let newest = START + CLOCKS_APART_MAX_SECONDS * 3;
        assert_eq!((ask(now, newest), ask(now, newest + 1)), (Ok(()), refused(newest + 1)));
        assert!(ask(at(5), START).is_ok() && ask(at(5), START - 1).is_err(), "nobody remembers what was before");
        assert!(ask(at(0), u64::MAX).is_err() && ask(at(0), 0).is_err());
        let set_back = Now { unix_seconds: START - 5000, ..at(5) };
        assert_eq!(ask(set_back, START - 5000), Ok(()), "this host's clock was wrong before");
    }
}
