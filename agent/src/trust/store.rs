//! The trust file and the shapes of its entries.
//!
//! ```json
//! {"trusted": [{"node_id": 2, "public_key": "…", "approved_at": "2026-01-01T00:00:00Z", "mutual": true, "network": 0}],
//!  "pending": [{"node_id": 3, "public_key": "…", "justification": "…", "received_at": "2026-01-01T00:00:00Z"}]}
//! ```
//!
//! This is the file existing daemons keep; `requested`, the requests of ours that have no answer, is an addition that they
//! ignore. Without it an accept that comes after a restart would answer nothing. Clients of the daemon see the same
//! entries with times in unix seconds (section 10).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wire::NodeId;
use wire::registry::PublicKey;

use crate::rfc3339;

/// A trust file has some hundred bytes for each node.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A trusted node. Serialises to the shape of section 10.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trusted {
    /// Since when, in unix seconds.
    pub approved_at: u64,
    /// Both sides have said so.
    pub mutual: bool,
    /// The network it was given in; 0 for a node of its own right.
    pub network: u16,
    /// Who.
    pub node_id: NodeId,
    /// Its key in the directory, once known.
    #[serde(with = "key")]
    pub public_key: Option<PublicKey>,
}

/// A node that asks to be trusted. Serialises to the shape of section 10.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Why, in its own words.
    pub justification: String,
    /// Who.
    pub node_id: NodeId,
    /// Its key in the directory, once known.
    #[serde(with = "key")]
    pub public_key: Option<PublicKey>,
    /// Since when, in unix seconds.
    pub received_at: u64,
}

/// A node we have asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Requested {
    /// Why, in our words.
    pub justification: String,
    /// Whom.
    pub node_id: NodeId,
    /// When, in unix seconds.
    pub requested_at: u64,
}

/// What is wrong with the text of a trust file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no trust file: {0}; restore it from a copy, or move it away to begin without trust")]
pub struct Corrupt(String);

/// Reads the trust file at `path`; none where there is none yet. For drivers.
///
/// # Errors
/// What the system says; [`io::ErrorKind::FileTooLarge`] for what cannot be a trust file.
pub fn load(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Writes the trust file at `path`, readable by its owner alone: whole and on disk, or as it was. For drivers.
///
/// # Errors
/// What the system says.
pub fn save(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    // A name is on disk only once its folder is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// What a file says.
pub(super) struct Content {
    pub trusted: Vec<Trusted>,
    pub pending: Vec<Pending>,
    pub requested: Vec<Requested>,
}

pub(super) fn from_json(text: &str) -> Result<Content, Corrupt> {
    let file: FileText = serde_json::from_str(text).map_err(|error| Corrupt(error.to_string()))?;
    Ok(Content {
        trusted: file.trusted.unwrap_or_default().into_iter().map(Trusted::from).collect(),
        pending: file.pending.unwrap_or_default().into_iter().map(Pending::from).collect(),
        requested: file.requested.unwrap_or_default().into_iter().map(Requested::from).collect(),
    })
}

pub(super) fn to_json<'a>(
    trusted: impl Iterator<Item = &'a Trusted>,
    pending: impl Iterator<Item = &'a Pending>,
    requested: impl Iterator<Item = &'a Requested>,
) -> String {
    let requested: Vec<_> = requested.map(RequestedInFile::from).collect();
    let file = FileText {
        trusted: Some(trusted.map(TrustedInFile::from).collect()),
        pending: Some(pending.map(PendingInFile::from).collect()),
        requested: Some(requested).filter(|requested| !requested.is_empty()),
    };
    serde_json::to_string_pretty(&file).expect("texts and numbers make JSON") + "\n"
}

/// Lists may be missing or null.
#[derive(Serialize, Deserialize)]
struct FileText {
    trusted: Option<Vec<TrustedInFile>>,
    pending: Option<Vec<PendingInFile>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requested: Option<Vec<RequestedInFile>>,
}

#[derive(Serialize, Deserialize)]
struct TrustedInFile {
    node_id: NodeId,
    #[serde(default, with = "key")]
    public_key: Option<PublicKey>,
    #[serde(with = "rfc3339")]
    approved_at: u64,
    #[serde(default)]
    mutual: bool,
    #[serde(default)]
    network: u16,
}

#[derive(Serialize, Deserialize)]
struct PendingInFile {
    node_id: NodeId,
    #[serde(default, with = "key")]
    public_key: Option<PublicKey>,
    #[serde(default)]
    justification: String,
    #[serde(with = "rfc3339")]
    received_at: u64,
}

#[derive(Serialize, Deserialize)]
struct RequestedInFile {
    node_id: NodeId,
    #[serde(default)]
    justification: String,
    #[serde(with = "rfc3339")]
    requested_at: u64,
}

impl From<TrustedInFile> for Trusted {
    fn from(entry: TrustedInFile) -> Self {
        let TrustedInFile { node_id, public_key, approved_at, mutual, network } = entry;
        Self { approved_at, mutual, network, node_id, public_key }
    }
}

impl From<&Trusted> for TrustedInFile {
    fn from(entry: &Trusted) -> Self {
        let Trusted { approved_at, mutual, network, node_id, public_key } = *entry;
        Self { node_id, public_key, approved_at, mutual, network }
    }
}

impl From<PendingInFile> for Pending {
    fn from(entry: PendingInFile) -> Self {
        let PendingInFile { node_id, public_key, justification, received_at } = entry;
        Self { justification, node_id, public_key, received_at }
    }
}

impl From<&Pending> for PendingInFile {
    fn from(entry: &Pending) -> Self {
        let Pending { justification, node_id, public_key, received_at } = entry.clone();
        Self { node_id, public_key, justification, received_at }
    }
}

impl From<RequestedInFile> for Requested {
    fn from(entry: RequestedInFile) -> Self {
        let RequestedInFile { node_id, justification, requested_at } = entry;
        Self { justification, node_id, requested_at }
    }
}

impl From<&Requested> for RequestedInFile {
    fn from(entry: &Requested) -> Self {
        let Requested { justification, node_id, requested_at } = entry.clone();
        Self { node_id, justification, requested_at }
    }
}

/// A key that may be missing: an empty text then.
mod key {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use wire::registry::PublicKey;

    pub fn serialize<S: Serializer>(key: &Option<PublicKey>, serializer: S) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => serializer.collect_str(key),
            None => serializer.serialize_str(""),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PublicKey>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(de::Error::custom) }
    }
}
