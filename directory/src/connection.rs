//! One connection: bytes to requests, answers to bytes, and the deadlines between. What a request means is not known
//! here.
//!
//! Idle connections are the normal case (a daemon opens several and uses them once a minute), so one that waits holds
//! a buffer of a few hundred bytes. What it holds beyond [`FREE_BYTES`] while busy is taken from a budget that all
//! connections share.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::timeout;
use wire::registry::json::RequestError;
use wire::registry::{
    Answer, LENGTH_BYTES, MESSAGE_BYTES_MAX, Request, is_binary_opening, push_message, split_message,
};

use crate::config::Limits;
use crate::driver::{Driver, Held, Peer, Served, may_wait};
use crate::limits::ConnectionRate;
use crate::metrics::CloseReason;

/// The buffer of an idle connection; nearly every request fits.
const IDLE_BYTES: usize = 512;
/// What a connection may hold without asking.
const FREE_BYTES: usize = 8 * 1024;
/// How much larger a buffer becomes that was filled.
const GROWTH: usize = 4;
/// How far the buffer of a connection grows that keeps it full.
const BUSY_BYTES: usize = 256 * 1024;
/// What all connections may hold beyond their free bytes.
const SHARED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// A connection that pauses for so long gives its buffers back.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Requests served as one batch.
const BATCH_MAX: usize = 512;

/// Memory that busy connections share.
#[derive(Debug, Default)]
pub struct Budget {
    used_bytes: AtomicUsize,
}

/// One connection's part of the [`Budget`]; given back on drop.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Makes this share fit for `held` bytes in all. False when the budget is used up.
    fn fit(&mut self, held: usize) -> bool {
        let bytes = held.saturating_sub(FREE_BYTES);
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let used = self.budget.used_bytes.fetch_add(more, Ordering::Relaxed) + more;
            self.bytes = bytes;
            return used <= SHARED_BYTES_MAX;
        }
        self.budget.used_bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        self.bytes = bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Why a connection ends.
enum End {
    /// The client closed it, it broke, or the directory shuts down.
    Over,
    /// The directory ends it.
    Closed(CloseReason),
    /// The directory ends it, after saying why.
    Told(CloseReason, RequestError),
}

/// Serves `stream` until it ends. `befriend` is called once a node has signed on it, or at its
/// address.
pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Peer,
    driver: &Arc<Driver>,
    limits: &Limits,
    budget: &Arc<Budget>,
    befriend: &(dyn Fn() + Send + Sync),
    shutdown: watch::Receiver<bool>,
) {
    let mut connection = Connection {
        stream,
        peer,
        driver,
        limits,
        befriend: Some(befriend),
        shutdown,
        rate: ConnectionRate::new(limits.requests_per_connection_per_second, limits.arrivals_per_connection_max),
        received: Vec::new(),
        filled: false,
        counted: 0,
        share: Share { budget: Arc::clone(budget), bytes: 0 },
        frame_due: None,
    };
    let end = connection.serve().await;
    if let End::Told(_, error) = &end {
        // Best effort: the client may have gone.
        let _ = connection.write(&[Answer::error(error)]).await;
    }
    if let End::Closed(reason) | End::Told(reason, _) = end {
        driver.metrics().closed(reason);
    }
    let _ = timeout(limits.write_timeout, connection.stream.shutdown()).await;
}

struct Connection<'a, S> {
    stream: S,
    peer: Peer,
    driver: &'a Arc<Driver>,
    limits: &'a Limits,
    /// Until it was called.
    befriend: Option<&'a (dyn Fn() + Send + Sync)>,
    shutdown: watch::Receiver<bool>,
    rate: ConnectionRate,
    received: Vec<u8>,
    /// The last read filled the buffer, so there may be more to read than it holds.
    filled: bool,
    /// How many of the received bytes are complete requests that have been counted as arrivals.
    counted: usize,
    share: Share,
    /// When the frame that has begun must be complete.
    frame_due: Option<Duration>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn serve(&mut self) -> End {
        loop {
            if let Err(end) = self.receive().await {
                return end;
            }
            while let Some(batch) = match self.next_batch() {
                Ok(batch) => batch,
                Err(end) => return end,
            } {
                if let Err(end) = self.answer(batch).await {
                    return end;
                }
            }
        }
    }

    /// Waits for bytes.
    async fn receive(&mut self) -> Result<(), End> {
        self.make_room()?;
        let now = self.driver.clock().now().monotonic;
        let idle = self.received.is_empty();
        if idle {
            self.frame_due = None;
        }
        let due = (!idle).then(|| *self.frame_due.get_or_insert(now + self.limits.frame_timeout));
        let patience = due.map_or(self.limits.idle_timeout, |due| due.saturating_sub(now));
        if idle && self.received.capacity() > IDLE_BYTES {
            // Full speed while requests keep coming; the buffers go as soon as they pause.
            match self.read(BUSY_PAUSE).await {
                Err(End::Closed(CloseReason::IdleTimeout)) => {
                    self.received = Vec::with_capacity(IDLE_BYTES);
                    self.share.fit(IDLE_BYTES);
                }
                other => return other,
            }
        }
        match self.read(patience).await {
            Err(End::Closed(_)) if !idle => Err(End::Closed(CloseReason::FrameTimeout)),
            other => other,
        }
    }

    /// One read. [`CloseReason::IdleTimeout`] when nothing has come for `patience`.
    async fn read(&mut self, patience: Duration) -> Result<(), End> {
        let read = tokio::select! {
            read = timeout(patience, self.stream.read_buf(&mut self.received)) => read,
            _ = self.shutdown.wait_for(|shutdown| *shutdown) => return Err(End::Over),
        };
        match read {
            Err(_) => Err(End::Closed(CloseReason::IdleTimeout)),
            Ok(Ok(0) | Err(_)) => Err(End::Over),
            Ok(Ok(_)) => {
                self.filled = self.received.len() == self.received.capacity();
                self.count_arrivals()
            }
        }
    }

    fn count_arrivals(&mut self) -> Result<(), End> {
        let mut count = 0;
        while let Ok(Some((message, _))) = split_message(&self.received[self.counted..]) {
            self.counted += LENGTH_BYTES + message.len();
            count += 1;
        }
        let now = self.driver.clock().now().monotonic;
        let calm = self.peer.exempt || self.rate.arrive(now, count);
        if calm { Ok(()) } else { Err(End::Closed(CloseReason::RateLimited)) }
    }

    /// Makes room to read into: more than last time if that was filled, up to what a busy connection or the frame
    /// that has begun needs.
    fn make_room(&mut self) -> Result<(), End> {
        let (length, capacity) = (self.received.len(), self.received.capacity());
        let frame =
            self.received.first_chunk::<LENGTH_BYTES>().map_or(0, |length| u32::from_be_bytes(*length) as usize);
        let frame = frame.min(MESSAGE_BYTES_MAX) + LENGTH_BYTES;
        let wanted = (capacity * GROWTH).clamp(IDLE_BYTES, BUSY_BYTES.max(frame)).max(length + 1);
        if length < capacity && (!self.filled || wanted <= capacity) {
            return Ok(());
        }
        if !self.share.fit(wanted) {
            return Err(End::Closed(CloseReason::NoMemory));
        }
        self.received.reserve_exact(wanted - length);
        Ok(())
    }

    /// The complete requests received, if any.
    fn next_batch(&mut self) -> Result<Option<Vec<Result<Request, RequestError>>>, End> {
        let mut batch = Vec::new();
        let mut rest = &self.received[..];
        let mut waiting = false;
        while batch.len() < BATCH_MAX && !waiting {
            match split_message(rest) {
                Ok(Some((message, behind))) => {
                    let request = Request::decode(message);
                    // What comes behind a question that waits stays as it came.
                    waiting = request.as_ref().is_ok_and(|request| may_wait(&request.operation).is_some());
                    batch.push(request);
                    rest = behind;
                }
                Ok(None) => break,
                // What came before it is answered first.
                Err(_) if !batch.is_empty() => break,
                Err(_) if is_binary_opening(rest) => return Err(End::Closed(CloseReason::BinaryMode)),
                Err(_) => return Err(End::Told(CloseReason::TooLong, RequestError::TooLong)),
            }
        }
        let taken = self.received.len() - rest.len();
        if taken > 0 {
            self.received.drain(..taken);
            self.counted -= taken;
            self.frame_due = None;
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    async fn answer(&mut self, batch: Vec<Result<Request, RequestError>>) -> Result<(), End> {
        if !self.peer.exempt {
            let now = self.driver.clock().now().monotonic;
            let delay = self.rate.take(now, u32::try_from(batch.len()).unwrap_or(u32::MAX));
            self.wait(delay).await?;
        }
        let mut rest = &batch[..];
        while !rest.is_empty() {
            let Served { answers, held, busy, known } = self.driver.serve(&self.peer, rest).await;
            if known {
                self.befriend.take().into_iter().for_each(|befriend| befriend());
            }
            rest = &rest[answers.len()..];
            if !answers.is_empty() {
                self.write(&answers).await?;
            }
            if busy {
                return Err(End::Closed(CloseReason::Busy));
            }
            if let Some(held) = held {
                // It is the last of its batch, and may wait for long.
                drop((answers, batch));
                return Box::pin(self.answer_later(held)).await;
            }
        }
        Ok(())
    }

    /// Holds a question back until there is an answer to it, on no more memory than an idle connection has. Ends when
    /// the client goes, as far as that can be seen: what it has sent behind the question is left to the kernel beyond
    /// [`IDLE_BYTES`]. A question that came with more than that behind it does not wait.
    async fn answer_later(&mut self, mut held: Held) -> Result<(), End> {
        let driver = Arc::clone(self.driver);
        if self.received.len() > IDLE_BYTES {
            held.due = Duration::ZERO;
            if let Some(answer) = driver.settle(&mut held) {
                return self.write(&[answer]).await;
            }
        }
        let waits = driver.metrics().changes_wait();
        self.received.shrink_to(IDLE_BYTES);
        self.share.fit(self.received.capacity());
        loop {
            let left = held.due.saturating_sub(self.driver.clock().now().monotonic);
            if self.received.len() < IDLE_BYTES {
                self.received.reserve_exact(IDLE_BYTES - self.received.len());
                tokio::select! {
                    () = held.news() => {}
                    read = self.read(left) => match read {
                        // Once it is due.
                        Err(End::Closed(CloseReason::IdleTimeout)) => {}
                        other => {
                            other?;
                            continue;
                        }
                    },
                }
            } else if within(left, &mut self.shutdown, held.news()).await.is_none() && *self.shutdown.borrow() {
                return Err(End::Over);
            }
            if let Some(answer) = self.driver.settle(&mut held) {
                drop(waits);
                return self.write(&[answer]).await;
            }
        }
    }

    async fn write(&mut self, answers: &[Answer]) -> Result<(), End> {
        let mut out = Vec::new();
        answers.iter().for_each(|answer| push_message(&mut out, answer));
        if !self.share.fit(self.received.capacity() + out.capacity()) {
            return Err(End::Closed(CloseReason::NoMemory));
        }
        let write = async {
            self.stream.write_all(&out).await?;
            self.stream.flush().await
        };
        let written = timeout(self.limits.write_timeout, write).await;
        self.share.fit(self.received.capacity());
        match written {
            Err(_) => Err(End::Closed(CloseReason::WriteTimeout)),
            Ok(Err(_)) => Err(End::Over),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Lets a connection above its rate wait. It is read from meanwhile, as far as its buffer goes, to notice a flood.
    async fn wait(&mut self, delay: Duration) -> Result<(), End> {
        let until = self.driver.clock().now().monotonic + delay;
        loop {
            let left = until.saturating_sub(self.driver.clock().now().monotonic);
            if left.is_zero() {
                return Ok(());
            }
            if self.received.len() < BUSY_BYTES {
                self.make_room()?;
                match self.read(left).await {
                    Err(End::Closed(CloseReason::IdleTimeout)) => return Ok(()),
                    // Whoever has said all there is to say still gets the answers; the next read ends it.
                    Err(End::Over) if !*self.shutdown.borrow() => {}
                    other => {
                        other?;
                        continue;
                    }
                }
            }
            return within(left, &mut self.shutdown, std::future::pending::<()>()).await.map_or(Ok(()), Ok);
        }
    }
}

/// Runs `future` for at most `limit`; `None` when it takes longer or the directory shuts down.
pub async fn within<T>(
    limit: Duration,
    shutdown: &mut watch::Receiver<bool>,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        done = timeout(limit, future) => done.ok(),
        _ = shutdown.wait_for(|shutdown| *shutdown) => None,
    }
}
