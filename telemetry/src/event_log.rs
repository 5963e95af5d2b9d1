//! A log of events in a file that rotates by itself: one JSON object a line, readable by its owner alone.
//!
//! ```text
//! FOLDER/events.jsonl      now written
//! FOLDER/events.1.jsonl    the one before, and so on; the oldest is removed
//! ```
//!
//! Whoever writes never waits: a thread of its own does the writing, and what its queue has no room for is counted. A
//! full disk costs the events of the meantime and one warning; a line is written whole or not at all.

mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use self::writer::Writer;
use crate::log::format::escape_json;

/// Bytes of one event; a longer one is dropped.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// How long what is queued may hold up the end of the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Where events are kept, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The folder; made, for its owner alone, when it is missing.
    pub folder: PathBuf,
    /// Name of the files without what is behind the dot.
    pub name: String,
    /// Bytes of a file before the next is begun.
    pub file_bytes_max: u64,
    /// Files kept, with the one being written; at least 1.
    pub files_max: usize,
    /// Events that may wait; one more is dropped.
    pub queue_max: usize,
}

impl Options {
    /// `events.jsonl` in `folder`: 5 files of 10 MiB, 1024 events waiting.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let (folder, name) = (folder.into(), "events".to_owned());
        Self { folder, name, file_bytes_max: 10 * 1024 * 1024, files_max: 5, queue_max: 1024 }
    }

    /// The file that is written (0), or the one `age` rotations ago.
    #[must_use]
    pub fn path(&self, age: usize) -> PathBuf {
        let name = &self.name;
        self.folder.join(if age == 0 { format!("{name}.jsonl") } else { format!("{name}.{age}.jsonl") })
    }
}

/// The file cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep events in {path}: {error}")]
pub struct OpenError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// A log of events. Clones write into the same one.
#[derive(Clone, Debug)]
pub struct EventLog {
    /// `None` where events are not kept.
    queue: Option<SyncSender<Message>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
    /// The thread is to end once nothing is queued.
    ending: AtomicBool,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Tells when all before it is in the file.
    Flush(mpsc::Sender<()>),
    /// Only wakes the thread.
    Wake,
}

/// Keeps the thread at work. Dropping it writes what is queued, for at most two seconds.
#[derive(Debug)]
pub struct Guard {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
    ended: Receiver<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.counts.ending.store(true, Relaxed);
        // A thread whose queue is full is awake.
        let _ = self.queue.try_send(Message::Wake);
        // The sender is never used: it is dropped when the thread ends.
        let _ = self.ended.recv_timeout(SHUTDOWN_TIMEOUT);
    }
}

impl EventLog {
    /// A log that keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { queue: None, counts: Arc::default() }
    }

    /// Opens the file, whose content stays, and starts the thread.
    ///
    /// # Errors
    /// [`OpenError`]: the folder or file cannot be made or written to, or no thread started.
    pub fn open(options: Options) -> Result<(Self, Guard), OpenError> {
        let path = options.path(0);
        let failed = |error| OpenError { path: path.clone(), error };
        let counts = Arc::<Counts>::default();
        let (queue, messages) = mpsc::sync_channel(options.queue_max.max(1));
        let (alive, ended) = mpsc::channel();
        let mut writer = Writer::open(options, Arc::clone(&counts)).map_err(failed)?;
        let run = move || {
            writer.run(&messages);
            // In this order: whoever has seen the end cannot queue any more.
            drop(messages);
            drop(alive);
        };
        thread::Builder::new().name("event-log".to_owned()).spawn(run).map_err(failed)?;
        let guard = Guard { queue: queue.clone(), counts: Arc::clone(&counts), ended };
        Ok((Self { queue: Some(queue), counts }, guard))
    }

    /// Queues `event`, which becomes one line. Never waits; what cannot be kept is counted.
    pub fn write(&self, event: &impl Serialize) {
        let Some(queue) = &self.queue else { return };
        let line = serde_json::to_string(event).ok().filter(|line| line.len() < LINE_BYTES_MAX);
        let line = line.filter(|_| !self.counts.ending.load(Relaxed)).and_then(|line| {
            let mut safe = String::with_capacity(line.len() + 1);
            escape_json(&mut safe, &line).ok()?;
            safe.push('\n');
            Some(safe).filter(|safe| safe.len() <= LINE_BYTES_MAX)
        });
        let queued = line.is_some_and(|line| queue.try_send(Message::Line(line.into_bytes())).is_ok());
        if !queued {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Waits until all that was queued is in the file; false when that takes longer than `patience`, or the queue is full.
    #[must_use]
    pub fn flush(&self, patience: Duration) -> bool {
        let Some(queue) = &self.queue else { return true };
        let (done, flushed) = mpsc::channel();
        queue.try_send(Message::Flush(done)).is_ok() && flushed.recv_timeout(patience).is_ok()
    }

    /// Events in the file, or in one before it.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.counts.written.load(Relaxed)
    }

    /// Events that were too long, or that the queue or the disk had no room for.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Relaxed)
    }
}
