//! The full-text index: SQL of its table, written with the facts it follows from and read on other connections.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, ToSql, Transaction, params};
use wire::NodeId;

use crate::facts::Searchable;
use crate::search::words::{indexed, quoted};
use crate::search::{Breadth, Candidate, Found, Search};

/// Nodes that one search ranks. Ranking takes about 1.5 µs each, so this bounds a search to some 15 ms.
pub const RANKED_MAX: usize = 10_000;
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

/// Asks the index, on a connection of its own. Sees what is committed.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    counts: HashMap<String, usize>,
    counts_uses: u32,
}

impl Reader {
    pub(super) fn new(connection: Connection) -> rusqlite::Result<Self> {
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok(Self { connection, counts: HashMap::new(), counts_uses: 0 })
    }

    /// Who fits `search`, the best first, at most [`RANKED_MAX`].
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn find(&mut self, search: Search) -> rusqlite::Result<Found> {
        // One transaction, so that counts and matches are of one state.
        let candidates = match (search.terms.is_empty(), search.breadth) {
            (true, _) if search.tags.is_empty() => Vec::new(),
            (true, _) => self.ranked(&search, "")?,
            (false, Breadth::All) => self.all(&search)?,
            (false, Breadth::Any) => self.any(&search)?,
        };
        Ok(Found { search, candidates })
    }

    /// Words that more nodes have than a search ranks tell nobody apart: they count where there are no others.
    fn all(&mut self, search: &Search) -> rusqlite::Result<Vec<Candidate>> {
        let terms = &search.terms.all;
        let mut telling = Vec::new();
        for term in terms {
            match self.count(term)? {
                0 => return Ok(Vec::new()),
                count if count < RANKED_MAX => telling.push(term.clone()),
                _ => {}
            }
        }
        if !telling.is_empty() {
            return self.ranked(search, &telling.join(" AND "));
        }
        let terms = terms.join(" AND ");
        let mut found = self.ranked(search, &format!("{{title tags hostname}} : ({terms})"))?;
        if found.len() < HEADS_MIN {
            let heads: HashSet<NodeId> = found.iter().map(|candidate| candidate.node).collect();
            let least = found.last().map_or(u64::MAX, |candidate| candidate.relevance);
            let others = self.ranked(search, &terms)?.into_iter().filter(|candidate| !heads.contains(&candidate.node));
            found.extend(others.map(|other| Candidate { relevance: other.relevance.min(least), ..other }));
            found.truncate(RANKED_MAX);
        }
        Ok(found)
    }

    /// The rarest words first, as many as leave few enough to rank.
    fn any(&mut self, search: &Search) -> rusqlite::Result<Vec<Candidate>> {
        let mut counted = Vec::new();
        for term in &search.terms.any {
            counted.push((self.count(term)?, term.clone()));
        }
        counted.retain(|(count, _)| *count > 0);
        counted.sort_by_key(|(count, _)| *count);
        let mut sum = 0;
        let taken = counted.into_iter().enumerate().take_while(|(position, (count, _))| {
            sum += count;
            *position == 0 || sum <= RANKED_MAX
        });
        let terms: Vec<String> = taken.map(|(_, (_, term))| term).collect();
        if terms.is_empty() { Ok(Vec::new()) } else { self.ranked(search, &terms.join(" OR ")) }
    }

    /// Nodes with `term`, as far as [`RANKED_MAX`]. Counting is quick but for common words, which are few and are
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
        let count = self.connection.prepare_cached(sql)?.query_row(params![term, RANKED_MAX], |row| row.get(0))?;
        if count > RANKED_MAX / 10 {
            self.counts.insert(term.to_owned(), count);
        }
        Ok(count)
    }

    /// The matches of `terms` and the tags, ranked; of more than [`RANKED_MAX`] those with the highest numbers.
    fn ranked(&self, search: &Search, terms: &str) -> rusqlite::Result<Vec<Candidate>> {
        // A tag of hyphens alone has no token; the service looks at tags once more.
        let tags = search.tags.iter().filter(|tag| tag.bytes().any(|byte| byte != b'-')).map(|tag| quoted(tag));
        let tags = tags.collect::<Vec<_>>().join(" AND ");
        let expression = match (terms.is_empty(), tags.is_empty()) {
            (true, true) => return Ok(Vec::new()),
            (true, false) => format!("tags : ({tags})"),
            (false, true) => terms.to_owned(),
            (false, false) => format!("({terms}) AND (tags : ({tags}))"),
        };
        let rank = if terms.is_empty() { "0.0" } else { "bm25(search, 10.0, 6.0, 4.0, 1.0)" };
        let (filter, value): (&str, &dyn ToSql) = match (&search.node, &search.network) {
            (Some(node), _) => ("AND rowid = ?3", &node.0),
            // The sign keeps the index from being asked for one member at a time.
            (None, Some(network)) => ("AND +rowid IN (SELECT node FROM members WHERE network = ?3)", network),
            (None, None) => ("AND ?3", &true),
        };
        let sql =
            format!("SELECT rowid, {rank} FROM search WHERE search MATCH ?1 {filter} ORDER BY rowid DESC LIMIT ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![expression, RANKED_MAX, value], |row| {
            Ok(Candidate { node: NodeId(row.get(0)?), relevance: relevance(row.get(1)?) })
        })?;
        let mut candidates = rows.collect::<Result<Vec<_>, _>>()?;
        candidates.sort_by_key(|candidate| (std::cmp::Reverse(candidate.relevance), candidate.node));
        Ok(candidates)
    }
}

/// The index's rank, where less is better and nothing is above zero, as a number that can be compared. Words that
/// most nodes have are worth about a millionth, and are still to be told apart.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float stops at the bounds")]
fn relevance(rank: f64) -> u64 {
    (-rank * 1e9) as u64
}
