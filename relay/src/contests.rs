//! Contests: two endpoints claim one id, and the holder is asked whether it is still there.
//!
//! The holder is sent a punch command that names the relay's own address; an unmodified daemon answers it at once with
//! a `PILP` probe from its tunnel socket (SPEC 11.2). An answer, or any other datagram from the holder, ends the
//! contest in its favour; silence over all tries gives the id to the candidate. This settles NAT rebinding, roaming,
//! neighbours behind one address and the short-lived sockets with which daemons measure round trips.
//!
//! `PILP` carries no node id: behind a NAT that has forgotten its ports, the one that answers may be a neighbour who was
//! given the holder's. Which node came last to an endpoint is therefore kept, and an [`Arrival`] after the holder's last
//! word turns the question round: the candidate, at the same address, is asked in a takeover. Its answer gives it the
//! id; silence, or the holder's own word, keeps it where it is.
//!
//! The same question finds a node of which no session is left, after a restart of ours, where it was before: a recall. Its answer begins the session; silence changes nothing.
//!
//! An answer may arrive on any shard, and so may a neighbour. Which endpoints are being asked, and who came to them, is
//! therefore posted on a [`Board`] all shards read; the shard that receives an answer passes it on to the one that asked.

use std::sync::Arc;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};

use wire::NodeId;

use crate::endpoint::{Endpoint, Path};
use crate::seqlock::SeqCell;
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
    /// Who is asked: the holder, the candidate, or where the node was.
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
    /// An answer gives the id to the candidate, silence keeps the holder.
    Takeover,
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

    /// Begins a takeover after a contest the holder's endpoint has answered; the caller asks the candidate for the first
    /// time. `false` where there is no room, which leaves the holder in place.
    pub fn take_over(&mut self, now: Time, claim: Claim, grade: Grade) -> bool {
        self.ask(now, claim, grade, claim.path, Kind::Takeover, EQUALS)
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

    /// A node has spoken as itself from where it holds nothing yet.
    pub fn note_arrival(&self, now: Time, claim: &Claim) {
        self.board.note_arrival(self.shard, now, claim);
    }

    /// Who came last to `endpoint`, as far as it is remembered.
    #[must_use]
    pub fn last_arrival(&self, endpoint: &Endpoint) -> Option<Arrival> {
        self.board.last_arrival(endpoint)
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

/// A node's coming to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Who came.
    pub node: NodeId,
    /// When it first spoke there, or last before it was believed.
    pub at: Time,
    /// It said that it shares its socket (type 08).
    pub extended: bool,
}

/// Notices and arrivals a shard can post, by digest of the endpoint.
const NOTICES: usize = if cfg!(loom) { 1 } else { 4096 };

/// Which endpoints are being asked for a sign of life and who came to which, by shard. A shard writes its own columns
/// only. Where endpoints share a place, the second is not asked and the later arrival is remembered.
#[derive(Debug)]
pub struct Board {
    columns: Box<[Box<[AtomicU32]>]>,
    /// Tagged with the node: the endpoint's address (2 words), port and flag, and the time.
    arrivals: Box<[Box<[SeqCell<4>]>]>,
}

impl Board {
    /// An empty board for `shards` shards.
    #[must_use]
    pub fn new(shards: usize) -> Arc<Self> {
        let column = || (0..NOTICES).map(|_| AtomicU32::new(0)).collect();
        let arrivals = || (0..NOTICES).map(|_| SeqCell::default()).collect();
        Arc::new(Self {
            columns: (0..shards).map(|_| column()).collect(),
            arrivals: (0..shards).map(|_| arrivals()).collect(),
        })
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

    fn note_arrival(&self, shard: usize, now: Time, Claim { node, path, extended }: &Claim) {
        let [high, low] = address_words(&path.remote);
        let tail = u64::from(path.remote.port) | u64::from(*extended) << 16;
        self.arrivals[shard][Self::place(&path.remote).0].write(node.0, [high, low, tail, now.0]);
    }

    fn last_arrival(&self, endpoint: &Endpoint) -> Option<Arrival> {
        let place = Self::place(endpoint).0;
        let read = |cell: &SeqCell<4>| {
            let node = NodeId(cell.tag());
            let [high, low, tail, at] = cell.read(node.0).filter(|_| node.is_node())?;
            let here = [high, low] == address_words(endpoint) && tail as u16 == endpoint.port;
            here.then_some(Arrival { node, at: Time(at), extended: tail >> 16 & 1 == 1 })
        };
        self.arrivals.iter().filter_map(|column| read(&column[place])).max_by_key(|arrival| arrival.at)
    }
}

fn address_words(endpoint: &Endpoint) -> [u64; 2] {
    let ip = u128::from(endpoint.ip);
    [(ip >> 64) as u64, ip as u64]
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::net::Ipv6Addr;

    use loom::thread;

    use super::*;
    use crate::endpoint::LocalId;

    /// Switches from one thread to the other in the middle of its work; a reader that meets a writer tries often.
    const PREEMPTIONS_MAX: usize = 2;

    /// One place, so that all endpoints share it: the worst that a digest can do.
    fn endpoint(number: u16) -> Endpoint {
        Endpoint { ip: Ipv6Addr::from(u128::from(number) << 64 | u128::from(number)), port: number }
    }

    fn claim(number: u16) -> Claim {
        let path = Path { remote: endpoint(number), local: LocalId(0) };
        Claim { node: NodeId(number.into()), path, extended: number.is_multiple_of(2) }
    }

    /// A shard asks one endpoint after another; the shard that gets an answer never takes it for one that was not asked.
    #[test]
    fn a_notice_is_for_the_endpoint_that_was_asked() {
        loom::model(|| {
            let board = Board::new(2);
            let asking = Arc::clone(&board);
            let asker = thread::spawn(move || {
                assert!(asking.post(1, &endpoint(1)));
                asking.clear(1, &endpoint(1));
                assert!(asking.post(1, &endpoint(2)));
            });
            assert_eq!(board.awaited_by(&endpoint(3)), None);
            for asked in [1, 2] {
                assert!(matches!(board.awaited_by(&endpoint(asked)), None | Some(1)));
            }
            asker.join().unwrap();
            assert_eq!(board.awaited_by(&endpoint(1)), None);
            assert_eq!(board.awaited_by(&endpoint(2)), Some(1));
        });
    }

    /// An arrival is replaced by another at the same place: who reads it gets one of them whole, at its own endpoint.
    #[test]
    fn an_arrival_is_read_whole_or_not_at_all() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(PREEMPTIONS_MAX);
        model.check(|| {
            let board = Board::new(1);
            board.note_arrival(0, Time(1), &claim(1));
            let noting = Arc::clone(&board);
            let noter = thread::spawn(move || noting.note_arrival(0, Time(2), &claim(2)));
            let arrival = |number: u16| Arrival {
                node: NodeId(number.into()),
                at: Time(number.into()),
                extended: number.is_multiple_of(2),
            };
            for number in [1, 2] {
                let found = board.last_arrival(&endpoint(number));
                assert!(found.is_none_or(|found| found == arrival(number)), "{found:?}");
            }
            noter.join().unwrap();
            assert_eq!(board.last_arrival(&endpoint(2)), Some(arrival(2)));
            assert_eq!(board.last_arrival(&endpoint(1)), None);
        });
    }
}
