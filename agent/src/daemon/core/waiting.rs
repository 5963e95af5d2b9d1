//! Which task waits for which stream. A stream has at most one reader and one writer.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::node::StreamId;

/// Those who wait, by stream.
#[derive(Debug, Default)]
pub struct Waiting {
    streams: BTreeMap<StreamId, Wakers>,
}

#[derive(Debug, Default)]
struct Wakers {
    opened: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Waiting {
    /// A stream has an owner from now on.
    pub fn begin(&mut self, id: StreamId) {
        self.streams.insert(id, Wakers::default());
    }

    /// The owner is gone.
    pub fn end(&mut self, id: StreamId) {
        self.streams.remove(&id);
    }

    /// Whether the peer has answered.
    pub fn is_open(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|wakers| wakers.opened)
    }

    /// Wakes `waker` when there is something to read, or when the stream opens.
    pub fn wait_to_read(&mut self, id: StreamId, waker: &Waker) {
        if let Some(wakers) = self.streams.get_mut(&id) {
            replace(&mut wakers.reader, waker);
        }
    }

    /// Wakes `waker` when the stream takes bytes again.
    pub fn wait_to_write(&mut self, id: StreamId, waker: &Waker) {
        if let Some(wakers) = self.streams.get_mut(&id) {
            replace(&mut wakers.writer, waker);
        }
    }

    pub(super) fn opened(&mut self, id: StreamId) {
        if let Some(wakers) = self.streams.get_mut(&id) {
            wakers.opened = true;
        }
        self.readable(id);
        self.writable(id);
    }

    pub fn readable(&mut self, id: StreamId) {
        if let Some(wakers) = self.streams.get_mut(&id) {
            wake(&mut wakers.reader);
            // The end of a stream is news for its writer too.
            wake(&mut wakers.writer);
        }
    }

    pub(super) fn writable(&mut self, id: StreamId) {
        if let Some(wakers) = self.streams.get_mut(&id) {
            wake(&mut wakers.writer);
        }
    }
}

fn replace(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(known) if known.will_wake(waker) => {}
        _ => *place = Some(waker.clone()),
    }
}

fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}
