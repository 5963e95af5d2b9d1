//! Received files and their names.

use std::io;
use std::path::Path;

use serde::Serialize;

/// A received file, for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its name in the folder.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// When it was whole, as RFC 3339 writes it.
    pub modified: String,
}

/// Whole files in the folder for received files, the newest first, `limit` at most, and how many there are in all.
///
/// # Errors
/// What the system says about the folder.
#[expect(clippy::unimplemented, reason = "the shape first")]
pub fn list(_folder: &Path, _limit: usize) -> io::Result<(Vec<File>, usize)> {
    unimplemented!()
}

/// Removes all received files; says how many.
///
/// # Errors
/// What the system says.
#[expect(clippy::unimplemented, reason = "the shape first")]
pub fn clear(_folder: &Path) -> io::Result<usize> {
    unimplemented!()
}
