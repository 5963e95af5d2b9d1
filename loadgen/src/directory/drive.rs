//! One worker's part of an open-loop load: requests leave when they are due, or late, whatever became of those before;
//! their latency counts from when they were due.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};

use super::connection::{Connection, Failure};
use super::kind::{Prepared, Seen};
use crate::clock::{Clock, thread_time};
use crate::latency::Times;
use crate::plan::Share;
use crate::progress::Counter;

/// Of so many answers one is read as a whole; the others only by how they begin.
const INSPECTED_EVERY: u64 = 256;
/// Errors told apart.
const ERRORS_MAX: usize = 16;
/// For all errors beyond those.
const OTHER_ERRORS: &str = "other errors";
/// The longest sleep.
const NAP: Duration = Duration::from_millis(5);
/// Without any answer for so long, the directory is gone.
const SILENCE_NS_MAX: u64 = 30_000_000_000;

/// What became of one worker's requests; or, added up, of all.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests written.
    pub asked: u64,
    /// Requests not made, since too many were waiting for an answer.
    pub unasked: u64,
    /// Right answers.
    pub answered: u64,
    /// Wrong ones and errors, by what they say.
    pub errors: BTreeMap<String, u64>,
    /// From due to answered, for right answers.
    pub latency: Times,
    /// From due to handed to the connection.
    pub lateness: Times,
    /// Bytes of all answers.
    pub answer_bytes: u64,
    /// Answers to queries that were looked at closely, how many of them had hits, and the hits in all.
    pub queries_seen: u64,
    /// See [`Self::queries_seen`].
    pub queries_with_hits: u64,
    /// See [`Self::queries_seen`].
    pub hits: u64,
    /// When the last answer came, after the start.
    pub last_answer_ns: u64,
    /// How much of its time the busiest worker was on a processor.
    pub busiest_percent: f64,
}

impl Tally {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.unasked += other.unasked;
        self.answered += other.answered;
        other.errors.iter().for_each(|(text, count)| self.count_error(text, *count));
        self.latency.add(&other.latency);
        self.lateness.add(&other.lateness);
        self.answer_bytes += other.answer_bytes;
        self.queries_seen += other.queries_seen;
        self.queries_with_hits += other.queries_with_hits;
        self.hits += other.hits;
        self.last_answer_ns = self.last_answer_ns.max(other.last_answer_ns);
        self.busiest_percent = self.busiest_percent.max(other.busiest_percent);
    }

    fn count_error(&mut self, text: &str, count: u64) {
        let is_known = self.errors.contains_key(text) || self.errors.len() < ERRORS_MAX;
        *self.errors.entry(if is_known { text } else { OTHER_ERRORS }.to_owned()).or_default() += count;
    }

    fn take(&mut self, prepared: &Prepared, message: &[u8], latency_ns: u64) {
        self.answer_bytes += message.len() as u64;
        let expected = prepared.expected;
        if expected.is_likely(message) && !self.answered.is_multiple_of(INSPECTED_EVERY) {
            self.answered += 1;
            self.latency.record(latency_ns);
            return;
        }
        match expected.inspect(message) {
            Ok(seen) => {
                self.answered += 1;
                self.latency.record(latency_ns);
                if let Seen::Hits(hits) = seen {
                    self.queries_seen += 1;
                    self.queries_with_hits += u64::from(hits > 0);
                    self.hits += hits as u64;
                }
            }
            Err(text) => self.count_error(&text, 1),
        }
    }
}

/// What a worker drives with.
#[derive(Debug)]
pub struct Drive<'a> {
    /// The clock that all workers share.
    pub clock: Clock,
    /// When the load begins.
    pub start_ns: u64,
    /// Its connections.
    pub connections: Vec<&'a mut Connection>,
    /// Its requests, taken in turn.
    pub prepared: &'a [Prepared],
    /// Counts answers, for the view.
    pub progress: &'a Counter,
    /// So many may wait for an answer; those due beyond that are not made.
    pub waiting_max: usize,
}

/// A request on the way.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    due_ns: u64,
    index: usize,
}

impl Drive<'_> {
    /// Makes the requests of `share` and waits for all their answers.
    ///
    /// # Errors
    /// A connection fails, or no answer has come for 30 s.
    pub fn run(&mut self, mut share: Share) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        let mut waiting: Vec<VecDeque<Waiting>> = vec![VecDeque::new(); self.connections.len()];
        let mut waiting_count = 0;
        let mut turn = 0;
        for connection in &mut self.connections {
            connection.set_nonblocking()?;
        }
        let (busy_before, began_ns) = (thread_time(), self.clock.now_ns());
        let mut heard_ns = began_ns;
        while waiting_count > 0 || share.next_due_ns().is_some() {
            let now_ns = self.clock.now_ns();
            while let Some(due_ns) = share.next_due_ns().map(|due_ns| self.start_ns + due_ns)
                && due_ns <= now_ns
            {
                share.next();
                if waiting_count >= self.waiting_max {
                    tally.unasked += 1;
                    continue;
                }
                let index = turn % self.prepared.len();
                let Prepared { framed, connection, .. } = &self.prepared[index];
                self.connections[*connection].push(framed);
                waiting[*connection].push_back(Waiting { due_ns, index });
                tally.lateness.record(now_ns - due_ns);
                tally.asked += 1;
                (turn, waiting_count) = (turn + 1, waiting_count + 1);
            }
            for connection in self.connections.iter_mut().filter(|connection| connection.wants_to_write()) {
                connection.write()?;
            }
            let next_due_ns = share.next_due_ns().map(|due_ns| self.start_ns + due_ns);
            for position in self.wait(next_due_ns) {
                let (queue, prepared) = (&mut waiting[position], self.prepared);
                let (clock, before) = (self.clock, waiting_count);
                self.connections[position].read(|message| {
                    // A message that nobody asked for ends the run by what comes after it.
                    let Some(Waiting { due_ns, index }) = queue.pop_front() else { return };
                    heard_ns = clock.now_ns();
                    waiting_count -= 1;
                    tally.take(&prepared[index], message, heard_ns.saturating_sub(due_ns));
                })?;
                self.progress.add((before - waiting_count) as u64);
            }
            heard_ns = if waiting_count == 0 { self.clock.now_ns() } else { heard_ns };
            if self.clock.now_ns().saturating_sub(heard_ns) > SILENCE_NS_MAX {
                return Err(self.connections[0].timed_out());
            }
        }
        tally.last_answer_ns = heard_ns.saturating_sub(self.start_ns);
        let elapsed_ns = self.clock.now_ns().saturating_sub(began_ns).max(1);
        let busy_ns = (thread_time() - busy_before).as_nanos() as f64;
        tally.busiest_percent = busy_ns * 100.0 / elapsed_ns as f64;
        Ok(tally)
    }

    /// Waits until something can be read or written, or is due. Returns the connections with something to read.
    fn wait(&self, next_due_ns: Option<u64>) -> Vec<usize> {
        let until_due = next_due_ns.map(|due_ns| Duration::from_nanos(due_ns.saturating_sub(self.clock.now_ns())));
        let events = |connection: &Connection| match connection.wants_to_write() {
            true => PollFlags::POLLIN | PollFlags::POLLOUT,
            false => PollFlags::POLLIN,
        };
        let mut fds: Vec<_> =
            self.connections.iter().map(|connection| PollFd::new(connection.as_fd(), events(connection))).collect();
        let nap = until_due.map_or(NAP, |until_due| until_due.min(NAP));
        // Interrupted or not, the sockets are looked at again.
        let _ = ppoll(&mut fds, Some(nap.into()), None);
        let readable = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        let is_readable = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| events.intersects(readable));
        (0..).zip(&fds).filter(|(_, fd)| is_readable(fd)).map(|(position, _)| position).collect()
    }
}
