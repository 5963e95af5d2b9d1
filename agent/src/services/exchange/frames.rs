//! Whole frames out of a stream, with a bound on how many long ones are held at a time.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use wire::DecodeError;
use wire::services::exchange::{Frame, PAYLOAD_MAX};

use crate::services::incoming::Incoming;
use crate::services::room::{Room, Taken};

/// A frame that says it is longer than this waits until there is room.
const LONG: usize = 1 << 20;
const HEADER: usize = 8;

pub(super) struct Frames<'a, R> {
    incoming: Incoming<R>,
    room: Option<Room<'a>>,
    taken: Option<Taken<'a>>,
}

/// Why there is no next frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Stream(#[from] std::io::Error),
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    #[error("silent")]
    Silent,
    #[error("busy")]
    Busy,
}

impl<'a, R: AsyncRead + Unpin> Frames<'a, R> {
    pub(super) const fn new(stream: R, room: Option<Room<'a>>) -> Self {
        Self { incoming: Incoming::new(stream), room, taken: None }
    }

    /// Waits for a whole frame; says how many bytes it takes, none at the end of the stream. Between frames the peer may be
    /// silent for `idle`, within one for [`super::STEP_MAX`].
    pub(super) async fn next(&mut self, idle: Duration) -> Result<Option<usize>, Error> {
        loop {
            if let Some((_, len)) = Frame::decode(self.incoming.bytes(), PAYLOAD_MAX)? {
                return Ok(Some(len));
            }
            self.find_room().await?;
            let is_idle = self.incoming.bytes().is_empty();
            let patience = if is_idle { idle } else { super::STEP_MAX };
            match timeout(patience, self.incoming.fill()).await.map_err(|_| Error::Silent)?? {
                true => {}
                false if is_idle => return Ok(None),
                false => return Err(Error::Stream(std::io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    /// The frame that [`Frames::next`] has waited for.
    pub(super) fn frame(&self) -> Option<Frame<'_>> {
        Frame::decode(self.incoming.bytes(), PAYLOAD_MAX).ok().flatten().map(|(frame, _)| frame)
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.incoming.consume(len);
        self.taken = None;
    }

    async fn find_room(&mut self) -> Result<(), Error> {
        let Some((room, header)) = self.room.as_ref().zip(self.incoming.bytes().first_chunk::<HEADER>()) else {
            return Ok(());
        };
        let [.., a, b, c, d] = *header;
        if self.taken.is_none() && u32::from_be_bytes([a, b, c, d]) as usize > LONG {
            self.taken = timeout(super::STEP_MAX, room.take()).await.map_err(|_| Error::Busy)?;
        }
        Ok(())
    }
}

/// Writes all of `bytes` to a peer that must take them sooner or later.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Error> {
    // Each piece has its own time: a slow link is no silent peer.
    const PIECE: usize = 64 << 10;
    for piece in bytes.chunks(PIECE) {
        timeout(super::STEP_MAX, stream.write_all(piece)).await.map_err(|_| Error::Silent)??;
    }
    timeout(super::STEP_MAX, stream.flush()).await.map_err(|_| Error::Silent)??;
    Ok(())
}
