//! Whether the database could be opened, asked before it is: while another process may have it open, and without a change
//! to any file.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};
use nix::sys::statvfs::statvfs;
use rusqlite::{Connection, ErrorCode};

use super::folder;
use super::glance::{self, Glance};
use super::repair::{self, Condition};
use super::{CHECKED, FILE_NAME, check_tables, disk_is_at_fault, schema};

const MIB: u64 = 1 << 20;

/// How the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// There is none yet.
    Missing,
    /// It can be opened, and has this version of the schema.
    Whole(usize),
    /// It cannot be looked at now: another program keeps it to itself, or the last one has left a log that only whoever
    /// opens the database can read.
    Unseen,
}

/// Looks whether a directory could open the database in `data_dir`: the folder can be written to, every page that matters is
/// in order, this program knows the schema, and where it has to be brought up to date there is room for that. Reads all of
/// the database: seconds for a few hundred MiB.
///
/// # Errors
/// It could not; the text says why and what to do.
pub fn look(data_dir: &Path) -> anyhow::Result<Seen> {
    look_with(data_dir, |folder| {
        let about = statvfs(folder)?;
        Ok(about.blocks_available().saturating_mul(about.fragment_size()))
    })
}

/// The same where `free` tells how many bytes can be written in a folder.
fn look_with(data_dir: &Path, free: impl Fn(&Path) -> io::Result<u64>) -> anyhow::Result<Seen> {
    let path = data_dir.join(FILE_NAME);
    let seen = inspect(data_dir, &path, free);
    seen.map_err(|error| {
        let advice = if disk_is_at_fault(&error) {
            "see that its disk works and that it can be written to"
        } else if error.downcast_ref::<Advised>().is_some() {
            return error.context(format!("cannot use the database {}", path.display()));
        } else {
            "restore it from a backup with `pilot-relay restore FILE`, and restart"
        };
        error.context(format!("cannot use the database {}; {advice}", path.display()))
    })
}

/// The text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Advised(String);

fn inspect(data_dir: &Path, path: &Path, free: impl Fn(&Path) -> io::Result<u64>) -> anyhow::Result<Seen> {
    let is_index_behind = folder::look(data_dir)?;
    if fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        return Ok(Seen::Missing);
    }
    // Closed again before SQLite opens the file: closing it later would give up SQLite's locks.
    drop(OpenOptions::new().append(true).open(path)?);
    let look = || -> anyhow::Result<Seen> {
        let connection = match glance::open(data_dir)? {
            Glance::Missing => return Ok(Seen::Missing),
            Glance::Unseen => return Ok(Seen::Unseen),
            Glance::Open(connection) => connection,
        };
        let version = schema::of(&connection)?;
        schema::is_known(version, Some(path)).map_err(|error| Advised(error.to_string()))?;
        if let Some(damage) = check_tables(&connection, CHECKED)? {
            bail!("it is damaged: {damage}");
        }
        let why = if version == 0 {
            None
        } else if version < schema::newest() {
            Some(format!("it is copied and brought from schema {version} to {}", schema::newest()))
        } else if is_index_behind || repair::inspect(&connection, false)? != Condition::Whole {
            Some("its search index is damaged or behind and has to be made anew".to_owned())
        } else {
            None
        };
        if let Some(why) = why {
            has_room(&connection, free(data_dir).context("cannot ask for free space")?, &why)?;
        }
        Ok(Seen::Whole(version))
    };
    look().or_else(|error| if is_left_to_the_opener(&error) { Ok(Seen::Unseen) } else { Err(error) })
}

/// Room for a copy, and for changes that go through the log: as much again if they touch every page.
fn has_room(connection: &Connection, free: u64, why: &str) -> anyhow::Result<()> {
    let ask = |what: &str| connection.query_row(&format!("PRAGMA {what}"), (), |row| row.get::<_, u64>(0));
    let needed = ask("page_count")?.saturating_mul(ask("page_size")?).saturating_mul(2);
    if free < needed {
        let (needed, free) = (needed.div_ceil(MIB), free / MIB);
        return Err(Advised(format!(
            "{why}, which takes {needed} MiB of its disk, and {free} MiB are free; make room and try again"
        ))
        .into());
    }
    Ok(())
}

/// Another program keeps the database to itself, or its log can only be read by whoever may write.
fn is_left_to_the_opener(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::ReadOnly))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

    use wire::NodeId;
    use wire::registry::Base64;

    use super::*;
    use crate::facts::{Change, NodeFact};
    use crate::store::Store;
    use crate::store::folder::LOG_FILE_NAME;
    use crate::store::glance::SHARED_MEMORY;

    const THEN: u64 = 1_795_000_000;
    const PAGE: u64 = 4096;

    /// A database with nodes, open; and its folder, whose name a URI would take apart.
    fn at_work() -> (tempfile::TempDir, Store) {
        let folder = tempfile::Builder::new().prefix("a %20b?c#d").tempdir().unwrap();
        let mut store = Store::open(folder.path(), THEN).unwrap();
        let node =
            |number: u8| Change::Node(Box::new(NodeFact::new(NodeId(number.into()), Base64([number; 32]), THEN)));
        store.commit(&(1..=200).map(node).collect::<Vec<_>>()).unwrap();
        (folder, store)
    }

    /// A copy as a crash leaves it: the log is there.
    fn crashed() -> tempfile::TempDir {
        let (folder, store) = at_work();
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(folder.path()).unwrap().flatten() {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        drop(store);
        copy
    }

    fn files(folder: &Path) -> BTreeMap<std::ffi::OsString, (Vec<u8>, std::time::SystemTime)> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let read = |entry: fs::DirEntry| {
            let modified = entry.metadata().unwrap().modified().unwrap();
            (entry.file_name(), (fs::read(entry.path()).unwrap(), modified))
        };
        entries.map(read).collect()
    }

    fn damage(folder: &Path) {
        let file = OpenOptions::new().write(true).open(folder.join(FILE_NAME)).unwrap();
        file.write_all_at(&[0xA5; 3 * PAGE as usize], PAGE).unwrap();
    }

    fn refused(folder: &Path) -> String {
        format!("{:#}", look(folder).unwrap_err())
    }

    #[test]
    fn a_look_sees_what_is_there_and_changes_nothing() {
        let newest = Seen::Whole(schema::newest());
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(look(empty.path()).unwrap(), Seen::Missing);
        assert_eq!(files(empty.path()).len(), 0);

        let (folder, store) = at_work();
        // In one process SQLite notes its readers together.
        let but_for_readers = |mut files: BTreeMap<_, _>| {
            files.remove(std::ffi::OsStr::new(SHARED_MEMORY));
            files
        };
        let before = files(folder.path());
        assert_eq!(look(folder.path()).unwrap(), newest, "beside whoever has it open");
        assert!(but_for_readers(files(folder.path())) == but_for_readers(before));
        drop(store);
        let before = files(folder.path());
        assert!(!before.contains_key(std::ffi::OsStr::new(LOG_FILE_NAME)), "an orderly end");
        assert_eq!(look(folder.path()).unwrap(), newest);
        assert!(files(folder.path()) == before);

        let crashed = crashed();
        let before = files(crashed.path());
        assert_eq!(look(crashed.path()).unwrap(), newest);
        assert!(files(crashed.path()) == before);
        fs::remove_file(crashed.path().join(SHARED_MEMORY)).unwrap();
        assert_eq!(look(crashed.path()).unwrap(), Seen::Unseen, "to read the log, it would have to be made");
        assert_eq!(files(crashed.path()).len(), before.len() - 1);
    }

    #[test]
    fn damage_is_seen_while_whoever_has_the_database_goes_on() {
        let (folder, store) = at_work();
        // Into the file, where the log holds it until now.
        repair::fold_log(&folder.path().join(FILE_NAME)).unwrap_or_default();
        damage(folder.path());
        let error = refused(folder.path());
        assert!(error.contains("damaged") && error.contains("pilot-relay restore FILE"), "{error}");
        drop(store);
        for (name, break_it) in [
            ("something else", (|file: &Path| fs::write(file, "not a database\n".repeat(1000)).unwrap()) as fn(&Path)),
            ("cut off to nothing", |file| fs::write(file, "").unwrap()),
            ("gone", |file| fs::remove_file(file).unwrap()),
        ] {
            let (folder, store) = at_work();
            drop(store);
            break_it(&folder.path().join(FILE_NAME));
            let error = refused(folder.path());
            assert!(error.contains("pilot-relay restore FILE"), "{name}: {error}");
        }
    }

    #[test]
    fn an_older_schema_takes_room_for_a_copy_and_a_newer_one_another_program() {
        let (folder, store) = at_work();
        drop(store);
        let path = folder.path().join(FILE_NAME);
        let set = |version: usize| {
            let connection = Connection::open(&path).unwrap();
            connection.pragma_update(None, "user_version", version).unwrap();
        };
        let length = fs::metadata(&path).unwrap().len();
        assert!(look_with(folder.path(), |_| Ok(0)).is_ok(), "nothing is to be copied");
        set(schema::newest() - 1);
        let with = |free: u64| look_with(folder.path(), move |_| Ok(free));
        assert_eq!(with(2 * length).unwrap(), Seen::Whole(schema::newest() - 1));
        let error = format!("{:#}", with(2 * length - 1).unwrap_err());
        assert!(error.contains("make room") && !error.contains("restore it"), "{error}");
        set(schema::newest() + 1);
        let error = refused(folder.path());
        assert!(error.contains("newer version") && !error.contains("restore it from"), "{error}");
    }

    #[test]
    fn what_cannot_be_written_is_not_called_damaged() {
        if nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: root may write everything");
            return;
        }
        let (folder, store) = at_work();
        drop(store);
        fs::set_permissions(folder.path().join(FILE_NAME), fs::Permissions::from_mode(0o400)).unwrap();
        let error = refused(folder.path());
        assert!(error.contains("can be written to") && !error.contains("damaged"), "{error}");
    }
}
