//! Event stream, port 1002: the first event on a stream subscribes to its topic, `*` to all; later ones publish to all
//! others that have subscribed.
//!
//! Each subscriber has a queue. One that does not read loses its oldest events first, so that it finds the newest when it
//! comes back, and holds nobody up; one that takes nothing at all for a minute is dropped. The events of all queues
//! together have a bound as well: the oldest goes first, and with it whoever is still in the middle of it.

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
use super::room::{Room, Rooms, Taken};

/// Subscribers at a time.
pub const SUBSCRIBERS_MAX: usize = 1024;
/// Events that wait for one subscriber …
pub const QUEUED_EVENTS_MAX: usize = 1024;
/// … and their bytes; a single event may be longer.
pub const QUEUED_BYTES_MAX: usize = 4 << 20;
/// Bytes of the events that wait for any subscriber; one that waits for several counts once.
pub const HELD_BYTES_MAX: usize = 64 << 20;
/// An event of which more has come waits for room before the rest is read.
const LONG: usize = 1 << 20;
/// Such events that are held in part at a time, of up to 16 MiB each.
const LONG_EVENTS_MAX: usize = 4;
/// Those of one peer.
const LONG_EVENTS_PER_PEER_MAX: usize = 1;
/// A subscriber that takes no byte for so long is dropped; so is a peer that stops within an event.
const STALLED_MAX: Duration = Duration::from_secs(60);
/// From its first byte on an event is whole within this, however steadily its bytes drip.
const EVENT_MAX: Duration = Duration::from_secs(5 * 60);
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
    /// Too many long events come at the same time.
    #[error("too many long events at the same time; try again later")]
    Busy,
    /// The peer reads so slowly that the events for it would take the memory of all.
    #[error("the peer reads too slowly")]
    Slow,
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
pub struct Broker {
    subscribers: RefCell<BTreeMap<u64, Rc<Subscriber>>>,
    next: Cell<u64>,
    counters: Cell<Counters>,
    long_events: Rooms,
    /// Bytes of all [`Held`].
    held_bytes: Rc<Cell<usize>>,
}

/// An event as it stands on the wire; all subscribers share one copy.
struct Held {
    /// That of the later one is greater.
    number: u64,
    bytes: Box<[u8]>,
    held_bytes: Rc<Cell<usize>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held_bytes.set(self.held_bytes.get() - self.bytes.len());
    }
}

struct Subscriber {
    topic: String,
    queue: RefCell<Queue>,
    is_filled: Notify,
}

#[derive(Default)]
struct Queue {
    /// The event that is being written, and how many of its bytes are.
    current: Option<(Rc<Held>, usize)>,
    /// Those behind it.
    events: VecDeque<Rc<Held>>,
    /// Bytes of those.
    bytes: usize,
    /// Its subscriber has to go.
    is_cut: bool,
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}

impl Broker {
    /// A broker without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self {
            subscribers: RefCell::default(),
            next: Cell::default(),
            counters: Cell::default(),
            long_events: Rooms::new(LONG_EVENTS_MAX, LONG_EVENTS_PER_PEER_MAX),
            held_bytes: Rc::default(),
        }
    }

    /// Serves one stream until it ends. `from` is its other end.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, from: Address, stream: S) -> Result<(), Error> {
        let (read, mut write) = split(stream);
        let mut incoming = Events::new(read, Some(self.long_events.of(from.node)));
        let Some(len) = timeout(SUBSCRIBE_MAX, incoming.next()).await.map_err(|_| Error::Silent)?? else {
            return Ok(());
        };
        let topic = incoming.event().map(|event| event.topic.to_owned()).unwrap_or_default();
        incoming.consume(len);
        let subscription = self.add(topic)?;
        let publishing = async {
            while let Some(len) = incoming.next().await? {
                if let Some(event) = incoming.event() {
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

    /// Bytes of the events that wait for a subscriber; [`HELD_BYTES_MAX`] at most.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.get()
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
        let mut held = None;
        for (number, subscriber) in self.subscribers.borrow().iter() {
            if *number == publisher || !(subscriber.topic == ALL_TOPICS || subscriber.topic == event.topic) {
                continue;
            }
            let held: &Rc<Held> = held.get_or_insert_with(|| {
                let mut bytes = Vec::with_capacity(event.encoded_len());
                event.encode(&mut bytes).expect("what has been decoded is within the limits");
                self.held_bytes.set(self.held_bytes.get() + bytes.len());
                let (number, bytes) = (counters.published, bytes.into());
                Rc::new(Held { number, bytes, held_bytes: Rc::clone(&self.held_bytes) })
            });
            counters.delivered += 1;
            counters.dropped += subscriber.push(Rc::clone(held));
        }
        drop(held);
        counters.dropped += self.make_room();
        self.counters.set(counters);
    }

    /// Lets go of the oldest events until the rest is within [`HELD_BYTES_MAX`]; says how many subscribers lose one.
    fn make_room(&self) -> u64 {
        let mut dropped = 0;
        while self.held_bytes.get() > HELD_BYTES_MAX {
            let subscribers = self.subscribers.borrow();
            let oldest = subscribers.values().filter_map(|subscriber| Some((subscriber.oldest()?, subscriber)));
            let Some((_, subscriber)) = oldest.min_by_key(|(number, _)| *number) else { break };
            dropped += subscriber.drop_oldest();
        }
        dropped
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
    fn push(&self, event: Rc<Held>) -> u64 {
        let mut queue = self.queue.borrow_mut();
        if queue.is_cut {
            return 1;
        }
        queue.bytes += event.bytes.len();
        queue.events.push_back(event);
        let mut dropped = 0;
        while queue.events.len() > QUEUED_EVENTS_MAX || (queue.events.len() > 1 && queue.bytes > QUEUED_BYTES_MAX) {
            queue.pop();
            dropped += 1;
        }
        self.is_filled.notify_one();
        dropped
    }

    /// The number of the oldest event it has.
    fn oldest(&self) -> Option<u64> {
        let queue = self.queue.borrow();
        let current = queue.current.as_ref().map(|(event, _)| event);
        current.or_else(|| queue.events.front()).map(|event| event.number)
    }

    /// Drops its oldest event. One that is half written cannot be left out: its subscriber goes. Says how many are lost.
    fn drop_oldest(&self) -> u64 {
        let mut queue = self.queue.borrow_mut();
        if queue.current.is_none() {
            return queue.pop().map_or(0, |_| 1);
        }
        let lost = 1 + queue.events.len() as u64;
        *queue = Queue { is_cut: true, ..Queue::default() };
        self.is_filled.notify_one();
        lost
    }

    /// Writes what is in the queue, and what comes into it, until the subscriber is cut.
    async fn deliver(&self, stream: &mut (impl AsyncWrite + Unpin)) -> Result<(), Error> {
        let mut piece = Vec::new();
        loop {
            self.queue.borrow_mut().take_piece(&mut piece)?;
            if piece.is_empty() {
                flush(stream).await?;
                self.is_filled.notified().await;
            } else {
                self.until_cut(write(stream, &piece)).await?;
            }
        }
    }

    /// Waits for `writing`, but no longer than until the subscriber is cut.
    async fn until_cut(&self, writing: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
        let mut writing = std::pin::pin!(writing);
        loop {
            tokio::select! {
                outcome = &mut writing => return outcome,
                () = self.is_filled.notified() => {
                    if self.queue.borrow().is_cut {
                        return Err(Error::Slow);
                    }
                }
            }
        }
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Rc<Held>> {
        let event = self.events.pop_front()?;
        self.bytes -= event.bytes.len();
        Some(event)
    }

    /// The next bytes to write into `piece`; none when there are none.
    fn take_piece(&mut self, piece: &mut Vec<u8>) -> Result<(), Error> {
        piece.clear();
        if self.is_cut {
            return Err(Error::Slow);
        }
        let Some((event, written)) = self.current.take().or_else(|| Some((self.pop()?, 0))) else { return Ok(()) };
        let end = event.bytes.len().min(written + PIECE);
        piece.extend(&event.bytes[written..end]);
        if end < event.bytes.len() {
            self.current = Some((event, end));
        }
        Ok(())
    }
}

/// A subscription at a peer's broker.
pub struct Subscription<S> {
    incoming: Events<'static, S>,
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
    Ok(Subscription { incoming: Events::new(stream, None) })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Subscription<S> {
    /// The next event: topic and payload; none when the peer has closed. May be dropped half-way.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn next(&mut self) -> Result<Option<(String, Vec<u8>)>, Error> {
        let Some(len) = self.incoming.next().await? else { return Ok(None) };
        let event = self.incoming.event().map(|event| (event.topic.to_owned(), event.payload.to_vec()));
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

/// Bytes written at once. Each piece has its own time: a slow link is not stalled.
const PIECE: usize = 64 << 10;

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Error> {
    for piece in bytes.chunks(PIECE) {
        timeout(STALLED_MAX, stream.write_all(piece)).await.map_err(|_| Error::Silent)??;
    }
    flush(stream).await
}

async fn flush(stream: &mut (impl AsyncWrite + Unpin)) -> Result<(), Error> {
    Ok(timeout(STALLED_MAX, stream.flush()).await.map_err(|_| Error::Silent)??)
}

/// Whole events out of a stream.
struct Events<'a, R> {
    incoming: Incoming<R>,
    room: Option<Room<'a>>,
    taken: Option<Taken<'a>>,
}

impl<'a, R: AsyncRead + Unpin> Events<'a, R> {
    const fn new(stream: R, room: Option<Room<'a>>) -> Self {
        Self { incoming: Incoming::new(stream), room, taken: None }
    }

    /// Waits for a whole event; says how many bytes it takes, none at the end of the stream.
    async fn next(&mut self) -> Result<Option<usize>, Error> {
        if self.incoming.bytes().is_empty() && !self.incoming.fill().await? {
            return Ok(None);
        }
        timeout(EVENT_MAX, self.rest()).await.map_err(|_| Error::Silent)?.map(Some)
    }

    /// The event that [`Self::next`] has waited for.
    fn event(&self) -> Option<Event<'_>> {
        Event::decode(self.incoming.bytes()).ok().flatten().map(|(event, _)| event)
    }

    fn consume(&mut self, len: usize) {
        self.incoming.consume(len);
        self.taken = None;
    }

    /// Waits for the rest of an event that has begun.
    async fn rest(&mut self) -> Result<usize, Error> {
        loop {
            if let Some((_, len)) = Event::decode(self.incoming.bytes())? {
                return Ok(len);
            }
            if let Some(room) =
                self.room.as_ref().filter(|_| self.incoming.bytes().len() > LONG && self.taken.is_none())
            {
                self.taken = timeout(STALLED_MAX, room.take()).await.map_err(|_| Error::Busy)?;
            }
            if !timeout(STALLED_MAX, self.incoming.fill()).await.map_err(|_| Error::Silent)?? {
                return Err(Error::Stream(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
