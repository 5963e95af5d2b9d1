//! Contests: two endpoints claim one id, and the holder is asked whether it is still there.
//!
//! The holder is sent a punch command that names the relay's own address; an unmodified daemon answers it at once with
//! a `PILP` probe from its tunnel socket (SPEC 11.2). An answer, or any other datagram from the holder, ends the
//! contest in its favour; silence over all tries gives the id to the candidate. This settles NAT rebinding, roaming,
//! neighbours behind one address and the short-lived sockets with which daemons measure round trips.
//!
//! The same question finds a node of which no session is left, after a restart of ours, where it was before: a recall. Its answer begins the session; silence changes nothing.
//!
//! `PILP` carries no node id, so it may arrive on any shard. Which endpoints are being asked is therefore posted on a
//! [`Board`] all shards read; the shard that receives the answer passes it on to the one that asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wire::NodeId;

use crate::endpoint::{Endpoint, Path};
use crate::sessions::Grade;
use crate::time::Time;

/// Contests one shard carries on at once.
pub const CONTESTS_MAX: usize = 1024;
/// Of these, recalls: whoever asks for many absent nodes must not keep others from moving.
const RECALLS_MAX: usize = CONTESTS_MAX / 4;

/// How the holder is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Patience {
    tries: u8,
    interval: Duration,
}

/// Among equals: two tries, decided before a daemon that dials tries again after 750 ms. A node that roams while it
/// dials is served by that try.
const EQUALS: Patience = Patience { tries: 2, interval: Duration::from_millis(350) };
/// Against a candidate of a lower grade the holder is asked more often in that time, so that an unlucky loss or two
/// cannot cost it the id.
const LOWER: Patience = Patience { tries: 4, interval: Duration::from_millis(175) };
/// A recall: a node that is there answers soon, and the packets that wanted it are sent again by their senders.
const RECALL: Patience = Patience { tries: 2, interval: Duration::from_millis(500) };

/// A wish to hold an id at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The id.
    pub node: NodeId,
    /// Where it would be.
    pub path: Path,
    /// Deliveries may name the destination (type 09).
    pub extended: bool,
}

/// One question under way.
#[derive(Clone, Copy, Debug)]
pub struct Contest {
    /// What the candidate wants; in a recall, what the answer makes true.
    pub claim: Claim,
    /// How well the candidate is proven.
    pub grade: Grade,
    /// Who is asked: the holder, or where the node was.
    pub asked: Path,
    /// What is decided.
    pub kind: Kind,
    tries_left: u8,
    interval: Duration,
    due: Time,
}

/// What an answer or silence decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer keeps the holder, silence gives the id to the candidate.
    Contest,
    /// An answer begins the session, silence ends the matter.
    Recall,
}

/// What a contest asks for when it is due.
#[derive(Clone, Copy, Debug)]
pub enum Due {
    /// Ask again.
    Probe(Path),
    /// The one asked was silent.
    Silence(Contest),
}

/// The contests of one shard.
#[derive(Debug)]
pub struct Contests {
    active: Vec<Contest>,
    /// Nothing is due before this; looked at several times a batch, so it is kept.
    next_due: Option<Time>,
    board: Arc<Board>,
    shard: usize,
}

impl Contests {
    /// No contests; `board` is shared by all shards.
    #[must_use]
    pub fn new(board: Arc<Board>, shard: usize) -> Self {
        Self { active: Vec::with_capacity(CONTESTS_MAX), next_due: None, board, shard }
    }

    /// How many are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.active.len()
    }

    /// Whether none is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Begins a contest for an id that is not contested yet; the caller asks the holder for the first time. `false`
    /// where there is no room, which leaves the holder in place.
    pub fn begin(&mut self, now: Time, claim: Claim, grade: Grade, holder: Path, holder_grade: Grade) -> bool {
        let patience = if grade < holder_grade { LOWER } else { EQUALS };
        self.ask(now, claim, grade, holder, Kind::Contest, patience)
    }

    /// Begins a recall; the caller asks for the first time. `false` where there is no room, or one is under way.
    pub fn recall(&mut self, now: Time, claim: Claim, grade: Grade) -> bool {
        self.active.len() < RECALLS_MAX && self.ask(now, claim, grade, claim.path, Kind::Recall, RECALL)
    }

    fn ask(&mut self, now: Time, claim: Claim, grade: Grade, asked: Path, kind: Kind, patience: Patience) -> bool {
        if self.active.len() == CONTESTS_MAX || !self.board.post(self.shard, &asked.remote) {
            return false;
        }
        let Patience { tries, interval } = patience;
        let due = now + interval;
        self.active.push(Contest { claim, grade, asked, kind, tries_left: tries - 1, interval, due });
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        true
    }

    /// A candidate with better proof takes the place of the one in a contest under way.
    pub fn improve(&mut self, claim: Claim, grade: Grade) {
        let contest = self.active.iter_mut().find(|contest| contest.claim.node == claim.node);
        if let Some(contest) = contest.filter(|contest| contest.kind == Kind::Contest && contest.grade < grade) {
            contest.claim = claim;
            contest.grade = grade;
        }
    }

    /// Ends the contest for `node`; returns whether there was one.
    pub fn end(&mut self, node: NodeId) -> bool {
        let found = self.active.iter().position(|contest| contest.claim.node == node);
        if let Some(index) = found {
            self.take_down(index);
        }
        found.is_some()
    }

    /// Whoever is at `endpoint` has answered: ends what was asked there, one by one.
    pub fn answered(&mut self, endpoint: &Endpoint) -> Option<Contest> {
        let index = self.active.iter().position(|contest| contest.asked.remote == *endpoint)?;
        Some(self.take_down(index))
    }

    /// The shard, this one or another, that awaits an answer from `endpoint`.
    #[must_use]
    pub fn awaited_by(&self, endpoint: &Endpoint) -> Option<usize> {
        self.board.awaited_by(endpoint)
    }

    /// The next thing due at `now`; call until it says `None`.
    pub fn poll_due(&mut self, now: Time) -> Option<Due> {
        if self.next_due? > now {
            return None;
        }
        let Some(index) = self.active.iter().position(|contest| contest.due <= now) else {
            self.next_due = self.active.iter().map(|contest| contest.due).min();
            return None;
        };
        let contest = &mut self.active[index];
        if contest.tries_left == 0 {
            return Some(Due::Silence(self.take_down(index)));
        }
        contest.tries_left -= 1;
        contest.due = now + contest.interval;
        Some(Due::Probe(contest.asked))
    }

    /// When [`Self::poll_due`] is next needed; after the end of a contest perhaps earlier than it has something.
    #[must_use]
    pub const fn next_due(&self) -> Option<Time> {
        self.next_due
    }

    fn take_down(&mut self, index: usize) -> Contest {
        let contest = self.active.swap_remove(index);
        self.board.clear(self.shard, &contest.asked.remote);
        contest
    }
}

/// Notices a shard can post, by digest of the endpoint.
const NOTICES: usize = 4096;

/// Which endpoints are being asked for a sign of life, by shard. A shard writes its own column only.
#[derive(Debug)]
pub struct Board {
    columns: Box<[Box<[AtomicU32]>]>,
}

impl Board {
    /// An empty board for `shards` shards.
    #[must_use]
    pub fn new(shards: usize) -> Arc<Self> {
        let column = || (0..NOTICES).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self { columns: (0..shards).map(|_| column()).collect() })
    }

    fn place(endpoint: &Endpoint) -> (usize, u32) {
        let digest = endpoint.digest();
        (digest as usize % NOTICES, (digest >> 32) as u32 | 1)
    }

    /// `false` where the place is taken, by the same endpoint or another.
    fn post(&self, shard: usize, endpoint: &Endpoint) -> bool {
        let (place, mark) = Self::place(endpoint);
        let notice = &self.columns[shard][place];
        let free = notice.load(Ordering::Relaxed) == 0;
        if free {
            notice.store(mark, Ordering::Release);
        }
        free
    }

    fn clear(&self, shard: usize, endpoint: &Endpoint) {
        self.columns[shard][Self::place(endpoint).0].store(0, Ordering::Release);
    }

    fn awaited_by(&self, endpoint: &Endpoint) -> Option<usize> {
        let (place, mark) = Self::place(endpoint);
        self.columns.iter().position(|column| column[place].load(Ordering::Acquire) == mark)
    }
}
