//! The versions of the schema: brought up to date, kept as it was before, and known to be too new.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rusqlite::{Connection, TransactionBehavior, params};

use super::{FILE_NAME, backup, folder};

/// Each makes one version of the schema from the one before; version N is that after the first N.
const MIGRATIONS: [&str; 3] = [
    include_str!("../../migrations/0001_facts.sql"),
    include_str!("../../migrations/0002_capabilities.sql"),
    include_str!("../../migrations/0003_enrolment.sql"),
];

/// # Errors
/// The version is newer than this program; the text names the copy from before beside the database at `path`, if there is one.
pub(super) fn is_known(version: usize, path: Option<&Path>) -> anyhow::Result<()> {
    let known = MIGRATIONS.len();
    if version <= known {
        return Ok(());
    }
    let found = format!("it was made by a newer version of this program (schema {version}, known up to {known})");
    match path.map(|path| older_at(path, known)).filter(|kept| kept.exists()) {
        // The file may be open in a relay at work, which would lose what it writes if it was moved away.
        Some(kept) => bail!(
            "{found}; as it was before that is in {}: to go back to then, stop whatever relay still uses it first, then move \
             that file in place of {FILE_NAME} and remove {FILE_NAME}-wal and {FILE_NAME}-shm",
            kept.display()
        ),
        None => bail!("{found}; install the newer program again, or restore a backup: pilot-relay restore FILE"),
    }
}

/// Where the database is kept as it was in the version `schema`, for whoever has to go back to an older program.
fn older_at(path: &Path, schema: usize) -> PathBuf {
    path.with_extension(format!("sqlite-schema{schema}"))
}

/// Before the schema of a database changes, it is copied; one that is too new names the copy from before.
pub(super) fn keep_older(connection: &Connection, path: &Path) -> anyhow::Result<()> {
    let (version, known) = (of(connection)?, MIGRATIONS.len());
    is_known(version, Some(path))?;
    let kept = older_at(path, version);
    if version == 0 || version >= known {
        return Ok(());
    }
    let beside = kept.with_extension("new");
    let copied = || -> anyhow::Result<()> {
        drop(folder::create_anew(&beside)?);
        let mut copy = Connection::open(&beside)?;
        backup::copy_pages(connection, &mut copy)?;
        copy.pragma_update(None, "journal_mode", "DELETE")?;
        copy.close().map_err(|(_, error)| error)?;
        fs::File::open(&beside)?.sync_all()?;
        fs::rename(&beside, &kept)?;
        Ok(folder::sync_folder(path.parent().context("a file has a folder")?)?)
    };
    let copied = copied();
    if copied.is_err() {
        let _ = fs::remove_file(&beside);
    }
    copied.context("cannot copy it before it is brought up to date")?;
    tracing::info!(from = version, to = known, kept = %kept.display(), "the database is brought up to date; kept as it was");
    Ok(())
}

/// The version this program brings databases to.
pub(super) const fn newest() -> usize {
    MIGRATIONS.len()
}

pub(super) fn of(connection: &Connection) -> rusqlite::Result<usize> {
    connection.query_row("PRAGMA user_version", (), |row| row.get(0))
}

/// Brings the schema up to date; returns the version it had.
pub(super) fn migrate(connection: &mut Connection, now_unix_seconds: u64) -> anyhow::Result<usize> {
    let version = of(connection)?;
    is_known(version, None)?;
    let missing = &MIGRATIONS[version..];
    if missing.is_empty() {
        return Ok(version);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    for sql in missing {
        transaction.execute_batch(sql)?;
    }
    if version == 0 {
        transaction.execute("INSERT INTO directory (created_at) VALUES (?1)", params![now_unix_seconds])?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
    transaction.commit()?;
    Ok(version)
}
