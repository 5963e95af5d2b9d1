//! Received files and their names. A sender's name is a wish: what is used of it cannot leave the folder, hide, or take
//! the place of another file.

use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::Serialize;

use crate::rfc3339;
use crate::services::files::Files;

/// Bytes of a name, of the 255 that file systems take, so that a number still fits.
const NAME_BYTES_MAX: usize = 200;
/// Bytes of an extension that survives where a name is cut.
const EXTENSION_BYTES_MAX: usize = 20;
/// Numbers tried for one name.
const NUMBERS_MAX: usize = 1000;

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

/// Whole files in the folder for received files, the newest first, `limit` at most, and how many there are in all. A
/// folder that does not exist yet is empty.
///
/// # Errors
/// What the system says about the folder.
pub fn list(folder: &Path, limit: usize) -> io::Result<(Vec<File>, usize)> {
    let mut files = Vec::new();
    for path in visible(folder)? {
        // One that has gone meanwhile is not there.
        let Ok(metadata) = path.metadata() else { continue };
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        files.push((modified.unwrap_or_default(), name, metadata.len()));
    }
    files.sort_by(|a, b| (b.0, &b.1).cmp(&(a.0, &a.1)));
    let total = files.len();
    let shown = files.into_iter().take(limit);
    let shown = shown.map(|(time, name, bytes)| File { name, bytes, modified: rfc3339::format(time.as_secs()) });
    Ok((shown.collect(), total))
}

/// Removes all received files; says how many. Those that are not whole stay.
///
/// # Errors
/// What the system says.
pub fn clear(folder: &Path) -> io::Result<usize> {
    let paths = visible(folder)?;
    paths.iter().try_for_each(std::fs::remove_file)?;
    Ok(paths.len())
}

/// Files in `folder` that are not hidden.
pub(super) fn visible(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// Gives the whole file at `path` a name in `folder`: `wanted`, made safe, with a number where that is taken.
pub(super) async fn publish<F: Files>(files: &F, path: &Path, folder: &Path, wanted: &str) -> io::Result<PathBuf> {
    let name = safe_name(wanted);
    for number in 0..NUMBERS_MAX {
        let target = folder.join(numbered(&name, number));
        match files.publish(path, &target).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome.map(|()| target),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("there are {NUMBERS_MAX} files called {name}")))
}

fn safe_name(wanted: &str) -> String {
    let last = wanted.rsplit(['/', '\\']).next().unwrap_or_default();
    // Invisible characters that turn the direction of writing make `exe.txt` of `txt.exe`.
    let is_deceptive =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let mut name: String = last.chars().map(|c| if c.is_control() || is_deceptive(c) { '_' } else { c }).collect();
    if name.trim().is_empty() {
        return "file".to_owned();
    }
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let (stem, extension) = split(&name);
    let extension = if extension.len() <= EXTENSION_BYTES_MAX { extension } else { "" };
    let stem = &stem[..stem.floor_char_boundary(NAME_BYTES_MAX - extension.len())];
    format!("{stem}{extension}")
}

fn numbered(name: &str, number: usize) -> String {
    if number == 0 {
        return name.to_owned();
    }
    let (stem, extension) = split(name);
    format!("{stem} ({number}){extension}")
}

/// A name and its extension, dot included.
fn split(name: &str) -> (&str, &str) {
    name.rfind('.').filter(|dot| *dot > 0).map_or((name, ""), |dot| name.split_at(dot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_folder_or_hide() {
        for (wanted, name) in [
            ("note.txt", "note.txt"),
            ("Größe 1.txt", "Größe 1.txt"),
            ("../../etc/passwd", "passwd"),
            ("/etc/passwd", "passwd"),
            (r"C:\Windows\system.ini", "system.ini"),
            ("..", "_."),
            (".", "_"),
            ("a/..", "_."),
            ("", "file"),
            ("dir/", "file"),
            ("  ", "file"),
            (".bashrc", "_bashrc"),
            (".partial", "_partial"),
            ("a\0b\nc\u{7f}", "a_b_c_"),
            ("cod\u{202e}txt.exe", "cod_txt.exe"),
        ] {
            assert_eq!(safe_name(wanted), name, "{wanted:?}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters_and_keep_their_extension() {
        let name = safe_name(&format!("{}.tar.gz", "ü".repeat(300)));
        assert!(name.len() <= NAME_BYTES_MAX && name.ends_with(".gz"), "{name}");
        assert!(safe_name(&format!("a.{}", "b".repeat(300))).len() <= NAME_BYTES_MAX);
        assert!(safe_name(&"ü".repeat(32_000)).len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn numbers_stand_before_the_extension() {
        assert_eq!(numbered("a.tar.gz", 2), "a.tar (2).gz");
        assert_eq!(numbered("README", 1), "README (1)");
        assert_eq!(numbered("_bashrc", 0), "_bashrc");
    }
}
