//! Which parts of files have to go before another begins, and whether the disk has room for it. Parts that a stream is
//! writing never go.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::services::files::Space;

/// Parts of files that wait for the rest.
const PARTIALS_MAX: usize = 64;
/// Those of one peer.
const PARTIALS_PER_PEER_MAX: usize = 8;
/// Free bytes that are left to others, at least; on a big disk a hundredth of it.
const FREE_BYTES_MIN: u64 = 64 << 20;
const FREE_PARTS: u64 = 100;

/// A part that lies in the folder.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub path: PathBuf,
    pub modified: SystemTime,
    /// Whether a stream is writing it.
    pub is_claimed: bool,
}

/// Those of `parts` that go, so that there is room for `path`: the oldest of the same peer, whose names begin with
/// `prefix`, and then the oldest of all.
///
/// # Errors
/// Too many are being written.
pub(super) fn superfluous(mut parts: Vec<Part>, path: &Path, prefix: &str) -> io::Result<Vec<PathBuf>> {
    parts.retain(|part| part.path != path);
    let (mut count, mut gone) = (parts.len(), Vec::new());
    let is_of_peer =
        |part: &Part| part.path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
    let mut of_peer = parts.iter().filter(|part| is_of_peer(part)).count();
    // Those of the same peer first, of these the oldest.
    parts.sort_by_key(|part| (!is_of_peer(part), part.modified));
    for part in parts.into_iter().filter(|part| !part.is_claimed) {
        let is_own = is_of_peer(&part);
        if count < PARTIALS_MAX && (!is_own || of_peer < PARTIALS_PER_PEER_MAX) {
            continue;
        }
        count -= 1;
        of_peer -= usize::from(is_own);
        gone.push(part.path);
    }
    match count < PARTIALS_MAX && of_peer < PARTIALS_PER_PEER_MAX {
        true => Ok(gone),
        false => Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many files are coming in; try again later")),
    }
}

/// Whether `bytes` more leave enough of the disk free.
///
/// # Errors
/// They do not.
pub(super) fn fits(bytes: u64, space: Space) -> io::Result<()> {
    let kept = FREE_BYTES_MIN.max(space.total_bytes / FREE_PARTS);
    let usable = space.free_bytes.saturating_sub(kept);
    if bytes <= usable {
        return Ok(());
    }
    let text = format!("the disk has room for {usable} bytes, not {bytes}; free some on the receiver's side");
    Err(io::Error::new(io::ErrorKind::StorageFull, text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn part(peer: u32, age: u64) -> Part {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
        Part { path: format!("/p/{peer}-{age}").into(), modified, is_claimed: false }
    }

    #[test]
    fn the_oldest_of_the_same_peer_go_and_never_one_that_is_written() {
        let mut parts: Vec<Part> =
            (0..10).map(|age| part(1, age)).chain((0..5).map(|age| part(12, 100 + age))).collect();
        parts[9].is_claimed = true;
        let gone = superfluous(parts.clone(), Path::new("/p/1-new"), "1-").unwrap();
        assert_eq!(gone, ["/p/1-8", "/p/1-7", "/p/1-6"].map(PathBuf::from));
        let gone = superfluous(parts.clone(), Path::new("/p/1-0"), "1-").unwrap();
        assert_eq!(gone, ["/p/1-8", "/p/1-7"].map(PathBuf::from));
        parts.iter_mut().for_each(|part| part.is_claimed = true);
        assert!(superfluous(parts.clone(), Path::new("/p/1-new"), "1-").is_err());
        assert_eq!(superfluous(parts, Path::new("/p/3-new"), "3-").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn all_together_are_bounded() {
        let parts: Vec<Part> = (0..64).map(|age| part(age as u32 % 20, age)).collect();
        let gone = superfluous(parts.clone(), Path::new("/p/100-new"), "100-").unwrap();
        assert_eq!(gone, [PathBuf::from("/p/3-63")]);
        let gone = superfluous(parts, Path::new("/p/7-new"), "7-").unwrap();
        assert_eq!(gone, [PathBuf::from("/p/7-47")]);
    }

    #[test]
    fn some_of_the_disk_stays_free() {
        let space = |free_bytes, total_bytes| Space { free_bytes, total_bytes };
        assert!(fits(10, space(FREE_BYTES_MIN + 10, 1 << 30)).is_ok());
        assert!(fits(11, space(FREE_BYTES_MIN + 10, 1 << 30)).is_err());
        assert!(fits(1 << 40, space(2 << 40, 100 << 40)).is_ok());
        assert!(fits((1 << 40) + 1, space(2 << 40, 100 << 40)).is_err());
        assert!(fits(1, space(0, 0)).is_err());
    }
}
