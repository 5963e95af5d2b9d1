//! Threads that ask the index, each with a connection of its own to the database. Searching is computing: as many as
//! there are cores, and a short queue; who comes when it is full is told to come again.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::{Found, Search};
use crate::store::Reader;

/// Threads at most.
pub const SEARCHERS_MAX: usize = 4;
/// Searches that wait. At some milliseconds each, the last of them has its turn within a second or two.
const WAITING_MAX: usize = 256;

/// Why nothing was searched. The texts may be shown to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// Too many wait already.
    #[error("rate limited: too many searches at the moment, try again in a second")]
    Busy,
    /// The database does not let itself be read, or the directory ends.
    #[error("cannot search at the moment, try again later")]
    Failed,
}

/// The threads.
#[derive(Debug)]
pub struct Searchers {
    queue: Mutex<Option<SyncSender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Job {
    search: Search,
    reply: oneshot::Sender<Result<Found, SearchError>>,
}

impl Searchers {
    /// One thread for each of `readers`. They end with [`Searchers::close`].
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(readers: Vec<Reader>) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(WAITING_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let threads = readers.into_iter().enumerate().map(|(number, reader)| {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new().name(format!("search-{number}")).spawn(move || serve(reader, &jobs))
        });
        let threads = threads.collect::<Result<_, _>>()?;
        Ok(Self { queue: Mutex::new(Some(queue)), threads: Mutex::new(threads) })
    }

    /// Asks the index.
    ///
    /// # Errors
    /// [`SearchError`].
    pub async fn find(&self, search: Search) -> Result<Found, SearchError> {
        let (reply, found) = oneshot::channel();
        {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = queue.as_ref().ok_or(SearchError::Failed)?;
            queue.try_send(Job { search, reply }).map_err(|error| match error {
                TrySendError::Full(_) => SearchError::Busy,
                TrySendError::Disconnected(_) => SearchError::Failed,
            })?;
        }
        found.await.unwrap_or(Err(SearchError::Failed))
    }

    /// Finishes what waits and ends the threads.
    pub fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // One that has panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn serve(mut reader: Reader, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { search, reply }) = job else { return };
        // Whoever asked may have gone.
        if reply.is_closed() {
            continue;
        }
        let found = reader.find(search).map_err(|error| {
            tracing::error!(%error, "cannot search the database");
            SearchError::Failed
        });
        let _ = reply.send(found);
    }
}
