//! What changes in the directory, followed while somebody wants to know: one feed for each network that is watched, shared
//! by all who watch it. A question for changes is held back by the directory until there is one, and answers come in the
//! order of questions, so each feed has a connection of its own. It ends when nobody has asked for a while.

mod log;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use wire::registry::request::Changes;
use wire::registry::{Answer, Operation};

use super::clock::{chance, unix_time};
use super::core::Core;
use super::directory::Directory;
pub use log::{Log, News};

/// Networks watched at a time.
const FEEDS_MAX: usize = 16;
/// How long the directory holds a question back; below what its client awaits an answer.
const WAIT_SECONDS: u16 = 20;
/// A feed that nobody asks ends after this; at the latest after twice as long.
const LINGER: Duration = Duration::from_secs(30);
/// The pause after a failure doubles from the first to the last of these.
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// A directory that holds nothing back is asked no more often.
const EMPTY_INTERVAL: Duration = Duration::from_millis(500);

/// All feeds, by network; the one without is about all nodes that this one may see.
pub struct Feeds {
    core: Rc<Core>,
    open: RefCell<BTreeMap<Option<u16>, Rc<Feed>>>,
    /// The base of the last feed's log.
    base: Cell<u64>,
}

struct Feed {
    log: RefCell<Log>,
    news: Notify,
    readers: Cell<usize>,
    questions: Cell<u64>,
}

/// Why there are no news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// Too many.
    #[error("too many groups are watched at once: at most {FEEDS_MAX}; end a watch, or watch without a group")]
    TooMany,
    /// It has not answered within the time given.
    #[error("the directory cannot be reached: it has not said where its changes stand")]
    Silent,
}

impl Feeds {
    /// No feeds yet.
    #[must_use]
    pub fn new(core: &Rc<Core>) -> Rc<Self> {
        Rc::new(Self { core: Rc::clone(core), open: RefCell::default(), base: Cell::new(0) })
    }

    /// What has changed after `cursor` among the members of `network`; waits up to `wait` for something. With cursor 0 the
    /// present one is given, as soon as it is known: what changes from then on will be told.
    ///
    /// # Errors
    /// [`FeedError`].
    pub async fn news(self: &Rc<Self>, network: Option<u16>, cursor: u64, wait: Duration) -> Result<News, FeedError> {
        let feed = self.feed(network)?;
        feed.questions.set(feed.questions.get() + 1);
        feed.readers.set(feed.readers.get() + 1);
        let _reader = Reader(&feed);
        let news = async {
            loop {
                let next = feed.news.notified();
                let news = feed.log.borrow().since(cursor);
                match news {
                    Some(news) => return news,
                    None => next.await,
                }
            }
        };
        match timeout(wait, news).await {
            Ok(news) => Ok(news),
            Err(_) if cursor == 0 => Err(FeedError::Silent),
            Err(_) => Ok(feed.log.borrow().nothing(cursor)),
        }
    }

    /// Networks that are followed now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.borrow().len()
    }

    fn feed(self: &Rc<Self>, network: Option<u16>) -> Result<Rc<Feed>, FeedError> {
        if let Some(feed) = self.open.borrow().get(&network) {
            return Ok(Rc::clone(feed));
        }
        if self.open.borrow().len() >= FEEDS_MAX {
            return Err(FeedError::TooMany);
        }
        // Above all that this daemon or an earlier one has given out, and exact in any JSON reader.
        let clock = u64::try_from(unix_time().as_millis()).unwrap_or(0).saturating_mul(1 << 10);
        let base = clock.max(self.base.get() + (1 << 10));
        self.base.set(base);
        let feed = Rc::new(Feed {
            log: RefCell::new(Log::new(base)),
            news: Notify::new(),
            readers: Cell::new(0),
            questions: Cell::new(0),
        });
        self.open.borrow_mut().insert(network, Rc::clone(&feed));
        let seed = chance::<8>().map_or(base, u64::from_be_bytes);
        let directory = self.core.directory().another(seed);
        let (feeds, followed) = (Rc::clone(self), Rc::clone(&feed));
        spawn_local(async move {
            tokio::select! {
                () = followed.follow(&feeds.core, directory, network) => {}
                () = followed.deserted() => {}
            }
            feeds.open.borrow_mut().remove(&network);
        });
        Ok(feed)
    }
}

impl Feed {
    async fn follow(&self, core: &Core, directory: Directory, network_id: Option<u16>) {
        let (mut after, mut back_off) = (0, BACK_OFF_MIN);
        loop {
            let wait_seconds = if after == 0 { 0 } else { WAIT_SECONDS };
            let requester_id = core.look(|node| node.id());
            let changes = Changes { requester_id, network_id, after, wait_seconds, at: None };
            let asked_at = core.clock().now();
            let reason = match core.ask_by(&directory, Operation::Changes(changes)).await {
                Ok(Answer::Changes { cursor, reset, changes }) => {
                    let is_empty = changes.is_empty();
                    let is_first = after == 0;
                    self.log.borrow_mut().handle_answer(reset, changes);
                    self.news.notify_waiters();
                    (after, back_off) = (cursor, BACK_OFF_MIN);
                    let is_early = core.clock().now().since(asked_at) < EMPTY_INTERVAL;
                    if is_empty && is_early && (!is_first || cursor == 0) {
                        sleep(EMPTY_INTERVAL).await;
                    }
                    continue;
                }
                Ok(Answer::Error { error }) => format!("the directory refuses: {error}"),
                Ok(_) => "the directory gave another answer".to_owned(),
                Err(unanswered) => unanswered.to_string(),
            };
            self.log.borrow_mut().handle_silence(reason);
            self.news.notify_waiters();
            after = 0;
            sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    /// Returns when nobody has asked for a while.
    async fn deserted(&self) {
        loop {
            let questions = self.questions.get();
            sleep(LINGER).await;
            if self.readers.get() == 0 && self.questions.get() == questions {
                return;
            }
        }
    }
}

struct Reader<'a>(&'a Feed);

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.readers.set(self.0.readers.get() - 1);
    }
}
