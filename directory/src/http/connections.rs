//! Bounds and deadlines of the connections: how many there are, how long a request may take to come, how long one may be
//! silent, how long one may take nothing of what is sent to it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep, timeout};

use super::places::{Bounds, Place, Places};

/// What the kernel keeps for a client that does not read; it doubles this.
const SEND_BUFFER_BYTES: usize = 32 * 1024;
/// After an error that is not the connection's, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// What those are told for whom there is no place.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Deadlines of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From its beginning, or the last answer, to a whole header of a request; what comes meanwhile does not help.
    pub header: Duration,
    /// From the header to the beginning of the answer; what there is of a body comes in this time.
    pub answer: Duration,
    /// Neither read from nor written to.
    pub idle: Duration,
    /// The client takes nothing.
    pub stalled: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let [header, answer, idle, stalled] = [10, 30, 60, 15].map(Duration::from_secs);
        Self { header, answer, idle, stalled }
    }
}

/// A client's address.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub SocketAddr);

/// Serves `routes` to whoever connects to `listener`, within `bounds`; for ever.
pub async fn serve(listener: TcpListener, routes: Router, bounds: Bounds, patience: Patience) {
    let places = Places::new(bounds);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.header);
    loop {
        let (stream, remote) = accept(&listener).await;
        let Some(place) = places.enter(remote.ip()) else {
            // If it can be said at once.
            let _ = stream.try_write(NO_PLACE);
            continue;
        };
        let routes = TowerToHyperService::new(routes.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(Remote(remote)));
            let answer = timeout(patience.answer, routes.call(request));
            async move { answer.await.unwrap_or_else(|_| Ok(StatusCode::REQUEST_TIMEOUT.into_response())) }
        });
        let stream = TokioIo::new(Guarded::new(stream, patience, place));
        let connection = http.serve_connection(stream, service);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %remote, "a connection to the address of --http has failed");
            }
        });
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the address of --http");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that fails when nothing moves for too long.
#[derive(Debug)]
struct Guarded {
    stream: TcpStream,
    patience: Patience,
    /// Runs while nothing comes and nothing goes.
    idle: Option<Pin<Box<Sleep>>>,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Guarded {
    fn new(stream: TcpStream, patience: Patience, place: Place) -> Self {
        // Both are improvements; the connection works without.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES);
        Self { stream, patience, idle: None, stalled: None, _place: place }
    }

    fn written(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if poll.is_ready() {
            (self.idle, self.stalled) = (None, None);
            return poll;
        }
        overdue(&mut self.stalled, self.patience.stalled, context)
    }
}

/// Starts `timer` if it does not run; an error once it is over.
fn overdue<T>(timer: &mut Option<Pin<Box<Sleep>>>, after: Duration, context: &mut Context<'_>) -> Poll<io::Result<T>> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep(after)));
    timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.stream).poll_read(context, buffer);
        if poll.is_ready() {
            this.idle = None;
            return poll;
        }
        overdue(&mut this.idle, this.patience.idle, context)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
