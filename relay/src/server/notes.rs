//! What the rules note of the nodes: control events, and what a trace asks for.

use std::collections::VecDeque;

use wire::NodeId;
use wire::trace::TraceContext;

use super::{Action, Server};
use crate::endpoint::Path;
use crate::events::{Destination, Event, What};
use crate::metrics::Counter;
use crate::sessions::Slot;
use crate::time::Time;

/// Events kept until the shard fetches them, once a batch; what exceeds this is dropped and counted.
const NOTES_MAX: usize = 1024;

/// Events the shard has not fetched yet.
#[derive(Debug)]
pub(super) struct Notes {
    events: VecDeque<Event>,
    dropped: u64,
}

impl Notes {
    pub(super) fn new() -> Self {
        Self { events: VecDeque::with_capacity(NOTES_MAX), dropped: 0 }
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.events.len() < NOTES_MAX {
            self.events.push_back(event);
        } else {
            self.dropped += 1;
        }
    }
}

impl Server {
    /// The next control event; call until it says `None`, which also counts what there was no room for.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.notes.events.pop_front();
        if event.is_none() {
            self.counters.add(Counter::EventsDropped, std::mem::take(&mut self.notes.dropped));
        }
        event
    }

    /// Whether [`Self::poll_event`] has something.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.notes.events.is_empty()
    }

    /// Notes what befell `node`, unless it does not exist: strangers have no history.
    #[cold]
    pub(super) fn note(&mut self, now: Time, node: NodeId, what: What) {
        if self.may_be_stored(node) {
            self.notes.push(Event { at: now, node, what });
        }
    }

    /// Notes what befell a node that has a session, or may send as if: whether it exists need not be looked up again.
    pub(super) fn note_present(&mut self, now: Time, node: NodeId, what: What) {
        if node.is_node() {
            self.notes.push(Event { at: now, node, what });
        }
    }

    /// Notes what a packet of the fast path can cause: one a second and session.
    #[cold]
    pub(super) fn note_seldom(&mut self, now: Time, slot: Slot, node: NodeId, what: What) {
        let second = now.second();
        let noted = &mut self.sessions.activity(slot).noted_second;
        if *noted != second {
            *noted = second;
            self.note(now, node, what);
        }
    }

    /// A sender says which trace its next datagrams to `dest` belong to. It is bound to the source rule and pays as for a
    /// datagram; nothing is answered.
    pub(super) fn trace(
        &mut self,
        now: Time,
        from: Path,
        (sender, dest): (NodeId, NodeId),
        context: TraceContext,
        len: usize,
    ) -> Action {
        if let Err(reason) = self.admit_sender(now, from, sender, len) {
            return Action::Drop(reason);
        }
        let found = if self.sessions.find(dest).is_some() {
            Destination::Session
        } else if self.want(now, dest, from) {
            Destination::Recalled
        } else {
            Destination::Unknown
        };
        let grade = self.grade(sender, &from.remote);
        let is_ipv6 = from.remote.ip().is_ipv6();
        self.note_present(now, sender, What::TraceSent { peer: dest, context, found, grade, is_ipv6 });
        self.note(now, dest, What::TraceReceived { peer: sender, trace_id: context.trace_id });
        if context.is_sampled()
            && let Some(seen) = self.watches.begin(now, sender, dest, context)
        {
            self.notes.push(seen);
        }
        Action::Defer
    }

    /// Notes what was relayed of the traced pairs whose time is over.
    pub(super) fn end_watches(&mut self, now: Time) {
        while let Some(seen) = self.watches.poll_ended(now) {
            self.notes.push(seen);
        }
    }
}
