//! A connection to the daemon's unix socket: requests with their answers, streams, listeners and datagrams (section 10).
//!
//! [`Client`] asks, [`Stream`] is a stream as `AsyncRead + AsyncWrite`, [`Listener`] gives those that peers open. All
//! share one socket; one task reads and writes it. What belongs to what is decided in `mux`.
//!
//! There is no half-close: `shutdown` ends a stream in both directions, once what was written is delivered.

mod mux;

use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use wire::address::SocketAddress;
use wire::ipc::{FRAME_MAX, Request};

use mux::{Mux, Read};

/// Bytes of a datagram that fit a frame beside its addresses.
const DATAGRAM_BYTES_MAX: usize = FRAME_MAX - 64;
const READ_BYTES: usize = 64 << 10;

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
        let shared = Arc::new(Shared(Mutex::new(State {
            mux: Mux::new(),
            waiting: Vec::new(),
            socket_waker: None,
            writing: false,
            dropped: false,
        })));
        tokio::spawn(drive(socket, Arc::clone(&shared)));
        Ok(Self { handle: Arc::new(Handle(shared)) })
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
        poll_fn(|context| {
            let mut state = self.handle.0.lock();
            if state.mux.end().is_some() || (!state.mux.has_outbound() && !state.writing) {
                return Poll::Ready(());
            }
            state.wait(context);
            Poll::Pending
        })
        .await;
    }

    fn stream(&self, connection: u32, remote: SocketAddress) -> Stream {
        Stream { handle: Arc::clone(&self.handle), connection, remote }
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

fn or_end<T>(found: Option<T>, mux: &Mux) -> Option<Result<T, RequestError>> {
    let ended = || mux.end().map(|reason| Err(RequestError::Disconnected(reason.to_owned())));
    found.map(Ok).or_else(ended)
}

/// A stream to a peer. Dropping it closes it; `shutdown` closes it and waits for the daemon's word.
pub struct Stream {
    handle: Arc<Handle>,
    connection: u32,
    remote: SocketAddress,
}

impl Stream {
    /// The daemon's number for it.
    #[must_use]
    pub const fn connection(&self) -> u32 {
        self.connection
    }

    /// The other end.
    #[must_use]
    pub const fn remote(&self) -> SocketAddress {
        self.remote
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.handle.0.lock();
        let had_room = state.mux.has_room();
        match state.mux.read(self.connection, out.initialize_unfilled()) {
            Read::Bytes(len) => {
                out.advance(len);
                if !had_room {
                    state.wake();
                }
                Poll::Ready(Ok(()))
            }
            Read::End => Poll::Ready(Ok(())),
            Read::Failed(complaint) => Poll::Ready(Err(io::Error::other(complaint))),
            Read::Pending => {
                state.wait(context);
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.handle.0.lock();
        match state.mux.write(self.connection, bytes) {
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Some(0) if !bytes.is_empty() => {
                state.wait(context);
                Poll::Pending
            }
            Some(len) => {
                state.wake_socket();
                Poll::Ready(Ok(len))
            }
        }
    }

    /// Everything is on its way as soon as it is written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.handle.0.lock();
        if state.mux.is_ended(self.connection) {
            return Poll::Ready(Ok(()));
        }
        state.mux.close(self.connection);
        state.wake_socket();
        state.wait(context);
        Poll::Pending
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.handle.change(|mux| {
            mux.close(self.connection);
            mux.forget(self.connection);
        });
    }
}

/// The user's side of the connection; when it goes, the driver finishes.
struct Handle(Arc<Shared>);

impl Handle {
    fn change<T>(&self, change: impl FnOnce(&mut Mux) -> T) -> T {
        let mut state = self.0.lock();
        let changed = change(&mut state.mux);
        state.wake();
        changed
    }

    /// Waits until `ready` gives something; looked at again after every change.
    async fn wait<T>(&self, mut ready: impl FnMut(&mut Mux) -> Option<T>) -> T {
        poll_fn(|context| {
            let mut state = self.0.lock();
            match ready(&mut state.mux) {
                Some(found) => Poll::Ready(found),
                None => {
                    state.wait(context);
                    state.wake_socket();
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.dropped = true;
        state.wake();
    }
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

struct Shared(Mutex<State>);

struct State {
    mux: Mux,
    /// Everyone that waits for a change; few, so that all are woken and look for themselves.
    waiting: Vec<Waker>,
    socket_waker: Option<Waker>,
    writing: bool,
    dropped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half way.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, context: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            self.waiting.push(context.waker().clone());
        }
    }

    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
        self.wake_socket();
    }

    fn wake_socket(&mut self) {
        if let Some(waker) = self.socket_waker.take() {
            waker.wake();
        }
    }
}

/// Reads and writes the socket until it ends or nobody needs it.
async fn drive(socket: UnixStream, shared: Arc<Shared>) {
    let (read_half, write_half) = socket.into_split();
    let reason = tokio::select! {
        reason = read_all(read_half, &shared) => reason,
        reason = write_all(write_half, &shared) => reason,
    };
    let mut state = shared.lock();
    state.mux.handle_end(reason);
    state.wake();
}

async fn read_all(mut socket: OwnedReadHalf, shared: &Shared) -> String {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        room(shared).await;
        match socket.read(&mut buffer).await {
            Ok(0) => return "it has ended".to_owned(),
            Err(error) => return error.to_string(),
            Ok(len) => {
                let mut state = shared.lock();
                if let Err(error) = state.mux.handle_bytes(&buffer[..len]) {
                    return format!("it does not speak the daemon's protocol: {error}");
                }
                state.wake();
            }
        }
    }
}

async fn room(shared: &Shared) {
    poll_fn(|context| {
        let mut state = shared.lock();
        if state.mux.has_room() {
            return Poll::Ready(());
        }
        state.wait(context);
        Poll::Pending
    })
    .await;
}

async fn write_all(mut socket: OwnedWriteHalf, shared: &Shared) -> String {
    loop {
        let outbound = poll_fn(|context| {
            let mut state = shared.lock();
            if state.writing {
                state.writing = false;
                state.wake();
            }
            if state.mux.has_outbound() {
                state.writing = true;
                return Poll::Ready(Some(state.mux.take_outbound()));
            }
            if state.dropped {
                return Poll::Ready(None);
            }
            state.socket_waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        let Some(outbound) = outbound else { return "it is not needed any longer".to_owned() };
        if let Err(error) = socket.write_all(&outbound).await {
            return error.to_string();
        }
    }
}
