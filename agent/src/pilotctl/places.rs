//! Where things are: the folder `~/.pilot`, the daemon's socket, the directory.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::exit::{Code, Failure};
use crate::config::values::Fingerprint;

/// The name of the daemon's socket in the system's temporary folder (section 10).
const SOCKET_NAME: &str = "pilot.sock";
const REGISTRY_VARIABLE: &str = "PILOT_REGISTRY";
const FINGERPRINT_VARIABLE: &str = "PILOT_REGISTRY_FINGERPRINT";
/// A configuration has a few hundred bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The folder of this user's node.
#[derive(Clone, Debug)]
pub struct Places {
    folder: PathBuf,
    config: Value,
}

impl Places {
    /// The places of this user, and what `config.json` there says of others.
    #[must_use]
    pub fn of_user() -> Self {
        let home = std::env::home_dir().unwrap_or_else(std::env::temp_dir);
        Self::new(home.join(".pilot"))
    }

    /// The places of a node in this folder.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        let config = read_config(&folder.join("config.json"));
        Self { folder, config }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where messages are kept.
    #[must_use]
    pub fn inbox(&self) -> PathBuf {
        self.folder.join("inbox")
    }

    /// Where files are kept.
    #[must_use]
    pub fn received(&self) -> PathBuf {
        self.folder.join("received")
    }

    /// What the daemon says.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("pilot.log")
    }

    /// The daemon's process.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.folder.join("pilot.pid")
    }

    /// The daemon's socket, where the command line names none.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        let set = std::env::var_os("PILOT_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
        let configured = || self.config_text("socket").map(PathBuf::from);
        set.or_else(configured).unwrap_or_else(|| std::env::temp_dir().join(SOCKET_NAME))
    }

    /// The directory, where the command line names none.
    #[must_use]
    pub fn registry(&self) -> Option<String> {
        variable(REGISTRY_VARIABLE).or_else(|| self.config_text("registry").map(str::to_owned))
    }

    /// The fingerprint of the directory's certificate, where the command line names none. What the file says is of the
    /// directory it names, not of one that is `named` on the command line or in the environment.
    ///
    /// # Errors
    /// It is none.
    pub fn registry_fingerprint(&self, named: bool) -> Result<Option<Fingerprint>, Failure> {
        let variable = variable(FINGERPRINT_VARIABLE).map(|text| (FINGERPRINT_VARIABLE, text));
        let file =
            || Some(("registry_fingerprint in config.json", self.config_text("registry_fingerprint")?.to_owned()));
        let named = named || self::variable(REGISTRY_VARIABLE).is_some();
        let Some((place, text)) = variable.or_else(|| file().filter(|_| !named)) else { return Ok(None) };
        let read = Fingerprint::parse(&text);
        read.map(Some).map_err(|hint| Failure::new(Code::InvalidArgument, format!("{place}: {text}")).hint(hint))
    }

    /// The admin token of networks.
    #[must_use]
    pub fn admin_token(&self) -> Option<String> {
        variable("PILOT_ADMIN_TOKEN").or_else(|| self.config_text("admin_token").map(str::to_owned))
    }

    fn config_text(&self, field: &str) -> Option<&str> {
        self.config[field].as_str().filter(|text| !text.is_empty())
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What is no configuration has no say; the daemon that owns the file complains about it.
fn read_config(path: &Path) -> Value {
    let short = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= CONFIG_BYTES_MAX);
    let text = if short { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
    serde_json::from_slice(&text).unwrap_or_default()
}
