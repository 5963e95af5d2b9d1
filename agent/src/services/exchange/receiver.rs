//! Serves streams of the data exchange: what comes is on disk before it is acknowledged.
//!
//! Each frame gets one answer in the order they came; a chunk gets its `ACK` once it is written. A transfer whose stream
//! breaks leaves its part behind, and the same sender goes on from there. Should the broken stream still seem alive,
//! the newer one takes over.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::time::timeout;
use wire::DecodeError;
use wire::address::Address;
use wire::services::exchange::{Content, Frame, PAYLOAD_MAX, Step, Tag, acknowledgement};

use super::claims::{Claim, Claims};
use super::frames::{self, Frames};
use super::inbox::{self, Letter};
use super::partial::Partial;
use super::room::{self, Part};
use super::{PARTIAL_FOLDER, STEP_MAX, received};
use crate::services::WallClock;
use crate::services::files::{Files, Listed};
use crate::services::room::Rooms;

/// Between two messages a peer may be silent for so long; then its stream is closed.
const IDLE_MAX: Duration = Duration::from_secs(10 * 60);
/// Frames above 1 MiB that are held at a time, of up to 64 MiB each.
const LONG_FRAMES_MAX: usize = 4;
/// Those of one peer.
const LONG_FRAMES_PER_PEER_MAX: usize = 1;
/// While a file comes, the disk is looked at anew after so many bytes.
const LOOK_BYTES: u64 = 16 << 20;
/// Bytes of a whole file written at once.
const WRITE_BYTES: usize = 1 << 20;
/// While a file is flushed and compared, which may take minutes, its sender hears this often that it is not forgotten.
const ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Transfers whose last word may not have arrived.
const UNCONFIRMED_MAX: usize = 64;

/// Where received things go, and how many.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder for messages.
    pub inbox: PathBuf,
    /// Folder for files.
    pub received: PathBuf,
    /// Messages the inbox holds; more are refused until some are read.
    pub inbox_messages_max: usize,
    /// Bytes of them.
    pub inbox_bytes_max: u64,
    /// Bytes of one file; bigger ones are refused.
    pub file_bytes_max: u64,
}

impl Config {
    /// With the usual bounds.
    #[must_use]
    pub fn new(inbox: PathBuf, received: PathBuf) -> Self {
        Self { inbox, received, inbox_messages_max: 10_000, inbox_bytes_max: 1 << 30, file_bytes_max: 1 << 40 }
    }
}

/// What has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message, in the inbox now.
    Message {
        /// From whom.
        from: Address,
        /// `TEXT`, `BINARY` or `JSON`.
        kind: &'static str,
        /// Bytes of it.
        bytes: usize,
        /// Where it lies.
        path: PathBuf,
    },
    /// A file.
    File {
        /// From whom.
        from: Address,
        /// Bytes of it.
        bytes: u64,
        /// Where it lies.
        path: PathBuf,
    },
}

/// Why a stream is not served to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream.
    #[error("the connection broke: {0}")]
    Stream(#[from] io::Error),
    /// The peer does not speak the protocol.
    #[error("the peer sends what is no frame: {0}")]
    Malformed(#[from] DecodeError),
    /// The peer stopped in the middle of something, or does not read its answers.
    #[error("the peer was silent for too long")]
    Silent,
    /// Too many long messages come at the same time.
    #[error("too many long messages at the same time")]
    Busy,
}

impl From<frames::Error> for Error {
    fn from(error: frames::Error) -> Self {
        match error {
            frames::Error::Stream(error) => Self::Stream(error),
            frames::Error::Malformed(error) => Self::Malformed(error),
            frames::Error::Silent => Self::Silent,
            frames::Error::Busy => Self::Busy,
        }
    }
}

/// Receives for whoever runs the node. One for all streams.
pub struct Receiver<F> {
    config: Config,
    files: F,
    clock: WallClock,
    notify: Rc<dyn Fn(Received)>,
    long_frames: Rooms,
    /// Numbers drafts and messages.
    number: Cell<usize>,
    /// Messages and bytes in the inbox, as far as known; looked at anew when it seems full, for clients empty it.
    inbox_usage: Cell<Option<(usize, u64)>>,
    claims: Claims,
    /// Whole files whose senders may not know it, since their streams broke.
    unconfirmed: RefCell<VecDeque<Unconfirmed>>,
}

#[derive(Clone)]
struct Unconfirmed {
    partial: PathBuf,
    name: String,
    sha256: [u8; 32],
    path: PathBuf,
    size_bytes: u64,
}

impl<F: Files> Receiver<F> {
    /// A receiver for all streams of a node. `notify` hears of everything that has come, once it is on disk.
    #[must_use]
    pub fn new(config: Config, files: F, clock: WallClock, notify: Rc<dyn Fn(Received)>) -> Self {
        Self {
            config,
            files,
            clock,
            notify,
            long_frames: Rooms::new(LONG_FRAMES_MAX, LONG_FRAMES_PER_PEER_MAX),
            number: Cell::new(1),
            inbox_usage: Cell::new(None),
            claims: Claims::default(),
            unconfirmed: RefCell::default(),
        }
    }

    /// Serves one stream, whose other end is `from`, until it ends.
    ///
    /// # Errors
    /// [`Error`]. What came before is stored; a file that is not whole waits for the rest.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, from: Address, stream: S) -> Result<(), Error> {
        self.serve_noting(from, stream, &|_| ()).await
    }

    /// As [`Receiver::serve`]; `note` hears of what has come on this stream.
    ///
    /// # Errors
    /// As there.
    pub async fn serve_noting<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        from: Address,
        stream: S,
        note: &dyn Fn(&Received),
    ) -> Result<(), Error> {
        let (read, write) = split(stream);
        let frames = Frames::new(read, Some(self.long_frames.of(from.node)));
        let mut served =
            Served { receiver: self, from, frames, write, transfer: None, unconfirmed: None, out: Vec::new(), note };
        let outcome = served.run().await;
        if outcome.is_ok() {
            // The sender has heard all and closed.
            served.confirm();
        }
        if let Err(error @ (Error::Malformed(_) | Error::Busy)) = &outcome {
            // The peer should know why; whether it listens is its own affair.
            let _ = served.answer(&format!("ERR {error}")).await;
        }
        outcome
    }

    fn next_number(&self) -> usize {
        self.number.replace(self.number.get().wrapping_add(1))
    }

    fn note_unconfirmed(&self, unconfirmed: Unconfirmed) {
        let mut all = self.unconfirmed.borrow_mut();
        if all.len() >= UNCONFIRMED_MAX {
            all.pop_front();
        }
        all.push_back(unconfirmed);
    }

    fn forget_unconfirmed(&self, path: &Path) {
        self.unconfirmed.borrow_mut().retain(|known| known.path != path);
    }

    /// Gives a whole file its name.
    async fn publish(&self, path: &Path, name: &str) -> io::Result<PathBuf> {
        received::publish(&self.files, path, &self.config.received, name, (self.clock)(), self.next_number()).await
    }

    async fn draft(&self, folder: &Path) -> io::Result<PathBuf> {
        let drafts = folder.join(PARTIAL_FOLDER);
        self.files.create_folder(&drafts).await?;
        let draft = drafts.join(format!("draft-{}", self.next_number()));
        match self.files.remove(&draft).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(draft),
        }
    }

    /// Whether the inbox takes a message of `bytes` more.
    async fn has_room(&self, bytes: usize) -> io::Result<bool> {
        let fits = |(messages, used): (usize, u64)| {
            messages < self.config.inbox_messages_max && used + bytes as u64 <= self.config.inbox_bytes_max
        };
        let mut usage = self.inbox_usage.get();
        if !usage.is_some_and(fits) {
            self.files.create_folder(&self.config.inbox).await?;
            let files = self.files.list(&self.config.inbox).await?;
            usage = Some((files.len(), files.iter().map(|file| file.bytes).sum()));
        }
        let has_room = usage.is_some_and(fits);
        self.inbox_usage.set(usage.map(|(messages, used)| match has_room {
            true => (messages + 1, used + bytes as u64),
            false => (messages, used),
        }));
        Ok(has_room)
    }

    async fn store_message(
        &self,
        from: Address,
        kind: &'static str,
        tag: Option<Tag<'_>>,
        data: &[u8],
        note: &dyn Fn(&Received),
    ) -> Result<(), String> {
        let stored = async {
            if !self.has_room(data.len()).await? {
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the inbox is full"));
            }
            let tag = tag.unwrap_or_default();
            let letter = Letter {
                kind,
                from: from.to_string(),
                unix: (self.clock)(),
                number: self.next_number(),
                message_id: tag.message_id,
                reply_to: tag.reply_to,
                data,
            };
            inbox::store(&self.files, &self.config.inbox, self.draft(&self.config.inbox).await?, &letter).await
        };
        let path = stored.await.map_err(|error| format!("the message cannot be stored: {error}"))?;
        self.tell(note, Received::Message { from, kind, bytes: data.len(), path });
        Ok(())
    }

    fn tell(&self, note: &dyn Fn(&Received), received: Received) {
        note(&received);
        (self.notify)(received);
    }

    async fn store_file(&self, from: Address, name: &str, data: &[u8], note: &dyn Fn(&Received)) -> Result<(), String> {
        let stored = async {
            if data.len() as u64 > self.config.file_bytes_max {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            let draft = self.draft(&self.config.received).await?;
            self.has_space(data.len() as u64).await?;
            let _claim = self.claims.take(&draft, self.next_number()).await;
            let mut file = Partial::open(&self.files, draft, u64::MAX).await?;
            let published = self.write_whole(&mut file, name, data).await;
            if published.is_err() {
                // What is wrong is said already.
                let _ = self.files.remove(file.path()).await;
            }
            published
        };
        let path = stored.await.map_err(|error| format!("the file cannot be stored: {error}"))?;
        self.tell(note, Received::File { from, bytes: data.len() as u64, path });
        Ok(())
    }

    /// Whether the disk takes `bytes` more of files.
    async fn has_space(&self, bytes: u64) -> io::Result<()> {
        room::fits(bytes, self.files.space(&self.config.received).await?)
    }

    /// Removes parts of files until there may be one more, at `path`, of the peer whose names begin with `prefix`.
    async fn prune(&self, folder: &Path, path: &Path, prefix: &str) -> io::Result<()> {
        let listed = self.files.list(folder).await?;
        let mut claimed = self.claims.paths();
        let part = |file: Listed| {
            let before = claimed.len();
            claimed.retain(|claimed| *claimed != file.path);
            Part { is_claimed: claimed.len() < before, path: file.path, modified: file.modified }
        };
        let mut parts: Vec<Part> = listed.into_iter().map(part).collect();
        // Those that are about to be made; only the inbox has other drafts.
        let coming = claimed.into_iter().filter(|path| path.parent() == Some(folder));
        parts.extend(coming.map(|path| Part { path, modified: SystemTime::UNIX_EPOCH, is_claimed: true }));
        for path in room::superfluous(parts, path, prefix)? {
            // A stream may have begun it while another part was removed.
            if self.claims.paths().contains(&path) {
                continue;
            }
            match self.files.remove(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Flushes what a transfer has brought, compares it, and gives it its name.
    async fn finish(
        &self,
        from: Address,
        transfer: &mut Transfer<'_, F>,
        note: &dyn Fn(&Received),
    ) -> Result<Unconfirmed, String> {
        const MISMATCH: &str = "hash mismatch: what arrived is not what was announced; send it again";
        let files = &self.files;
        let failed = |error: io::Error| format!("the file cannot be stored: {error}");
        let (partial, size_bytes) = (transfer.partial.path().to_owned(), transfer.partial.size_bytes());
        if let Some(known) = transfer.known.take() {
            self.forget_unconfirmed(&known.path);
            files.remove(&partial).await.map_err(failed)?;
            // The user may have changed it since.
            let mut whole = Partial::open(files, known.path.clone(), size_bytes).await.map_err(failed)?;
            let is_same = whole.finish(files).await.map_err(failed)? == transfer.sha256;
            return if is_same { Ok(known) } else { Err(MISMATCH.to_owned()) };
        }
        let missing = size_bytes - transfer.partial.position();
        if missing > 0 {
            return Err(format!("{missing} bytes are missing"));
        }
        if transfer.partial.finish(files).await.map_err(failed)? != transfer.sha256 {
            files.remove(&partial).await.map_err(failed)?;
            return Err(MISMATCH.to_owned());
        }
        let path = self.publish(&partial, &transfer.name).await.map_err(failed)?;
        self.tell(note, Received::File { from, bytes: size_bytes, path: path.clone() });
        Ok(Unconfirmed { partial, name: transfer.name.clone(), sha256: transfer.sha256, path, size_bytes })
    }

    async fn write_whole(&self, file: &mut Partial<F>, name: &str, data: &[u8]) -> io::Result<PathBuf> {
        let mut buffer = Vec::new();
        for piece in data.chunks(WRITE_BYTES) {
            buffer.extend(piece);
            buffer = file.append(&self.files, buffer).await?;
            buffer.clear();
        }
        file.finish(&self.files).await?;
        self.publish(file.path(), name).await
    }
}

/// One stream.
struct Served<'a, F: Files, S> {
    receiver: &'a Receiver<F>,
    from: Address,
    frames: Frames<'a, ReadHalf<S>>,
    write: WriteHalf<S>,
    transfer: Option<Transfer<'a, F>>,
    /// The file whose last word has not been answered yet.
    unconfirmed: Option<PathBuf>,
    out: Vec<u8>,
    note: &'a dyn Fn(&Received),
}

struct Transfer<'a, F: Files> {
    id: [u8; 16],
    sha256: [u8; 32],
    name: String,
    claim: Claim<'a>,
    partial: Partial<F>,
    /// Room for a chunk.
    buffer: Vec<u8>,
    /// Whole before this stream began.
    known: Option<Unconfirmed>,
}

impl<'a, F: Files, S: AsyncRead + AsyncWrite + Unpin> Served<'a, F, S> {
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            let idle = if self.transfer.is_some() { STEP_MAX } else { IDLE_MAX };
            let Some(len) = self.frames.next(idle).await? else { return Ok(()) };
            // It goes on, so it has heard.
            self.confirm();
            let outcome = self.take_frame().await;
            self.frames.consume(len);
            outcome?;
        }
    }

    async fn take_frame(&mut self) -> Result<(), Error> {
        let Some(Frame { tag, content }) = self.frames.frame() else { return Ok(()) };
        let (receiver, from, note) = (self.receiver, self.from, self.note);
        let (stored, len) = match content {
            Content::Text(data) => (receiver.store_message(from, "TEXT", tag, data, note).await, data.len()),
            Content::Binary(data) => (receiver.store_message(from, inbox::BINARY, tag, data, note).await, data.len()),
            Content::Json(data) => (receiver.store_message(from, "JSON", tag, data, note).await, data.len()),
            Content::File { name, data } => {
                (receiver.store_file(from, name, data, note).await, 2 + name.len() + data.len())
            }
            Content::FileStream { id, step } => {
                let id = *id;
                return match step {
                    Step::Init { size_bytes, sha256, name, .. } => {
                        let (sha256, name) = (*sha256, name.to_owned());
                        self.begin(id, size_bytes, sha256, name).await
                    }
                    Step::Chunk { .. } => self.take_chunk(id).await,
                    Step::Done => self.complete(id).await,
                    // The sender gives up, or answers what nobody asked.
                    Step::Abort { .. } => {
                        self.transfer = None;
                        Ok(())
                    }
                    Step::Ack { .. } | Step::InitAck { .. } | Step::Complete { .. } => Ok(()),
                };
            }
            Content::Trace(_) => (Err("traces are not taken here".to_owned()), 0),
            Content::Unknown { payload, .. } => (Ok(()), payload.len()),
        };
        let text = match stored {
            Ok(()) => acknowledgement(&content, len),
            Err(reason) => format!("ERR {reason}"),
        };
        self.answer(&text).await
    }

    async fn answer(&mut self, text: &str) -> Result<(), Error> {
        self.send(Content::Text(text.as_bytes())).await
    }

    async fn say(&mut self, id: &[u8; 16], step: Step<'_>) -> Result<(), Error> {
        self.send(Content::FileStream { id, step }).await
    }

    async fn send(&mut self, content: Content<'_>) -> Result<(), Error> {
        self.out.clear();
        Frame { tag: None, content }.encode(&mut self.out, PAYLOAD_MAX)?;
        Ok(frames::write(&mut self.write, &self.out).await?)
    }

    async fn begin(&mut self, id: [u8; 16], size_bytes: u64, sha256: [u8; 32], name: String) -> Result<(), Error> {
        self.transfer = None;
        if !sha256.starts_with(&id) {
            return self.say(&id, Step::Abort { text: b"the id is not of this content" }).await;
        }
        if size_bytes > self.receiver.config.file_bytes_max {
            let text = format!("{size_bytes} bytes are too many; {} at most", self.receiver.config.file_bytes_max);
            return self.say(&id, Step::Abort { text: text.as_bytes() }).await;
        }
        match self.open(id, size_bytes, sha256, name).await {
            Ok(transfer) => {
                let offset = transfer.known.as_ref().map_or(transfer.partial.position(), |known| known.size_bytes);
                self.transfer = Some(transfer);
                self.say(&id, Step::InitAck { offset }).await
            }
            Err(error) => self.abort(id, &format!("the file cannot be stored: {error}")).await,
        }
    }

    async fn open(&self, id: [u8; 16], size_bytes: u64, sha256: [u8; 32], name: String) -> io::Result<Transfer<'a, F>> {
        let Receiver { files, config, claims, .. } = self.receiver;
        let folder = config.received.join(PARTIAL_FOLDER);
        files.create_folder(&folder).await?;
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let prefix = format!("{}-", self.from.node);
        let path = folder.join(format!("{prefix}{hex}"));
        let claim = claims.take(&path, self.receiver.next_number()).await;
        let is_same = |known: &Unconfirmed| {
            known.partial == path && known.sha256 == sha256 && known.name == name && known.size_bytes == size_bytes
        };
        let known = self.receiver.unconfirmed.borrow().iter().find(|known| is_same(known)).cloned();
        let known = match known {
            Some(known) if files.size(&known.path).await.is_ok_and(|size| size == size_bytes) => Some(known),
            _ => None,
        };
        self.receiver.prune(&folder, &path, &prefix).await?;
        if known.is_none() {
            let there = files.size(&path).await.unwrap_or_default();
            self.receiver.has_space(size_bytes.saturating_sub(there)).await?;
        }
        let partial = Partial::open(files, path, size_bytes).await?;
        Ok(Transfer { id, sha256, name, claim, partial, buffer: Vec::new(), known })
    }

    async fn take_chunk(&mut self, id: [u8; 16]) -> Result<(), Error> {
        // Chunks behind an abort are on their way still.
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.id == id) else { return Ok(()) };
        if !transfer.claim.holds() {
            return self.abort(id, "another connection goes on with this file").await;
        }
        let Some(Frame { content: Content::FileStream { step: Step::Chunk { offset, data }, .. }, .. }) =
            self.frames.frame()
        else {
            return Ok(());
        };
        let position = transfer.partial.position();
        if offset < position {
            // Sent twice.
            return self.say(&id, Step::Ack { offset: position }).await;
        }
        if offset > position {
            return self.abort(id, "a chunk is missing").await;
        }
        if data.len() as u64 > transfer.partial.size_bytes() - position {
            return self.abort(id, "there is more than was announced").await;
        }
        let mut buffer = std::mem::take(&mut transfer.buffer);
        buffer.clear();
        buffer.extend(data);
        let missing = transfer.partial.size_bytes() - position;
        let appended = match (position + data.len() as u64) / LOOK_BYTES > position / LOOK_BYTES {
            true => self.receiver.has_space(missing).await,
            false => Ok(()),
        };
        let appended = match appended {
            Ok(()) => transfer.partial.append(&self.receiver.files, buffer).await,
            Err(error) => Err(error),
        };
        match appended {
            Ok(buffer) => transfer.buffer = buffer,
            Err(error) => {
                let partial = transfer.partial.path().to_owned();
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                    // What is there would only keep the disk full.
                    let _ = self.receiver.files.remove(&partial).await;
                }
                return self.abort(id, &format!("the file cannot be stored: {error}")).await;
            }
        }
        let offset = transfer.partial.position();
        self.say(&id, Step::Ack { offset }).await
    }

    async fn complete(&mut self, id: [u8; 16]) -> Result<(), Error> {
        let Some(mut transfer) = self.transfer.take_if(|transfer| transfer.id == id) else { return Ok(()) };
        if !transfer.claim.finish() {
            return self.abort(id, "another connection goes on with this file").await;
        }
        let offset = transfer.known.as_ref().map_or(transfer.partial.position(), |known| known.size_bytes);
        let (receiver, from) = (self.receiver, self.from);
        let verdict = {
            let mut finishing = pin!(receiver.finish(from, &mut transfer, self.note));
            loop {
                if let Ok(verdict) = timeout(ALIVE_INTERVAL, &mut finishing).await {
                    break verdict;
                }
                if self.say(&id, Step::Ack { offset }).await.is_err() {
                    // The file is whole, whether or not its sender is there to hear of it.
                    break finishing.await;
                }
            }
        };
        if let Ok(unconfirmed) = &verdict {
            self.unconfirmed = Some(unconfirmed.path.clone());
            self.receiver.note_unconfirmed(unconfirmed.clone());
        }
        drop(transfer);
        match verdict {
            Ok(_) => self.say(&id, Step::Complete { status: 0, text: b"" }).await,
            Err(reason) => self.say(&id, Step::Complete { status: 1, text: reason.as_bytes() }).await,
        }
    }

    /// Gives up; the part that is there stays for another time.
    async fn abort(&mut self, id: [u8; 16], reason: &str) -> Result<(), Error> {
        self.transfer = None;
        self.say(&id, Step::Abort { text: reason.as_bytes() }).await
    }

    /// The sender has heard the last word.
    fn confirm(&mut self) {
        if let Some(path) = self.unconfirmed.take() {
            self.receiver.forget_unconfirmed(&path);
        }
    }
}
