//! The data folder: the directory's database, and the admin token made at the first start.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

const ADMIN_TOKEN: &str = "admin-token";
const TOKEN_BYTES: usize = 24;

/// A folder that exists.
#[derive(Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Makes the folder, or takes it as it is.
    ///
    /// # Errors
    /// It cannot be made; the text names `--data-dir`.
    pub fn open(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = given.map_or_else(default_path, Ok)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).with_context(|| {
            format!("cannot make the data folder {}; choose another with --data-dir", path.display())
        })?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The administrator's token, made when there is none.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn admin_token(&self) -> anyhow::Result<String> {
        let path = self.0.join(ADMIN_TOKEN);
        match fs::read_to_string(&path) {
            Ok(token) if !token.trim().is_empty() => return Ok(token),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
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
}

#[expect(clippy::disallowed_methods, reason = "a secret is drawn once, at the first start")]
fn new_token() -> anyhow::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).context("no randomness for the admin token")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
}

/// Where it is unless somebody says otherwise.
///
/// # Errors
/// There is no home folder.
pub fn default_path() -> anyhow::Result<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/pilot-relay"));
    }
    let from = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("XDG_DATA_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("pilot-relay"))
        .context("no home folder to keep data in; choose one with --data-dir")
}
