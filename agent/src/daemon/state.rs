//! What outlives the daemon: a folder with the identity, who is trusted, the last good list of relays, and what has been
//! received. Files are replaced whole (written aside, synced, renamed), so that a crash leaves the old or the new one.
//! A disk that is full costs what would have been kept, never the daemon.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrets::Locked;

use crate::Time;
use crate::capability::publication::Kept;
use crate::identity::{self, FileError, Identity};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const TRUST_NAME: &str = "trust.json";
const RELAYS_NAME: &str = "relays.json";
const CAPABILITY_NAME: &str = "capability.json";
const PID_NAME: &str = "pilot.pid";
const LOCK_NAME: &str = "lock";
/// Larger files are not ours.
const FILE_LEN_MAX: u64 = 16 << 20;
/// A failing disk is mentioned this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(600);

/// Another daemon has what this one wants.
#[derive(Debug, thiserror::Error)]
pub enum InUse {
    /// Its files.
    #[error("another daemon keeps its files in {0}; stop it, or name another folder with --data-dir")]
    Folder(PathBuf),
    /// Its identity: the two would take the directory's and the relay's word from each other.
    #[error("another daemon runs with the identity {0}; stop it, or name another with --identity")]
    Identity(PathBuf),
}

/// The data folder.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    complained_at: Cell<Option<Time>>,
}

impl State {
    /// Opens the folder, and makes it and its parts where they are missing.
    ///
    /// # Errors
    /// What the system says, with the folder's name.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let state = Self { folder: folder.to_owned(), complained_at: Cell::new(None) };
        for folder in [&state.folder, &state.inbox(), &state.received()] {
            fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(|error| {
                anyhow::anyhow!("cannot make the folder {}: {error}; name another with --data-dir", folder.display())
            })?;
        }
        Ok(state)
    }

    /// Takes the folder for this daemon alone, for as long as the file is open. It stays: whoever removed it would let two
    /// daemons lock two files of one name.
    ///
    /// # Errors
    /// [`InUse::Folder`], and what the system says.
    pub fn lock(&self) -> anyhow::Result<File> {
        let path = self.folder.join(LOCK_NAME);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(&path);
        let file = file.map_err(|error| {
            anyhow::anyhow!("cannot make {}: {error}; name another folder with --data-dir", path.display())
        })?;
        lock(file, || InUse::Folder(self.folder.clone()))
    }

    /// Where messages of the data exchange go.
    #[must_use]
    pub fn inbox(&self) -> PathBuf {
        self.folder.join("inbox")
    }

    /// Where files of the data exchange go.
    #[must_use]
    pub fn received(&self) -> PathBuf {
        self.folder.join("received")
    }

    /// What was kept of whom this node trusts.
    ///
    /// # Errors
    /// The file is there and cannot be read: better to stop than to forget whom the operator trusts.
    pub fn trust(&self) -> anyhow::Result<Option<String>> {
        trust_in(&self.folder)
    }

    /// Keeps whom this node trusts; false when that fails.
    pub async fn keep_trust(&self, now: Time, text: String) -> bool {
        self.keep(now, TRUST_NAME, text).await
    }

    /// The last good list of relays; none where it is missing or unreadable.
    #[must_use]
    pub fn relays(&self) -> Vec<String> {
        let text = read(&self.folder.join(RELAYS_NAME)).ok().flatten();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Keeps the list of relays, for a start while the directory is away.
    pub async fn keep_relays(&self, now: Time, relays: &[String]) {
        if self.relays() != relays {
            self.keep(now, RELAYS_NAME, serde_json::json!(relays).to_string()).await;
        }
    }

    /// What this node offered last, signed; none where it is missing or unreadable.
    #[must_use]
    pub fn capability(&self) -> Option<Kept> {
        let text = read(&self.folder.join(CAPABILITY_NAME)).ok().flatten()?;
        let kept = serde_json::from_str(&text);
        kept.inspect_err(|error| tracing::warn!(%error, file = CAPABILITY_NAME, "this is no record; it is passed over"))
            .ok()
    }

    /// Keeps what this node offers.
    pub async fn keep_capability(&self, now: Time, kept: &Kept) {
        if self.capability().as_ref() != Some(kept) {
            self.keep(now, CAPABILITY_NAME, serde_json::json!(kept).to_string()).await;
        }
    }

    /// Notes this process. The file goes when the value does.
    pub async fn note_process(&self, now: Time) -> PidFile {
        self.keep(now, PID_NAME, format!("{}\n", std::process::id())).await;
        PidFile { path: self.folder.join(PID_NAME) }
    }

    /// Writes a file, on another thread: a slow disk must not hold datagrams up. A failure is a warning, and a repeated one
    /// is silence for a while.
    async fn keep(&self, now: Time, name: &str, text: String) -> bool {
        let path = self.folder.join(name);
        let file = path.clone();
        let written = tokio::task::spawn_blocking(move || replace(&file, text.as_bytes())).await;
        let Err(error) = written.unwrap_or_else(|panic| Err(io::Error::other(panic))) else { return true };
        let silent = self.complained_at.get().is_some_and(|then| now.since(then) < COMPLAINT_INTERVAL);
        if !silent {
            self.complained_at.set(Some(now));
            tracing::warn!(file = %path.display(), %error, "cannot be kept; it will be tried again with the next change");
        }
        false
    }
}

/// As [`State::trust`], of a folder that need not be there.
///
/// # Errors
/// As there.
pub fn trust_in(folder: &Path) -> anyhow::Result<Option<String>> {
    let path = folder.join(TRUST_NAME);
    read(&path).map_err(|error| anyhow::anyhow!("cannot read {}: {error}; restore it or move it away", path.display()))
}

/// The process that has noted itself in `folder`, where it still runs.
#[must_use]
pub fn process_in(folder: &Path) -> Option<u32> {
    let pid: u32 = fs::read_to_string(folder.join(PID_NAME)).ok()?.trim().parse().ok()?;
    let is_same = |own: &Path, other: &Path| fs::read(own.join("comm")).ok() == fs::read(other.join("comm")).ok();
    let place = PathBuf::from(format!("/proc/{pid}"));
    (place.exists() && is_same(Path::new("/proc/self"), &place)).then_some(pid)
}

/// The note of the running process.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let own = format!("{}\n", std::process::id());
        if fs::read_to_string(&self.path).is_ok_and(|text| text == own) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The node's identity, made from `seed` where there is none yet.
///
/// # Errors
/// The file cannot be used, or not be made; the text says what to do.
pub fn load_identity(path: &Path, seed: impl FnOnce() -> io::Result<Locked<[u8; 32]>>) -> anyhow::Result<Identity> {
    match identity::load(path) {
        Ok(identity) => Ok(identity),
        Err(FileError::Missing(_)) => {
            let identity = identity::create(path, &*seed()?)?;
            tracing::info!(file = %path.display(), "this is a new node; its identity has been made");
            Ok(identity)
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes the identity for this daemon alone, for as long as the file is open.
///
/// # Errors
/// [`InUse::Identity`], and what the system says.
pub fn lock_identity(path: &Path) -> anyhow::Result<File> {
    let file = File::open(path).map_err(|error| anyhow::anyhow!("cannot open {}: {error}", path.display()))?;
    lock(file, || InUse::Identity(path.to_owned()))
}

fn lock(file: File, in_use: impl FnOnce() -> InUse) -> anyhow::Result<File> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(in_use().into()),
        // A file system without locks: then nobody has one.
        Err(TryLockError::Error(error)) => {
            tracing::debug!(%error, "locks do not work here");
            Ok(file)
        }
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(metadata) if metadata.len() > FILE_LEN_MAX => Err(io::Error::other("it is far too large")),
        Ok(_) => fs::read_to_string(path).map(Some),
    }
}

/// Puts `content` in the place of `path`, whole or not at all.
///
/// # Errors
/// What the system says; the old file is then still there.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
        return written;
    }
    // A name is on disk only once its folder is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust.json");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, FILE_MODE);
        // A folder in the way cannot be replaced; nothing is left of the attempt.
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(replace(&taken, b"new").is_err());
        assert_eq!(names(folder.path()), ["taken", "trust.json"]);
    }

    #[tokio::test]
    async fn what_cannot_be_kept_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        fs::create_dir(folder.path().join(RELAYS_NAME)).unwrap();
        state.keep_relays(Time(0), &["192.0.2.1:9001".to_owned()]).await;
        assert_eq!(state.complained_at.get(), Some(Time(0)));
        // Not so soon again.
        state.keep_relays(Time(1), &["192.0.2.1:9001".to_owned()]).await;
        assert_eq!(state.complained_at.get(), Some(Time(0)));
        fs::remove_dir(folder.path().join(RELAYS_NAME)).unwrap();
        state.keep_relays(Time(2), &["192.0.2.1:9001".to_owned()]).await;
        assert_eq!(state.relays(), ["192.0.2.1:9001"]);
    }
}
