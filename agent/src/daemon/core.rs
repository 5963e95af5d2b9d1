//! The node, shared by all tasks of the daemon's one thread. Whoever does something to the node wakes the loop that takes
//! what follows from it; whoever waits for the node is woken by its events. Nothing here does I/O.
//!
//! The node is borrowed for one call at a time and never across an `await`.

mod backlog;
mod datagrams;
mod waiting;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use wire::address::SocketAddress;
use wire::registry::answer::{CLOCKS_APART_MAX_SECONDS, SIGNATURE_FAILED, directory_time};
use wire::registry::{Answer, Operation};
use wire::trace::TraceContext;

use super::byte_stream::ByteStream;
use super::clock::{Clock, unix_seconds};
use super::directory::Directory;
use super::observe::Observer;
use crate::Time;
use crate::node::{BindError, DialError, DialTrace, Event, Node, StreamId, Unanswered};
use crate::stream::End;

pub use backlog::Listener;
pub use datagrams::{Datagram, SubscriberId};

use backlog::Backlogs;
use datagrams::Datagrams;
pub(super) use waiting::Waiting;

/// The node and who waits for it.
pub struct Core {
    node: RefCell<Node>,
    clock: Clock,
    directory: Directory,
    observer: Rc<Observer>,
    /// Something was done to the node; the loop takes what follows.
    acted: Notify,
    waiting: RefCell<Waiting>,
    backlogs: RefCell<Backlogs>,
    datagrams: RefCell<Datagrams>,
    /// Trust has changed; for those who wait for a peer's.
    trust: Notify,
    registrations: Cell<u64>,
    registered: Notify,
    /// What the node offers has changed, or how that stands.
    capability: Notify,
    /// How far the directory's clock is ahead of this host's, in seconds, where that matters.
    directory_ahead: Cell<i64>,
}

/// Why a stream did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialFailure {
    /// It could not be tried.
    #[error(transparent)]
    NotTried(#[from] DialError),
    /// It was tried.
    #[error("{}", match .0 {
        End::TimedOut => "dial timeout: the peer does not answer",
        End::Banned => "connection refused: the peer is banned",
        _ => "connection refused",
    })]
    Ended(End),
}

impl Core {
    /// Shares `node`.
    #[must_use]
    pub fn new(node: Node, clock: Clock, directory: Directory, observer: Rc<Observer>) -> Rc<Self> {
        Rc::new(Self {
            node: RefCell::new(node),
            clock,
            directory,
            observer,
            acted: Notify::new(),
            waiting: RefCell::default(),
            backlogs: RefCell::default(),
            datagrams: RefCell::default(),
            trust: Notify::new(),
            registrations: Cell::new(0),
            registered: Notify::new(),
            capability: Notify::new(),
            directory_ahead: Cell::new(0),
        })
    }

    /// Does something to the node.
    pub fn act<T>(&self, act: impl FnOnce(&mut Node, Time) -> T) -> T {
        let outcome = act(&mut self.node.borrow_mut(), self.clock.now());
        self.acted.notify_one();
        outcome
    }

    /// As [`Core::act`], for the loop itself, which takes what follows anyway.
    pub(super) fn turn<T>(&self, act: impl FnOnce(&mut Node, Time) -> T) -> T {
        act(&mut self.node.borrow_mut(), self.clock.now())
    }

    /// Looks at the node.
    pub fn look<T>(&self, look: impl FnOnce(&Node) -> T) -> T {
        look(&self.node.borrow())
    }

    /// The daemon's clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The directory's client.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Where what the node tells of itself goes.
    #[must_use]
    pub const fn observer(&self) -> &Rc<Observer> {
        &self.observer
    }

    /// Returns when something was done to the node that the loop has not seen.
    pub(super) async fn acted(&self) {
        self.acted.notified().await;
    }

    /// Asks the directory in the node's name.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn ask(&self, operation: Operation) -> Result<Answer, Unanswered> {
        self.ask_by(&self.directory, operation).await
    }

    /// The same by another connection to the directory. A question that may say when it was signed does so, by the
    /// directory's clock as far as that is known: where it is another than this host's, the first answer says so, and the
    /// question is put once more; so is one that is taken for a copy. A directory that does not know of times yet is asked without.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn ask_by(&self, directory: &Directory, operation: Operation) -> Result<Answer, Unanswered> {
        let put = |at| directory.ask(self.look(|node| node.sign(operation.clone().to_be_signed_at(at))));
        if !operation.may_bind_time() {
            return put(None).await;
        }
        let moves = directory.moves();
        let directory_now = || unix_seconds().saturating_add_signed(self.directory_ahead.get());
        let signed_at = directory_now();
        let again = match put(Some(signed_at)).await {
            Ok(Answer::Error { error }) => match directory_time(&error) {
                // The clocks agree well enough: it is taken for another's, or from before the directory's start.
                Some(time) if time.abs_diff(signed_at) <= CLOCKS_APART_MAX_SECONDS => {
                    Some(time.max(signed_at.saturating_add(1)))
                }
                Some(time) => {
                    self.directory_ahead.set(time.cast_signed().wrapping_sub(unix_seconds().cast_signed()));
                    Some(time)
                }
                None if error.contains(SIGNATURE_FAILED) => None,
                None => return Ok(Answer::Error { error }),
            },
            // What was put before the move may have come, and counts once.
            Err(_) if moves.has_changed().unwrap_or(false) => Some(directory_now().max(signed_at.saturating_add(1))),
            answer => return answer,
        };
        put(again).await
    }

    /// Takes a port; 0 for any free one.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn listen(self: &Rc<Self>, port: u16) -> Result<Listener, BindError> {
        let port = self.act(|node, _| node.bind(port))?;
        Ok(Listener::new(self, port))
    }

    /// Opens a stream. A dial that is dropped is given up. It belongs to `trace`, or begins one.
    ///
    /// # Errors
    /// [`DialFailure`].
    pub async fn dial(
        self: &Rc<Self>,
        to: SocketAddress,
        trace: Option<TraceContext>,
    ) -> Result<ByteStream, DialFailure> {
        let begun = || DialTrace::New { sampled: self.observer.samples() };
        let trace = trace.map_or_else(begun, DialTrace::Within);
        let id = self.act(|node, now| node.dial_traced(now, to, trace))?;
        let stream = ByteStream::new(self, id);
        let opened = {
            let dialling = Dialling(&stream);
            dialling.0.opened().await
        };
        opened.map(|()| stream).map_err(DialFailure::Ended)
    }

    /// Ends a stream at once, whoever has it, and tells its owner. False when there is none.
    pub fn abort(&self, id: StreamId) -> bool {
        let known = self.look(|node| node.streams().any(|stream| stream.id == id));
        if known {
            self.act(|node, now| node.abort(now, id));
            self.waiting.borrow_mut().readable(id);
        }
        known
    }

    /// Hands datagrams to `receive`: those to ports that `subscriber` has, and those to ports that nobody has.
    pub fn subscribe(&self, receive: Rc<dyn Fn(&Datagram)>) -> SubscriberId {
        self.datagrams.borrow_mut().subscribe(receive)
    }

    /// Datagrams to `port` go to `subscriber` alone.
    pub fn direct_datagrams(&self, port: u16, subscriber: SubscriberId) {
        self.datagrams.borrow_mut().direct(port, subscriber);
    }

    /// Nobody in particular has `port` any more.
    pub fn release_datagrams(&self, port: u16) {
        self.datagrams.borrow_mut().release(port);
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, subscriber: SubscriberId) {
        self.datagrams.borrow_mut().unsubscribe(subscriber);
    }

    /// Returns when trust has changed after the call.
    pub fn trust_changed(&self) -> Notified<'_> {
        self.trust.notified()
    }

    /// Returns when the node is registered, or registered anew, after the call.
    pub fn registered(&self) -> Notified<'_> {
        self.registered.notified()
    }

    /// Returns when what the node offers, or how its publication stands, has changed after the call.
    pub fn capability_changed(&self) -> Notified<'_> {
        self.capability.notified()
    }

    /// How often the directory has registered this node.
    #[must_use]
    pub fn registrations(&self) -> u64 {
        self.registrations.get()
    }

    /// Tells those who wait. What concerns the daemon as a whole is given back.
    pub(super) fn handle_event(&self, event: Event) -> Option<Event> {
        match event {
            Event::Opened(id) => self.waiting.borrow_mut().opened(id),
            Event::Readable(id) => self.waiting.borrow_mut().readable(id),
            Event::Writable(id) => self.waiting.borrow_mut().writable(id),
            Event::Accepted { port, stream, remote } => {
                if !self.backlogs.borrow_mut().push(port, stream, remote) {
                    self.act(|node, now| node.abort(now, stream));
                }
            }
            Event::Datagram { source, port, data } => {
                let datagram = Datagram { source, port, data };
                let receivers = self.datagrams.borrow().receivers(port);
                receivers.iter().for_each(|receive| receive(&datagram));
            }
            Event::TrustChanged => {
                self.trust.notify_waiters();
                return Some(Event::TrustChanged);
            }
            Event::Registered { node, address } => {
                self.registrations.set(self.registrations.get() + 1);
                self.registered.notify_waiters();
                return Some(Event::Registered { node, address });
            }
            Event::CapabilityChanged => {
                self.capability.notify_waiters();
                return Some(Event::CapabilityChanged);
            }
            event => return Some(event),
        }
        None
    }

    pub(super) fn waiting(&self) -> std::cell::RefMut<'_, Waiting> {
        self.waiting.borrow_mut()
    }
}

/// A stream that is being dialled: when nobody waits for it any more there is nothing to deliver.
struct Dialling<'a>(&'a ByteStream);

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        if !self.0.is_answered() {
            self.0.abort();
        }
    }
}
