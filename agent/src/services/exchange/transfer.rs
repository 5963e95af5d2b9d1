//! Sends files.

use std::io;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};

use super::sender::Error;
use crate::services::files::Files;

/// How a file travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In chunks, checked as a whole by the receiver.
    FileStream,
    /// In one frame, to receivers of old releases; nobody checks it.
    Whole,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes the receiver says it has.
    pub acknowledged_bytes: u64,
    /// Bytes of the file.
    pub total_bytes: u64,
    /// Where the receiver told us to start.
    pub resumed_bytes: u64,
}

/// A file that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes that were there before.
    pub bytes_resumed: u64,
    /// Bytes that were sent, those of broken connections included.
    pub bytes_sent: u64,
    /// Of the file.
    pub sha256: [u8; 32],
    /// How it travelled.
    pub transport: Transport,
    /// The receiver has compared the SHA-256.
    pub is_verified: bool,
}

/// Sends the file at `path` under `name`. `dial` opens a connection to the peer's port 1001: at first, and again when it
/// broke, up to [`CONNECTIONS_MAX`] in a row without progress.
///
/// # Errors
/// [`Error`].
#[expect(clippy::unimplemented, reason = "the shape first")]
pub async fn send_file<F: Files, S: AsyncRead + AsyncWrite + Unpin>(
    _files: &F,
    _path: &Path,
    _name: &str,
    _dial: impl AsyncFnMut() -> io::Result<S>,
    _progress: impl FnMut(Progress),
) -> Result<Sent, Error> {
    unimplemented!()
}

/// Connections in a row that brought nothing before a transfer is given up.
pub const CONNECTIONS_MAX: usize = 5;
