//! The socket's file. One that a dead daemon left behind is replaced, a living daemon's is not; only the owner may
//! connect from the first moment on; and what is removed at the end is our own.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

const MODE: u32 = 0o600;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Another daemon is there.
    #[error("another daemon answers on {0}; stop it: pilotctl --socket {0} daemon stop")]
    Taken(PathBuf),
    /// Something else is there.
    #[error("{0} exists and is no socket; move it away, or name another path with --socket")]
    NotASocket(PathBuf),
    /// The folder is not there.
    #[error("the folder of {0} does not exist; create it, or name another path with --socket")]
    NoFolder(PathBuf),
    /// The system refuses.
    #[error("cannot make the socket {path}: {source}; name another path with --socket")]
    System {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A bound socket. Its file goes when the value does.
#[derive(Debug)]
pub struct Place {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Place {
    /// Whether `path` can be bound, as far as can be told beforehand.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn check(path: &Path) -> Result<(), PlaceError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(PlaceError::NoFolder(path.to_owned()));
        }
        check_free(path).await
    }

    /// Binds `path`.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn bind(path: &Path) -> Result<Self, PlaceError> {
        Self::check(path).await?;
        let system = |source| PlaceError::System { path: path.to_owned(), source };
        // Nobody may connect before the permissions are right, so the socket gets its name last.
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        let draft = PathBuf::from(draft);
        let bound = (|| {
            let _ = fs::remove_file(&draft);
            let listener = UnixListener::bind(&draft)?;
            fs::set_permissions(&draft, fs::Permissions::from_mode(MODE))?;
            let inode = fs::symlink_metadata(&draft)?.ino();
            fs::rename(&draft, path)?;
            Ok(Self { listener, path: path.to_owned(), inode })
        })();
        bound.map_err(|error| {
            let _ = fs::remove_file(&draft);
            system(error)
        })
    }

    /// The next client.
    ///
    /// # Errors
    /// What the system says; the next may go well.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(socket, _)| socket)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn check_free(path: &Path) -> Result<(), PlaceError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(PlaceError::System { path: path.to_owned(), source }),
    };
    if !metadata.file_type().is_socket() {
        return Err(PlaceError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(PlaceError::Taken(path.to_owned())),
        // Nobody listens: left behind.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A daemon too busy to take us is alive.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(PlaceError::Taken(path.to_owned())),
        Err(source) => Err(PlaceError::System { path: path.to_owned(), source }),
    }
}
