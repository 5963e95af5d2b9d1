//! A client of the directory (section 6): one connection, kept open, questions in a row and answers matched in order.
//!
//! A question is answered, or fails with a text that says why: nothing waits for ever. While the directory cannot be
//! reached questions fail at once, and a new attempt is made when the back-off ends. What is asked, and what the answers
//! mean, is left to the node and to the clients of the daemon.

mod connection;
pub(crate) mod tls;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use wire::registry::{Answer, Request};

use crate::config::values::{Fingerprint, HostPort};
use crate::node::Unanswered;
use connection::{Ending, Question};

/// Questions that wait for an answer.
const QUESTIONS_MAX: usize = 1024;
/// An answer that takes longer is not awaited.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after a failed attempt doubles from the first to the last of these.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Where the directory is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its host and port.
    pub registry: HostPort,
    /// Its certificate; plain TCP without.
    pub fingerprint: Option<Fingerprint>,
}

/// A handle to ask with. The task that serves it ends with the last handle.
#[derive(Clone, Debug)]
pub struct Directory {
    place: Rc<Place>,
    questions: mpsc::Sender<Question>,
    moves: Rc<watch::Sender<()>>,
    status: Rc<RefCell<Status>>,
}

/// How the connection stands, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Nothing has been asked yet, or not since this host has moved.
    #[default]
    Idle,
    /// Connected.
    Connected,
    /// Not connected, and why.
    Away(String),
}

impl Directory {
    /// A client of the directory at `place`; it connects with the first question. `chance` spreads the attempts of many
    /// nodes whose directory comes back. Must be called in a `LocalSet`.
    #[must_use]
    pub fn new(place: Place, chance: u64) -> Self {
        let (questions, incoming) = mpsc::channel(QUESTIONS_MAX);
        let status = Rc::new(RefCell::new(Status::default()));
        let (moves, moved) = watch::channel(());
        let shared = Rc::new(place.clone());
        let client = Client { place, incoming, moved, status: Rc::clone(&status), chance };
        tokio::task::spawn_local(client.run());
        Self { place: shared, questions, moves: Rc::new(moves), status }
    }

    /// A connection of its own to the same directory, for questions that are held back there and would delay others.
    #[must_use]
    pub fn another(&self, chance: u64) -> Self {
        Self::new(Place::clone(&self.place), chance)
    }

    /// Asks one question.
    ///
    /// # Errors
    /// [`Unanswered`], never later than the connection and its answer may take.
    pub async fn ask(&self, request: Request) -> Result<Answer, Unanswered> {
        let (answer, answered) = oneshot::channel();
        if self.questions.try_send(Question { request, answer, deadline: None }).is_err() {
            return Err(unreachable("too many questions wait for it"));
        }
        answered.await.unwrap_or_else(|_| Err(unreachable("the daemon is stopping")))
    }

    /// This host has moved to another network: the connection, whose address is gone, is made anew at once. What is asked
    /// from now on leaves from the new address; open questions are put again where asking twice does no harm, and fail at
    /// once where it may.
    pub fn reconnect(&self) {
        self.moves.send_replace(());
    }

    /// Tells whether this host has moved since.
    pub(super) fn moves(&self) -> watch::Receiver<()> {
        self.moves.subscribe()
    }

    /// How the connection stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }
}

fn unreachable(reason: impl Into<String>) -> Unanswered {
    Unanswered::Unreachable(reason.into())
}

struct Client {
    place: Place,
    incoming: mpsc::Receiver<Question>,
    moved: watch::Receiver<()>,
    status: Rc<RefCell<Status>>,
    chance: u64,
}

impl Client {
    async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        // Questions that want a connection wait here for it; those behind them wait in the channel.
        let mut first = VecDeque::new();
        let mut known = Vec::new();
        loop {
            if first.is_empty() {
                let Some(question) = self.incoming.recv().await else { return };
                first.push_back(question);
            }
            self.moved.mark_unchanged();
            let attempt = tokio::select! {
                attempt = connection::open(&self.place, &mut known) => attempt,
                () = next(&mut self.moved) => continue,
            };
            let reason = match attempt {
                Ok(connection) => {
                    backoff = BACKOFF_MIN;
                    *self.status.borrow_mut() = Status::Connected;
                    tracing::debug!(registry = %self.place.registry, "connected to the directory");
                    match connection.converse(&mut first, &mut self.incoming, next(&mut self.moved)).await {
                        Ending::Over => return,
                        Ending::Moved => {
                            tracing::debug!("this host has moved; connecting to the directory anew");
                            *self.status.borrow_mut() = Status::Idle;
                            continue;
                        }
                        Ending::Broken(reason) => {
                            tracing::debug!(registry = %self.place.registry, %reason, "the connection to the directory is gone");
                            reason
                        }
                    }
                }
                Err(reason) => {
                    let reason = format!("{} ({reason})", self.place.registry);
                    // The node tells the operator, once; this is for whoever looks closer.
                    tracing::debug!(%reason, "the directory cannot be reached; trying on");
                    reason
                }
            };
            first.drain(..).for_each(|question| question.fail(&reason));
            *self.status.borrow_mut() = Status::Away(reason.clone());
            if !self.pause(self.jittered(backoff), &reason).await {
                return;
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
            self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        }
    }

    /// Fails what is asked meanwhile, until this host moves at the latest; `false` when there is nobody left to ask.
    async fn pause(&mut self, pause: Duration, reason: &str) -> bool {
        let end = sleep(pause);
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return true,
                () = next(&mut self.moved) => return true,
                question = self.incoming.recv() => match question {
                    Some(question) => question.fail(reason),
                    None => return false,
                },
            }
        }
    }

    /// Between half of `pause` and all of it.
    fn jittered(&self, pause: Duration) -> Duration {
        let thousandths = u32::try_from((self.chance >> 33) % 501).unwrap_or(0);
        pause / 2 + pause * thousandths / 1000
    }
}

/// Returns when this host moves. Without anybody left to say so it never does.
async fn next(moved: &mut watch::Receiver<()>) {
    if moved.changed().await.is_err() {
        std::future::pending().await
    }
}
