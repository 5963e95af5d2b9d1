//! The way of changes to the disk: decisions append, one thread commits in batches, answers wait for their commit.
//!
//! A batch closes at a size or after a delay, so a busy directory pays one flush for thousands of changes, and an idle
//! one answers within milliseconds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::facts::Change;
use crate::metrics::Metrics;
use crate::store::{self, Store};

/// Changes that may wait; beyond that, and beyond the bytes that may, nothing new is decided.
const WAITING_MAX: u64 = 65_536;
/// Changes of one commit.
const BATCH_MAX: usize = 8192;
/// How long the first change of a batch waits for company.
const BATCH_DELAY: Duration = Duration::from_millis(2);
/// After a commit that failed, for instance because the disk is full.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// A failure that lasts is said again after so many tries.
const TRIES_PER_LINE: u64 = 60;

/// Where changes wait, and how far they have got.
#[derive(Debug)]
pub struct Journal {
    queue: Mutex<Queue>,
    appended: Condvar,
    durable: watch::Sender<Extent>,
    waiting_bytes_max: u64,
}

/// Why a commit has failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the writer panicked")]
    Panic,
    #[error(transparent)]
    Store(#[from] rusqlite::Error),
}

impl Failure {
    /// What to do about it. Changes that were decided and do not fit what is stored will not fit later; what is stored is
    /// whole.
    fn advice(&self) -> &'static str {
        match self {
            Self::Store(error) if store::is_of_the_disk(error) => "is the disk full or read-only?",
            Self::Store(error) if store::is_damage(error) => {
                "it is damaged: stop the program and restore a backup with `pilot-relay restore FILE`"
            }
            Self::Store(_) | Self::Panic => {
                "this is no full disk: if it lasts, restart the program, which goes on with what is stored, and report it"
            }
        }
    }
}

/// Changes from the start up to some point.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    changes: u64,
    bytes: u64,
}

impl Extent {
    fn add(&mut self, changes: &[Change]) {
        self.changes += changes.len() as u64;
        self.bytes += changes.iter().map(|change| change.bytes() as u64).sum::<u64>();
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Change>,
    /// Changes ever appended.
    appended: Extent,
    closing: bool,
}

impl Journal {
    /// Starts the thread that writes to `store`. It ends after [`Journal::close`]. Once changes of about
    /// `waiting_bytes_max` bytes wait, there is no [`Journal::room`] for more.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(
        mut store: Store,
        metrics: Arc<Metrics>,
        waiting_bytes_max: usize,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        Self::start_with(move |changes| store.commit(changes), metrics, waiting_bytes_max)
    }

    fn start_with(
        commit: impl FnMut(&[Change]) -> rusqlite::Result<()> + Send + 'static,
        metrics: Arc<Metrics>,
        waiting_bytes_max: usize,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let this = Arc::new(Self {
            queue: Mutex::default(),
            appended: Condvar::new(),
            durable: watch::Sender::default(),
            waiting_bytes_max: waiting_bytes_max as u64,
        });
        let journal = Arc::clone(&this);
        let writer = std::thread::Builder::new().name("directory-store".into());
        let writer = writer.spawn(move || journal.write(commit, &metrics))?;
        Ok((this, writer))
    }

    /// Appends changes. Calls must come in the order of the decisions; the caller holds the service meanwhile.
    /// Returns the position that [`Journal::durable`] waits for.
    pub fn append(&self, changes: Vec<Change>) -> u64 {
        let mut queue = self.lock();
        if !changes.is_empty() {
            queue.appended.add(&changes);
            queue.waiting.extend(changes);
            self.appended.notify_one();
        }
        queue.appended.changes
    }

    /// Waits until everything up to `position` is durable.
    pub async fn durable(&self, position: u64) {
        let mut durable = self.durable.subscribe();
        durable.wait_for(|durable| durable.changes >= position).await.expect("the journal itself holds the sender");
    }

    /// Waits until there is room for more changes.
    pub async fn room(&self) {
        let appended = self.lock().appended;
        let mut durable = self.durable.subscribe();
        let fits = durable.wait_for(|durable| self.fit(appended, *durable, 1));
        fits.await.expect("the journal itself holds the sender");
    }

    /// Whether twice as much waits as there is room for.
    #[must_use]
    pub fn is_overfull(&self) -> bool {
        let appended = self.lock().appended;
        !self.fit(appended, *self.durable.borrow(), 2)
    }

    /// Whether what waits is below `times` the bounds.
    fn fit(&self, appended: Extent, durable: Extent, times: u64) -> bool {
        appended.changes.saturating_sub(durable.changes) < WAITING_MAX * times
            && appended.bytes.saturating_sub(durable.bytes) < self.waiting_bytes_max.saturating_mul(times)
    }

    /// Commits what waits, then ends the thread.
    pub fn close(&self) {
        self.lock().closing = true;
        self.appended.notify_one();
    }

    fn write(&self, mut commit: impl FnMut(&[Change]) -> rusqlite::Result<()>, metrics: &Metrics) {
        let clock = Clock::start();
        while let Some(batch) = self.next_batch() {
            let mut began = clock.now().monotonic;
            let failing_since = began;
            let mut failures = 0;
            // A panic here must not end the writing for good; its transaction is rolled back as it goes.
            while let Err(failure) =
                catch_unwind(AssertUnwindSafe(|| commit(&batch))).map_or(Err(Failure::Panic), |done| Ok(done?))
            {
                if failures % TRIES_PER_LINE == 0 {
                    tracing::error!(
                        error = %failure,
                        changes = batch.len(),
                        "cannot write to the database: changes are refused until it can be written to, which is tried every \
                         second; {}",
                        failure.advice()
                    );
                }
                failures += 1;
                metrics.commit_failed();
                if !self.pause() {
                    return;
                }
                began = clock.now().monotonic;
            }
            if failures > 0 {
                let seconds = began.saturating_sub(failing_since).as_secs();
                tracing::info!(seconds, "the database can be written to again");
            }
            metrics.committed(batch.len(), clock.now().monotonic.saturating_sub(began));
            self.durable.send_modify(|durable| durable.add(&batch));
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

#[cfg(test)]
mod tests {
    use rusqlite::ffi;
    use wire::NodeId;

    use super::*;
    use crate::facts::TrustFact;

    const BYTES: usize = 1 << 20;

    fn change(id: u32) -> Change {
        Change::Trusted(TrustFact { truster: NodeId(id), trusted: NodeId(id) })
    }

    #[tokio::test]
    async fn a_panic_of_the_writer_loses_no_change_and_ends_nothing() {
        let (seen, committed) = std::sync::mpsc::channel();
        let mut calls = 0;
        let commit = move |changes: &[Change]| {
            calls += 1;
            assert!(calls != 1, "the first commit panics");
            seen.send(changes.to_vec()).unwrap();
            Ok(())
        };
        let metrics = Arc::new(Metrics::default());
        let (journal, writer) = Journal::start_with(commit, Arc::clone(&metrics), BYTES).unwrap();
        for id in 1..=2 {
            let position = journal.append(vec![change(id)]);
            let durable = tokio::time::timeout(Duration::from_secs(30), journal.durable(position));
            durable.await.expect("changes are written after a panic");
        }
        journal.close();
        writer.join().unwrap();
        assert_eq!(committed.iter().flatten().collect::<Vec<_>>(), [change(1), change(2)]);
        let text = metrics.text(&Default::default(), &Default::default());
        assert!(text.contains("commits_failed_total 1\n"), "{text}");
    }

    #[test]
    fn the_disk_is_blamed_for_what_it_did_and_for_nothing_else() {
        let advice = |code| Failure::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)).advice();
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_READONLY, ffi::SQLITE_IOERR, ffi::SQLITE_BUSY] {
            assert!(advice(code).contains("is the disk full"), "{code}");
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB] {
            assert!(advice(code).contains("pilot-relay restore"), "{code}");
        }
        // Trust among nodes that are not there.
        let logic = Store::in_memory(1).unwrap().commit(&[change(1)]).unwrap_err();
        for failure in [Failure::from(logic), Failure::Panic] {
            assert!(failure.advice().contains("this is no full disk"), "{failure}");
        }
    }
}
