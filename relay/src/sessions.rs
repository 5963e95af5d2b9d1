//! Where each node is: a table of fixed capacity, one part a shard, readable by all shards.
//!
//! Open addressing with linear probing. Ids are handed out densely, and neighbours have neighbouring home slots, three of
//! four slots in use: in practice every node sits at home and the table behaves as an array indexed by id, while sparse
//! ids still find a place. Only the owning shard writes a part. What others read (id, endpoint, local address, flags) is
//! one [`SeqCell`] of 32 bytes; what only the owner needs (grade, activity, budgets, what was sent) is one cache line
//! beside it.
//!
//! Live slots never move. A removed slot becomes a tombstone, or empty where nothing lies beyond it, and may be taken
//! by another node: a reader that looks for the old id finds another tag and goes on, so a packet never follows a
//! reused slot to somebody else's endpoint.

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use wire::NodeId;
use zerocopy::FromZeros;

use crate::endpoint::{Endpoint, LocalId, Path};
use crate::mapping::{Pages, Zeroed};
use crate::quota::Quota;
use crate::seqlock::{SeqCell, SeqCells};
use crate::time::{Time, nanos};
use crate::usage::{Board, Tally};

/// Slots looked at for one id. Dense ids need one; the bound holds whatever ids an open relay is fed.
const PROBES_MAX: usize = 128;
const EMPTY: u32 = NodeId::UNSET.0;
const TOMBSTONE: u32 = NodeId::BROADCAST.0;
/// Live sessions of a part that a core's own cache holds beside what the kernel needs of it: 256 KiB of slots. Measured:
/// foreseeing costs 22 ns a packet with a thousand sessions and saves 30 with a hundred thousand.
const CACHED_MAX: usize = 4096;
/// When a node was heard is published at this grain, so that what other shards read seldom changes.
const HEARD_GRAIN_SECONDS: u64 = 16;
/// Where it lies in the last word.
const HEARD_SHIFT: u32 = 34;
/// Bytes of one slot, both halves.
pub const SLOT_BYTES: usize = size_of::<SeqCell<3>>() + size_of::<Activity>();
const _: () = assert!(size_of::<Activity>() == 64 && align_of::<Activity>() == 64, "one cache line: see above");
const _: () = assert!(SLOT_BYTES <= 96, "design: at most 96 bytes a slot");

/// A table from this size on lies in huge pages: 1.13 instead of 1.18 × the floor at a million sessions (`benches/LOG.md`).
/// At 100 000 sessions there was no difference, and a restart would first clear mebibytes for the few sessions there are.
const HUGE_PAGES_FROM_BYTES: usize = 64 << 20;

/// What a table with so many slots in all lies in.
const fn pages(slots: usize) -> Pages {
    if slots * SLOT_BYTES >= HUGE_PAGES_FROM_BYTES { Pages::Huge } else { Pages::Small }
}

/// Which shard a node belongs to; the steering program computes the same.
#[must_use]
pub const fn shard_of(node: NodeId, shards: usize) -> usize {
    node.0 as usize % shards
}

/// How well a session's holder has shown that the id is its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromZeros)]
#[repr(u8)]
pub enum Grade {
    /// Not at all.
    #[default]
    Unproven = 0,
    /// Its address is one the directory holds proof for.
    ProvenAddress = 1,
    /// The node has signed that it is there.
    SignedClaim = 2,
}

impl Grade {
    /// From the lowest to the highest.
    const ALL: [Self; 3] = [Self::Unproven, Self::ProvenAddress, Self::SignedClaim];

    /// The grade with this number; the lowest where there is none, as in what a later version has written.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        Self::ALL.into_iter().find(|grade| *grade as u8 == number).unwrap_or_default()
    }
}

/// What every shard may know of a node's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Where the node is, and the local address it talks to.
    pub path: Path,
    /// It asked for deliveries that name the destination (type 09).
    pub extended: bool,
    /// The node itself has signed that it is here; true until the session moves or ends.
    pub claimed: bool,
}

impl Session {
    fn to_words(self, heard: Time) -> [u64; 3] {
        let ip = u128::from(self.path.remote.ip);
        let tail =
            u64::from(self.path.remote.port) | u64::from(self.path.local.0) << 16 | u64::from(self.extended) << 32;
        let tail = tail | u64::from(self.claimed) << 33 | heard_grain(heard) << HEARD_SHIFT;
        [(ip >> 64) as u64, ip as u64, tail]
    }

    fn from_words([high, low, tail]: [u64; 3]) -> Self {
        let ip = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
        Self {
            path: Path { remote: Endpoint { ip, port: tail as u16 }, local: LocalId((tail >> 16) as u16) },
            extended: tail >> 32 & 1 == 1,
            claimed: tail >> 33 & 1 == 1,
        }
    }
}

const fn heard_grain(heard: Time) -> u64 {
    heard.second() as u64 / HEARD_GRAIN_SECONDS
}

/// What the owner alone knows of a session.
#[derive(Clone, Copy, Debug, Default, FromZeros)]
#[repr(align(64))]
pub struct Activity {
    /// When the node was last heard.
    pub seen: Time,
    /// Theoretical arrival time of the packet budget.
    pub packets: Time,
    /// Theoretical arrival time of the byte budget.
    pub bytes: Time,
    /// What the node has sent since it was last added to the board.
    pub tally: Tally,
    /// What it may send.
    pub quota: Quota,
    /// Relays to unknown destinations since the last known one.
    pub unknown_run: u8,
    /// Traces noted in the second `traced_second`.
    pub traces_noted: u8,
    /// The second of [`Time`] in which an event that its packets can cause was last noted; its low half, as is the next.
    pub noted_second: u16,
    /// The second in which a trace was last noted.
    pub traced_second: u16,
    /// How well the holder is proven.
    pub grade: Grade,
    /// Whether another endpoint is contesting the id.
    pub contested: bool,
}

/// A slot of the owner's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

/// All parts of the table, as every shard reads them.
#[derive(Debug)]
pub struct Table {
    parts: Box<[SeqCells<3>]>,
    usage: Board,
}

impl Table {
    /// A table of `shards` parts that hold `sessions_max` sessions together, at a load of at most 3/4.
    #[must_use]
    pub fn new(shards: usize, sessions_max: usize) -> Arc<Self> {
        let slots = slots_per_shard(shards, sessions_max);
        let parts = (0..shards).map(|_| SeqCells::new(slots, pages(shards * slots))).collect();
        Arc::new(Self { parts, usage: Board::default() })
    }

    /// How much each node has sent, as far as its shard has told.
    #[must_use]
    pub const fn usage(&self) -> &Board {
        &self.usage
    }

    /// How many parts there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.parts.len()
    }

    /// The session of `node`, whichever shard owns it.
    #[must_use]
    pub fn find(&self, node: NodeId) -> Option<Session> {
        self.words(node).map(Session::from_words)
    }

    /// When `node`, if it has a session, was last heard: to the 16 s, never too late.
    #[must_use]
    pub fn heard(&self, node: NodeId) -> Option<Time> {
        self.words(node).map(|[.., tail]| Time(nanos(Duration::from_secs((tail >> HEARD_SHIFT) * HEARD_GRAIN_SECONDS))))
    }

    fn words(&self, node: NodeId) -> Option<[u64; 3]> {
        if !node.is_node() {
            return None;
        }
        let part = &self.parts[shard_of(node, self.parts.len())];
        let slot = self.probe(node).find_map(|slot| match part[slot].tag() {
            EMPTY => Some(None),
            tag if tag == node.0 => Some(Some(slot)),
            _ => None,
        })??;
        part[slot].read(node.0)
    }

    /// Reads a node's home slot, for no other purpose than to have it in the cache when the node is looked for; returns
    /// which it is.
    fn touch(&self, node: NodeId) -> usize {
        let home = self.home(node);
        std::hint::black_box(self.parts[shard_of(node, self.parts.len())][home].tag());
        home
    }

    /// Every live session, in no order. A cold reader's walk: sessions that come and go meanwhile may be missed.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, Session)> + '_ {
        self.parts.iter().flat_map(|part| part.iter()).filter_map(|cell| {
            let tag = cell.tag();
            let live = !matches!(tag, EMPTY | TOMBSTONE);
            live.then(|| cell.read(tag)).flatten().map(|words| (NodeId(tag), Session::from_words(words)))
        })
    }

    fn probe(&self, node: NodeId) -> impl Iterator<Item = usize> + use<> {
        let len = self.parts[0].len();
        let home = self.home(node);
        (home..len).chain(0..home).take(PROBES_MAX)
    }

    fn home(&self, node: NodeId) -> usize {
        let index = node.0 as usize / self.parts.len() % live_max(self.parts[0].len());
        // Every fourth slot is nobody's home. Without these gaps dense ids would fill one long run, in which the search
        // for an absent id goes on for long and a sparse id finds no room.
        index + index / 3
    }
}

/// Slots each shard needs so that its share of `sessions_max` fills three quarters.
#[must_use]
pub const fn slots_per_shard(shards: usize, sessions_max: usize) -> usize {
    sessions_max.div_ceil(shards) * 4 / 3 + 1
}

/// Sessions a part of `slots` slots holds.
const fn live_max(slots: usize) -> usize {
    slots * 3 / 4
}

/// The part one shard owns, and its view of the others.
#[derive(Debug)]
pub struct Sessions {
    table: Arc<Table>,
    shard: usize,
    activity: Zeroed<Activity>,
    live: usize,
    live_max: usize,
    /// Where the search for silent sessions goes on.
    hand: usize,
    changes: Option<Changes>,
}

/// A slot that has changed.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Its number in the part.
    pub slot: usize,
    /// What it holds now.
    pub held: Option<Held>,
}

/// What a slot holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Whose session it is.
    pub node: NodeId,
    /// What everybody may know of it.
    pub session: Session,
    /// What the owner alone knows.
    pub activity: Activity,
}

/// Slots that no longer hold what was last fetched of them, in the order in which they changed; each stands here once, so
/// there are never more than the part has slots.
#[derive(Debug)]
struct Changes {
    queue: VecDeque<u32>,
    /// A bit a slot: whether it is in the queue.
    queued: Box<[u64]>,
}

impl Changes {
    fn new(slots: usize) -> Self {
        Self { queue: VecDeque::with_capacity(slots), queued: vec![0; slots.div_ceil(64)].into_boxed_slice() }
    }

    fn note(&mut self, slot: usize) {
        let (word, bit) = (&mut self.queued[slot / 64], 1 << (slot % 64));
        if *word & bit == 0 {
            *word |= bit;
            self.queue.push_back(slot as u32);
        }
    }

    fn take(&mut self) -> Option<usize> {
        let slot = self.queue.pop_front()? as usize;
        self.queued[slot / 64] &= !(1 << (slot % 64));
        Some(slot)
    }
}

/// The table has no room for another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Sessions {
    /// The owner's view of part `shard`. There must be one owner a part.
    #[must_use]
    pub fn new(table: Arc<Table>, shard: usize) -> Self {
        let slots = table.parts[shard].len();
        Self {
            activity: Zeroed::new(slots, pages(table.parts.len() * slots)),
            live_max: live_max(slots),
            live: 0,
            hand: 0,
            changes: None,
            table,
            shard,
        }
    }

    /// Notes from now on which slots change, for [`Self::poll_change`].
    pub fn note_changes(&mut self) {
        self.changes.get_or_insert_with(|| Changes::new(self.activity.len()));
    }

    /// Notes no changes any more, and forgets those that were not fetched.
    pub fn end_changes(&mut self) {
        self.changes = None;
    }

    /// How many slots [`Self::poll_change`] has to tell of.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.changes.as_ref().map_or(0, |changes| changes.queue.len())
    }

    /// A slot that has changed since it was last asked for, and what stands there now. A node that is merely heard changes
    /// its slot at the grain at which that is published.
    pub fn poll_change(&mut self) -> Option<Change> {
        let slot = self.changes.as_mut()?.take()?;
        let cell = &self.part()[slot];
        let tag = cell.tag();
        let live = !matches!(tag, EMPTY | TOMBSTONE);
        let words = live.then(|| cell.read(tag)).flatten();
        let held = words.map(|words| Held {
            node: NodeId(tag),
            session: Session::from_words(words),
            activity: self.activity[slot],
        });
        Some(Change { slot, held })
    }

    fn note_change(&mut self, slot: usize) {
        if let Some(changes) = &mut self.changes {
            changes.note(slot);
        }
    }

    /// How much each node has sent.
    #[must_use]
    pub fn usage(&self) -> &Board {
        self.table.usage()
    }

    /// Whether this shard owns `node`.
    #[must_use]
    pub fn owns(&self, node: NodeId) -> bool {
        shard_of(node, self.table.parts.len()) == self.shard
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.table.parts.len()
    }

    /// Which shard owns `node`.
    #[must_use]
    pub fn owner(&self, node: NodeId) -> usize {
        shard_of(node, self.table.parts.len())
    }

    /// Live sessions of this part.
    #[must_use]
    pub const fn live(&self) -> usize {
        self.live
    }

    /// The session of any shard's node.
    #[must_use]
    pub fn find(&self, node: NodeId) -> Option<Session> {
        self.table.find(node)
    }

    /// Whether the sessions are too many to stay in a core's own cache, so that [`Self::foresee`] pays.
    #[must_use]
    pub const fn are_many(&self) -> bool {
        self.live > CACHED_MAX
    }

    /// Begins to fetch the slots a packet from `sender` to `dest` needs. Where many are begun before the first is used,
    /// the waits for memory overlap.
    pub fn foresee(&self, sender: NodeId, dest: NodeId) {
        self.table.touch(dest);
        let home = self.table.touch(sender);
        if self.owns(sender) {
            std::hint::black_box(self.activity[home].seen);
        }
    }

    /// The slot and session of a node this shard owns.
    #[must_use]
    pub fn find_own(&self, node: NodeId) -> Option<(Slot, Session)> {
        if !node.is_node() {
            return None;
        }
        let part = self.part();
        for slot in self.table.probe(node) {
            match part[slot].tag() {
                EMPTY => return None,
                tag if tag == node.0 => {
                    let session = part[slot].read(node.0).map(Session::from_words)?;
                    return Some((Slot(slot), session));
                }
                _ => {}
            }
        }
        None
    }

    /// What the owner knows of the session in `slot`.
    pub fn activity(&mut self, Slot(slot): Slot) -> &mut Activity {
        &mut self.activity[slot]
    }

    /// Begins a session for a node that has none.
    ///
    /// # Errors
    /// [`Full`] when three quarters of the slots are live, or none near the node's home is free.
    pub fn insert(&mut self, node: NodeId, session: Session, activity: Activity) -> Result<Slot, Full> {
        debug_assert!(node.is_node() && self.owns(node) && self.find_own(node).is_none());
        if self.live >= self.live_max {
            return Err(Full);
        }
        let free = |slot: &usize| matches!(self.part()[*slot].tag(), EMPTY | TOMBSTONE);
        let slot = self.table.probe(node).find(free).ok_or(Full)?;
        self.part()[slot].write(node.0, session.to_words(activity.seen));
        self.activity[slot] = activity;
        self.live += 1;
        self.note_change(slot);
        Ok(Slot(slot))
    }

    /// Replaces what is published of the session in `slot`.
    pub fn update(&mut self, Slot(slot): Slot, session: Session) {
        let cell = &self.part()[slot];
        cell.write(cell.tag(), session.to_words(self.activity[slot].seen));
        self.note_change(slot);
    }

    /// The holder of the session in `slot` is proven so well.
    pub fn set_grade(&mut self, Slot(slot): Slot, grade: Grade) {
        if std::mem::replace(&mut self.activity[slot].grade, grade) != grade {
            self.note_change(slot);
        }
    }

    /// The node of the session in `slot` was heard at `now`.
    pub fn note_heard(&mut self, Slot(slot): Slot, now: Time) {
        let before = std::mem::replace(&mut self.activity[slot].seen, now);
        if heard_grain(before) == heard_grain(now) {
            return;
        }
        let cell = &self.part()[slot];
        let tag = cell.tag();
        if let Some(words) = cell.read(tag) {
            cell.write(tag, Session::from_words(words).to_words(now));
        }
        self.note_change(slot);
    }

    /// Adds what the node of the session in `slot` has sent to the board.
    pub fn add_up(&mut self, Slot(slot): Slot) {
        let node = NodeId(self.part()[slot].tag());
        let tally = std::mem::take(&mut self.activity[slot].tally);
        self.table.usage.add(node, tally);
    }

    /// Ends the session in `slot`.
    pub fn remove(&mut self, Slot(slot): Slot) {
        self.add_up(Slot(slot));
        let part = self.part();
        let len = part.len();
        part[slot].write(TOMBSTONE, [0; 3]);
        // Tombstones with nothing beyond them are no longer needed to bridge a probe.
        let mut last = slot;
        while part[(last + 1) % len].tag() == EMPTY && part[last].tag() == TOMBSTONE {
            part[last].write(EMPTY, [0; 3]);
            last = (last + len - 1) % len;
        }
        self.live -= 1;
        self.note_change(slot);
    }

    /// Looks at the next `count` slots and ends the sessions for which `expired` says so; returns how many.
    pub fn sweep(&mut self, count: usize, mut expired: impl FnMut(NodeId, &Session, &Activity) -> bool) -> usize {
        let mut ended = 0;
        for _ in 0..count.min(self.activity.len()) {
            self.hand = (self.hand + 1) % self.activity.len();
            let cell = &self.part()[self.hand];
            let tag = cell.tag();
            let live = !matches!(tag, EMPTY | TOMBSTONE);
            let Some(session) = live.then(|| cell.read(tag)).flatten().map(Session::from_words) else { continue };
            self.add_up(Slot(self.hand));
            if expired(NodeId(tag), &session, &self.activity[self.hand]) {
                self.remove(Slot(self.hand));
                ended += 1;
            }
        }
        ended
    }

    /// Slots in this part.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.activity.len()
    }

    fn part(&self) -> &[SeqCell<3>] {
        &self.table.parts[self.shard]
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::thread;

    use super::*;

    /// Two ids with the same home in a table of one session.
    const FIRST: NodeId = NodeId(1);
    const SECOND: NodeId = NodeId(3);
    /// Switches from one thread to the other in the middle of its work; each more multiplies the time by ten.
    const PREEMPTIONS_MAX: usize = 3;

    /// A session that tells whose it is.
    fn session(node: NodeId) -> Session {
        let remote =
            Endpoint { ip: Ipv6Addr::from(u128::from(node.0) << 64 | u128::from(node.0)), port: node.0 as u16 };
        Session { path: Path { remote, local: LocalId(0) }, extended: false, claimed: false }
    }

    /// A slot passes from one node to another while a reader looks for both: it finds a node's own session or none.
    #[test]
    fn a_reused_slot_never_yields_another_nodes_endpoint() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(PREEMPTIONS_MAX);
        model.check(|| {
            let table = Table::new(1, 1);
            let mut sessions = Sessions::new(Arc::clone(&table), 0);
            assert_eq!(live_max(sessions.slots()), 1, "all ids have the same home");
            let slot = sessions.insert(FIRST, session(FIRST), Activity::default()).unwrap();
            let owner = thread::spawn(move || {
                sessions.remove(slot);
                let reused = sessions.insert(SECOND, session(SECOND), Activity::default()).unwrap();
                assert_eq!(reused, slot);
            });
            for node in [FIRST, SECOND] {
                if let Some(found) = table.find(node) {
                    assert_eq!(found, session(node));
                }
            }
            owner.join().unwrap();
            assert_eq!(table.find(FIRST), None);
            assert_eq!(table.find(SECOND), Some(session(SECOND)));
        });
    }
}
