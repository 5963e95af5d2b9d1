//! A stream of the node as bytes to read and write, for services and clients. Dropping it closes it: what was written is
//! still delivered.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::Core;
use crate::node::StreamId;
use crate::stream::End;

/// Bytes given to the reader at once; more is asked for again.
const READ_BYTES_MAX: usize = 64 << 10;

/// A stream. Reading and writing go on side by side; each by one task at a time.
pub struct ByteStream {
    core: Rc<Core>,
    id: StreamId,
    is_open: Cell<bool>,
}

impl ByteStream {
    pub(super) fn new(core: &Rc<Core>, id: StreamId) -> Self {
        core.waiting().begin(id);
        Self { core: Rc::clone(core), id, is_open: Cell::new(true) }
    }

    /// The daemon's number for it.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.id
    }

    /// Whether the peer has answered a dial.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.core.waiting().is_open(self.id)
    }

    /// Returns when the peer has answered.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub async fn opened(&self) -> Result<(), End> {
        poll_fn(|context| {
            if self.is_answered() {
                return Poll::Ready(Ok(()));
            }
            if let Some(end) = self.end() {
                return Poll::Ready(Err(end));
            }
            self.core.waiting().wait_to_read(self.id, context.waker());
            Poll::Pending
        })
        .await
    }

    /// Why no more bytes will come, once that is so.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.core.look(|node| node.stream_end(self.id))
    }

    /// Bytes that have come, at least one.
    ///
    /// # Errors
    /// The stream has ended, and all that came has been read.
    pub async fn receive(&self, out: &mut [u8]) -> Result<usize, End> {
        poll_fn(|context| self.poll_receive(context, out)).await
    }

    /// Returns when all of `bytes` has been taken.
    ///
    /// # Errors
    /// The stream takes no more.
    pub async fn send_all(&self, mut bytes: &[u8]) -> Result<(), End> {
        while !bytes.is_empty() {
            let taken = poll_fn(|context| self.poll_send(context, bytes)).await?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Closes now, whoever else holds this value: what was written is still delivered, nothing is received any more.
    pub fn close(&self) {
        if self.is_open.replace(false) {
            self.core.act(|node, now| node.close(now, self.id));
            self.core.waiting().readable(self.id);
        }
    }

    /// Gives the stream up: the peer is refused or cut off.
    pub fn abort(&self) {
        if self.is_open.replace(false) {
            self.core.act(|node, now| node.abort(now, self.id));
        }
    }

    /// As [`ByteStream::receive`], for those who wait for more than that.
    pub(super) fn poll_receive(&self, context: &Context<'_>, out: &mut [u8]) -> Poll<Result<usize, End>> {
        if !self.is_open.get() {
            return Poll::Ready(Err(End::Finished));
        }
        let count = self.core.act(|node, now| node.read(now, self.id, out));
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        if let Some(end) = self.end() {
            return Poll::Ready(Err(end));
        }
        self.core.waiting().wait_to_read(self.id, context.waker());
        Poll::Pending
    }

    fn poll_send(&self, context: &Context<'_>, bytes: &[u8]) -> Poll<Result<usize, End>> {
        if !self.is_open.get() {
            return Poll::Ready(Err(End::Finished));
        }
        let count = self.core.act(|node, now| node.write(now, self.id, bytes));
        if count > 0 || bytes.is_empty() {
            return Poll::Ready(Ok(count));
        }
        if let Some(end) = self.end() {
            return Poll::Ready(Err(end));
        }
        self.core.waiting().wait_to_write(self.id, context.waker());
        Poll::Pending
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let room = out.remaining().min(READ_BYTES_MAX);
        match ready!(self.poll_receive(context, out.initialize_unfilled_to(room))) {
            Ok(count) => {
                out.advance(count);
                Poll::Ready(Ok(()))
            }
            Err(End::Finished) => Poll::Ready(Ok(())),
            Err(end) => Poll::Ready(Err(broken(end))),
        }
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(context, bytes).map_err(broken)
    }

    /// What the node has taken is on its way.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// There is no half-close (section 8.1): nothing can be read either afterwards.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        self.close();
        self.core.waiting().end(self.id);
    }
}

fn broken(end: End) -> io::Error {
    let kind = match end {
        End::Finished => io::ErrorKind::BrokenPipe,
        End::Refused => io::ErrorKind::ConnectionRefused,
        End::Reset | End::Truncated => io::ErrorKind::ConnectionReset,
        End::TimedOut => io::ErrorKind::TimedOut,
        End::Aborted | End::Banned => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, end)
}
