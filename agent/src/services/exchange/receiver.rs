//! Serves streams of the data exchange.

use std::path::PathBuf;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite};
use wire::DecodeError;
use wire::address::Address;

use crate::services::WallClock;
use crate::services::files::Files;

/// Where received things go, and how many.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder for messages.
    pub inbox: PathBuf,
    /// Folder for files.
    pub received: PathBuf,
    /// Messages the inbox holds; more are refused until some are read.
    pub inbox_messages_max: usize,
    /// Bytes of them.
    pub inbox_bytes_max: u64,
    /// Bytes of one file; bigger ones are refused.
    pub file_bytes_max: u64,
}

impl Config {
    /// With the usual bounds.
    #[must_use]
    pub fn new(inbox: PathBuf, received: PathBuf) -> Self {
        Self { inbox, received, inbox_messages_max: 10_000, inbox_bytes_max: 1 << 30, file_bytes_max: 1 << 40 }
    }
}

/// What has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message, in the inbox now.
    Message {
        /// From whom.
        from: Address,
        /// `text`, `binary` or `json`.
        kind: &'static str,
        /// Bytes of it.
        bytes: usize,
        /// Where it lies.
        path: PathBuf,
    },
    /// A file.
    File {
        /// From whom.
        from: Address,
        /// Bytes of it.
        bytes: u64,
        /// Where it lies.
        path: PathBuf,
    },
}

/// Why a stream is not served to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream.
    #[error("the connection broke: {0}")]
    Stream(#[from] std::io::Error),
    /// The peer does not speak the protocol.
    #[error("the peer sends what is no frame: {0}")]
    Malformed(#[from] DecodeError),
    /// The peer stopped in the middle of something.
    #[error("the peer was silent for too long")]
    Silent,
}

/// Receives for whoever runs the node.
pub struct Receiver<F> {
    _config: Config,
    _files: F,
    _clock: WallClock,
    _notify: Rc<dyn Fn(Received)>,
}

#[expect(clippy::unimplemented, reason = "the shape first")]
impl<F: Files> Receiver<F> {
    /// A receiver for all streams of a node. `notify` hears of everything that has come, once it is on disk.
    #[must_use]
    pub fn new(config: Config, files: F, clock: WallClock, notify: Rc<dyn Fn(Received)>) -> Self {
        Self { _config: config, _files: files, _clock: clock, _notify: notify }
    }

    /// Serves one stream, whose other end is `from`, until it ends.
    ///
    /// # Errors
    /// [`Error`]. What came before is stored; a file that is not whole waits for the rest.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, _from: Address, _stream: S) -> Result<(), Error> {
        unimplemented!()
    }
}
