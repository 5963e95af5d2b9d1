//! The data folder: the directory's database, and the admin token made at the first start.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use directory::store::Seen;
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};
use zeroize::Zeroizing;

use super::whereabouts::Whereabouts;

/// In the folder.
pub const ADMIN_TOKEN: &str = "admin-token";
const TOKEN_BYTES: usize = 24;

/// Where a backup waits for the next start, as [`directory::store::restore`] puts it.
const PENDING_RESTORE: &str = "restore-pending.sqlite";

/// A folder that exists.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    is_restored: bool,
}

impl DataDir {
    /// Makes the folder, or takes it as it is. A restore that waits in it is carried out, unless another process serves there.
    ///
    /// # Errors
    /// It cannot be made or written to; the text says what to do.
    pub fn open(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = given.map_or_else(default_path, Ok)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).with_context(|| {
            format!("cannot make the data folder {}; choose another with --data-dir", path.display())
        })?;
        // Before anything in it is read: a backup that waits brings the token and keys along.
        let awaited = awaits_restore(&path);
        directory::store::restore::finish(&path)?;
        let is_restored = awaited && !awaits_restore(&path);
        if is_restored {
            Whereabouts::in_folder(&path).remove();
        }
        ::confinement::keep_to_owner(&path, directory::store::FILE_NAME, &[ADMIN_TOKEN, super::relay_key::FILE]);
        Ok(Self { path, is_restored })
    }

    /// Takes the folder as it is.
    ///
    /// # Errors
    /// There is none; the text names `--data-dir`.
    pub fn existing(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = given.map_or_else(default_path, Ok)?;
        if !path.is_dir() {
            bail!("there is no data folder {}; name the relay's with --data-dir", path.display());
        }
        Ok(Self { path, is_restored: false })
    }

    /// Whether a backup has just taken the place of the database: then numbers may belong to other nodes than before.
    #[must_use]
    pub const fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// Whether a backup waits for a start at which nobody else serves.
    #[must_use]
    pub fn awaits_restore(&self) -> bool {
        awaits_restore(&self.path)
    }

    /// Looks whether the database could be opened, which another process may have. `None` where a backup is about to replace
    /// it.
    ///
    /// # Errors
    /// It could not; the text says why and what to do.
    pub fn look_at_database(&self) -> anyhow::Result<Option<Seen>> {
        if self.awaits_restore() {
            return Ok(None);
        }
        directory::store::look(&self.path).map(Some)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The administrator's token, made when there is none.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn admin_token(&self) -> anyhow::Result<Zeroizing<String>> {
        let path = self.path.join(ADMIN_TOKEN);
        if let Some(token) = self.kept_admin_token()? {
            keep_to_owner(&path);
            return Ok(token);
        }
        let token = new_token()?;
        // Written beside and renamed, so that a crash leaves no half token.
        let beside = path.with_extension("new");
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(token.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(token)
    }

    /// The administrator's token; `None` where the next start makes one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn kept_admin_token(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        let path = self.path.join(ADMIN_TOKEN);
        match fs::read_to_string(&path).map(Zeroizing::new) {
            Ok(token) => Ok(Some(token).filter(|token| !token.trim().is_empty())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

fn awaits_restore(path: &Path) -> bool {
    path.join(PENDING_RESTORE).exists()
}

/// Where the admin token of the relay with this data folder is, whether it is there or not.
///
/// # Errors
/// No folder is given, and there is no home folder.
pub fn token_file(data_dir: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    Ok(data_dir.map_or_else(default_path, Ok)?.join(ADMIN_TOKEN))
}

/// What others could read is theirs no more; where it cannot be changed, it is said.
fn keep_to_owner(path: &Path) {
    let mode = |path| fs::metadata(path).map_or(0, |file| file.permissions().mode());
    if mode(path) & 0o077 == 0 {
        return;
    }
    tracing::warn!(path = %path.display(), "others could read the admin token; changing its mode to 0600");
    if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(0o600)) {
        tracing::warn!(path = %path.display(), %error, "cannot change its mode; run chmod 600 on it");
    }
}

#[expect(clippy::disallowed_methods, reason = "a secret is drawn once, at the first start")]
fn new_token() -> anyhow::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
    getrandom::fill(&mut *bytes).context("no randomness for the admin token")?;
    // Room for all of it at once: a text that grows leaves copies behind.
    let mut token = Zeroizing::new(String::with_capacity(2 * TOKEN_BYTES + 1));
    for digit in bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xF]) {
        token.push(char::from_digit(digit.into(), 16).unwrap_or_default());
    }
    token.push('\n');
    Ok(token)
}

/// From here on this process is the user whose folder `path` is: what root writes, the service could not open, and where the
/// service has put links, root must not follow them.
///
/// # Errors
/// It cannot.
pub fn become_owner(path: &Path) -> anyhow::Result<()> {
    let Ok(found) = fs::metadata(path) else { return Ok(()) };
    if !geteuid().is_root() || found.uid() == 0 {
        return Ok(());
    }
    let owner = || {
        setgroups(&[])?;
        setgid(Gid::from_raw(found.gid()))?;
        setuid(Uid::from_raw(found.uid()))
    };
    owner().with_context(|| format!("cannot become the owner of {}; run this as that user", path.display()))
}

/// The folder where none is named.
///
/// # Errors
/// There is no home folder.
pub fn default_path() -> anyhow::Result<PathBuf> {
    if geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/pilot-relay"));
    }
    let from = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("XDG_DATA_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("pilot-relay"))
        .context("no home folder to keep data in; choose one with --data-dir")
}
