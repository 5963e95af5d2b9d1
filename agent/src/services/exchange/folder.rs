//! A folder of messages or of received files: what is whole in it, and removing that. Hidden files and folders are none of
//! its affair.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::rfc3339;

/// Names end before they repeat.
const NUMBERS: usize = 1_000_000;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name in the folder.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// When it was last written, in unix seconds.
    pub modified: u64,
}

/// The files of a folder, in no order. One that does not exist yet is empty.
///
/// # Errors
/// What the system says about the folder.
pub fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let listing = match std::fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut entries = Vec::new();
    for entry in listing {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that has gone meanwhile is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && !name.starts_with('.') {
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let modified = modified.map_or(0, |since| since.as_secs());
            entries.push(Entry { path: entry.path(), name, bytes: metadata.len(), modified });
        }
    }
    Ok(entries)
}

/// Removes files; says how many.
///
/// # Errors
/// What the system says, of the first that stays.
pub fn remove<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> io::Result<usize> {
    let mut removed = 0;
    for entry in entries {
        match std::fs::remove_file(&entry.path) {
            Ok(()) => removed += 1,
            // Another was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// The part of a name that says when and in which order, as existing daemons write it: `20260131-120000.000-000001`.
pub(super) fn stamp(unix: Duration, number: usize) -> String {
    format!("{}-{:06}", rfc3339::compact(unix), number % NUMBERS)
}
