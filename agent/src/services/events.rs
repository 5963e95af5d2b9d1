//! Event stream, port 1002.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use wire::DecodeError;
use wire::address::Address;

/// Why a stream of events ends early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream.
    #[error("the connection broke: {0}")]
    Stream(#[from] io::Error),
    /// The peer does not speak the protocol.
    #[error("the peer sends what is no event: {0}")]
    Malformed(#[from] DecodeError),
    /// Ours: a topic or payload above its limit.
    #[error("this cannot be published: {0}")]
    NotSendable(DecodeError),
    /// As many subscribers as there may be.
    #[error("too many subscribers")]
    TooMany,
    /// The subscriber reads too slowly.
    #[error("the subscriber reads nothing")]
    Slow,
}

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events published.
    pub published: u64,
    /// Events given to subscribers.
    pub delivered: u64,
    /// Events that slow subscribers did not get.
    pub dropped: u64,
}

/// Passes events on to subscribers. All streams of a node share one.
#[derive(Default)]
pub struct Broker {}

#[expect(clippy::unimplemented, reason = "the shape first")]
impl Broker {
    /// A broker without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves one stream, whose other end is `from`, until it ends.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, _from: Address, _stream: S) -> Result<(), Error> {
        unimplemented!()
    }

    /// Subscribers now.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        unimplemented!()
    }

    /// Sums since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        unimplemented!()
    }
}

/// A subscription at a peer's broker.
pub struct Subscription<S> {
    _stream: S,
}

/// Subscribes to `topic`, `*` for all.
///
/// # Errors
/// [`Error`].
#[expect(clippy::unimplemented, reason = "the shape first")]
pub async fn subscribe<S: AsyncRead + AsyncWrite + Unpin>(_stream: S, _topic: &str) -> Result<Subscription<S>, Error> {
    unimplemented!()
}

#[expect(clippy::unimplemented, reason = "the shape first")]
impl<S: AsyncRead + AsyncWrite + Unpin> Subscription<S> {
    /// The next event: topic and payload; none when the peer has closed. May be dropped half-way.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn next(&mut self) -> Result<Option<(String, Vec<u8>)>, Error> {
        unimplemented!()
    }
}

/// Publishes `payload` under `topic`, and leaves the stream open: close it once the bytes are gone.
///
/// # Errors
/// [`Error`].
#[expect(clippy::unimplemented, reason = "the shape first")]
pub async fn publish<S: AsyncRead + AsyncWrite + Unpin>(
    _stream: &mut S,
    _topic: &str,
    _payload: &[u8],
) -> Result<(), Error> {
    unimplemented!()
}
