//! Who a node is: its Ed25519 key, registered with the directory, and the file that keeps it.
//!
//! The file is the one existing daemons write, so that a node keeps its id when it changes its program:
//!
//! ```json
//! {
//!   "private_key": "base64 of 64 bytes: seed, public key",
//!   "public_key": "base64 of 32 bytes"
//! }
//! ```
//!
//! [`Identity`] is a plain value; [`load`] and [`create`] are for drivers. The key lies in locked memory; what reading,
//! writing and signing leave on stack and heap is wiped, and no `Debug` shows it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use secrets::{Locked, scrubbed};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Bytes of a seed, from which all of an identity follows.
pub const SEED_LEN: usize = 32;
/// Bytes of a public key.
pub const PUBLIC_KEY_LEN: usize = 32;

const PRIVATE_KEY_LEN: usize = SEED_LEN + PUBLIC_KEY_LEN;
/// An identity file has about 160 bytes; what is longer is something else.
const FILE_LEN_MAX: u64 = 4096;
/// More than an identity file of ours.
const TEXT_LEN_MAX: usize = 512;
const MODE: u32 = 0o600;

/// A node's key pair.
pub struct Identity(Locked<SigningKey>);

impl Identity {
    /// The identity that follows from `seed`: 32 bytes of chance, drawn once in a node's life.
    #[must_use]
    pub fn from_seed(seed: &[u8; SEED_LEN]) -> Self {
        scrubbed(|| Self(Locked::new(SigningKey::from_bytes(seed))))
    }

    /// The key others know this node by.
    #[must_use]
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_LEN] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs `text`.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        scrubbed(|| self.0.sign(text).to_bytes())
    }

    /// The text of an identity file.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        scrubbed(|| {
            let private_key = Zeroizing::new(STANDARD.encode(Zeroizing::new(self.0.to_keypair_bytes())));
            let content = Content { private_key: &private_key, public_key: &STANDARD.encode(self.public_key()) };
            // Room for all of it at once: a buffer that grows leaves copies behind.
            let mut text = Zeroizing::new(Vec::with_capacity(TEXT_LEN_MAX));
            serde_json::to_writer_pretty(&mut *text, &content).expect("two texts make JSON");
            text.push(b'\n');
            Zeroizing::new(String::from_utf8(std::mem::take(&mut *text)).expect("JSON is text"))
        })
    }

    /// The identity in the text of an identity file.
    ///
    /// # Errors
    /// [`Corrupt`] when the text is not such a file's, or its two keys do not belong together.
    pub fn from_json(text: &str) -> Result<Self, Corrupt> {
        scrubbed(|| Self::parse(text))
    }

    fn parse(text: &str) -> Result<Self, Corrupt> {
        let content: Content<'_> = serde_json::from_str(text).map_err(|_| Corrupt("it is no JSON with two keys"))?;
        let private_key = Zeroizing::new(decode::<PRIVATE_KEY_LEN>(content.private_key)?);
        let key = SigningKey::from_keypair_bytes(&private_key);
        let key = key.map_err(|_| Corrupt("the two halves of the private key do not belong together"))?;
        if decode(content.public_key)? != key.verifying_key().to_bytes() {
            return Err(Corrupt("the public key is not that of the private key"));
        }
        Ok(Self(Locked::new(key)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", STANDARD.encode(self.public_key()))
    }
}

/// Whether the holder of `public_key` has signed `text`. Strict: no weak keys, one signature for one text.
#[must_use]
pub fn has_signed(public_key: &[u8; PUBLIC_KEY_LEN], text: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public_key)
        .is_ok_and(|key| key.verify_strict(text, &Signature::from_bytes(signature)).is_ok())
}

/// What is wrong with the text of an identity file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Corrupt(&'static str);

/// Why an identity file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is none yet.
    #[error("no identity file {0}")]
    Missing(PathBuf),
    /// There is one already; identities are never overwritten.
    #[error("{0} exists already; move it away to begin as a new node")]
    Exists(PathBuf),
    /// Others than the owner may read or change it.
    #[error("{path} is open to others (mode {mode:04o}); if nobody else has seen it: chmod 600 {path}")]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no identity file.
    #[error("{path} is no identity file: {reason}; restore it from a copy, or move it away to begin as a new node")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: Corrupt,
    },
    /// The system refuses.
    #[error("cannot {verb} {path}: {source}")]
    System {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Reads the identity in `path`.
///
/// # Errors
/// [`FileError::Missing`], [`FileError::OpenToOthers`], [`FileError::Corrupt`], [`FileError::System`].
pub fn load(path: &Path) -> Result<Identity, FileError> {
    let system = |source| FileError::System { verb: "read", path: path.to_owned(), source };
    let corrupt = |reason| FileError::Corrupt { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path.to_owned()),
        _ => system(error),
    })?;
    let metadata = file.metadata().map_err(system)?;
    if !metadata.is_file() || metadata.len() > FILE_LEN_MAX {
        return Err(corrupt(Corrupt("it is no small file")));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::OpenToOthers { path: path.to_owned(), mode });
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_LEN_MAX as usize));
    file.take(FILE_LEN_MAX).read_to_end(&mut bytes).map_err(system)?;
    let text = str::from_utf8(&bytes).map_err(|_| corrupt(Corrupt("it is no text")))?;
    Identity::from_json(text).map_err(corrupt)
}

/// Creates `path` with the identity that follows from `seed`. The file appears whole or not at all, readable by its
/// owner alone, and never in the place of another.
///
/// # Errors
/// [`FileError::Exists`], [`FileError::System`].
pub fn create(path: &Path, seed: &[u8; SEED_LEN]) -> Result<Identity, FileError> {
    let identity = Identity::from_seed(seed);
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let system = |verb, path: &Path, source| FileError::System { verb, path: path.to_owned(), source };
    let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&draft);
    let written = write(file.map_err(|error| system("create", &draft, error))?, identity.to_json().as_bytes());
    let linked = written.and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    linked.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
        _ => system("create", path, error),
    })?;
    removed.and_then(|()| sync_folder(path)).map_err(|error| system("finish", path, error))?;
    Ok(identity)
}

fn write(mut file: File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.sync_all()
}

/// A name is on disk only once its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[derive(Serialize, Deserialize)]
struct Content<'a> {
    private_key: &'a str,
    public_key: &'a str,
}

fn decode<const N: usize>(text: &str) -> Result<[u8; N], Corrupt> {
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| Corrupt("a key is no base64"))?);
    bytes.as_slice().try_into().map_err(|_| Corrupt("a key has the wrong length"))
}
