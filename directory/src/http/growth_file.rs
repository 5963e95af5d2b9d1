//! Growth as a small text file in the data folder, a line an hour. Nothing that happens to it stops the directory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::history::growth::{Growth, HEADER, Hour, Loaded};

/// More is no file of ours: five years are 1.6 MB.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Where hours are written down.
#[derive(Debug)]
pub struct GrowthFile {
    path: PathBuf,
}

impl GrowthFile {
    /// The file at `path`, and what it holds. A damaged one is put aside with `.damaged` behind its name.
    #[must_use]
    pub fn open(path: PathBuf) -> (Self, Growth) {
        let loaded = match read(&path) {
            Ok(text) => text.as_deref().map_or(Loaded::Damaged, Growth::load),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Loaded::Rewrite(Growth::default()),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "cannot read how the network has grown");
                Loaded::Damaged
            }
        };
        let growth = match loaded {
            Loaded::Whole(growth) => return (Self { path }, growth),
            Loaded::Rewrite(growth) => growth,
            Loaded::Damaged => {
                let aside = path.with_extension("csv.damaged");
                tracing::warn!(path = %path.display(), aside = %aside.display(), "growth is damaged; starting over");
                if let Err(error) = fs::rename(&path, &aside) {
                    tracing::warn!(%error, "cannot put it aside");
                }
                Growth::default()
            }
        };
        if let Err(error) = rewrite(&path, &growth) {
            tracing::warn!(%error, path = %path.display(), "cannot write how the network grows");
        }
        (Self { path }, growth)
    }

    /// Writes `hour` down.
    pub fn append(&self, hour: &Hour) {
        let append = || {
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            // Somebody may have taken the file away.
            let header = if file.metadata()?.len() == 0 { format!("{HEADER}\n") } else { String::new() };
            file.write_all((header + &hour.line()).as_bytes())
        };
        if let Err(error) = append() {
            tracing::warn!(%error, path = %self.path.display(), "cannot write how the network grows");
        }
    }
}

/// The text; `None` when it is no text, or too long for one of ours.
fn read(path: &Path) -> io::Result<Option<String>> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Ok(None);
    }
    Ok(String::from_utf8(fs::read(path)?).ok())
}

/// Beside it first, so that there is never half a file.
fn rewrite(path: &Path, growth: &Growth) -> io::Result<()> {
    let beside = path.with_extension("csv.new");
    fs::write(&beside, growth.text())?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Hour = Hour { began: 1_800_000_000, registered: 12, online_peak: 5 };

    #[test]
    fn what_is_appended_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("growth.csv");
        let (file, growth) = GrowthFile::open(path.clone());
        assert_eq!(growth.current(), None);
        file.append(&HOUR);
        // Cut short by a crash.
        let text = fs::read_to_string(&path).unwrap() + "18000";
        fs::write(&path, text).unwrap();
        let (file, growth) = GrowthFile::open(path.clone());
        assert_eq!(growth.current(), Some(&HOUR));
        file.append(&Hour { began: HOUR.began + 3600, ..HOUR });
        assert_eq!(GrowthFile::open(path).1.since(0).count(), 2);
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_a_folder_that_is_gone_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("growth.csv");
        fs::write(&path, [0xFF, 0xFE, b'\n']).unwrap();
        let (file, growth) = GrowthFile::open(path.clone());
        assert_eq!(growth.current(), None);
        assert_eq!(fs::read(folder.path().join("growth.csv.damaged")).unwrap(), [0xFF, 0xFE, b'\n']);
        file.append(&HOUR);
        assert_eq!(GrowthFile::open(path).1.current(), Some(&HOUR));
        let (file, _) = GrowthFile::open(folder.path().join("gone/growth.csv"));
        file.append(&HOUR);
    }
}
