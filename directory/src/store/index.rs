//! The full-text index: SQL of its table, written with the facts it follows from and read on other connections.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, ToSql, Transaction, params};
use wire::NodeId;

use crate::clock::Clock;
use crate::facts::Searchable;
use crate::search::words::{indexed, quoted};
use crate::search::{Breadth, Candidate, Found, Search};

/// Nodes that one search ranks. Ranking takes about 1.5 µs each, some 15 ms in all. Finding them may take longer, for
/// instance words that everybody has and nobody has side by side; see [`Bounds::time_max`].
pub const RANKED_MAX: usize = 10_000;
/// Steps of the database between two looks at the clock. One step may read a block of the index: some thousand nodes
/// that have a word.
const STEPS_PER_LOOK: i32 = 100;
/// Where so few have a common word in title, tags or hostname, those that have it elsewhere are ranked as well.
const HEADS_MIN: usize = 200;
/// Counts of common words remembered; see [`Reader::count`].
const COUNTS_MAX: usize = 1024;
/// Searches after which they are counted again.
const COUNTS_USES_MAX: u32 = 4096;
/// Memory of one reader for pages of the database, in KiB.
const CACHE_KIB: i32 = 16 * 1024;

pub(super) fn save(transaction: &Transaction<'_>, words: &Searchable) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM search WHERE rowid = ?1")?.execute([words.node.0])?;
    if words.is_empty() {
        return Ok(());
    }
    transaction
        .prepare_cached("INSERT INTO search (rowid, title, tags, hostname, text) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![words.node.0, indexed(&words.title), words.tags, words.hostname, indexed(&words.text)])
        .map(drop)
}

/// What becomes of matches.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// Ranked by what the index makes of them. Costs a look at every node with one of the words.
    Ranked,
    /// All of this relevance.
    Alike(u64),
}

/// How much one search may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Nodes ranked in one step.
    pub ranked_max: usize,
    /// Time that one question takes, over all its steps. Then what was found is the answer.
    pub time_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { ranked_max: RANKED_MAX, time_max: Duration::from_millis(200) }
    }
}

/// Matches of one expression.
#[derive(Debug, Default)]
struct Matches {
    candidates: Vec<Candidate>,
    /// There may be others, with numbers below this one.
    more: Option<NodeId>,
}

/// Above all numbers: a further step begins with the highest.
const FROM_THE_TOP: NodeId = NodeId(u32::MAX);

/// Asks the index, on a connection of its own. Sees what is committed.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    counts: HashMap<String, usize>,
    counts_uses: u32,
    bounds: Bounds,
    clock: Clock,
    /// When the search is interrupted, in nanoseconds of the clock.
    deadline_ns: Arc<AtomicU64>,
    /// To be set when the index turns out to be damaged: who writes makes it anew.
    damaged: Arc<AtomicBool>,
}

impl Reader {
    pub(super) fn new(mut connection: Connection, damaged: Arc<AtomicBool>) -> rusqlite::Result<Self> {
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        let (clock, deadline_ns) = (Clock::start(), Arc::new(AtomicU64::new(u64::MAX)));
        let deadline = Arc::clone(&deadline_ns);
        let is_over = move || ns(clock.now().monotonic) >= deadline.load(Relaxed);
        connection.progress_handler(STEPS_PER_LOOK, Some(is_over))?;
        let (counts, bounds) = (HashMap::new(), Bounds::default());
        Ok(Self { connection, counts, counts_uses: 0, bounds, clock, deadline_ns, damaged })
    }

    /// Sets other bounds than the defaults.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.counts.clear();
        self.bounds = bounds;
    }

    /// Who fits `search`, the best first, at most [`Bounds::ranked_max`]; fewer where time runs out.
    ///
    /// # Errors
    /// The database cannot be read, or the search was interrupted before anything was found.
    pub fn find(&mut self, mut search: Search) -> rusqlite::Result<Found> {
        let began = self.clock.now().monotonic;
        let left = self.bounds.time_max.saturating_sub(search.spent);
        self.deadline_ns.store(ns(began + left), Relaxed);
        let found = if left.is_zero() { Err(interrupted()) } else { self.step(&search) };
        self.deadline_ns.store(u64::MAX, Relaxed);
        if let Err(error) = &found
            && error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt)
        {
            self.damaged.store(true, Relaxed);
        }
        let known = !search.narrower.is_empty() || !search.picked.is_empty();
        let Matches { candidates, more } = match found {
            Err(error) if known && is_interrupted(&error) => Matches::default(),
            found => found?,
        };
        search.spent += self.clock.now().monotonic.saturating_sub(began);
        Ok(Found { search, candidates, more })
    }

    fn step(&mut self, search: &Search) -> rusqlite::Result<Matches> {
        match (search.terms.is_empty(), search.breadth) {
            (true, _) => self.matches(search, "", Order::Alike(1)),
            (false, Breadth::All) => self.all(search),
            (false, Breadth::Any) => self.any(search),
        }
    }

    /// Words that more nodes have than a search ranks tell nobody apart: they count where there are no others.
    fn all(&mut self, search: &Search) -> rusqlite::Result<Matches> {
        let terms = &search.terms.all;
        if search.below.is_some() {
            return self.matches(search, &terms.join(" AND "), Order::Alike(1));
        }
        let mut telling = Vec::new();
        for term in terms {
            match self.count(term)? {
                0 => return Ok(Matches::default()),
                count if count < self.bounds.ranked_max => telling.push(term.clone()),
                _ => {}
            }
        }
        if !telling.is_empty() {
            return self.matches(search, &telling.join(" AND "), Order::Ranked);
        }
        self.common(search, &terms.join(" AND "))
    }

    /// `terms` that too many have to rank them all: first those who have them in title, tags or hostname, ranked where
    /// these are fewer; then whoever else has them.
    fn common(&mut self, search: &Search, terms: &str) -> rusqlite::Result<Matches> {
        let heads = format!("{{title tags hostname}} : ({terms})");
        let order = if self.count(&heads)? < self.bounds.ranked_max { Order::Ranked } else { Order::Alike(2) };
        let mut found = self.matches(search, &heads, order)?;
        found.more = Some(FROM_THE_TOP);
        if found.candidates.len() < HEADS_MIN {
            let others = self.matches(search, terms, Order::Alike(1));
            self.append(&mut found, others)?;
        }
        Ok(found)
    }

    /// Puts `others` behind what is in `found`, and goes on where they end. What was found before time ran out stands.
    fn append(&self, found: &mut Matches, others: rusqlite::Result<Matches>) -> rusqlite::Result<()> {
        let others = match others {
            Err(error) if is_interrupted(&error) && !found.candidates.is_empty() => Matches::default(),
            others => others?,
        };
        let known: HashSet<NodeId> = found.candidates.iter().map(|candidate| candidate.node).collect();
        found.candidates.extend(others.candidates.into_iter().filter(|other| !known.contains(&other.node)));
        found.candidates.truncate(self.bounds.ranked_max);
        found.more = others.more;
        Ok(())
    }

    /// The rarest words first, as many as leave few enough to rank. Where all are common, those who have all of them
    /// first, then those who have the rarest.
    fn any(&mut self, search: &Search) -> rusqlite::Result<Matches> {
        let mut counted = Vec::new();
        for term in &search.terms.any {
            counted.push((self.count(term)?, term.clone()));
        }
        counted.retain(|(count, _)| *count > 0);
        counted.sort_by_key(|(count, _)| *count);
        let Some((count, rarest)) = counted.first().cloned() else { return Ok(Matches::default()) };
        if search.below.is_some() {
            return self.matches(search, &rarest, Order::Alike(1));
        }
        if count >= self.bounds.ranked_max {
            let every: Vec<String> = counted.into_iter().map(|(_, term)| term).collect();
            let mut found = self.common(search, &every.join(" AND "))?;
            if every.len() > 1 && found.candidates.len() < HEADS_MIN {
                let others = self.matches(search, &rarest, Order::Alike(1));
                self.append(&mut found, others)?;
            } else if every.len() > 1 {
                found.more = Some(FROM_THE_TOP);
            }
            return Ok(found);
        }
        let mut sum = 0;
        let taken = counted.into_iter().enumerate().take_while(|(position, (count, _))| {
            sum += count;
            *position == 0 || sum <= self.bounds.ranked_max
        });
        let terms: Vec<String> = taken.map(|(_, (_, term))| term).collect();
        self.matches(search, &terms.join(" OR "), Order::Ranked)
    }

    /// Nodes with `term`, as far as [`Bounds::ranked_max`]. Counting is quick but for common words, which are few and are
    /// remembered for a while.
    fn count(&mut self, term: &str) -> rusqlite::Result<usize> {
        self.counts_uses += 1;
        if self.counts_uses > COUNTS_USES_MAX || self.counts.len() >= COUNTS_MAX {
            self.counts.clear();
            self.counts_uses = 0;
        }
        if let Some(count) = self.counts.get(term) {
            return Ok(*count);
        }
        let sql = "SELECT count(*) FROM (SELECT 1 FROM search WHERE search MATCH ?1 LIMIT ?2)";
        let count =
            self.connection.prepare_cached(sql)?.query_row(params![term, self.bounds.ranked_max], |row| row.get(0))?;
        if count > self.bounds.ranked_max / 10 {
            self.counts.insert(term.to_owned(), count);
        }
        Ok(count)
    }

    /// The matches of `terms` and the tags; of more than [`Bounds::ranked_max`], or than time allows, those with the
    /// highest numbers.
    fn matches(&self, search: &Search, terms: &str, order: Order) -> rusqlite::Result<Matches> {
        // A tag of hyphens alone has no token; the service looks at tags once more.
        let tags = search.tags.iter().filter(|tag| tag.bytes().any(|byte| byte != b'-')).map(|tag| quoted(tag));
        let tags = tags.collect::<Vec<_>>().join(" AND ");
        let expression = match (terms.is_empty(), tags.is_empty()) {
            (true, true) => return Ok(Matches::default()),
            (true, false) => format!("tags : ({tags})"),
            (false, true) => terms.to_owned(),
            (false, false) => format!("({terms}) AND (tags : ({tags}))"),
        };
        let rank = match order {
            Order::Ranked => "bm25(search, 10.0, 6.0, 4.0, 1.0)",
            Order::Alike(_) => "0.0",
        };
        let (filter, value): (&str, &dyn ToSql) = match (&search.node, &search.network) {
            (Some(node), _) => ("AND rowid = ?3", &node.0),
            // The sign keeps the index from being asked for one member at a time.
            (None, Some(network)) => ("AND +rowid IN (SELECT node FROM members WHERE network = ?3)", network),
            (None, None) => ("AND ?3", &true),
        };
        let sql = format!(
            "SELECT rowid, {rank} FROM search WHERE search MATCH ?1 AND rowid < ?4 {filter} ORDER BY rowid DESC LIMIT ?2"
        );
        let below = search.below.unwrap_or(FROM_THE_TOP).0;
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![expression, self.bounds.ranked_max, value, below], |row| {
            let relevance = match order {
                Order::Ranked => relevance(row.get(1)?),
                Order::Alike(relevance) => relevance,
            };
            Ok(Candidate { node: NodeId(row.get(0)?), relevance })
        })?;
        let mut candidates = Vec::new();
        for row in rows {
            match row {
                Ok(candidate) => candidates.push(candidate),
                Err(error) if is_interrupted(&error) && !candidates.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        let lowest = candidates.last().map(|candidate| candidate.node);
        let more = lowest.filter(|_| candidates.len() >= self.bounds.ranked_max);
        candidates.sort_by_key(|candidate| (std::cmp::Reverse(candidate.relevance), candidate.node));
        Ok(Matches { candidates, more })
    }
}

fn is_interrupted(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

fn interrupted() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT), None)
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The index's rank, where less is better and nothing is above zero, as a number that can be compared. Words that
/// most nodes have are worth about a millionth, and are still to be told apart.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float stops at the bounds")]
fn relevance(rank: f64) -> u64 {
    (-rank * 1e9) as u64
}
