//! Event stream, port 1002: the first event on a stream subscribes to its topic, `*` to all; later ones publish to all
//! others that have subscribed.
//!
//! Each subscriber has a queue. One that does not read loses its oldest events first, so that it finds the newest when it
//! comes back, and holds nobody up; one that takes nothing at all for a minute is dropped.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::Notify;
use tokio::time::timeout;
use wire::DecodeError;
use wire::address::Address;
use wire::services::events::{ALL_TOPICS, Event};

use super::incoming::Incoming;

/// Subscribers at a time.
pub const SUBSCRIBERS_MAX: usize = 1024;
/// Events that wait for one subscriber …
pub const QUEUED_EVENTS_MAX: usize = 1024;
/// … and their bytes; a single event may be longer.
pub const QUEUED_BYTES_MAX: usize = 4 << 20;
/// A subscriber that takes no byte for so long is dropped; so is a peer that stops within an event.
const STALLED_MAX: Duration = Duration::from_secs(60);
/// A peer subscribes within this.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(60);

/// Why a stream of events ends early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream.
    #[error("the connection broke: {0}")]
    Stream(#[from] io::Error),
    /// The peer does not speak the protocol.
    #[error("the peer sends what is no event: {0}")]
    Malformed(#[from] DecodeError),
    /// Ours: a topic or payload above its limit.
    #[error("this cannot be published: {0}")]
    NotSendable(DecodeError),
    /// As many subscribers as there may be.
    #[error("too many subscribers; try again later")]
    TooMany,
    /// The peer takes nothing, or stopped within an event.
    #[error("the peer was silent for too long")]
    Silent,
}

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events published.
    pub published: u64,
    /// Events put into subscribers' queues.
    pub delivered: u64,
    /// Events of those that slow subscribers did not get.
    pub dropped: u64,
}

/// Passes events on to subscribers. All streams of a node share one.
#[derive(Default)]
pub struct Broker {
    subscribers: RefCell<BTreeMap<u64, Rc<Subscriber>>>,
    next: Cell<u64>,
    counters: Cell<Counters>,
}

struct Subscriber {
    topic: String,
    queue: RefCell<Queue>,
    is_filled: Notify,
}

#[derive(Default)]
struct Queue {
    /// As they stand on the wire; all subscribers share one copy.
    events: VecDeque<Rc<[u8]>>,
    bytes: usize,
}

impl Broker {
    /// A broker without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves one stream until it ends. `_from` is its other end.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, _from: Address, stream: S) -> Result<(), Error> {
        let (read, mut write) = split(stream);
        let mut incoming = Incoming::new(read);
        let Some(len) = timeout(SUBSCRIBE_MAX, next(&mut incoming)).await.map_err(|_| Error::Silent)?? else {
            return Ok(());
        };
        let topic = event(&incoming).map(|event| event.topic.to_owned()).unwrap_or_default();
        incoming.consume(len);
        let subscription = self.add(topic)?;
        let publishing = async {
            while let Some(len) = next(&mut incoming).await? {
                if let Some(event) = event(&incoming) {
                    self.publish(subscription.number, &event);
                }
                incoming.consume(len);
            }
            Ok(())
        };
        tokio::select! {
            outcome = publishing => outcome,
            Err(error) = subscription.subscriber.deliver(&mut write) => Err(error),
        }
    }

    /// Publishes an event of this node's own.
    ///
    /// # Errors
    /// [`Error::NotSendable`].
    pub fn publish_own(&self, topic: &str, payload: &[u8]) -> Result<(), Error> {
        let event = Event { topic, payload };
        event.encode(&mut Vec::new()).map_err(Error::NotSendable)?;
        // Numbers of subscribers begin with 1.
        self.publish(0, &event);
        Ok(())
    }

    /// Subscribers now.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.subscribers.borrow().len()
    }

    /// Sums since the start.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters.get()
    }

    fn add(&self, topic: String) -> Result<Membership<'_>, Error> {
        let mut subscribers = self.subscribers.borrow_mut();
        if subscribers.len() >= SUBSCRIBERS_MAX {
            return Err(Error::TooMany);
        }
        let number = self.next.get() + 1;
        self.next.set(number);
        let subscriber = Rc::new(Subscriber { topic, queue: RefCell::default(), is_filled: Notify::new() });
        subscribers.insert(number, Rc::clone(&subscriber));
        Ok(Membership { broker: self, number, subscriber })
    }

    fn publish(&self, publisher: u64, event: &Event<'_>) {
        let mut counters = self.counters.get();
        counters.published += 1;
        let mut bytes = None;
        for (number, subscriber) in self.subscribers.borrow().iter() {
            if *number == publisher || !(subscriber.topic == ALL_TOPICS || subscriber.topic == event.topic) {
                continue;
            }
            let bytes: &Rc<[u8]> = bytes.get_or_insert_with(|| {
                let mut bytes = Vec::with_capacity(event.encoded_len());
                event.encode(&mut bytes).expect("what has been decoded is within the limits");
                bytes.into()
            });
            counters.delivered += 1;
            counters.dropped += subscriber.push(Rc::clone(bytes));
        }
        self.counters.set(counters);
    }
}

/// A subscriber that leaves when this goes.
struct Membership<'a> {
    broker: &'a Broker,
    number: u64,
    subscriber: Rc<Subscriber>,
}

impl Drop for Membership<'_> {
    fn drop(&mut self) {
        self.broker.subscribers.borrow_mut().remove(&self.number);
    }
}

impl Subscriber {
    /// Says how many older events had to go.
    fn push(&self, event: Rc<[u8]>) -> u64 {
        let mut queue = self.queue.borrow_mut();
        queue.bytes += event.len();
        queue.events.push_back(event);
        let mut dropped = 0;
        while queue.events.len() > QUEUED_EVENTS_MAX || (queue.events.len() > 1 && queue.bytes > QUEUED_BYTES_MAX) {
            queue.pop();
            dropped += 1;
        }
        self.is_filled.notify_one();
        dropped
    }

    /// Writes what is in the queue, and what comes into it.
    async fn deliver(&self, stream: &mut (impl AsyncWrite + Unpin)) -> Result<(), Error> {
        loop {
            let event = self.queue.borrow_mut().pop();
            let Some(event) = event else {
                self.is_filled.notified().await;
                continue;
            };
            write(stream, &event).await?;
        }
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Rc<[u8]>> {
        let event = self.events.pop_front()?;
        self.bytes -= event.len();
        Some(event)
    }
}

/// A subscription at a peer's broker.
pub struct Subscription<S> {
    incoming: Incoming<S>,
}

/// Subscribes to `topic`, `*` for all.
///
/// # Errors
/// [`Error`].
pub async fn subscribe<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    topic: &str,
) -> Result<Subscription<S>, Error> {
    send(&mut stream, topic, b"").await?;
    Ok(Subscription { incoming: Incoming::new(stream) })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Subscription<S> {
    /// The next event: topic and payload; none when the peer has closed. May be dropped half-way.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn next(&mut self) -> Result<Option<(String, Vec<u8>)>, Error> {
        let Some(len) = next(&mut self.incoming).await? else { return Ok(None) };
        let event = event(&self.incoming).map(|event| (event.topic.to_owned(), event.payload.to_vec()));
        self.incoming.consume(len);
        Ok(event)
    }
}

/// Publishes `payload` under `topic`, once on a stream, and leaves that open: close it once the bytes are gone.
///
/// # Errors
/// [`Error`].
pub async fn publish<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    topic: &str,
    payload: &[u8],
) -> Result<(), Error> {
    // The first event subscribes, whatever its payload; to the same topic, as existing tools do.
    send(stream, topic, b"").await?;
    send(stream, topic, payload).await
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), topic: &str, payload: &[u8]) -> Result<(), Error> {
    let mut bytes = Vec::new();
    Event { topic, payload }.encode(&mut bytes).map_err(Error::NotSendable)?;
    write(stream, &bytes).await
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Error> {
    // Each piece has its own time: a slow link is not stalled.
    const PIECE: usize = 64 << 10;
    for piece in bytes.chunks(PIECE) {
        timeout(STALLED_MAX, stream.write_all(piece)).await.map_err(|_| Error::Silent)??;
    }
    timeout(STALLED_MAX, stream.flush()).await.map_err(|_| Error::Silent)??;
    Ok(())
}

/// Waits for a whole event; says how many bytes it takes, none at the end of the stream.
async fn next<R: AsyncRead + Unpin>(incoming: &mut Incoming<R>) -> Result<Option<usize>, Error> {
    loop {
        if let Some((_, len)) = Event::decode(incoming.bytes())? {
            return Ok(Some(len));
        }
        let is_between = incoming.bytes().is_empty();
        let has_more = if is_between {
            incoming.fill().await?
        } else {
            timeout(STALLED_MAX, incoming.fill()).await.map_err(|_| Error::Silent)??
        };
        match has_more {
            true => {}
            false if is_between => return Ok(None),
            false => return Err(Error::Stream(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// The event that [`next`] has waited for.
fn event<R: AsyncRead + Unpin>(incoming: &Incoming<R>) -> Option<Event<'_>> {
    Event::decode(incoming.bytes()).ok().flatten().map(|(event, _)| event)
}
