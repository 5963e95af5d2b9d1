//! Putting a backup in the place of the database.
//!
//! While a directory serves, nothing can be put under its hands. So a backup is first copied beside the database, checked
//! and brought up to date as `restore-pending.sqlite`; whoever next has the folder to himself takes it over: the command
//! at once where nobody serves, else the next start. Taking over is a list of steps, each of which may be done twice, and
//! the last one renames the pending file over the database. A crash before that leaves the file pending, and the next
//! start goes through the list once more; there is no moment without a whole database. What was there before is kept in
//! `before-restore-TIME`, a data folder of its own.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::backup::{self, Companion};
use super::folder::{Folder, LOG_FILE_NAME, create_anew, sync_folder};
use super::repair::{self, Condition};
use super::{FILE_NAME, check_tables, load, migrate};

const PENDING: &str = "restore-pending.sqlite";
const SHARED_MEMORY: &str = "directory.sqlite-shm";
/// Where the nodes of the old database were last: their numbers may be others' in the new one.
const WHEREABOUTS: &str = "whereabouts";

/// What is about to be, or was, put in the place of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Nodes in it.
    pub nodes: usize,
    /// When the backup was made, Unix seconds; `None` for a bare copy of a database.
    pub made_at: Option<u64>,
    /// Files beside the database that come with it.
    pub files: Vec<String>,
    /// Where what was there before is kept; `None` while a directory serves, whose next start takes the backup over.
    pub kept: Option<PathBuf>,
}

/// A backup that is open: whoever may read it need not be whoever writes to the data folder.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
}

impl Source {
    /// Opens the backup at `path`.
    ///
    /// # Errors
    /// It cannot be read, or is a database in use.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let open = || -> anyhow::Result<File> {
            let mut log = path.as_os_str().to_owned();
            log.push("-wal");
            if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
                bail!("it is a database in use, with a log beside it; make a backup of it with `pilot-relay backup`");
            }
            Ok(File::open(path)?)
        };
        Ok(Self { path: path.to_owned(), file: open().with_context(|| refusal(path))? })
    }
}

fn refusal(path: &Path) -> String {
    format!("cannot restore {}; nothing was changed", path.display())
}

/// Has the backup `source` take the place of what is in `data_dir`: at once, or at the next start of the directory that
/// serves there. Made for the folder's owner: what is written belongs to whoever runs this.
///
/// # Errors
/// It is no backup, damaged or of a newer version, or cannot be copied; nothing has changed then.
pub fn restore(data_dir: &Path, source: Source, now_unix_seconds: u64) -> anyhow::Result<Report> {
    let Source { path, file } = source;
    let mut report = stage(data_dir, file, now_unix_seconds).with_context(|| refusal(&path))?;
    if let Some(mut folder) = Folder::try_lock(data_dir)? {
        report.kept = take_over(&mut folder)?;
    }
    Ok(report)
}

/// Carries out what waits in `data_dir`, unless another process has it.
///
/// # Errors
/// The pending file is damaged, or the folder cannot be written to.
pub fn finish(data_dir: &Path) -> anyhow::Result<()> {
    if data_dir.join(PENDING).exists()
        && let Some(mut folder) = Folder::try_lock(data_dir)?
    {
        take_over(&mut folder)?;
    }
    Ok(())
}

/// Gives up a restore that has not begun; false when there is none.
///
/// # Errors
/// It has begun.
pub fn cancel(data_dir: &Path) -> anyhow::Result<bool> {
    let pending = data_dir.join(PENDING);
    if !pending.exists() {
        return Ok(false);
    }
    // One that cannot be read cannot have begun either: reading it comes first.
    if let Ok(plan) = Plan::read(data_dir)
        && plan.aside.exists()
    {
        bail!("the restore has begun; start the relay to finish it, then restore what is in {}", plan.aside.display());
    }
    fs::remove_file(&pending).with_context(|| format!("cannot remove {}", pending.display()))?;
    sync_folder(data_dir)?;
    Ok(true)
}

/// Copies `from` into the folder, checks it, brings it up to date, and lets it wait.
fn stage(data_dir: &Path, mut from: File, now_unix_seconds: u64) -> anyhow::Result<Report> {
    let beside = data_dir.join(format!("restore-pending.{}.new", std::process::id()));
    let mut staged = || -> anyhow::Result<Report> {
        let mut to = create_anew(&beside)?;
        io::copy(&mut from, &mut to).with_context(|| format!("cannot write to {}", data_dir.display()))?;
        drop(to);
        let report = prepare(&beside, now_unix_seconds)?;
        File::open(&beside)?.sync_all()?;
        fs::rename(&beside, data_dir.join(PENDING))?;
        sync_folder(data_dir)?;
        Ok(report)
    };
    let staged = staged();
    if staged.is_err() {
        let _ = fs::remove_file(&beside);
    }
    staged
}

/// Checks the copy, and makes of it what a directory of this version would have written.
fn prepare(path: &Path, now_unix_seconds: u64) -> anyhow::Result<Report> {
    if fs::metadata(path)?.len() == 0 {
        bail!("it is empty");
    }
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "DELETE").context("it is no backup")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let version: usize = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    let has = |name: &str| -> rusqlite::Result<bool> {
        connection.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?.exists([name])
    };
    if version == 0 || !has("directory")? || !has("nodes")? {
        bail!("it is a database, but not one of a directory");
    }
    if let Some(damage) = check_tables(&connection, "name NOT LIKE 'search\\_%' ESCAPE '\\'")? {
        bail!("it is damaged: {damage}");
    }
    let made_at = has("backup")?.then(|| check_digest(&connection)).transpose()?;
    if made_at.is_none() {
        connection.execute_batch(backup::TABLES)?;
        connection.execute("INSERT INTO backup (made_at, program, digest) VALUES (0, '', x'')", ())?;
    }
    migrate(&mut connection, now_unix_seconds)?;
    if repair::inspect(&connection, true)? == Condition::Wrong {
        repair::rebuild(&mut connection)?;
    }
    let nodes = load(&connection)?.nodes.len();
    connection.execute("UPDATE backup SET staged_at = ?1", params![now_unix_seconds])?;
    let files = backup::files_in(&connection)?.into_iter().map(|file| file.name).collect();
    connection.close().map_err(|(_, error)| error)?;
    Ok(Report { nodes, made_at, files, kept: None })
}

/// When the backup was made, if it is still as it was then.
fn check_digest(connection: &Connection) -> anyhow::Result<u64> {
    let row = connection.query_row("SELECT made_at, digest FROM backup", (), |row| Ok((row.get(0)?, row.get(1)?)));
    let (made_at, digest): (u64, Vec<u8>) =
        row.optional()?.context("it is damaged: it does not say when it was made")?;
    if digest != backup::digest(connection)? {
        bail!("it is damaged: what is in it is not what was written");
    }
    Ok(made_at)
}

/// What has to be done to take the pending file over.
struct Plan {
    aside: PathBuf,
    steps: Vec<Step>,
}

enum Step {
    MakeAside,
    /// What the log holds goes into the database, so that it is kept as one file.
    FoldLog,
    /// What belongs to the old database alone goes: it must not be found beside another one.
    MoveAway(&'static str),
    /// The present file is kept, unless it is the new one already.
    Keep(String, Option<Vec<u8>>),
    Place(Companion),
    /// The pending file becomes the database.
    Rename,
}

impl Plan {
    fn read(data_dir: &Path) -> anyhow::Result<Self> {
        let pending = data_dir.join(PENDING);
        let connection = Connection::open(&pending)?;
        if let Some(damage) = check_tables(&connection, "name NOT LIKE 'search\\_%' ESCAPE '\\'")? {
            bail!("it is damaged: {damage}");
        }
        let staged_at: u64 = connection.query_row("SELECT staged_at FROM backup", (), |row| row.get(0))?;
        let mut files = backup::files_in(&connection)?;
        // A name is no path: what was signed by nobody must not lead out of the folder.
        files.retain(|file| Path::new(&file.name).file_name() == Some(file.name.as_ref()));
        let mut steps = vec![Step::MakeAside, Step::FoldLog];
        steps.extend([LOG_FILE_NAME, SHARED_MEMORY, WHEREABOUTS].map(Step::MoveAway));
        steps.push(Step::Keep(FILE_NAME.to_owned(), None));
        steps.extend(files.iter().map(|file| Step::Keep(file.name.clone(), Some(file.bytes.clone()))));
        steps.extend(files.into_iter().map(Step::Place));
        steps.push(Step::Rename);
        Ok(Self { aside: data_dir.join(format!("before-restore-{staged_at}")), steps })
    }
}

/// Carries out what waits in the folder; returns where the old database is kept.
///
/// # Errors
/// The pending file is damaged, or the folder cannot be written to. What was done so far is no harm.
pub(super) fn take_over(folder: &mut Folder) -> anyhow::Result<Option<PathBuf>> {
    let pending = folder.path().join(PENDING);
    if !pending.exists() {
        return Ok(None);
    }
    let mut run = || -> anyhow::Result<PathBuf> {
        let Plan { aside, steps } = Plan::read(folder.path())?;
        for step in steps {
            carry_out(folder, &aside, step)?;
        }
        Ok(aside)
    };
    let aside = run().with_context(|| {
        format!("cannot take over {}; give it up with `pilot-relay restore --cancel`, or make room", pending.display())
    })?;
    tracing::info!(kept = %aside.display(), "a backup has taken the place of the database");
    Ok(Some(aside))
}

fn carry_out(folder: &mut Folder, aside: &Path, step: Step) -> anyhow::Result<()> {
    let data_dir = folder.path().to_owned();
    match step {
        Step::MakeAside => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(aside)?;
        }
        // A damaged database is kept as it is, its log beside it.
        Step::FoldLog if data_dir.join(LOG_FILE_NAME).exists() => {
            let _ = repair::fold_log(&data_dir.join(FILE_NAME));
        }
        Step::FoldLog => {}
        Step::MoveAway(name) => {
            // From here on the absence of a log is no loss.
            if !folder.closing() {
                bail!("cannot write to the data folder");
            }
            if data_dir.join(name).exists() {
                fs::rename(data_dir.join(name), aside.join(name))?;
            }
        }
        Step::Keep(name, new) => {
            let (present, kept) = (data_dir.join(&name), aside.join(&name));
            let is_new = new.is_some_and(|new| fs::read(&present).is_ok_and(|bytes| bytes == new));
            if present.exists() && !kept.exists() && !is_new {
                fs::hard_link(present, kept)?;
            }
        }
        Step::Place(Companion { name, mode, bytes }) => {
            let (place, beside) = (data_dir.join(&name), data_dir.join(format!("{name}.new")));
            let mut file = create_anew(&beside)?;
            file.write_all(&bytes)?;
            file.set_permissions(fs::Permissions::from_mode(mode & 0o777))?;
            file.sync_all()?;
            fs::rename(beside, place)?;
        }
        Step::Rename => {
            sync_folder(aside)?;
            sync_folder(&data_dir)?;
            fs::rename(data_dir.join(PENDING), data_dir.join(FILE_NAME))?;
            sync_folder(&data_dir)?;
            folder.set_index_behind(false);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wire::NodeId;
    use wire::registry::Base64;

    use super::*;
    use crate::facts::{Change, NodeFact};
    use crate::store::Store;

    const THEN: u64 = 1_795_000_000;

    fn folder_with_nodes(count: u8, token: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), THEN).unwrap();
        let node = |number: u8| {
            let mut fact = NodeFact::new(NodeId(number.into()), Base64([number; 32]), THEN);
            fact.hostname = Some(format!("{token}-{number}"));
            Change::Node(Box::new(fact))
        };
        store.commit(&(1..=count).map(node).collect::<Vec<_>>()).unwrap();
        fs::write(folder.path().join("admin-token"), token).unwrap();
        fs::write(folder.path().join(WHEREABOUTS), token).unwrap();
        folder
    }

    fn stage_at(folder: &Path, backup: &Path) {
        stage(folder, File::open(backup).unwrap(), THEN + 5).unwrap();
    }

    fn state(folder: &Path) -> (usize, String) {
        let nodes = Store::open(folder, THEN).unwrap().load().unwrap().nodes.len();
        (nodes, fs::read_to_string(folder.join("admin-token")).unwrap())
    }

    /// A folder as a crash leaves it: its log not folded into the database, and the lock file says "open".
    fn crashed(folder: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        let store = Store::open(folder, THEN).unwrap();
        for entry in fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        drop(store);
        copy
    }

    #[test]
    fn a_crash_at_any_step_leaves_a_restore_that_the_next_start_finishes() {
        let source = folder_with_nodes(3, "backup");
        let backup = source.path().join("b.backup");
        super::backup::write(source.path(), &backup, false, "test", THEN).unwrap();
        let before = folder_with_nodes(7, "before");
        let total = {
            let probe = crashed(before.path());
            stage_at(probe.path(), &backup);
            Plan::read(probe.path()).unwrap().steps.len()
        };
        assert!(total >= 8, "{total}");
        for done in 0..=total {
            let folder = crashed(before.path());
            stage_at(folder.path(), &backup);
            {
                let mut locked = Folder::lock(folder.path()).unwrap();
                let Plan { aside, steps } = Plan::read(folder.path()).unwrap();
                for step in steps.into_iter().take(done) {
                    carry_out(&mut locked, &aside, step).unwrap();
                }
            }
            assert_eq!(state(folder.path()), (3, "backup".to_owned()), "after {done} steps");
            assert!(!folder.path().join(PENDING).exists());
            assert!(!folder.path().join(WHEREABOUTS).exists(), "it is of other numbers");
            let kept = folder.path().join(format!("before-restore-{}", THEN + 5));
            assert_eq!(state(&kept), (7, "before".to_owned()), "after {done} steps");
        }
    }

    #[test]
    fn a_restore_that_waits_can_be_given_up_until_it_has_begun() {
        let source = folder_with_nodes(3, "backup");
        let backup = source.path().join("b.backup");
        super::backup::write(source.path(), &backup, false, "test", THEN).unwrap();
        let folder = folder_with_nodes(7, "before");
        assert!(!cancel(folder.path()).unwrap());
        stage_at(folder.path(), &backup);
        assert!(cancel(folder.path()).unwrap());
        assert_eq!(state(folder.path()), (7, "before".to_owned()));
        stage_at(folder.path(), &backup);
        fs::create_dir(folder.path().join(format!("before-restore-{}", THEN + 5))).unwrap();
        assert!(cancel(folder.path()).unwrap_err().to_string().contains("has begun"));
    }
}
