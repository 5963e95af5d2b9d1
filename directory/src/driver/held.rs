//! Questions for changes that wait for their answer.

use std::time::Duration;

use tokio::sync::watch;
use wire::registry::request::{CHANGES_WAIT_SECONDS_MAX, Changes};
use wire::registry::{Answer, Operation, Request};

use super::Driver;
use crate::service::changes::Watcher;

/// A question for changes that waits until there is one.
#[derive(Debug)]
pub struct Held {
    watcher: Watcher,
    /// Up to here there was nothing.
    cursor: u64,
    signal: watch::Receiver<u64>,
    /// When its batch came.
    began: Duration,
    /// When it is answered in any case.
    pub due: Duration,
}

impl Held {
    /// Waits until there is something to look at.
    pub async fn news(&mut self) {
        let cursor = self.cursor;
        if self.signal.wait_for(|signalled| *signalled > cursor).await.is_err() {
            // Topics outlive their waiters; without its topic nothing can come any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Driver {
    /// The question of `request`, if `answer` shows that it has to wait: there is nothing yet, or nothing that the
    /// topic has been signalled for.
    pub(super) fn hold(&self, began: Duration, request: &Request, answer: &Answer) -> Option<Held> {
        let question = may_wait(&request.operation)?;
        let Answer::Changes { cursor, reset: false, changes } = answer else { return None };
        let now = self.clock.now().monotonic;
        let service = self.service();
        let watcher = service.watcher(request, question).ok()?;
        let signal = self.watchers.subscribe(watcher.topic, service.cursor(), now);
        drop(service);
        let cursor = if changes.is_empty() { *cursor } else { question.after };
        if !changes.is_empty() && *signal.borrow() > cursor {
            return None;
        }
        let wait = Duration::from_secs(question.wait_seconds.min(CHANGES_WAIT_SECONDS_MAX).into());
        Some(Held { watcher, cursor, signal, began, due: now + wait })
    }

    /// The answer to a question that has waited; `None` when there is still nothing for it and it is not due. Also an
    /// empty answer when there is more to look through than one look takes: the next question goes on, at its rate.
    pub fn settle(&self, held: &mut Held) -> Option<Answer> {
        let now = self.clock.now().monotonic;
        let (answer, end) = {
            let service = self.service();
            (service.changes_after(&held.watcher, held.cursor), service.cursor())
        };
        let answer = answer.unwrap_or_else(|refusal| Answer::error(&refusal));
        match &answer {
            Answer::Changes { cursor, reset: false, changes }
                if changes.is_empty() && *cursor >= end && now < held.due =>
            {
                held.cursor = *cursor;
                return None;
            }
            Answer::Error { .. } => self.metrics.error(),
            _ => {}
        }
        self.metrics.answered(&Operation::Changes(Changes::default()), now.saturating_sub(held.began));
        Some(answer)
    }
}

/// The question for changes, if it is one that may wait for its answer. The first question, for the present cursor, never
/// does.
pub const fn may_wait(operation: &Operation) -> Option<&Changes> {
    match operation {
        Operation::Changes(changes) if changes.wait_seconds > 0 && changes.after > 0 => Some(changes),
        _ => None,
    }
}
