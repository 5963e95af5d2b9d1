//! File contents by io_uring.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio_uring::buf::BoundedBuf;
use tokio_uring::fs::{File, OpenOptions};

use super::{Done, Files};

/// The back end of the kernel's ring. Works within the runtime of `tokio-uring` only, and panics elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uring;

impl Files for Uring {
    type File = File;

    async fn open(&self, path: &Path) -> io::Result<File> {
        File::open(path).await
    }

    async fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).mode(0o600).open(path).await
    }

    async fn read_at(&self, file: &File, mut buffer: Vec<u8>, offset: u64) -> Done<usize> {
        let wanted = buffer.len();
        let mut filled = 0;
        while filled < wanted {
            let (outcome, slice) = file.read_at(buffer.slice(filled..wanted), offset + filled as u64).await;
            buffer = slice.into_inner();
            match outcome {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(filled), buffer)
    }

    async fn write_at(&self, file: &File, buffer: Vec<u8>, offset: u64) -> Done<()> {
        if buffer.is_empty() {
            return (Ok(()), buffer);
        }
        let (outcome, slice) = file.write_all_at(buffer.slice(..), offset).await;
        (outcome, slice.into_inner())
    }

    async fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all().await
    }
}
