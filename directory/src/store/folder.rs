//! The data folder around the database: one process at a time, and what the last one has left behind.
//!
//! The lock file says in one line whether the database is open and whether its index can be trusted. So a database that is
//! suddenly empty or gone, or a log that somebody has removed after a crash, is told from a folder that is new: SQLite
//! would start over with node 1, or without the changes acknowledged last. The line has always the same length and is
//! written in place, which also works on a full disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::FILE_NAME;

const LOCK_FILE_NAME: &str = "directory.lock";
/// Beside the database while it is open, and after a crash: what was committed last.
pub(super) const LOG_FILE_NAME: &str = "directory.sqlite-wal";
/// Made once the database is there.
const GROWTH_FILE_NAME: &str = "growth.csv";
/// The smallest page of a SQLite database; the first holds the header.
const HEADER_BYTES: u64 = 512;

/// A data folder that this process alone uses, as long as the value lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
    /// As written; `None` in a folder without a database of which this is known.
    state: Option<State>,
}

/// What is known of the database between two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// It was not closed in order.
    open: bool,
    /// The index has missed changes.
    index_behind: bool,
}

impl State {
    fn line(self) -> String {
        let database = if self.open { "open" } else { "closed" };
        let index = if self.index_behind { "behind" } else { "whole" };
        format!("{database:<6} {index:<6}\n")
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (database, index) = (words.next()?, words.next());
        // A line that is none of ours still says that the folder was in use.
        Some(Self { open: database == "open", index_behind: index == Some("behind") })
    }
}

impl Folder {
    /// Takes the folder.
    ///
    /// # Errors
    /// Another process has it, or it cannot be written to.
    pub(super) fn lock(path: &Path) -> anyhow::Result<Self> {
        match Self::try_lock(path)? {
            Some(folder) => Ok(folder),
            None => bail!(
                "the data folder {} is in use by another directory; stop it, or choose another with --data-dir",
                path.display()
            ),
        }
    }

    /// Takes the folder; `None` when another process has it.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn try_lock(path: &Path) -> anyhow::Result<Option<Self>> {
        let name = path.join(LOCK_FILE_NAME);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        // A link would lead whoever may write more than the folder's owner out of the folder.
        let lock = options.custom_flags(nix::libc::O_NOFOLLOW).open(&name);
        let lock = lock.with_context(|| {
            format!("cannot write to the data folder {}; choose another with --data-dir", path.display())
        })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", name.display()));
            }
        }
        let state = io::read_to_string(&lock).with_context(|| format!("cannot read {}", name.display()))?;
        Ok(Some(Self { path: path.to_owned(), lock, state: State::read(&state) }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last process has not closed the database in order.
    pub(super) fn was_left_open(&self) -> bool {
        self.state.is_some_and(|state| state.open)
    }

    /// Whether the index has missed changes.
    pub(super) fn is_index_behind(&self) -> bool {
        self.state.is_some_and(|state| state.index_behind)
    }

    /// Looks whether the files are those that the last process has left.
    ///
    /// # Errors
    /// The database is cut off, empty or gone, or its log is gone.
    pub(super) fn check_files(&self) -> anyhow::Result<()> {
        check_files(&self.path, self.state)
    }

    /// The database is open from now on: whoever finds the folder after a crash has to find the log, too.
    pub(super) fn opened(&mut self) {
        let index_behind = self.is_index_behind();
        // The log's name has to be on the disk before the line that says so.
        let result = sync_folder(&self.path).and_then(|()| self.write(State { open: true, index_behind }));
        if let Err(error) = result {
            tracing::warn!(%error, "cannot write {LOCK_FILE_NAME}; a log lost after a crash would not be noticed");
        }
    }

    /// The database is about to be closed. False when that cannot be noted: then the log has to stay.
    pub(super) fn closing(&mut self) -> bool {
        let index_behind = self.is_index_behind();
        self.write(State { open: false, index_behind }).is_ok()
    }

    /// Notes whether the index misses changes.
    pub(super) fn set_index_behind(&mut self, index_behind: bool) {
        let open = self.state.is_some_and(|state| state.open);
        if self.is_index_behind() != index_behind
            && let Err(error) = self.write(State { open, index_behind })
        {
            tracing::warn!(%error, "cannot write {LOCK_FILE_NAME}");
        }
    }

    fn write(&mut self, state: State) -> io::Result<()> {
        let line = state.line();
        self.lock.write_all_at(line.as_bytes(), 0)?;
        self.lock.set_len(line.len() as u64)?;
        self.lock.sync_data()?;
        self.state = Some(state);
        Ok(())
    }
}

/// Looks at the folder without taking it, and changes nothing: another process may have it. Returns whether the index has
/// missed changes.
///
/// # Errors
/// As [`Folder::lock`] and [`Folder::check_files`].
pub(super) fn look(path: &Path) -> anyhow::Result<bool> {
    let name = path.join(LOCK_FILE_NAME);
    let lock = OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NOFOLLOW).open(&name);
    let state = match lock {
        Ok(lock) => State::read(&io::read_to_string(&lock).with_context(|| format!("cannot read {}", name.display()))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(error).with_context(|| {
                format!("cannot write to the data folder {}; choose another with --data-dir", path.display())
            });
        }
    };
    check_files(path, state)?;
    Ok(state.is_some_and(|state| state.index_behind))
}

fn check_files(path: &Path, state: Option<State>) -> anyhow::Result<()> {
    let length = |name: &str| fs::metadata(path.join(name)).map_or(0, |file| file.len());
    match length(FILE_NAME) {
        0 => {
            let has_log = length(LOG_FILE_NAME) > 0;
            if state.is_some() || has_log || path.join(GROWTH_FILE_NAME).exists() {
                bail!("it is empty or gone, though this folder has been in use");
            }
        }
        length if length < HEADER_BYTES => bail!("it is damaged: cut off after {length} bytes"),
        _ => {
            if state.is_some_and(|state| state.open) && !path.join(LOG_FILE_NAME).exists() {
                bail!(
                    "its log {LOG_FILE_NAME} is gone, and the changes acknowledged last with it; put it back, or \
                     remove {LOCK_FILE_NAME} to go on without them"
                );
            }
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a file that its owner alone can read, in the place of what may have been left there; a link is not followed.
pub(super) fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new().write(true).create_new(true).mode(0o600).open(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_place_of_the_lock_or_of_a_new_file_leads_nowhere() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = elsewhere.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        for name in [LOCK_FILE_NAME, "new"] {
            std::os::unix::fs::symlink(&victim, folder.path().join(name)).unwrap();
        }
        assert!(Folder::try_lock(folder.path()).is_err());
        create_anew(&folder.path().join("new")).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(folder.path().join("new").metadata().unwrap().len() == 0);
    }

    #[test]
    fn a_line_is_read_as_it_was_written_and_all_are_as_long() {
        let states = [(false, false), (false, true), (true, false), (true, true)]
            .map(|(open, index_behind)| State { open, index_behind });
        for state in states {
            assert_eq!((State::read(&state.line()), state.line().len()), (Some(state), 14));
        }
        assert_eq!(State::read(""), None);
        assert_eq!(State::read("x"), Some(State { open: false, index_behind: false }));
    }
}
