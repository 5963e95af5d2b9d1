//! The relay's key: by it the directory's list and the nodes that sign claims tell this relay from any other.
//!
//! An Ed25519 seed in the data folder, made at the first start. Nothing is signed with it yet, so all that stays in memory
//! is the public key, and the seed is wiped; a directory on another host will want to know a relay by its signature. A new key does no harm: nodes
//! learn it from the directory within a minute.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use ed25519_dalek::SigningKey;
use relay::cookie::Cookies;
use secrets::scrubbed;
use zeroize::Zeroizing;

/// In the data folder.
pub const FILE: &str = "relay-key";
const MODE: u32 = 0o600;
const SEED_BYTES: usize = 32;
/// What the file holds: the seed in hex, and a line break. What is longer is something else.
const FILE_BYTES_MAX: u64 = 2 * SEED_BYTES as u64 + 2;

type Seed = Zeroizing<[u8; SEED_BYTES]>;

/// What claims are challenged with, under the key kept in `folder` and a secret of this process.
///
/// # Errors
/// The key cannot be read or made; the text says what to do.
pub fn cookies(folder: &Path) -> anyhow::Result<Arc<Cookies>> {
    scrubbed(|| {
        let seed = load_or_make(folder)?;
        let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        Ok(Arc::new(Cookies::new(public, &*random()?)))
    })
}

/// Looks whether the key kept in `folder` can be used; false where the next start makes one.
///
/// # Errors
/// It cannot; the text says what to do.
pub fn check(folder: &Path) -> anyhow::Result<bool> {
    scrubbed(|| Ok(load(&folder.join(FILE))?.is_some()))
}

fn load_or_make(folder: &Path) -> anyhow::Result<Seed> {
    let path = folder.join(FILE);
    if let Some(seed) = load(&path)? {
        return Ok(seed);
    }
    let seed = random()?;
    write(folder, &path, &seed).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(seed)
}

fn load(path: &Path) -> anyhow::Result<Option<Seed>> {
    match File::open(path) {
        Ok(file) => read(path, &file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn read(path: &Path, file: &File) -> anyhow::Result<Seed> {
    let shown = path.display();
    let mode = file.metadata().with_context(|| format!("cannot read {shown}"))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("{shown} is open to others (mode {mode:04o}); if nobody else has seen it: chmod 600 {shown}");
    }
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize));
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).with_context(|| format!("cannot read {shown}"))?;
    parse(text.trim_end()).with_context(|| {
        format!("{shown} is no relay key; restore it from a copy, or move it away for a new one, which nodes accept")
    })
}

fn parse(text: &str) -> Option<Seed> {
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    if text.len() != 2 * SEED_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in seed.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(seed)
}

/// Beside and renamed, so that a crash leaves a whole key or none.
fn write(folder: &Path, path: &Path, seed: &Seed) -> io::Result<()> {
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize));
    for byte in seed.iter() {
        for digit in [byte >> 4, byte & 0xF] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
    }
    text.push('\n');
    let beside = path.with_extension("new");
    // What a crash has left may have another mode.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[expect(clippy::disallowed_methods, reason = "secrets are drawn once, at the start")]
fn random() -> anyhow::Result<Seed> {
    let mut bytes = Zeroizing::new([0; SEED_BYTES]);
    getrandom::fill(bytes.as_mut_slice()).context("no randomness for the relay's key")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_for_the_owner_alone_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        fs::write(path.with_extension("new"), "what a crash has left").unwrap();
        let first = *cookies(folder.path()).unwrap().relay_key();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(*cookies(folder.path()).unwrap().relay_key(), first);
        assert!(!path.with_extension("new").exists());
        let other = tempfile::tempdir().unwrap();
        assert_ne!(*cookies(other.path()).unwrap().relay_key(), first);
    }

    #[test]
    fn what_is_no_key_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for wrong in ["", "abc", &"é".repeat(32), &"+1".repeat(32), &"0".repeat(65), &"0".repeat(63)] {
            fs::write(&path, wrong).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(MODE)).unwrap();
            let error = format!("{:#}", cookies(folder.path()).unwrap_err());
            assert!(error.contains("no relay key") && error.contains("move it away"), "{wrong}: {error}");
        }
        fs::write(&path, "0".repeat(64)).unwrap();
        assert!(cookies(folder.path()).is_ok(), "without a line break it is one");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(format!("{:#}", cookies(folder.path()).unwrap_err()).contains("chmod 600"));
    }
}
