//! Pairs of nodes whose datagrams are counted for a while, because a trace asks whether they were relayed.
//!
//! On the path of every datagram, so few and in one place: without a watch it costs the look at a length.

use std::time::Duration;

use wire::NodeId;
use wire::trace::TraceContext;

use crate::events::{Event, What};
use crate::time::Time;

/// Pairs looked at by one shard at once; what exceeds them is not.
const WATCHES_MAX: usize = 8;
/// How long a pair is looked at.
const WATCH_TIME: Duration = Duration::from_secs(5);

/// The pairs of one shard.
#[derive(Debug, Default)]
pub(super) struct Watches {
    active: Vec<Watch>,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    sender: NodeId,
    dest: NodeId,
    since: Time,
    first: Time,
    last: Time,
    datagrams: u32,
    context: TraceContext,
}

impl Watch {
    fn event(&self) -> Event {
        let Self { sender, dest, since, first, last, datagrams, context } = *self;
        // Within the time of a watch, so microseconds fit many times over.
        let micros = |at: Time| at.since(since).as_micros() as u32;
        let (first_us, last_us) = (micros(first), micros(last));
        Event {
            at: since,
            node: sender,
            what: What::TraceForwarded { peer: dest, context, datagrams, first_us, last_us },
        }
    }
}

impl Watches {
    pub(super) fn new() -> Self {
        Self { active: Vec::with_capacity(WATCHES_MAX) }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Looks at a pair from now on. Returns what was seen of it for a trace before, if one still ran.
    pub(super) fn begin(&mut self, now: Time, sender: NodeId, dest: NodeId, context: TraceContext) -> Option<Event> {
        let before = self.active.iter().position(|watch| watch.sender == sender && watch.dest == dest);
        let before = before.map(|index| self.active.swap_remove(index).event());
        if self.active.len() < WATCHES_MAX {
            self.active.push(Watch { sender, dest, since: now, first: now, last: now, datagrams: 0, context });
        }
        before
    }

    /// A datagram of a pair is relayed.
    pub(super) fn note(&mut self, now: Time, sender: NodeId, dest: NodeId) {
        if let Some(watch) = self.active.iter_mut().find(|watch| watch.sender == sender && watch.dest == dest) {
            if watch.datagrams == 0 {
                watch.first = now;
            }
            watch.last = now;
            watch.datagrams = watch.datagrams.saturating_add(1);
        }
    }

    /// What was seen of a pair whose time is over; call until it says `None`.
    pub(super) fn poll_ended(&mut self, now: Time) -> Option<Event> {
        let index = self.active.iter().position(|watch| now.since(watch.since) >= WATCH_TIME)?;
        Some(self.active.swap_remove(index).event())
    }

    /// When [`Self::poll_ended`] is next needed.
    pub(super) fn next_end(&self) -> Option<Time> {
        self.active.iter().map(|watch| watch.since + WATCH_TIME).min()
    }
}
