//! Threads that ask the index, each with a connection of its own to the database. Searching is computing: as many as
//! there are cores, and a short queue; who comes when it is full is told to come again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::ErrorCode;
use tokio::sync::oneshot;

use super::{Found, Search};
use crate::limits::address_unit;
use crate::store::Reader;

/// Threads at most.
pub const SEARCHERS_MAX: usize = 4;
/// Searches that wait. At some milliseconds each, the last of them has its turn within a second or two; were each to take
/// all the time it may, within a minute on one core.
const WAITING_MAX: usize = 256;
/// Of these, those of one address.
const WAITING_PER_ADDRESS_MAX: usize = 32;
/// Those of one address that no limit applies to: many may stand behind it, and others still find room.
const WAITING_PER_EXEMPT_MAX: usize = 128;

/// Why nothing was searched. The texts may be shown to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// Too many wait already.
    #[error("rate limited: too many searches at the moment, try again in a second")]
    Busy,
    /// It took longer than a search may, and nothing was found until then.
    #[error("cannot finish the search: it takes too long; use fewer or rarer words")]
    TooLong,
    /// The database does not let itself be read, or the directory ends.
    #[error("cannot search at the moment, try again later")]
    Failed,
}

/// The threads.
#[derive(Debug)]
pub struct Searchers {
    queue: Mutex<Option<SyncSender<Job>>>,
    places: Arc<Places>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Searches that wait or run, by the address they come from.
#[derive(Debug, Default)]
struct Places(Mutex<HashMap<IpAddr, usize>>);

/// One of them; given back on drop.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    unit: IpAddr,
}

impl Place {
    /// `None` when `max` of the same address are there.
    fn take(places: &Arc<Places>, ip: IpAddr, max: usize) -> Option<Self> {
        let unit = address_unit(ip);
        let mut taken = places.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(unit).or_default();
        // One that is refused has others there, so no empty entry stays.
        (*count < max).then(|| {
            *count += 1;
            Self { places: Arc::clone(places), unit }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.unit) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.unit);
            }
        }
    }
}

#[derive(Debug)]
struct Job {
    search: Search,
    place: Place,
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
        Ok(Self { queue: Mutex::new(Some(queue)), places: Arc::default(), threads: Mutex::new(threads) })
    }

    /// Asks the index for somebody at `ip`; `exempt` from limits, an address may have more searches waiting.
    ///
    /// # Errors
    /// [`SearchError`].
    pub async fn find(&self, search: Search, ip: IpAddr, exempt: bool) -> Result<Found, SearchError> {
        let max = if exempt { WAITING_PER_EXEMPT_MAX } else { WAITING_PER_ADDRESS_MAX };
        let place = Place::take(&self.places, ip, max).ok_or(SearchError::Busy)?;
        let (reply, found) = oneshot::channel();
        {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = queue.as_ref().ok_or(SearchError::Failed)?;
            queue.try_send(Job { search, place, reply }).map_err(|error| match error {
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
        let Ok(Job { search, place, reply }) = job else { return };
        // Whoever asked may have gone.
        if reply.is_closed() {
            continue;
        }
        let found = reader.find(search).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => SearchError::TooLong,
            _ => {
                tracing::error!(%error, "cannot search the database");
                SearchError::Failed
            }
        });
        drop(place);
        let _ = reply.send(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_of_the_queue_and_gives_it_back() {
        let places = Arc::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let held: Vec<_> = (0..9).filter_map(|_| Place::take(&places, ip("2001:db8::1"), 4)).collect();
        assert_eq!(held.len(), 4);
        assert!(Place::take(&places, ip("2001:db8::2"), 4).is_none(), "the same host");
        assert!(Place::take(&places, ip("192.0.2.1"), 4).is_some());
        drop(held);
        assert!(Place::take(&places, ip("2001:db8::1"), 4).is_some());
        assert!(places.0.lock().unwrap().is_empty(), "nothing stays");
    }
}
