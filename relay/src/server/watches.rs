//! Pairs of nodes whose datagrams are counted for a while, because a trace asks whether they were relayed.
//!
//! On the path of every datagram: without a watch it costs the look at a length, with some a search in one short run of
//! numbers. Every shard watches, as any may get a sender's datagrams merged behind another's.

use std::time::Duration;

use wire::NodeId;
use wire::trace::TraceContext;

use crate::events::{Event, What};
use crate::time::Time;

/// Pairs looked at by one shard at once; what exceeds them is not.
const WATCHES_MAX: usize = 64;
/// Of these, pairs of one sender, so that none takes the places of all.
const WATCHES_MAX_PER_SENDER: usize = 2;
/// How long a pair is looked at.
const WATCH_TIME: Duration = Duration::from_secs(5);

/// Two nodes that a trace asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedPair {
    /// Who traces what it sends.
    pub sender: NodeId,
    /// To whom.
    pub dest: NodeId,
    /// When the trace message came.
    pub since: Time,
    /// The sender's span.
    pub context: TraceContext,
}

/// The pairs one shard looks at.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// Of each of `active`, at the same index, its [`key`].
    keys: Vec<u64>,
    active: Vec<Watch>,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    pair: TracedPair,
    /// The sender belongs to this shard, which tells of none as well.
    is_own: bool,
    first: Time,
    last: Time,
    datagrams: u32,
}

impl Watch {
    fn event(&self) -> Event {
        let Self { pair: TracedPair { sender, dest, since, context }, first, last, datagrams, .. } = *self;
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

const fn key(sender: NodeId, dest: NodeId) -> u64 {
    (sender.0 as u64) << 32 | dest.0 as u64
}

impl Watches {
    pub(super) fn new() -> Self {
        Self { keys: Vec::with_capacity(WATCHES_MAX), active: Vec::with_capacity(WATCHES_MAX) }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Looks at a pair that is not looked at from now on, unless there is no room, of which it tells. `is_own` is whether
    /// the sender belongs to this shard.
    pub(super) fn begin(&mut self, pair: TracedPair, is_own: bool) -> bool {
        let of_sender = self.active.iter().filter(|watch| watch.pair.sender == pair.sender).count();
        let has_room = self.active.len() < WATCHES_MAX && of_sender < WATCHES_MAX_PER_SENDER;
        if has_room {
            self.keys.push(key(pair.sender, pair.dest));
            self.active.push(Watch { pair, is_own, first: pair.since, last: pair.since, datagrams: 0 });
        }
        has_room
    }

    /// Looks at a pair no longer; returns what was seen of it.
    pub(super) fn end(&mut self, sender: NodeId, dest: NodeId) -> Option<Event> {
        self.find(sender, dest).and_then(|index| self.take(index))
    }

    /// A datagram of a pair is relayed.
    pub(super) fn note(&mut self, now: Time, sender: NodeId, dest: NodeId) {
        if let Some(index) = self.find(sender, dest) {
            let watch = &mut self.active[index];
            if watch.datagrams == 0 {
                watch.first = now;
            }
            watch.last = now;
            watch.datagrams = watch.datagrams.saturating_add(1);
        }
    }

    /// What was seen of a pair whose time is over; call until it says `None`.
    pub(super) fn poll_ended(&mut self, now: Time) -> Option<Event> {
        loop {
            let index = self.active.iter().position(|watch| now.since(watch.pair.since) >= WATCH_TIME)?;
            if let Some(seen) = self.take(index) {
                return Some(seen);
            }
        }
    }

    /// When [`Self::poll_ended`] is next needed.
    pub(super) fn next_end(&self) -> Option<Time> {
        self.active.iter().map(|watch| watch.pair.since + WATCH_TIME).min()
    }

    fn find(&self, sender: NodeId, dest: NodeId) -> Option<usize> {
        let wanted = key(sender, dest);
        self.keys.iter().position(|key| *key == wanted)
    }

    /// Removes a watch. That nothing was relayed is told by the sender's own shard alone, where nearly all arrives.
    fn take(&mut self, index: usize) -> Option<Event> {
        self.keys.swap_remove(index);
        let watch = self.active.swap_remove(index);
        (watch.is_own || watch.datagrams > 0).then(|| watch.event())
    }
}
