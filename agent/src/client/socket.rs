//! Reads and writes the socket, and wakes those who wait. What the bytes mean is decided in `mux`.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::mux::Mux;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// What has been said to a client is read for so long after the daemon has ended the connection.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The user's side of the connection; when it goes, the driver finishes.
pub(super) struct Handle(Arc<Shared>);

impl Handle {
    /// Begins to read and write `socket`, within a tokio runtime.
    pub(super) fn drive(socket: UnixStream) -> Self {
        let shared = Arc::new(Shared(Mutex::new(State {
            mux: Mux::new(),
            waiting: Vec::new(),
            socket_waker: None,
            writing: false,
            dropped: false,
        })));
        tokio::spawn(drive(socket, Arc::clone(&shared)));
        Self(shared)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Waits until nothing is on its way to the socket.
    pub(super) async fn flushed(&self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.mux.end().is_some() || (!state.mux.has_outbound() && !state.writing) {
                return Poll::Ready(());
            }
            state.wait(context);
            state.wake_socket();
            Poll::Pending
        })
        .await;
    }

    /// Changes something, and wakes whoever waits for a change.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Mux) -> T) -> T {
        let mut state = self.0.lock();
        let changed = change(&mut state.mux);
        state.wake();
        changed
    }

    /// Waits until `ready` gives something; looked at again after every change.
    pub(super) async fn wait<T>(&self, mut ready: impl FnMut(&mut Mux) -> Option<T>) -> T {
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

struct Shared(Mutex<State>);

pub(super) struct State {
    pub mux: Mux,
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
    pub(super) fn wait(&mut self, context: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            self.waiting.push(context.waker().clone());
        }
    }

    pub(super) fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
        self.wake_socket();
    }

    pub(super) fn wake_socket(&mut self) {
        if let Some(waker) = self.socket_waker.take() {
            waker.wake();
        }
    }
}

/// Reads and writes the socket until it ends or nobody needs it.
async fn drive(socket: UnixStream, shared: Arc<Shared>) {
    let (read_half, write_half) = socket.into_split();
    let mut reading = pin!(read_all(read_half, &shared));
    let reason = tokio::select! {
        reason = &mut reading => reason,
        written = write_all(write_half, &shared) => match written {
            Ok(()) => "it is not needed any longer".to_owned(),
            // Whoever takes nothing any more may have said why before.
            Err(error) => {
                let _ = timeout(LAST_WORDS, reading).await;
                error.to_string()
            }
        },
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

/// Returns when nobody needs the socket any longer.
async fn write_all(mut socket: OwnedWriteHalf, shared: &Shared) -> io::Result<()> {
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
        let Some(outbound) = outbound else { return Ok(()) };
        socket.write_all(&outbound).await?;
    }
}

#[cfg(test)]
mod tests {
    use wire::ipc::{Reply, Request};

    use super::*;
    use crate::client::RequestError;

    #[tokio::test]
    async fn what_the_daemon_has_said_before_it_ended_the_connection_is_heard() {
        let mut frame = Vec::new();
        Reply::Error { code: 1, text: "go away" }.encode(&mut frame);
        // Whether writing fails first, or reading ends first, and before or after the question: often enough for each.
        for number in 0..40 {
            let (socket, mut daemon) = UnixStream::pair().unwrap();
            daemon.write_all(&frame).await.unwrap();
            drop(daemon);
            let handle = Handle::drive(socket);
            if number % 2 == 0 {
                handle.wait(|mux| mux.end().map(|_| ())).await;
            }
            handle.change(|mux| assert!(mux.begin(&Request::Info)));
            let answer = handle.wait(Mux::take_answer).await;
            assert_eq!(answer, Err(RequestError::Refused("go away".to_owned())), "{number}");
        }
    }
}
