//! The database: SQL and nothing else. One method per use case.
//!
//! SQLite in WAL mode with `synchronous = FULL`: a commit that has returned survives a crash of the process and a loss
//! of power. One process at a time; a lock file keeps a second one out.
//!
//! | part | what |
//! |---|---|
//! | `index` | the full-text index |
//! | `folder` | the lock, and what the last process has left behind |
//! | [`backup`] | a consistent copy in one file, while others write |
//! | [`restore`] | putting such a copy in the place of the database |
//! | `repair` | a damaged index made anew from the facts |

pub mod backup;
mod folder;
mod index;
mod repair;
pub mod restore;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rusqlite::config::DbConfig;
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OpenFlags, Row, Transaction, TransactionBehavior, params};
use wire::NodeId;
use wire::registry::{Base64, PublicKey};

use crate::enrolment::{Approval, Ban, KeyRule, Quota};
use crate::facts::{
    CapabilityFact, Change, Facts, InviteFact, NetworkFact, NodeFact, RequestFact, ResponseFact, TrustFact,
};
use folder::Folder;
pub use index::{Bounds, RANKED_MAX, Reader};
use repair::Condition;

/// The database's file in the data folder.
pub const FILE_NAME: &str = "directory.sqlite";

/// Each makes one version of the schema from the one before; version N is that after the first N.
const MIGRATIONS: [&str; 3] = [
    include_str!("../migrations/0001_facts.sql"),
    include_str!("../migrations/0002_capabilities.sql"),
    include_str!("../migrations/0003_enrolment.sql"),
];

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
            let advice = if is_of_the_disk(&error) {
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
    if let Some(damage) = check_tables(&connection, "name NOT LIKE 'search\\_%' ESCAPE '\\'")? {
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
fn is_of_the_disk(error: &anyhow::Error) -> bool {
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

/// Where the database is kept as it was in the version `schema`, for whoever has to go back to an older program.
fn older_at(path: &Path, schema: usize) -> PathBuf {
    path.with_extension(format!("sqlite-schema{schema}"))
}

/// Before the schema of a database changes, it is copied; one that is too new names the copy from before.
fn keep_older(connection: &Connection, path: &Path) -> anyhow::Result<()> {
    let (version, known) = (schema_of(connection)?, MIGRATIONS.len());
    let kept = older_at(path, version.min(known));
    if version > known && kept.exists() {
        bail!(
            "it was made by a newer version of this program (schema {version}, known up to {known}); as it was before that is \
             in {}: move it to {FILE_NAME} to go back to then",
            kept.display()
        );
    }
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

fn schema_of(connection: &Connection) -> rusqlite::Result<usize> {
    connection.query_row("PRAGMA user_version", (), |row| row.get(0))
}

/// Brings the schema up to date; returns the version it had.
fn migrate(connection: &mut Connection, now_unix_seconds: u64) -> anyhow::Result<usize> {
    let version = schema_of(connection)?;
    let Some(missing) = MIGRATIONS.get(version..) else {
        bail!("it was made by a newer version of this program (schema {version}, known up to {})", MIGRATIONS.len());
    };
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

fn load(connection: &Connection) -> anyhow::Result<Facts> {
    let facts = Facts {
        created_at: connection.query_row("SELECT created_at FROM directory", (), |row| row.get(0))?,
        nodes: rows(connection, "SELECT * FROM nodes ORDER BY id", node)?,
        retired_keys: rows(connection, "SELECT key, node FROM retired_keys", |row| Ok((key(row, 0)?, id(row, 1)?)))?,
        trust: rows(connection, "SELECT truster, trusted FROM trust", |row| {
            Ok(TrustFact { truster: id(row, 0)?, trusted: id(row, 1)? })
        })?,
        requests: rows(
            connection,
            "SELECT sender, recipient, justification, at FROM handshake_requests ORDER BY at",
            |row| Ok(RequestFact { from: id(row, 0)?, to: id(row, 1)?, justification: row.get(2)?, at: row.get(3)? }),
        )?,
        responses: rows(
            connection,
            "SELECT sender, recipient, accept, at FROM handshake_responses ORDER BY at",
            |row| Ok(ResponseFact { from: id(row, 0)?, to: id(row, 1)?, accept: row.get(2)?, at: row.get(3)? }),
        )?,
        networks: rows(
            connection,
            "SELECT id, name, join_rule, token_digest, creator, created_at FROM networks ORDER BY id",
            network,
        )?,
        members: rows(connection, "SELECT network, node FROM members", |row| Ok((row.get(0)?, id(row, 1)?)))?,
        invites: rows(connection, "SELECT network, target, inviter, at FROM invites ORDER BY at", |row| {
            Ok(InviteFact { network: row.get(0)?, target: id(row, 1)?, inviter: id(row, 2)?, at: row.get(3)? })
        })?,
        // Readers check records themselves, so one that somebody has meddled with is no reason not to start.
        capabilities: rows(
            connection,
            "SELECT node, serial, withdrawn, record, tags, signature FROM capabilities
             WHERE serial >= 0 AND length(signature) = 64 ORDER BY node",
            capability,
        )?,
        key_rules: rows(connection, "SELECT key, banned, reason, at FROM key_rules ORDER BY at", |row| {
            let ban = row.get::<_, bool>(1)?.then(|| row.get(2)).transpose()?;
            Ok(KeyRule { key: key(row, 0)?, ban, at: row.get(3)? })
        })?,
    };
    let dense = facts.nodes.iter().zip(1..).all(|(node, number)| node.id == NodeId(number));
    if !dense {
        bail!("nodes are missing in the database; restore it from a backup");
    }
    Ok(facts)
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map((), read)?.collect()
}

fn apply(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    let run = |sql: &str, parameters: &[&dyn rusqlite::ToSql]| -> rusqlite::Result<()> {
        transaction.prepare_cached(sql)?.execute(parameters).map(drop)
    };
    match change {
        Change::Node(fact) => save_node(transaction, fact),
        Change::KeyRetired(key, node) => {
            run("INSERT INTO retired_keys (key, node) VALUES (?1, ?2)", params![key.0, node.0])
        }
        Change::Trusted(TrustFact { truster, trusted }) => {
            run("INSERT OR IGNORE INTO trust (truster, trusted) VALUES (?1, ?2)", params![truster.0, trusted.0])
        }
        Change::Distrusted(TrustFact { truster, trusted }) => {
            run("DELETE FROM trust WHERE truster = ?1 AND trusted = ?2", params![truster.0, trusted.0])
        }
        Change::Requested(RequestFact { from, to, justification, at }) => run(
            "INSERT OR REPLACE INTO handshake_requests (sender, recipient, justification, at) VALUES (?1, ?2, ?3, ?4)",
            params![from.0, to.0, justification, at],
        ),
        Change::RequestClosed { from, to } => {
            run("DELETE FROM handshake_requests WHERE sender = ?1 AND recipient = ?2", params![from.0, to.0])
        }
        Change::Responded(ResponseFact { from, to, accept, at }) => run(
            "INSERT OR REPLACE INTO handshake_responses (sender, recipient, accept, at) VALUES (?1, ?2, ?3, ?4)",
            params![from.0, to.0, accept, at],
        ),
        Change::ResponseClosed { from, to } => {
            run("DELETE FROM handshake_responses WHERE sender = ?1 AND recipient = ?2", params![from.0, to.0])
        }
        Change::NetworkCreated(NetworkFact { id, name, join_rule, token_digest, creator, created_at }) => run(
            "INSERT INTO networks (id, name, join_rule, token_digest, creator, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![id, name, join_rule.to_string(), token_digest, creator.0, created_at],
        ),
        Change::Joined(network, node) => {
            run("INSERT OR IGNORE INTO members (network, node) VALUES (?1, ?2)", params![network, node.0])
        }
        Change::Left(network, node) => {
            run("DELETE FROM members WHERE network = ?1 AND node = ?2", params![network, node.0])
        }
        Change::Invited(InviteFact { network, target, inviter, at }) => run(
            "INSERT OR REPLACE INTO invites (network, target, inviter, at) VALUES (?1, ?2, ?3, ?4)",
            params![network, target.0, inviter.0, at],
        ),
        Change::InviteClosed { network, target } => {
            run("DELETE FROM invites WHERE network = ?1 AND target = ?2", params![network, target.0])
        }
        Change::Capability(fact) => {
            let CapabilityFact { node, serial, withdrawn, record, tags, signature } = &**fact;
            run(
                "INSERT OR REPLACE INTO capabilities (node, serial, withdrawn, record, tags, signature)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![node.0, serial, withdrawn, record, tags.join(" "), signature.0],
            )
        }
        Change::Searchable(words) => index::save(transaction, words),
        Change::KeyRule(rule) => run(
            "INSERT OR REPLACE INTO key_rules (key, banned, reason, at) VALUES (?1, ?2, ?3, ?4)",
            params![rule.key.0, rule.ban.is_some(), rule.ban.as_deref().unwrap_or_default(), rule.at],
        ),
        Change::KeyRuleEnded(key) => run("DELETE FROM key_rules WHERE key = ?1", params![key.0]),
        Change::Seen(day, nodes) => {
            let mut update = transaction.prepare_cached("UPDATE nodes SET last_seen_day = ?1 WHERE id = ?2")?;
            nodes.iter().try_for_each(|node| update.execute(params![day, node.0]).map(drop))
        }
    }
}

const SAVE_NODE: &str = "
    INSERT INTO nodes (id, key, key_set_at, registered, owner, hostname, tags, public, task_exec, version, lan_addrs,
                       relay_only, endpoint, endpoint_follows, signs, signed_host, approval, banned_at, ban_reason,
                       packets_per_second, bytes_per_second, wished_hostname, last_seen_day, vacant)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)
    ON CONFLICT (id) DO UPDATE SET
        key = ?2, key_set_at = ?3, registered = ?4, owner = ?5, hostname = ?6, tags = ?7, public = ?8, task_exec = ?9,
        version = ?10, lan_addrs = ?11, relay_only = ?12, endpoint = ?13, endpoint_follows = ?14, signs = ?15,
        signed_host = ?16, approval = ?17, banned_at = ?18, ban_reason = ?19, packets_per_second = ?20,
        bytes_per_second = ?21, wished_hostname = ?22, last_seen_day = ?23, vacant = ?24";

fn save_node(transaction: &Transaction<'_>, fact: &NodeFact) -> rusqlite::Result<()> {
    transaction.prepare_cached(SAVE_NODE)?.execute(params![
        fact.id.0,
        fact.key.0,
        fact.key_set_at,
        fact.registered,
        fact.owner,
        fact.hostname,
        fact.tags.join(" "),
        fact.public,
        fact.task_exec,
        fact.version,
        fact.lan_addrs.join(" "),
        fact.relay_only,
        fact.endpoint,
        fact.endpoint_follows,
        fact.signs,
        fact.signed_host.map(|host| host.to_string()),
        fact.approval as u8,
        fact.ban.as_ref().map(|ban| ban.at),
        fact.ban.as_ref().map(|ban| &ban.reason),
        fact.quota.packets_per_second,
        fact.quota.bytes_per_second,
        fact.wished_hostname,
        fact.last_seen_day,
        fact.vacant,
    ])?;
    Ok(())
}

fn node(row: &Row<'_>) -> rusqlite::Result<NodeFact> {
    Ok(NodeFact {
        id: id(row, "id")?,
        key: key(row, "key")?,
        key_set_at: row.get("key_set_at")?,
        registered: row.get("registered")?,
        owner: row.get("owner")?,
        hostname: row.get("hostname")?,
        tags: words(row, "tags")?,
        public: row.get("public")?,
        task_exec: row.get("task_exec")?,
        version: row.get("version")?,
        lan_addrs: words(row, "lan_addrs")?,
        relay_only: row.get("relay_only")?,
        endpoint: row.get("endpoint")?,
        endpoint_follows: row.get("endpoint_follows")?,
        signs: row.get("signs")?,
        signed_host: row.get::<_, Option<String>>("signed_host")?.map(|host| parse(&host)).transpose()?,
        approval: Approval::from_number(row.get("approval")?),
        ban: match row.get::<_, Option<u64>>("banned_at")? {
            Some(at) => Some(Box::new(Ban { at, reason: row.get::<_, Option<_>>("ban_reason")?.unwrap_or_default() })),
            None => None,
        },
        quota: Quota {
            packets_per_second: row.get("packets_per_second")?,
            bytes_per_second: row.get("bytes_per_second")?,
        },
        wished_hostname: row.get("wished_hostname")?,
        last_seen_day: row.get("last_seen_day")?,
        vacant: row.get("vacant")?,
    })
}

fn capability(row: &Row<'_>) -> rusqlite::Result<CapabilityFact> {
    Ok(CapabilityFact {
        node: id(row, 0)?,
        serial: row.get(1)?,
        withdrawn: row.get(2)?,
        record: String::from_utf8_lossy(row.get_ref(3)?.as_bytes()?).into(),
        tags: words(row, 4)?,
        signature: Base64(row.get(5)?),
    })
}

fn network(row: &Row<'_>) -> rusqlite::Result<NetworkFact> {
    Ok(NetworkFact {
        id: row.get(0)?,
        name: row.get(1)?,
        join_rule: parse(&row.get::<_, String>(2)?)?,
        token_digest: row.get(3)?,
        creator: id(row, 4)?,
        created_at: row.get(5)?,
    })
}

fn words(row: &Row<'_>, column: impl rusqlite::RowIndex) -> rusqlite::Result<Vec<String>> {
    Ok(row.get::<_, String>(column)?.split_whitespace().map(str::to_owned).collect())
}

fn id(row: &Row<'_>, column: impl rusqlite::RowIndex) -> rusqlite::Result<NodeId> {
    row.get(column).map(NodeId)
}

fn key(row: &Row<'_>, column: impl rusqlite::RowIndex) -> rusqlite::Result<PublicKey> {
    row.get(column).map(Base64)
}

fn parse<T: std::str::FromStr>(text: &str) -> rusqlite::Result<T> {
    text.parse()
        .map_err(|_| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(FromSqlError::InvalidType)))
}
