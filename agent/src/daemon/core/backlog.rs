//! Streams that peers have opened and nobody has taken yet, by bound port.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tokio::sync::Notify;
use wire::address::SocketAddress;

use super::Core;
use crate::daemon::byte_stream::ByteStream;
use crate::node::StreamId;

/// Streams that wait at one port; more are refused, as section 8.5 says.
const BACKLOG_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Backlogs {
    ports: BTreeMap<u16, Backlog>,
}

#[derive(Default)]
struct Backlog {
    streams: VecDeque<(StreamId, SocketAddress)>,
    arrived: Rc<Notify>,
}

impl Backlogs {
    /// False when nobody listens, or too many wait.
    pub(super) fn push(&mut self, port: u16, stream: StreamId, remote: SocketAddress) -> bool {
        let Some(backlog) = self.ports.get_mut(&port) else { return false };
        if backlog.streams.len() >= BACKLOG_MAX {
            return false;
        }
        backlog.streams.push_back((stream, remote));
        backlog.arrived.notify_one();
        true
    }
}

/// A bound port. Dropping it gives the port back and refuses the streams that nobody has taken.
pub struct Listener {
    core: Rc<Core>,
    port: u16,
    arrived: Rc<Notify>,
    is_open: Cell<bool>,
}

impl Listener {
    pub(super) fn new(core: &Rc<Core>, port: u16) -> Self {
        let backlog = Backlog::default();
        let arrived = Rc::clone(&backlog.arrived);
        core.backlogs.borrow_mut().ports.insert(port, backlog);
        Self { core: Rc::clone(core), port, arrived, is_open: Cell::new(true) }
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The next stream a peer opens, and who it is.
    pub async fn accept(&self) -> (ByteStream, SocketAddress) {
        loop {
            if let Some((id, remote)) = self.next() {
                return (ByteStream::new(&self.core, id), remote);
            }
            self.arrived.notified().await;
        }
    }

    fn next(&self) -> Option<(StreamId, SocketAddress)> {
        self.core.backlogs.borrow_mut().ports.get_mut(&self.port)?.streams.pop_front()
    }
}

impl Listener {
    /// Gives the port back now, whoever else holds this value.
    pub fn close(&self) {
        if !self.is_open.replace(false) {
            return;
        }
        let left = self.core.backlogs.borrow_mut().ports.remove(&self.port).unwrap_or_default();
        self.core.act(|node, now| {
            node.unbind(self.port);
            left.streams.iter().for_each(|(id, _)| node.abort(now, *id));
        });
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}
