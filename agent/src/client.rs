//! A connection to the daemon's unix socket: requests with their answers, streams, listeners and datagrams (section 10).
//!
//! [`Client`] asks, [`Stream`] is a stream as `AsyncRead + AsyncWrite`, [`Listener`] gives those that peers open. All
//! share one socket; one task reads and writes it. What belongs to what is decided in `mux`.
//!
//! [`Client::secure`] opens the secure channel over a stream.
//!
//! There is no half-close: `shutdown` ends a stream in both directions, once what was written is delivered.

mod mux;
mod secure;
mod socket;
mod stream;

pub use secure::SecureError;
pub use stream::Stream;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tokio::net::UnixStream;
use wire::address::SocketAddress;
use wire::ipc::{FRAME_MAX, Request};

use mux::Mux;
use socket::Handle;

/// Bytes of a datagram that fit a frame beside its addresses.
const DATAGRAM_BYTES_MAX: usize = FRAME_MAX - 64;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No socket is there, or nobody listens on it.
    #[error("no daemon listens on {}", .0.display())]
    NotRunning(PathBuf),
    /// There is one, but not for us.
    #[error("the daemon's socket {} cannot be opened: {source}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Whoever listens is another user, who might answer anything.
    #[error("user {uid} listens on {}, and not you or root", path.display())]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// Who listens.
        uid: u32,
    },
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The daemon refused it, in its words.
    #[error("{0}")]
    Refused(String),
    /// The connection broke first.
    #[error("the daemon closed the connection: {0}")]
    Disconnected(String),
    /// The daemon's answer is not what the request asks for.
    #[error("the daemon's answer makes no sense: {0}")]
    Senseless(String),
    /// Longer than a frame may be.
    #[error("too long: at most {limit} bytes can be sent at once")]
    TooLong {
        /// How long it may be.
        limit: usize,
    },
}

/// An answer, its layout decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The port taken.
    Port(u16),
    /// The stream opened or closed.
    Connection(u32),
    /// A JSON text; empty after a confirmed datagram.
    Json(String),
}

/// A datagram that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddress,
    /// Our port it came to.
    pub port: u16,
    /// What was sent.
    pub data: Box<[u8]>,
}

/// A connection to the daemon. Clones share it; it ends when the last of them and of its streams is gone.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

impl Client {
    /// Connects to the daemon. To be called within a tokio runtime, which drives the connection.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(path: &Path) -> Result<Self, ConnectError> {
        let socket = UnixStream::connect(path).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ConnectError::NotRunning(path.to_owned()),
            _ => ConnectError::Refused { path: path.to_owned(), source: error },
        })?;
        let refused = |error| ConnectError::Refused { path: path.to_owned(), source: error };
        let uid = socket.peer_cred().map_err(refused)?.uid();
        if !is_trusted(nix::unistd::geteuid().as_raw(), uid) {
            return Err(ConnectError::Stranger { path: path.to_owned(), uid });
        }
        Ok(Self { handle: Arc::new(Handle::drive(socket)) })
    }

    /// Asks, and waits for the answer. Requests of several tasks are asked one after the other.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request(&self, request: Request<'_>) -> Result<Answer, RequestError> {
        let mut begun = false;
        let handle = &self.handle;
        // The future may be dropped while the request is under way.
        let mut abandon = Abandon { handle, armed: false };
        let answer = handle
            .wait(|mux| {
                if !begun {
                    if let Some(reason) = mux.end() {
                        return Some(Err(RequestError::Disconnected(reason.to_owned())));
                    }
                    begun = mux.begin(&request);
                    abandon.armed = begun;
                }
                if begun { mux.take_answer() } else { None }
            })
            .await;
        abandon.armed = false;
        handle.change(|_| ());
        answer
    }

    /// Asks what is answered by JSON.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn ask(&self, request: Request<'_>) -> Result<Value, RequestError> {
        match self.request(request).await? {
            Answer::Json(text) if text.is_empty() => Ok(Value::Null),
            Answer::Json(text) => {
                serde_json::from_str(&text).map_err(|error| RequestError::Senseless(error.to_string()))
            }
            other => Err(RequestError::Senseless(format!("JSON expected, not {other:?}"))),
        }
    }

    /// Opens a stream to a peer.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn dial(&self, to: SocketAddress) -> Result<Stream, RequestError> {
        match self.request(Request::Dial { to }).await? {
            Answer::Connection(connection) => Ok(self.stream(connection, to)),
            other => Err(RequestError::Senseless(format!("a connection expected, not {other:?}"))),
        }
    }

    /// Takes a port for streams; 0 for any free one. The port is given back when the connection ends.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn listen(&self, port: u16) -> Result<Listener, RequestError> {
        // A peer may come before the answer is read, so that the queue is there first.
        if port != 0 {
            self.handle.change(|mux| mux.listen(port));
        }
        match self.request(Request::Bind { port }).await? {
            Answer::Port(port) => {
                self.handle.change(|mux| mux.listen(port));
                Ok(Listener { client: self.clone(), port })
            }
            other => Err(RequestError::Senseless(format!("a port expected, not {other:?}"))),
        }
    }

    /// Datagrams to `port`, from now on. No port is taken: the daemon shows all datagrams to all its clients.
    #[must_use]
    pub fn datagrams(&self, port: u16) -> Datagrams {
        self.handle.change(|mux| mux.listen_datagrams(port));
        Datagrams { client: self.clone(), port }
    }

    /// Sends a datagram and waits until it has left; `false` when the daemon does not know this and it was sent
    /// unconfirmed.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn send_datagram(&self, to: SocketAddress, data: &[u8]) -> Result<bool, RequestError> {
        if data.len() > DATAGRAM_BYTES_MAX {
            return Err(RequestError::TooLong { limit: DATAGRAM_BYTES_MAX });
        }
        match self.request(Request::SendToConfirmed { to, data }).await {
            Ok(_) => Ok(true),
            Err(RequestError::Refused(text)) if is_unknown_command(&text) => {
                self.handle.change(|mux| mux.send(&Request::SendTo { to, data }));
                self.flushed().await;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until all that was written has been handed to the daemon, or the connection has ended.
    pub async fn flushed(&self) {
        self.handle.flushed().await;
    }

    fn stream(&self, connection: u32, remote: SocketAddress) -> Stream {
        Stream::new(Arc::clone(&self.handle), connection, remote)
    }
}

/// Whether the daemon refused a request because it does not know the command.
#[must_use]
pub fn is_unknown_command(text: &str) -> bool {
    text.to_ascii_lowercase().contains("unknown command")
}

/// Streams that peers open to a port.
pub struct Listener {
    client: Client,
    port: u16,
}

impl Listener {
    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The next stream.
    ///
    /// # Errors
    /// [`RequestError::Disconnected`].
    pub async fn accept(&mut self) -> Result<Stream, RequestError> {
        let port = self.port;
        let incoming = self.client.handle.wait(|mux| or_end(mux.accept(port), mux)).await?;
        Ok(self.client.stream(incoming.connection, incoming.remote))
    }
}

/// Datagrams to a port.
pub struct Datagrams {
    client: Client,
    port: u16,
}

impl Datagrams {
    /// The next datagram.
    ///
    /// # Errors
    /// [`RequestError::Disconnected`].
    pub async fn receive(&mut self) -> Result<Datagram, RequestError> {
        let port = self.port;
        self.client.handle.wait(|mux| or_end(mux.take_datagram(port), mux)).await
    }
}

/// Whether the user `own` believes a daemon that `daemon` runs. The socket may lie in a folder where anyone can make one.
const fn is_trusted(own: u32, daemon: u32) -> bool {
    const ROOT: u32 = 0;
    own == ROOT || daemon == ROOT || daemon == own
}

fn or_end<T>(found: Option<T>, mux: &Mux) -> Option<Result<T, RequestError>> {
    let ended = || mux.end().map(|reason| Err(RequestError::Disconnected(reason.to_owned())));
    found.map(Ok).or_else(ended)
}

/// Gives a request up that nobody waits for any longer.
struct Abandon<'a> {
    handle: &'a Handle,
    armed: bool,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.handle.change(Mux::abandon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ourselves_and_root_are_believed_and_root_believes_all() {
        for (own, daemon, is_believed) in
            [(1000, 1000, true), (1000, 0, true), (1000, 1001, false), (0, 1000, true), (0, 0, true)]
        {
            assert_eq!(is_trusted(own, daemon), is_believed, "{own} {daemon}");
        }
    }
}
