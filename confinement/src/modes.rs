//! Whom files are for. New ones are for their owner alone, by the mask set at the start; those of older versions and
//! careless copies are brought in line.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::unistd::geteuid;

const FOLDER: u32 = 0o700;
const FILE: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// Takes others' rights to `folder` and the files in it away, and says so. Nothing is changed in a folder without our file
/// `mark`: it may be somebody's home. Files named in `judged` are left to their readers, who may refuse an open one.
pub fn keep_to_owner(folder: &Path, mark: &str, judged: &[&str]) {
    if !folder.join(mark).is_file() {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_judged = judged.iter().any(|name| entry.file_name() == *name);
        if !is_judged && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            tighten(&entry.path(), FILE);
        }
    }
    tighten(folder, FOLDER);
}

fn tighten(path: &Path, to: u32) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    let mode = found.permissions().mode() & 0o7777;
    // The sticky bit is that of a folder for all.
    if mode & OTHERS == 0 || mode & 0o1000 != 0 || found.uid() != geteuid().as_raw() {
        return;
    }
    tracing::warn!(path = %path.display(), from = %format_args!("{mode:04o}"), to = %format_args!("{to:04o}"),
        "was open to others; changing its mode");
    if let Err(error) = fs::set_permissions(path, Permissions::from_mode(to)) {
        tracing::warn!(path = %path.display(), %error, "cannot change its mode; run chmod on it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn only_a_folder_of_ours_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, mark) = (folder.path().join("key"), folder.path().join("mark"));
        let judged = folder.path().join("judged");
        fs::write(&judged, "x").unwrap();
        fs::set_permissions(&judged, Permissions::from_mode(0o644)).unwrap();
        let open = || {
            fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        };
        fs::write(&file, "x").unwrap();
        open();
        keep_to_owner(folder.path(), "mark", &["judged"]);
        assert_eq!((mode(folder.path()), mode(&file)), (0o755, 0o644));
        fs::write(&mark, "").unwrap();
        keep_to_owner(folder.path(), "mark", &["judged"]);
        assert_eq!((mode(folder.path()), mode(&file)), (0o700, 0o600));
        assert_eq!(mode(&judged), 0o644);
        open();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        keep_to_owner(folder.path(), "mark", &["judged"]);
        assert_eq!(mode(folder.path()), 0o1777, "that of all");
    }
}
