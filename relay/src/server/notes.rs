//! What the rules note of the nodes: control events, and what a trace asks for.

use std::collections::VecDeque;

use wire::NodeId;
use wire::trace::TraceContext;

use super::{Action, Handoff, Server, TracedPair};
use crate::admission::Budget;
use crate::endpoint::Path;
use crate::events::{Destination, Event, What};
use crate::metrics::Counter;
use crate::sessions::Slot;
use crate::time::Time;

/// Events kept until the shard fetches them, once a batch; what exceeds this is dropped and counted.
const NOTES_MAX: usize = 1024;
/// Traces noted a second of each session.
const TRACES_PER_SECOND: u8 = 4;
/// Traces noted a second, and at once, of all senders without a session of this shard together.
const FOREIGN_TRACES_PER_SECOND: u64 = 16;

/// Events the shard has not fetched yet.
#[derive(Debug)]
pub(super) struct Notes {
    events: VecDeque<Event>,
    dropped: u64,
    foreign_traces: Budget,
    foreign_traced: Time,
}

impl Notes {
    pub(super) fn new() -> Self {
        Self {
            events: VecDeque::with_capacity(NOTES_MAX),
            dropped: 0,
            foreign_traces: Budget::new(FOREIGN_TRACES_PER_SECOND, FOREIGN_TRACES_PER_SECOND),
            foreign_traced: Time::default(),
        }
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
        let second = now.second() as u16;
        let noted = &mut self.sessions.activity(slot).noted_second;
        if *noted != second {
            *noted = second;
            self.note(now, node, what);
        }
    }

    /// Whether another trace of a sender is noted in this second. Without a session of this shard all senders share.
    fn may_note_trace(&mut self, now: Time, slot: Option<Slot>) -> bool {
        let Some(slot) = slot else {
            let Notes { foreign_traces, foreign_traced, .. } = &mut self.notes;
            return foreign_traces.charge(foreign_traced, now, 1);
        };
        let activity = self.sessions.activity(slot);
        let second = now.second() as u16;
        if activity.traced_second != second {
            (activity.traced_second, activity.traces_noted) = (second, 0);
        }
        let may = activity.traces_noted < TRACES_PER_SECOND;
        activity.traces_noted += u8::from(may);
        may
    }

    /// A sender says which trace its next datagrams to `dest` belong to. It is bound to the source rule, its prefix has paid
    /// as for a discover, and it pays as for a datagram; nothing is answered. A trace that nobody records leaves nothing.
    pub(super) fn trace(
        &mut self,
        now: Time,
        from: Path,
        (sender, dest): (NodeId, NodeId),
        context: TraceContext,
        len: usize,
    ) -> Action {
        let slot = match self.admit_sender(now, from, sender, len) {
            Ok(admitted) => admitted.slot(),
            Err(reason) => return Action::Drop(reason),
        };
        if !context.is_sampled() || !self.may_note_trace(now, slot) {
            self.counters.count(Counter::TracesPassedOver);
            return Action::Defer;
        }
        let found = if self.sessions.find(dest).is_some() {
            Destination::Session
        } else if self.want(now, dest, from) {
            Destination::Recalled
        } else {
            Destination::Unknown
        };
        let session = self.sessions.find(sender).filter(|session| session.path.remote == from.remote);
        let grade = session.map_or_else(|| self.grade(sender, &from.remote), |held| self.held_grade(sender, &held));
        let is_ipv6 = from.remote.ip().is_ipv6();
        self.note_present(now, sender, What::TraceSent { peer: dest, context, found, grade, is_ipv6 });
        self.note(now, dest, What::TraceReceived { peer: sender, trace_id: context.trace_id });
        let pair = TracedPair { sender, dest, since: now, context };
        if sender.is_node() && self.watch(pair) {
            // A merged receive is steered by its first datagram, so any shard may relay for the sender.
            let here = self.shard;
            for shard in (0..self.sessions.shards()).filter(|shard| *shard != here) {
                self.push_handoff(shard, Handoff::Watch(pair));
            }
        }
        Action::Defer
    }

    /// Counts the pair's datagrams from now on; says whether there is room. What was counted for a trace before is noted.
    pub(super) fn watch(&mut self, pair: TracedPair) -> bool {
        if let Some(seen) = self.watches.end(pair.sender, pair.dest) {
            self.notes.push(seen);
        }
        let has_begun = self.watches.begin(pair, self.sessions.owns(pair.sender));
        self.counters.add(Counter::WatchesRefused, u64::from(!has_begun));
        has_begun
    }

    /// Notes what was relayed of the traced pairs whose time is over.
    pub(super) fn end_watches(&mut self, now: Time) {
        while let Some(seen) = self.watches.poll_ended(now) {
            self.notes.push(seen);
        }
    }
}
