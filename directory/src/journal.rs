//! The way of changes to the disk: decisions append, one thread commits in batches, answers wait for their commit.
//!
//! A batch closes at a size or after a delay, so a busy directory pays one flush for thousands of changes, and an idle
//! one answers within milliseconds.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::facts::Change;
use crate::metrics::Metrics;
use crate::store::Store;

/// Changes that may wait; beyond that, nothing new is decided.
const WAITING_MAX: u64 = 65_536;
/// Changes of one commit.
const BATCH_MAX: usize = 8192;
/// How long the first change of a batch waits for company.
const BATCH_DELAY: Duration = Duration::from_millis(2);
/// After a commit that failed, for instance because the disk is full.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Where changes wait, and how far they have got.
#[derive(Debug)]
pub struct Journal {
    queue: Mutex<Queue>,
    appended: Condvar,
    durable: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Change>,
    /// Changes ever appended.
    appended: u64,
    closing: bool,
}

impl Journal {
    /// Starts the thread that writes to `store`. It ends after [`Journal::close`].
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(store: Store, metrics: Arc<Metrics>) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let this = Arc::new(Self { queue: Mutex::default(), appended: Condvar::new(), durable: watch::Sender::new(0) });
        let journal = Arc::clone(&this);
        let writer = std::thread::Builder::new().name("directory-store".into());
        let writer = writer.spawn(move || journal.write(store, &metrics))?;
        Ok((this, writer))
    }

    /// Appends changes. Calls must come in the order of the decisions; the caller holds the service meanwhile.
    /// Returns the position that [`Journal::durable`] waits for.
    pub fn append(&self, changes: Vec<Change>) -> u64 {
        let mut queue = self.lock();
        if !changes.is_empty() {
            queue.appended += changes.len() as u64;
            queue.waiting.extend(changes);
            self.appended.notify_one();
        }
        queue.appended
    }

    /// Waits until everything up to `position` is durable.
    pub async fn durable(&self, position: u64) {
        let mut durable = self.durable.subscribe();
        durable.wait_for(|durable| *durable >= position).await.expect("the journal itself holds the sender");
    }

    /// Waits until there is room for more changes.
    pub async fn room(&self) {
        let appended = self.lock().appended;
        self.durable(appended.saturating_sub(WAITING_MAX)).await;
    }

    /// Commits what waits, then ends the thread.
    pub fn close(&self) {
        self.lock().closing = true;
        self.appended.notify_one();
    }

    fn write(&self, mut store: Store, metrics: &Metrics) {
        let clock = Clock::start();
        while let Some(batch) = self.next_batch() {
            let mut began = clock.now().monotonic;
            while let Err(error) = store.commit(&batch) {
                tracing::error!(%error, changes = batch.len(), "cannot write to the database, trying again");
                metrics.commit_failed();
                if !self.pause() {
                    return;
                }
                began = clock.now().monotonic;
            }
            metrics.committed(batch.len(), clock.now().monotonic.saturating_sub(began));
            self.durable.send_modify(|durable| *durable += batch.len() as u64);
        }
    }

    /// Waits for changes; `None` when closing and nothing is left.
    fn next_batch(&self) -> Option<Vec<Change>> {
        let idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closing;
        let queue = self.appended.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let filling = |queue: &mut Queue| queue.waiting.len() < BATCH_MAX && !queue.closing;
        let waited = self.appended.wait_timeout_while(queue, BATCH_DELAY, filling);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let size = queue.waiting.len().min(BATCH_MAX);
        let rest = queue.waiting.split_off(size);
        let batch = std::mem::replace(&mut queue.waiting, rest);
        (!batch.is_empty()).then_some(batch)
    }

    /// Waits before the next try; false when closing.
    fn pause(&self) -> bool {
        let waited = self.appended.wait_timeout_while(self.lock(), RETRY_DELAY, |queue| !queue.closing);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !queue.closing
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
