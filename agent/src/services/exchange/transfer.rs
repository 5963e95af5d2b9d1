//! Sends files: announced, then in chunks from where the receiver says, then checked by the receiver. More chunks are under
//! way than older senders have (16), so that long paths are filled as well; the stream's own window holds them back where
//! the receiver is slow. A receiver that does not know transfers gets the file in one frame.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use wire::DecodeError;
use wire::services::exchange::{Content, Frame, PAYLOAD_MAX, PAYLOAD_MAX_OLD, Step};

use super::STEP_MAX;
use super::frames::{self, Frames};
use super::sender::{Error, accepted, acknowledgement};
use crate::services::files::Files;

/// Connections in a row that brought nothing before a transfer is given up.
pub const CONNECTIONS_MAX: usize = 5;
/// Bytes of a chunk.
const CHUNK: u32 = 48 << 10;
/// Bytes under way: 128 chunks, 60 MB/s over a path of 100 ms.
const WINDOW_BYTES: u64 = 128 * CHUNK as u64;
/// A receiver that knows transfers answers an announcement within this.
const INIT_ACK_MAX: Duration = Duration::from_secs(5);
/// Bytes of a file that one frame holds, whatever its name.
const WHOLE_MAX: u64 = (PAYLOAD_MAX - 2 - u16::MAX as usize) as u64;
/// How a receiver of an old release answers an announcement.
const FILE_STREAM_UNKNOWN: &str = "ACK UNKNOWN(7)";
/// Bytes read at once to be hashed.
const PIECE: usize = 1 << 20;
/// After a connection broke, the peer may still have said why; so long it is listened to.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);
/// Before the next connection; doubled each time.
const DIAL_DELAY: Duration = Duration::from_millis(500);

/// How a file travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In chunks, checked as a whole by the receiver.
    FileStream,
    /// In one frame, to receivers of old releases; nobody checks it.
    Whole,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes the receiver says it has.
    pub acknowledged_bytes: u64,
    /// Bytes of the file.
    pub total_bytes: u64,
    /// Where the receiver told this connection to start.
    pub resumed_bytes: u64,
}

/// A file that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes that were there when the last connection began, and did not have to be sent again.
    pub bytes_resumed: u64,
    /// Bytes that arrived, those of broken connections included. What was still on its way when one broke is not counted.
    pub bytes_sent: u64,
    /// Connections it took.
    pub connections: usize,
    /// Of the file.
    pub sha256: [u8; 32],
    /// How it travelled.
    pub transport: Transport,
    /// The receiver has compared the SHA-256.
    pub is_verified: bool,
}

/// Sends the file at `path` under `name`. `dial` opens a connection to the peer's port 1001: at first, and again when it
/// broke, up to [`CONNECTIONS_MAX`] in a row without progress.
///
/// # Errors
/// [`Error`].
pub async fn send_file<F: Files, S: AsyncRead + AsyncWrite + Unpin>(
    files: &F,
    path: &Path,
    name: &str,
    mut dial: impl AsyncFnMut() -> io::Result<S>,
    progress: impl FnMut(Progress),
) -> Result<Sent, Error> {
    let file = files.open(path).await.map_err(Error::File)?;
    let (sha256, size_bytes) = hash(files, &file).await?;
    let mut sending = Sending {
        files,
        file: &file,
        name,
        sha256,
        size_bytes,
        progress,
        resumed: None,
        brought: 0,
        connections: 0,
        acknowledged: 0,
    };
    let mut failures = 0;
    let mut has_begun_anew = false;
    loop {
        let before = sending.acknowledged;
        let outcome = match dial().await {
            Ok(stream) => {
                sending.connections += 1;
                sending.attempt(stream).await
            }
            Err(error) => Err(Error::Stream(error)),
        };
        match outcome {
            Ok(transport) => return Ok(sending.sent(transport)),
            // What an earlier connection brought was damaged, and is gone now.
            Err(Error::Refused(_)) if sending.has_resumed() && !has_begun_anew => {
                has_begun_anew = true;
                sending.begin_at(None);
            }
            Err(error @ (Error::Stream(_) | Error::Closed | Error::Silent(_))) => {
                failures = if sending.acknowledged > before { 0 } else { failures + 1 };
                if failures >= CONNECTIONS_MAX {
                    return Err(error);
                }
                sleep(DIAL_DELAY * (1 << failures)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn hash<F: Files>(files: &F, file: &F::File) -> Result<([u8; 32], u64), Error> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut position = 0;
    loop {
        let (outcome, filled) = files.read_at(file, buffer, position).await;
        buffer = filled;
        match outcome.map_err(Error::File)? {
            0 => return Ok((hasher.finalize().into(), position)),
            len => {
                hasher.update(&buffer[..len]);
                position += len as u64;
            }
        }
    }
}

/// A file on its way, over as many connections as it takes.
struct Sending<'a, F: Files, P> {
    files: &'a F,
    file: &'a F::File,
    name: &'a str,
    sha256: [u8; 32],
    size_bytes: u64,
    progress: P,
    /// Where the last connection began.
    resumed: Option<u64>,
    /// Bytes that those before it brought.
    brought: u64,
    connections: usize,
    acknowledged: u64,
}

/// What the receiver says to an announcement.
enum Opening {
    At(u64),
    Unknown,
}

impl<F: Files, P: FnMut(Progress)> Sending<'_, F, P> {
    fn id(&self) -> [u8; 16] {
        let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.sha256;
        id
    }

    fn has_resumed(&self) -> bool {
        self.resumed.is_some_and(|offset| offset > 0) || self.acknowledged > 0
    }

    fn sent(&self, transport: Transport) -> Sent {
        Sent {
            bytes: self.size_bytes,
            bytes_resumed: self.resumed.unwrap_or(0),
            bytes_sent: self.brought + self.size_bytes - self.resumed.unwrap_or(0),
            connections: self.connections,
            sha256: self.sha256,
            transport,
            is_verified: transport == Transport::FileStream,
        }
    }

    /// A new connection begins; what the last one brought is known now, the acknowledgements that got lost included.
    fn begin_at(&mut self, offset: Option<u64>) {
        if let Some(began) = self.resumed {
            self.brought += self.acknowledged.max(offset.unwrap_or(0)).saturating_sub(began);
        }
        self.resumed = offset;
    }

    fn report(&mut self, acknowledged_bytes: u64) {
        self.acknowledged = acknowledged_bytes;
        (self.progress)(Progress {
            acknowledged_bytes,
            total_bytes: self.size_bytes,
            resumed_bytes: self.resumed.unwrap_or(0),
        });
    }

    async fn attempt<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: S) -> Result<Transport, Error> {
        let (read, mut write) = split(stream);
        let mut frames = Frames::new(read, None);
        let init =
            Step::Init { size_bytes: self.size_bytes, sha256: &self.sha256, chunk_bytes: CHUNK, name: self.name };
        say(&mut write, &self.id(), init).await?;
        match timeout(INIT_ACK_MAX, self.opening(&mut frames)).await {
            Ok(opening) => match opening? {
                Opening::At(offset) => {
                    self.begin_at(Some(offset));
                    self.report(offset);
                    self.send_chunks(frames, write, offset).await.map(|()| Transport::FileStream)
                }
                Opening::Unknown => {
                    self.begin_at(None);
                    self.send_whole(frames, write, PAYLOAD_MAX_OLD).await.map(|()| Transport::Whole)
                }
            },
            // A receiver that has once answered knows transfers: it is the path that is slow. Perhaps it is here as well,
            // where one frame would not do.
            Err(_) if self.resumed.is_some() || self.size_bytes > WHOLE_MAX => {
                Err(Error::Silent(INIT_ACK_MAX.as_secs()))
            }
            Err(_) => self.send_whole(frames, write, PAYLOAD_MAX).await.map(|()| Transport::Whole),
        }
    }

    async fn opening<R: AsyncRead + Unpin>(&self, frames: &mut Frames<'_, R>) -> Result<Opening, Error> {
        loop {
            let len = frames.next(STEP_MAX).await.map_err(Error::of_frames)?.ok_or(Error::Closed)?;
            let opening = match frames.frame().map(|frame| frame.content) {
                Some(Content::FileStream { id, step }) if *id == self.id() => match step {
                    Step::InitAck { offset } if offset > self.size_bytes => {
                        return Err(Error::Malformed(DecodeError::Invalid("resume point")));
                    }
                    Step::InitAck { offset } => Some(Opening::At(offset)),
                    Step::Abort { text } | Step::Complete { text, .. } => return Err(refused(text)),
                    _ => None,
                },
                Some(Content::Text(text)) if text.starts_with(FILE_STREAM_UNKNOWN.as_bytes()) => Some(Opening::Unknown),
                Some(Content::Text(text)) => return Err(refused(text)),
                _ => None,
            };
            frames.consume(len);
            if let Some(opening) = opening {
                return Ok(opening);
            }
        }
    }

    async fn send_chunks<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        mut frames: Frames<'_, ReadHalf<S>>,
        mut write: WriteHalf<S>,
        offset: u64,
    ) -> Result<(), Error> {
        let (id, size_bytes, files, file) = (self.id(), self.size_bytes, self.files, self.file);
        let acknowledged = Cell::new(offset);
        let room = Notify::new();
        let writing = async {
            let mut position = offset;
            let mut buffer = Vec::new();
            while position < size_bytes {
                while position.saturating_sub(acknowledged.get()) >= WINDOW_BYTES {
                    room.notified().await;
                }
                let wanted = u64::from(CHUNK).min(size_bytes - position) as usize;
                buffer.resize(wanted, 0);
                let (outcome, filled) = files.read_at(file, buffer, position).await;
                buffer = filled;
                if outcome.map_err(Error::File)? < wanted {
                    say(&mut write, &id, Step::Abort { text: b"the file changed" }).await?;
                    return Err(Error::Changed);
                }
                say(&mut write, &id, Step::Chunk { offset: position, data: &buffer }).await?;
                position += wanted as u64;
            }
            say(&mut write, &id, Step::Done).await
        };
        let reading = async {
            loop {
                let len = frames.next(STEP_MAX).await.map_err(Error::of_frames)?.ok_or(Error::Closed)?;
                match frames.frame().map(|frame| frame.content) {
                    Some(Content::FileStream { id: of, step }) if *of == id => match step {
                        Step::Ack { offset } if offset <= size_bytes => {
                            acknowledged.set(acknowledged.get().max(offset));
                            room.notify_one();
                            self.report(acknowledged.get());
                        }
                        Step::Complete { status: 0, .. } => return Ok(()),
                        Step::Complete { text, .. } | Step::Abort { text } => return Err(refused(text)),
                        _ => {}
                    },
                    Some(Content::Text(text)) if text.starts_with(b"ERR") => return Err(refused(text)),
                    _ => {}
                }
                frames.consume(len);
            }
        };
        let mut reading = pin!(reading);
        tokio::select! {
            outcome = &mut reading => outcome,
            Err(error) = writing => match error {
                Error::Stream(_) => timeout(LAST_WORD_MAX, reading).await.unwrap_or(Err(error)),
                error => Err(error),
            },
        }
    }

    async fn send_whole<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        mut frames: Frames<'_, ReadHalf<S>>,
        mut write: WriteHalf<S>,
        payload_max: usize,
    ) -> Result<(), Error> {
        let mut bytes = Vec::new();
        let header = Frame { tag: None, content: Content::File { name: self.name, data: &[] } };
        header.encode(&mut bytes, payload_max).map_err(Error::NotSendable)?;
        let length = (bytes.len() - 8) as u64 + self.size_bytes;
        let fits = u32::try_from(length).ok().filter(|length| *length as usize <= payload_max);
        let too_long =
            DecodeError::TooLong { length: usize::try_from(length).unwrap_or(usize::MAX), limit: payload_max };
        bytes[4..8].copy_from_slice(&fits.ok_or(Error::NotSendable(too_long))?.to_be_bytes());
        frames::write(&mut write, &bytes).await.map_err(Error::of_frames)?;
        let mut position = 0;
        while position < self.size_bytes {
            let wanted = (PIECE as u64).min(self.size_bytes - position) as usize;
            bytes.resize(wanted, 0);
            let (outcome, filled) = self.files.read_at(self.file, bytes, position).await;
            bytes = filled;
            if outcome.map_err(Error::File)? < wanted {
                return Err(Error::Changed);
            }
            frames::write(&mut write, &bytes).await.map_err(Error::of_frames)?;
            position += wanted as u64;
        }
        loop {
            let len = frames.next(STEP_MAX).await.map_err(Error::of_frames)?.ok_or(Error::Closed)?;
            // The answer to the announcement may come late.
            match acknowledgement(&frames).filter(|text| !text.starts_with(FILE_STREAM_UNKNOWN)) {
                Some(text) => {
                    accepted(text)?;
                    self.report(self.size_bytes);
                    return Ok(());
                }
                None => frames.consume(len),
            }
        }
    }
}

async fn say<W: AsyncWrite + Unpin>(write: &mut W, id: &[u8; 16], step: Step<'_>) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let frame = Frame { tag: None, content: Content::FileStream { id, step } };
    frame.encode(&mut bytes, PAYLOAD_MAX).map_err(Error::NotSendable)?;
    frames::write(write, &bytes).await.map_err(Error::of_frames)
}

fn refused(text: &[u8]) -> Error {
    Error::Refused(String::from_utf8_lossy(text).into_owned())
}
