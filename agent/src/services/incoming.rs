//! Bytes of a stream that have come and are not taken yet. The buffer grows with what has really come, never with what a
//! length field promises, and shrinks again after a long message.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes read at once at most.
const PIECE_MAX: usize = 256 << 10;
/// Room kept while nothing is under way.
const IDLE: usize = 4 << 10;

pub(super) struct Incoming<R> {
    stream: R,
    buffer: Vec<u8>,
    start: usize,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(super) const fn new(stream: R) -> Self {
        Self { stream, buffer: Vec::new(), start: 0 }
    }

    /// What has come and is not taken.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Takes the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.buffer.len() {
            self.start = 0;
            self.buffer.clear();
            self.buffer.shrink_to(PIECE_MAX);
        }
    }

    /// Waits for more; false at the end of the stream. May be dropped half-way: nothing is lost then.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(self.buffer.len().clamp(IDLE, PIECE_MAX));
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}
