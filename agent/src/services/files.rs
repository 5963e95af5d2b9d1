//! Where file contents are read and written. Two back ends: [`Uring`] hands reads and writes to the kernel's ring and needs
//! the runtime of `tokio-uring`; [`Threads`] does them on tokio's threads and works everywhere. Folders and names are
//! always the threads' affair.
//!
//! Buffers are given away and come back with the outcome, because a ring writes into them while nobody waits.

mod threads;
mod uring;

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use threads::Threads;
pub use uring::Uring;

/// A buffer given away, and what became of it.
pub type Done<T> = (io::Result<T>, Vec<u8>);

/// A file of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it lies.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// What a disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user may write still.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// A place for files.
#[expect(async_fn_in_trait, reason = "services run on one thread")]
pub trait Files {
    /// An open file.
    type File;

    /// Opens a file to read.
    async fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file to write and read; makes it, readable by the owner alone, where there is none.
    async fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Fills `buffer`, up to its length, from `offset` on. Fewer bytes only at the end of the file.
    async fn read_at(&self, file: &Self::File, buffer: Vec<u8>, offset: u64) -> Done<usize>;

    /// Writes all of `buffer` at `offset`.
    async fn write_at(&self, file: &Self::File, buffer: Vec<u8>, offset: u64) -> Done<()>;

    /// Waits until what was written is on disk.
    async fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Bytes of the file at `path`.
    async fn size(&self, path: &Path) -> io::Result<u64> {
        threads::size(path).await
    }

    /// Makes a folder, readable by the owner alone, and those above it, where there is none.
    async fn create_folder(&self, path: &Path) -> io::Result<()> {
        threads::create_folder(path).await
    }

    /// The files of a folder, in no order.
    async fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        threads::list(folder).await
    }

    /// How much room there is on the disk of `folder`.
    async fn space(&self, folder: &Path) -> io::Result<Space> {
        threads::space(folder).await
    }

    /// Removes a file.
    async fn remove(&self, path: &Path) -> io::Result<()> {
        threads::remove(path).await
    }

    /// Gives the file at `from` the name `to`, on disk when this returns.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when there is a file of that name, which is left alone.
    async fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        threads::publish(from, to).await
    }
}

/// The back end that a start of the agent has chosen.
pub enum Chosen {
    /// The kernel's ring. Only within the runtime of `tokio-uring`.
    Uring(Uring),
    /// Tokio's threads.
    Threads(Threads),
}

/// An open file of [`Chosen`].
pub enum ChosenFile {
    /// Of the ring.
    Uring(<Uring as Files>::File),
    /// Of the threads.
    Threads(<Threads as Files>::File),
}

impl Files for Chosen {
    type File = ChosenFile;

    async fn open(&self, path: &Path) -> io::Result<ChosenFile> {
        match self {
            Self::Uring(files) => files.open(path).await.map(ChosenFile::Uring),
            Self::Threads(files) => files.open(path).await.map(ChosenFile::Threads),
        }
    }

    async fn create(&self, path: &Path) -> io::Result<ChosenFile> {
        match self {
            Self::Uring(files) => files.create(path).await.map(ChosenFile::Uring),
            Self::Threads(files) => files.create(path).await.map(ChosenFile::Threads),
        }
    }

    async fn read_at(&self, file: &ChosenFile, buffer: Vec<u8>, offset: u64) -> Done<usize> {
        match file {
            ChosenFile::Uring(file) => Uring.read_at(file, buffer, offset).await,
            ChosenFile::Threads(file) => Threads.read_at(file, buffer, offset).await,
        }
    }

    async fn write_at(&self, file: &ChosenFile, buffer: Vec<u8>, offset: u64) -> Done<()> {
        match file {
            ChosenFile::Uring(file) => Uring.write_at(file, buffer, offset).await,
            ChosenFile::Threads(file) => Threads.write_at(file, buffer, offset).await,
        }
    }

    async fn sync(&self, file: &ChosenFile) -> io::Result<()> {
        match file {
            ChosenFile::Uring(file) => Uring.sync(file).await,
            ChosenFile::Threads(file) => Threads.sync(file).await,
        }
    }
}
