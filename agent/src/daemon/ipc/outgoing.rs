//! What waits to be written to one client. Bounded: when the client does not read, answers and the bytes of streams wait
//! where they are, and datagrams are lost.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use wire::ipc::Reply;

/// Bytes that wait, but for the last frame.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// Memory that an idle client keeps.
const IDLE_CAPACITY_MAX: usize = 8 << 10;

/// The client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// Frames in the order they were pushed.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    waiting: RefCell<Vec<u8>>,
    /// Those who have a frame and no room for it.
    pushers: RefCell<Vec<Waker>>,
    filled: Notify,
    is_gone: Cell<bool>,
    is_last: Cell<bool>,
    datagrams_lost: Cell<u64>,
}

impl Outgoing {
    /// Ready when there is room for a frame.
    pub(super) fn poll_room(&self, context: &Context<'_>) -> Poll<Result<(), Gone>> {
        if self.is_gone.get() {
            return Poll::Ready(Err(Gone));
        }
        if self.waiting.borrow().len() < WAITING_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        self.pushers.borrow_mut().push(context.waker().clone());
        Poll::Pending
    }

    /// Appends a frame when there is room.
    pub(super) async fn push(&self, reply: &Reply<'_>) -> Result<(), Gone> {
        poll_fn(|context| self.poll_room(context)).await?;
        self.append(|out| reply.encode(out));
        Ok(())
    }

    /// Appends a frame if there is room now.
    pub(super) fn offer(&self, reply: &Reply<'_>) {
        if self.waiting.borrow().len() < WAITING_BYTES_MAX {
            self.append(|out| reply.encode(out));
        } else {
            self.datagrams_lost.set(self.datagrams_lost.get() + 1);
        }
    }

    /// Lets `write` append; whoever calls has found room.
    pub(super) fn append<T>(&self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let outcome = write(&mut self.waiting.borrow_mut());
        self.filled.notify_one();
        outcome
    }

    /// Nothing more will be pushed: [`Outgoing::write_to`] returns when all is written.
    pub(super) fn finish(&self) {
        self.is_last.set(true);
        self.filled.notify_one();
    }

    /// Writes what is pushed until the client is gone.
    pub(super) async fn write_to(&self, mut client: impl AsyncWrite + Unpin) {
        let mut writing = Vec::new();
        loop {
            std::mem::swap(&mut writing, &mut self.waiting.borrow_mut());
            self.wake_pushers();
            if writing.is_empty() {
                if self.is_last.get() {
                    return;
                }
                self.filled.notified().await;
                continue;
            }
            if client.write_all(&writing).await.is_err() {
                self.is_gone.set(true);
                self.wake_pushers();
                return;
            }
            writing.clear();
            writing.shrink_to(IDLE_CAPACITY_MAX);
        }
    }

    /// Datagrams that came while the client did not read.
    pub(super) fn datagrams_lost(&self) -> u64 {
        self.datagrams_lost.get()
    }

    fn wake_pushers(&self) {
        let pushers = self.pushers.take();
        pushers.into_iter().for_each(Waker::wake);
    }
}
