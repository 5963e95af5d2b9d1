//! A stream to a peer as `AsyncRead + AsyncWrite`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::address::SocketAddress;

use super::mux::Read;
use super::socket::Handle;

/// A stream to a peer. Dropping it closes it; `shutdown` closes it and waits for the daemon's word.
pub struct Stream {
    handle: Arc<Handle>,
    connection: u32,
    remote: SocketAddress,
}

impl Stream {
    pub(super) const fn new(handle: Arc<Handle>, connection: u32, remote: SocketAddress) -> Self {
        Self { handle, connection, remote }
    }

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
        let mut state = self.handle.lock();
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
        let mut state = self.handle.lock();
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
        let mut state = self.handle.lock();
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
