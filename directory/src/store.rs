//! The database: SQL and nothing else. One method per use case.
//!
//! SQLite in WAL mode with `synchronous = FULL`: a commit that has returned survives a crash of the process and a loss
//! of power. One process at a time; a lock file keeps a second one out.
//!
//! | part | what |
//! |---|---|
//! | `facts` | facts to rows and back |
//! | `schema` | its versions |
//! | `index` | the full-text index |
//! | `folder` | the lock, and what the last process has left behind |
//! | `glance` | a look at a database that another process may have open |
//! | `look` | whether it could be opened, beside whoever has it open |
//! | [`backup`] | a consistent copy in one file, while others write |
//! | [`restore`] | putting such a copy in the place of the database |
//! | `repair` | a damaged index made anew from the facts |

pub mod backup;
mod facts;
mod folder;
mod glance;
mod index;
mod look;
mod repair;
pub mod restore;
mod schema;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use crate::facts::{Change, Facts};
use facts::{apply, load, rows};
use folder::Folder;
pub use glance::count_listed;
pub use index::{Bounds, RANKED_MAX, Reader};
pub use look::{Seen, look};
use repair::Condition;
pub(crate) use repair::{is_damage, is_of_the_disk};
use schema::{keep_older, migrate};

/// The database's file in the data folder.
pub const FILE_NAME: &str = "directory.sqlite";

/// The tables that have to be whole; those of the index can be made anew.
const CHECKED: &str = "name NOT LIKE 'search\\_%' ESCAPE '\\'";

/// Statements kept prepared; more than there are.
const STATEMENTS_MAX: usize = 32;

/// How long a reader waits for the writer, where the two exclude each other: not with a log.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often one process makes a damaged index anew before it does without.
const REPAIRS_MAX: u8 = 3;

/// The open database.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// What readers open: a path, or the name of a database in memory.
    location: PathBuf,
    /// A search has met damage.
    index_damaged: Arc<AtomicBool>,
    /// The index could not be made anew and is left as it is until the next start.
    index_lost: bool,
    repairs: u8,
    /// Held as long as the store lives; dropped after the connection.
    folder: Option<Folder>,
}

impl Store {
    /// Opens the database in `data_dir`; makes both when missing. `now_unix_seconds` becomes the time of creation. A restore
    /// that waits there is carried out first, and a damaged index is made anew.
    ///
    /// # Errors
    /// The folder cannot be used, another process has it, or the database is damaged, too new, or suddenly gone.
    pub fn open(data_dir: &Path, now_unix_seconds: u64) -> anyhow::Result<Self> {
        fs::create_dir_all(data_dir).with_context(|| {
            format!("cannot make the data folder {}; choose another with --data-dir", data_dir.display())
        })?;
        let mut folder = Folder::lock(data_dir)?;
        restore::take_over(&mut folder)?;
        let path = data_dir.join(FILE_NAME);
        let open = || -> anyhow::Result<Self> {
            folder.check_files()?;
            let connection = match open_file(&path, now_unix_seconds, &folder)? {
                Some(connection) => connection,
                None => {
                    tracing::error!("the search index is damaged; it is made anew from the facts, which are whole");
                    repair::salvage(&path)?;
                    folder.set_index_behind(false);
                    let again = open_file(&path, now_unix_seconds, &folder)?;
                    again.context("its search index is damaged and cannot be made anew")?
                }
            };
            folder.set_index_behind(false);
            folder.opened();
            Ok(Self::new(connection, path.clone(), Some(folder))?)
        };
        open().map_err(|error| {
            let advice = if disk_is_at_fault(&error) {
                "make room on its disk, and see that it can be written to"
            } else {
                "restore it from a backup with `pilot-relay restore FILE`, or move it and directory.lock away to start with an \
                 empty directory"
            };
            error.context(format!("cannot use the database {}; {advice}", path.display()))
        })
    }

    /// A database in memory, for tests and trials.
    ///
    /// # Errors
    /// SQLite is out of memory.
    pub fn in_memory(now_unix_seconds: u64) -> anyhow::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let location: PathBuf = format!("file:/directory-{}?vfs=memdb", COUNT.fetch_add(1, Relaxed)).into();
        let mut connection = Connection::open(&location)?;
        migrate(&mut connection, now_unix_seconds)?;
        Ok(Self::new(connection, location, None)?)
    }

    fn new(connection: Connection, location: PathBuf, folder: Option<Folder>) -> rusqlite::Result<Self> {
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(Self { connection, location, index_damaged: Arc::default(), index_lost: false, repairs: 0, folder })
    }

    /// Where the database is: a path, or the name of one in memory.
    #[must_use]
    pub fn location(&self) -> &Path {
        &self.location
    }

    /// A connection of its own to search with, on any thread. To be dropped before the store.
    ///
    /// # Errors
    /// The database cannot be opened once more.
    pub fn reader(&self) -> rusqlite::Result<Reader> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.location, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Reader::new(connection, Arc::clone(&self.index_damaged))
    }

    /// Everything there is.
    ///
    /// # Errors
    /// The database cannot be read, or holds what this program cannot have written.
    pub fn load(&self) -> anyhow::Result<Facts> {
        load(&self.connection)
    }

    /// Makes `changes` durable, all or none, in order.
    ///
    /// # Errors
    /// Nothing was written; the same changes may be tried again.
    pub fn commit(&mut self, changes: &[Change]) -> rusqlite::Result<()> {
        if self.index_damaged.swap(false, Relaxed) {
            self.repair_index();
        }
        match self.try_commit(changes) {
            Err(Failure::Index(error)) if !self.index_lost => {
                tracing::error!(%error, "the search index cannot be written");
                self.repair_index();
                self.try_commit(changes).map_err(Failure::into_error)
            }
            result => result.map_err(Failure::into_error),
        }
    }

    fn try_commit(&mut self, changes: &[Change]) -> Result<(), Failure> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior).map_err(Failure::Facts)?;
        let mut indexed = false;
        for change in changes {
            match change {
                Change::Searchable(_) if self.index_lost => {}
                Change::Searchable(words) => {
                    index::save(&transaction, words).map_err(Failure::of_index)?;
                    indexed = true;
                }
                change => apply(&transaction, change).map_err(Failure::Facts)?,
            }
        }
        // The index writes what it has gathered at the end.
        transaction.commit().map_err(|error| if indexed { Failure::of_index(error) } else { Failure::Facts(error) })
    }

    /// Makes the index anew, or does without from now on: facts must not wait for it.
    fn repair_index(&mut self) {
        self.repairs += 1;
        let repaired = match repair::inspect(&self.connection, true) {
            _ if self.repairs > REPAIRS_MAX => Err(anyhow::anyhow!("it was damaged again and again")),
            Ok(Condition::Broken) => Err(anyhow::anyhow!("its pages are damaged")),
            Ok(Condition::Whole | Condition::Wrong) => repair::rebuild(&mut self.connection),
            Err(error) => Err(error.into()),
        };
        match repaired {
            Ok(()) => tracing::warn!("the search index was damaged and has been made anew from the facts"),
            Err(error) => {
                tracing::error!(
                    error = %format!("{error:#}"),
                    "the search index cannot be made anew while serving; searches miss what is new until the next start, \
                     which makes it anew. Names, trust and groups are not concerned"
                );
                self.index_lost = true;
                if let Some(folder) = &mut self.folder {
                    folder.set_index_behind(true);
                }
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.folder.as_mut().is_some_and(|folder| !folder.closing()) {
            keep_log(&self.connection);
        }
    }
}

/// Why a commit has failed.
enum Failure {
    /// Of the index: what was to be stored is not at fault.
    Index(rusqlite::Error),
    Facts(rusqlite::Error),
}

impl Failure {
    fn of_index(error: rusqlite::Error) -> Self {
        if repair::is_of_the_disk(&error) { Self::Facts(error) } else { Self::Index(error) }
    }

    fn into_error(self) -> rusqlite::Error {
        let (Self::Index(error) | Self::Facts(error)) = self;
        error
    }
}

/// Opens and checks the file; `None` when its index has to be taken out first.
fn open_file(path: &Path, now_unix_seconds: u64, folder: &Folder) -> anyhow::Result<Option<Connection>> {
    // SQLite would make it for all to read.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let mut connection = Connection::open(path)?;
    // What is damaged stays as it is, log included, for whoever looks into it.
    keep_log(&connection);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if let Some(damage) = check_tables(&connection, CHECKED)? {
        bail!("it is damaged: {damage}");
    }
    keep_older(&connection, path)?;
    let version = migrate(&mut connection, now_unix_seconds)?;
    if version > 0 {
        // Reading all of a large index takes seconds. After an orderly end that is left to `Reader::check`.
        let thorough = folder.was_left_open();
        match repair::inspect(&connection, thorough)? {
            Condition::Whole if !folder.is_index_behind() => {}
            Condition::Broken => return Ok(None),
            _ => {
                tracing::warn!("the search index is damaged or behind, and is made anew from the facts");
                repair::rebuild(&mut connection)?;
            }
        }
    }
    backup::forget(&connection)?;
    let _: bool = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(Some(connection))
}

/// Whether the disk is at fault, not what is on it.
fn disk_is_at_fault(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<std::io::Error>() || cause.downcast_ref::<rusqlite::Error>().is_some_and(repair::is_of_the_disk)
    })
}

/// Closing the connection leaves the log where it is.
fn keep_log(connection: &Connection) {
    // Fails on a database in use by a statement alone, which there is not.
    let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
}

/// Checks the tables for which `condition` holds, one by one: the index itself would be read and compared word by word,
/// but what it is stored in is among the tables. Returns the first damage.
fn check_tables(connection: &Connection, condition: &str) -> rusqlite::Result<Option<String>> {
    let sql = format!("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND {condition}");
    let mut tables = connection.prepare(&sql)?;
    let tables = tables.query_map((), |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    for table in tables {
        let result: String =
            connection.query_row("SELECT * FROM pragma_quick_check(?1)", params![table], |row| row.get(0))?;
        if result != "ok" {
            return Ok(Some(result));
        }
    }
    Ok(None)
}
