//! What is done about a damaged full-text index: it follows from the facts, so it is made anew and nothing is lost.
//!
//! Where its pages still form a tree, its words are replaced in place, in one commit. Where they do not, freeing them could
//! take pages of facts along; then everything but the index is copied into a new file, which takes the old one's place.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
use wire::NodeId;

use super::folder::{create_anew, sync_folder};
use super::{check_tables, index, load};
use crate::enrolment::Standing;
use crate::facts::{CapabilityFact, Searchable};

/// What the index consists of.
const IS_INDEX: &str = "(name = 'search' OR name LIKE 'search\\_%' ESCAPE '\\')";
/// The old file, kept after a new one has taken its place.
const DAMAGED_FILE_NAME: &str = "directory.sqlite-damaged";

/// How an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// As it should be.
    Whole,
    /// Its pages are in order, its words are not.
    Wrong,
    /// Its pages are damaged.
    Broken,
}

/// Looks at how the index is stored, and if `thorough` at every word.
///
/// # Errors
/// The database cannot be read at all.
pub(super) fn inspect(connection: &Connection, thorough: bool) -> rusqlite::Result<Condition> {
    // The tables it is stored in are five; one that is missing cannot be freed either.
    let tables = format!("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND {IS_INDEX}");
    let tables: usize = connection.query_row(&tables, (), |row| row.get(0))?;
    if tables < 5 || !matches!(check_tables(connection, IS_INDEX), Ok(None)) {
        return Ok(Condition::Broken);
    }
    if !thorough {
        return Ok(Condition::Whole);
    }
    let checked = connection.execute("INSERT INTO search (search) VALUES ('integrity-check')", ());
    match checked {
        Ok(_) => Ok(Condition::Whole),
        Err(error) if is_of_the_disk(&error) => Err(error),
        Err(_) => Ok(Condition::Wrong),
    }
}

/// Whether an error comes of the disk, memory or another user of the database, not of what is stored.
pub(crate) fn is_of_the_disk(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::CannotOpen
                | ErrorCode::OperationInterrupted
                | ErrorCode::PermissionDenied
        )
    )
}

/// Whether an error says that the file is not what SQLite has written.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Makes the words of the index anew, in one commit.
///
/// # Errors
/// Nothing was changed.
pub(super) fn rebuild(connection: &mut Connection) -> anyhow::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = index_sql(&transaction, "main")?;
    transaction.execute("DROP TABLE search", ())?;
    transaction.execute_batch(&sql)?;
    fill(&transaction)?;
    Ok(transaction.commit()?)
}

/// Puts a new database without the damaged index at `path`; the old one stays beside it.
///
/// # Errors
/// There is no room, or the old one cannot be read; it is as it was.
pub(super) fn salvage(path: &Path) -> anyhow::Result<()> {
    let beside = path.with_extension("sqlite-rebuilt");
    fold_log(path)?;
    let copied = copy_facts(path, &beside);
    let placed = copied.and_then(|()| {
        let kept = path.with_file_name(DAMAGED_FILE_NAME);
        let _ = fs::remove_file(&kept);
        fs::hard_link(path, kept)?;
        fs::rename(&beside, path)?;
        sync_folder(path.parent().context("a file has a folder")?)?;
        Ok(())
    });
    if placed.is_err() {
        let _ = fs::remove_file(&beside);
    }
    placed.context("its search index is damaged and cannot be made anew")
}

/// Takes the log into the database, so that the file is all there is of it.
pub(super) fn fold_log(path: &Path) -> anyhow::Result<()> {
    let connection = Connection::open(path)?;
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
    if busy {
        bail!("it is in use by another program");
    }
    Ok(())
}

fn copy_facts(from: &Path, to: &Path) -> anyhow::Result<()> {
    // SQLite would make it for all to read.
    create_anew(to)?;
    let mut connection = Connection::open(to)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute("ATTACH DATABASE ?1 AS old", [from.to_str().context("the path is not UTF-8")?])?;
    let version: usize = connection.query_row("PRAGMA old.user_version", (), |row| row.get(0))?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let objects = format!(
        "SELECT type, name, sql FROM old.sqlite_schema
         WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND NOT {IS_INDEX} ORDER BY type <> 'table', rowid"
    );
    let objects = transaction
        .prepare(&objects)?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<Vec<(String, String, String)>, _>>()?;
    for (kind, name, sql) in objects {
        transaction.execute_batch(&sql)?;
        if kind == "table" {
            let name = name.replace('"', "\"\"");
            transaction.execute(&format!("INSERT INTO main.\"{name}\" SELECT * FROM old.\"{name}\""), ())?;
        }
    }
    transaction.execute_batch(&index_sql(&transaction, "old")?)?;
    fill(&transaction)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()?;
    connection.execute("DETACH DATABASE old", ())?;
    Ok(())
}

/// How the index was made.
fn index_sql(connection: &Connection, schema: &str) -> rusqlite::Result<String> {
    let sql = format!("SELECT sql FROM {schema}.sqlite_schema WHERE name = 'search'");
    connection.query_row(&sql, (), |row| row.get(0))
}

/// The words of every node, as the service would have them.
fn fill(transaction: &Transaction<'_>) -> anyhow::Result<()> {
    let facts = load(transaction)?;
    let mut offered: HashMap<NodeId, CapabilityFact> =
        facts.capabilities.into_iter().filter(|fact| !fact.withdrawn).map(|fact| (fact.node, fact)).collect();
    for node in facts.nodes.iter().filter(|node| node.standing() == Some(Standing::Approved)) {
        let words = Searchable::of(node.id, Some(node), offered.remove(&node.id).as_ref());
        index::save(transaction, &words)?;
    }
    // A record may outlive the registration it came with.
    for (node, fact) in &offered {
        index::save(transaction, &Searchable::of(*node, None, Some(fact)))?;
    }
    transaction.execute("INSERT INTO search (search, rank) VALUES ('integrity-check', ?1)", params![0])?;
    Ok(())
}
