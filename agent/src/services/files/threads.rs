//! Files by the calls every system has, on tokio's threads for them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::statvfs::statvfs;
use tokio::task::spawn_blocking;

use super::{Done, Files, Listed, Space};

/// The back end that works everywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Threads;

impl Files for Threads {
    type File = Arc<File>;

    async fn open(&self, path: &Path) -> io::Result<Arc<File>> {
        let path = path.to_owned();
        run(move || File::open(path).map(Arc::new)).await
    }

    async fn create(&self, path: &Path) -> io::Result<Arc<File>> {
        let path = path.to_owned();
        run(move || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map(Arc::new)
        })
        .await
    }

    async fn read_at(&self, file: &Arc<File>, mut buffer: Vec<u8>, offset: u64) -> Done<usize> {
        let file = Arc::clone(file);
        run_with_buffer(move || {
            let mut filled = 0;
            while filled < buffer.len() {
                match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(len) => filled += len,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return (Err(error), buffer),
                }
            }
            (Ok(filled), buffer)
        })
        .await
    }

    async fn write_at(&self, file: &Arc<File>, buffer: Vec<u8>, offset: u64) -> Done<()> {
        let file = Arc::clone(file);
        run_with_buffer(move || (file.write_all_at(&buffer, offset), buffer)).await
    }

    async fn sync(&self, file: &Arc<File>) -> io::Result<()> {
        let file = Arc::clone(file);
        run(move || file.sync_all()).await
    }
}

pub(super) async fn size(path: &Path) -> io::Result<u64> {
    let path = path.to_owned();
    run(move || fs::metadata(path).map(|metadata| metadata.len())).await
}

pub(super) async fn create_folder(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    run(move || DirBuilder::new().recursive(true).mode(0o700).create(path)).await
}

pub(super) async fn list(folder: &Path) -> io::Result<Vec<Listed>> {
    let folder = folder.to_owned();
    run(move || {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // It has gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if metadata.is_file() {
                files.push(Listed { path: entry.path(), bytes: metadata.len(), modified: metadata.modified()? });
            }
        }
        Ok(files)
    })
    .await
}

pub(super) async fn space(folder: &Path) -> io::Result<Space> {
    let folder = folder.to_owned();
    run(move || {
        let disk = statvfs(&folder)?;
        let bytes = |blocks: u64| disk.fragment_size().saturating_mul(blocks);
        Ok(Space { free_bytes: bytes(disk.blocks_available()), total_bytes: bytes(disk.blocks()) })
    })
    .await
}

pub(super) async fn remove(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    run(move || fs::remove_file(path)).await
}

pub(super) async fn publish(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (from.to_owned(), to.to_owned());
    run(move || {
        match fs::hard_link(&from, &to) {
            Ok(()) => fs::remove_file(&from)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // No links on this file system: hold the name with an empty file, then put ours in its place.
            Err(_) => {
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to)?;
                if let Err(error) = fs::rename(&from, &to) {
                    let _ = fs::remove_file(&to);
                    return Err(error);
                }
            }
        }
        // A name is on disk only once its folder is.
        File::open(folder(&to))?.sync_all()
    })
    .await
}

fn folder(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

async fn run<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

async fn run_with_buffer<T: Send + 'static>(work: impl FnOnce() -> Done<T> + Send + 'static) -> Done<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| (Err(io::Error::other(error)), Vec::new()))
}
