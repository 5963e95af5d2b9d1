//! A file that is not whole yet. It lies apart from whole ones, under a name made of sender and content, so that the next
//! connection finds what the last one brought. What is whole is flushed, compared, and only then given its name.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::services::files::Files;

/// Bytes read at once to be hashed.
const PIECE: u64 = 1 << 20;

pub(super) struct Partial<F: Files> {
    file: F::File,
    path: PathBuf,
    size_bytes: u64,
    position: u64,
    hasher: Sha256,
    /// Bytes in the hasher. What an earlier connection brought is hashed at the end only, since it makes the sender wait.
    hashed: u64,
}

impl<F: Files> Partial<F> {
    /// The file at `path`, as far as it is there.
    pub(super) async fn open(files: &F, path: PathBuf, size_bytes: u64) -> io::Result<Self> {
        let known = match files.size(&path).await {
            Ok(known) if known <= size_bytes => known,
            Ok(_) => {
                files.remove(&path).await?;
                0
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let file = files.create(&path).await?;
        Ok(Self { file, path, size_bytes, position: known, hasher: Sha256::new(), hashed: 0 })
    }

    /// Where the next byte belongs.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    pub(super) const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `bytes` behind what is there, and gives the buffer back.
    pub(super) async fn append(&mut self, files: &F, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        if self.hashed == self.position {
            self.hasher.update(&bytes);
            self.hashed += bytes.len() as u64;
        }
        let (outcome, bytes) = files.write_at(&self.file, bytes, self.position).await;
        outcome?;
        self.position += bytes.len() as u64;
        Ok(bytes)
    }

    /// Flushes the file, and gives the hash of what is in it.
    pub(super) async fn finish(&mut self, files: &F) -> io::Result<[u8; 32]> {
        files.sync(&self.file).await?;
        let mut buffer = Vec::new();
        while self.hashed < self.position {
            buffer.resize((self.position - self.hashed).min(PIECE) as usize, 0);
            let (outcome, filled) = files.read_at(&self.file, buffer, self.hashed).await;
            buffer = filled;
            let len = outcome?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.hasher.update(&buffer[..len]);
            self.hashed += len as u64;
        }
        Ok(self.hasher.clone().finalize().into())
    }
}
