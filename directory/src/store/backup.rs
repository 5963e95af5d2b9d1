//! A consistent copy of the data folder in one file, made while a directory serves.
//!
//! The file is the database itself, copied page by page as of one moment, with two more tables: `backup` says when and of
//! what it was made, with a digest of the facts; `backup_files` holds the small files beside the database: the
//! administrator's token, keys, certificates, the growth of the network. It is as secret as the folder. A database of
//! which only the index is damaged can be backed up; whoever restores it makes the index anew.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rusqlite::backup::{Backup as PageCopy, StepResult};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, params};
use sha2::{Digest as _, Sha256};

use super::folder::sync_folder;
use super::{BUSY_TIMEOUT, FILE_NAME, check_tables, load};

/// Files beside the database are small; one that is larger is none of ours.
const FILE_BYTES_MAX: u64 = 16 << 20;
const FILES_MAX: usize = 64;
/// Between two tries to read a database that another program keeps to itself.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
const BUSY_TRIES_MAX: u32 = 100;
/// Beginnings of the names of what is not copied: the database itself, which comes as a copy of pages; a hint that is
/// worth nothing a minute later; what restores and older backups have left.
const LEFT_OUT: [&str; 5] = ["directory.", "whereabouts", "restore-pending", "before-restore-", "."];
const LEFT_OUT_ENDS: [&str; 4] = [".new", ".part", ".backup", ".sqlite"];

pub(super) const TABLES: &str = "
    CREATE TABLE backup (
        made_at INTEGER NOT NULL, program TEXT NOT NULL, digest BLOB NOT NULL, staged_at INTEGER
    ) STRICT;
    CREATE TABLE backup_files (name TEXT PRIMARY KEY, mode INTEGER NOT NULL, bytes BLOB NOT NULL) STRICT;";
/// Everything but the index, which follows from it, and what a backup adds.
const FACTS: &str = "name NOT LIKE 'search%' AND name NOT IN ('backup', 'backup_files')";

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Where it is.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Nodes in it.
    pub nodes: usize,
    /// The version of the schema.
    pub schema: usize,
    /// The files of the data folder that are in it.
    pub files: Vec<String>,
}

/// A small file of the data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Companion {
    pub(super) name: String,
    pub(super) mode: u32,
    pub(super) bytes: Vec<u8>,
}

/// Copies the data folder to `to`, which must not exist unless it may be `overwritten`. `program` and `now_unix_seconds`
/// are noted in it. Written beside and renamed: there is a whole backup at `to`, or what was there before.
///
/// # Errors
/// There is no database, it is damaged, or the copy cannot be written; the text says which and what to do.
pub fn write(
    data_dir: &Path,
    to: &Path,
    overwrite: bool,
    program: &str,
    now_unix_seconds: u64,
) -> anyhow::Result<Report> {
    let source = data_dir.join(FILE_NAME);
    if fs::metadata(&source).map_or(0, |file| file.len()) == 0 {
        bail!("there is no database in {}; name the data folder of the relay with --data-dir", data_dir.display());
    }
    if !overwrite && to.exists() {
        bail!("{} exists; choose another name with --to, or overwrite it with --force", to.display());
    }
    let name = to.file_name().with_context(|| format!("{} is no name for a file", to.display()))?;
    let beside = to.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
    let part = Part::create(&beside).with_context(|| format!("cannot write {}", beside.display()))?;
    let files = companions(data_dir)?;
    let (nodes, schema) = copy(&source, &beside, &files, program, now_unix_seconds)
        .with_context(|| format!("cannot make a backup of {}", source.display()))?;
    File::open(&beside)?.sync_all()?;
    let place = || {
        match overwrite {
            true => fs::rename(&beside, to)?,
            // Unlike a rename, a link never takes the place of a file that has appeared meanwhile.
            false => fs::hard_link(&beside, to)?,
        }
        sync_folder(to.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))
    };
    place().with_context(|| format!("cannot write {}", to.display()))?;
    drop(part);
    let files = files.into_iter().map(|file| file.name).collect();
    Ok(Report { file: to.to_owned(), bytes: fs::metadata(to)?.len(), nodes, schema, files })
}

/// A file that is removed unless it was renamed.
struct Part<'a>(&'a Path);

impl<'a> Part<'a> {
    fn create(path: &'a Path) -> std::io::Result<Self> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self(path))
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// Nodes copied, and the version of the schema.
fn copy(
    from: &Path,
    to: &Path,
    files: &[Companion],
    program: &str,
    now_unix_seconds: u64,
) -> anyhow::Result<(usize, usize)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(from, flags)?;
    source.busy_timeout(BUSY_TIMEOUT)?;
    let mut made = Connection::open(to)?;
    copy_pages(&source, &mut made)?;
    drop(source);
    // One file, without a log beside it.
    made.pragma_update(None, "journal_mode", "DELETE")?;
    made.pragma_update(None, "synchronous", "FULL")?;
    if let Some(damage) = check_tables(&made, FACTS)? {
        bail!("it is damaged: {damage}");
    }
    let nodes = load(&made)?.nodes.len();
    let schema = made.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    forget(&made)?;
    let digest = digest(&made)?;
    let transaction = made.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO backup (made_at, program, digest) VALUES (?1, ?2, ?3)",
        params![now_unix_seconds, program, digest],
    )?;
    for Companion { name, mode, bytes } in files {
        transaction
            .execute("INSERT INTO backup_files (name, mode, bytes) VALUES (?1, ?2, ?3)", params![name, mode, bytes])?;
    }
    transaction.commit()?;
    made.close().map_err(|(_, error)| error)?;
    Ok((nodes, schema))
}

/// All pages as of one moment; whoever writes meanwhile is not held up.
pub(super) fn copy_pages(from: &Connection, to: &mut Connection) -> anyhow::Result<()> {
    let pages = PageCopy::new(from, to)?;
    for _ in 0..BUSY_TRIES_MAX {
        match pages.step(-1)? {
            StepResult::Done => return Ok(()),
            _ => std::thread::park_timeout(BUSY_PAUSE),
        }
    }
    bail!("another program keeps it to itself")
}

/// The small files of the folder, by name.
fn companions(data_dir: &Path) -> anyhow::Result<Vec<Companion>> {
    let mut companions = Vec::new();
    for entry in fs::read_dir(data_dir).with_context(|| format!("cannot read {}", data_dir.display()))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let left_out =
            LEFT_OUT.iter().any(|begin| name.starts_with(begin)) || LEFT_OUT_ENDS.iter().any(|end| name.ends_with(end));
        let Ok(about) = entry.metadata() else { continue };
        if left_out || !about.is_file() || about.len() > FILE_BYTES_MAX {
            continue;
        }
        if companions.len() == FILES_MAX {
            bail!("there are more than {FILES_MAX} files in {}; move away what is not the relay's", data_dir.display());
        }
        let mut bytes = Vec::new();
        let read = File::open(entry.path()).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        read.with_context(|| format!("cannot read {}", entry.path().display()))?;
        companions.push(Companion { name, mode: about.mode() & 0o777, bytes });
    }
    companions.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(companions)
}

/// SHA-256 of every row of the facts, table by table: a backup may lie about for years.
pub(super) fn digest(connection: &Connection) -> rusqlite::Result<[u8; 32]> {
    let sql = format!("SELECT name FROM sqlite_schema WHERE type = 'table' AND {FACTS} ORDER BY name");
    let tables = super::rows(connection, &sql, |row| row.get::<_, String>(0))?;
    let mut digest = Sha256::new();
    let mut field = |kind: u8, bytes: &[u8]| {
        digest.update([kind]);
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    for table in tables {
        field(b'T', table.as_bytes());
        let mut statement = connection.prepare(&format!("SELECT * FROM \"{}\"", table.replace('"', "\"\"")))?;
        let columns = statement.column_count();
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                match row.get_ref(column)? {
                    ValueRef::Null => field(b'N', &[]),
                    ValueRef::Integer(number) => field(b'I', &number.to_be_bytes()),
                    ValueRef::Real(number) => field(b'R', &number.to_be_bytes()),
                    ValueRef::Text(bytes) => field(b't', bytes),
                    ValueRef::Blob(bytes) => field(b'b', bytes),
                }
            }
        }
    }
    Ok(digest.finalize().into())
}

/// The files in a backup.
pub(super) fn files_in(connection: &Connection) -> rusqlite::Result<Vec<Companion>> {
    super::rows(connection, "SELECT name, mode, bytes FROM backup_files ORDER BY name", |row| {
        Ok(Companion { name: row.get(0)?, mode: row.get(1)?, bytes: row.get(2)? })
    })
}

/// Takes out of a database what being a backup has added to it.
pub(super) fn forget(connection: &Connection) -> rusqlite::Result<()> {
    let is_backup = "SELECT count(*) FROM sqlite_schema WHERE name IN ('backup', 'backup_files')";
    if connection.query_row(is_backup, (), |row| row.get::<_, u32>(0))? == 0 {
        return Ok(());
    }
    connection.execute_batch(
        "PRAGMA secure_delete = ON; DROP TABLE IF EXISTS backup_files; DROP TABLE IF EXISTS backup;
         PRAGMA secure_delete = OFF;",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_relays_own_is_copied_and_what_passes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["admin-token", "relay-key", "tls-key.pem", "growth.csv"];
        let left_out = ["directory.sqlite", "directory.lock", "whereabouts", "admin-token.new", ".hidden", "x.backup"];
        for name in names.iter().chain(&left_out) {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("before-restore-7")).unwrap();
        let copied: Vec<_> = companions(folder.path()).unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(copied, ["admin-token", "growth.csv", "relay-key", "tls-key.pem"]);
    }
}
