//! What the stories need: a receiver with folders of its own, streams that break, disks that fill up.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use agent::services::exchange::receiver::{Config, Error, Received, Receiver};
use agent::services::files::{Done, Files, Space, Threads};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use wire::NodeId;
use wire::address::Address;
use wire::services::exchange::{Content, Frame, PAYLOAD_MAX, Step};

pub const UNIX: u64 = 1_767_225_600;
/// [`UNIX`] in names of files.
pub const STAMP: &str = "-20260101-000000.000-";
const NUMBER_DIGITS: usize = 6;
pub const PEER: Address = Address { network: 0, node: NodeId(2) };

/// Runs a story on one thread; time passes only where everyone waits.
pub fn story(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, story);
}

pub struct World {
    pub folder: TempDir,
    pub receiver: Rc<Receiver<Disk>>,
    pub disk: Disk,
    pub heard: Rc<RefCell<Vec<Received>>>,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(folder.path().join("inbox"), folder.path().join("received"));
        change(&mut config);
        let heard = Rc::new(RefCell::new(Vec::new()));
        let notify = {
            let heard = Rc::clone(&heard);
            Rc::new(move |received| heard.borrow_mut().push(received))
        };
        let disk = Disk::default();
        let receiver = Rc::new(Receiver::new(config, disk.clone(), Rc::new(|| Duration::from_secs(UNIX)), notify));
        Self { folder, receiver, disk, heard }
    }

    pub fn inbox(&self) -> PathBuf {
        self.folder.path().join("inbox")
    }

    pub fn received(&self) -> PathBuf {
        self.folder.path().join("received")
    }

    /// A connection to the receiver, and how the receiver's end fared.
    pub fn connect(&self) -> (DuplexStream, JoinHandle<Result<(), Error>>) {
        self.connect_from(PEER)
    }

    pub fn connect_from(&self, peer: Address) -> (DuplexStream, JoinHandle<Result<(), Error>>) {
        let (client, server) = duplex(64 << 10);
        let receiver = Rc::clone(&self.receiver);
        (client, spawn_local(async move { receiver.serve(peer, server).await }))
    }

    /// A connection that breaks after so many bytes written and read.
    pub fn connect_cut(&self, to_write: usize, to_read: usize) -> Cut {
        self.connect_cut_with_buffer(64 << 10, to_write, to_read)
    }

    /// As [`Self::connect_cut`], with so many bytes between the two ends.
    pub fn connect_cut_with_buffer(&self, buffer_bytes: usize, to_write: usize, to_read: usize) -> Cut {
        let (client, server) = duplex(buffer_bytes);
        let is_broken = Rc::new(Cell::new(false));
        let server = OtherEnd { stream: server, is_broken: Rc::clone(&is_broken) };
        let receiver = Rc::clone(&self.receiver);
        spawn_local(async move { receiver.serve(PEER, server).await });
        Cut { stream: client, to_write, to_read, is_broken }
    }

    /// Names and contents of the files in the received folder, their names without time and number.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        unstamped(contents(&self.received()))
    }

    /// Files that are not whole.
    pub fn partials(&self) -> Vec<(String, Vec<u8>)> {
        contents(&self.received().join(".partial"))
    }

    /// Writes a file to be sent.
    pub fn own_file(&self, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join("own file");
        std::fs::write(&path, content).unwrap();
        path
    }
}

pub fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.file_type().unwrap().is_file());
    let mut files: Vec<_> =
        files.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect();
    files.sort();
    files
}

/// Takes time and number out of names.
pub fn unstamped(files: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let unstamped = |name: String| {
        let (stem, rest) = name.split_once(STAMP).unwrap_or_else(|| panic!("{name} has no time"));
        let (number, extension) = rest.split_at(NUMBER_DIGITS);
        assert!(number.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
        format!("{stem}{extension}")
    };
    let mut files: Vec<_> = files.into_iter().map(|(name, content)| (unstamped(name), content)).collect();
    files.sort();
    files
}

/// A disk with so much room.
#[derive(Clone, Default)]
pub struct Disk {
    pub room: Rc<Cell<Option<usize>>>,
    pub is_sync_broken: Rc<Cell<bool>>,
    /// How long it takes to flush.
    pub sync_takes: Rc<Cell<Duration>>,
    /// Bytes that it says are free.
    pub free_bytes: Rc<Cell<Option<u64>>>,
}

impl Files for Disk {
    type File = <Threads as Files>::File;

    async fn open(&self, path: &Path) -> io::Result<Self::File> {
        Threads.open(path).await
    }

    async fn create(&self, path: &Path) -> io::Result<Self::File> {
        Threads.create(path).await
    }

    async fn read_at(&self, file: &Self::File, buffer: Vec<u8>, offset: u64) -> Done<usize> {
        Threads.read_at(file, buffer, offset).await
    }

    async fn write_at(&self, file: &Self::File, buffer: Vec<u8>, offset: u64) -> Done<()> {
        if let Some(room) = self.room.get() {
            let Some(room) = room.checked_sub(buffer.len()) else {
                return (Err(io::ErrorKind::StorageFull.into()), buffer);
            };
            self.room.set(Some(room));
        }
        Threads.write_at(file, buffer, offset).await
    }

    async fn space(&self, _folder: &Path) -> io::Result<Space> {
        Ok(Space { free_bytes: self.free_bytes.get().unwrap_or(1 << 40), total_bytes: 1 << 40 })
    }

    async fn sync(&self, file: &Self::File) -> io::Result<()> {
        if self.is_sync_broken.get() {
            return Err(io::Error::other("the disk is broken"));
        }
        tokio::time::sleep(self.sync_takes.get()).await;
        Threads.sync(file).await
    }
}

/// Our end of a stream that breaks after so many bytes in either direction.
pub struct Cut {
    stream: DuplexStream,
    to_write: usize,
    to_read: usize,
    is_broken: Rc<Cell<bool>>,
}

/// The other end, which sees it break as well: no orderly end.
struct OtherEnd {
    stream: DuplexStream,
    is_broken: Rc<Cell<bool>>,
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for Cut {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.to_read == 0 {
            self.is_broken.set(true);
            return Poll::Ready(Err(broken()));
        }
        let limit = self.to_read.min(out.remaining());
        let mut part = ReadBuf::new(out.initialize_unfilled_to(limit));
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut part);
        let len = part.filled().len();
        out.advance(len);
        self.to_read -= len;
        polled
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let limit = self.to_write.min(bytes.len());
        if limit == 0 {
            self.is_broken.set(true);
            return Poll::Ready(Err(broken()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(context, &bytes[..limit]);
        if let Poll::Ready(Ok(len)) = &polled {
            self.to_write -= len;
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for OtherEnd {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, out);
        let is_end = matches!(polled, Poll::Ready(Ok(()))) && out.filled().len() == before;
        if is_end && self.is_broken.get() { Poll::Ready(Err(broken())) } else { polled }
    }
}

impl AsyncWrite for OtherEnd {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

pub fn encode(content: Content<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame { tag: None, content }.encode(&mut bytes, PAYLOAD_MAX).unwrap();
    bytes
}

pub async fn say(stream: &mut (impl AsyncWrite + Unpin), content: Content<'_>) {
    stream.write_all(&encode(content)).await.unwrap();
}

pub async fn say_step(stream: &mut (impl AsyncWrite + Unpin), id: &[u8; 16], step: Step<'_>) {
    say(stream, Content::FileStream { id, step }).await;
}

/// The next frame as its type and payload.
pub async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> (u32, Vec<u8>) {
    let kind = stream.read_u32().await.unwrap();
    let mut payload = vec![0; stream.read_u32().await.unwrap() as usize];
    stream.read_exact(&mut payload).await.unwrap();
    (kind, payload)
}

/// The next frame, which is a text.
pub async fn hear_text(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let (kind, payload) = hear(stream).await;
    assert_eq!(kind, 1);
    String::from_utf8(payload).unwrap()
}

/// The next frame, which is a step of a transfer: its kind and its body.
pub async fn hear_step(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let (kind, payload) = hear(stream).await;
    assert_eq!(kind, 7, "{}", String::from_utf8_lossy(&payload));
    (payload[0], payload[17..].to_vec())
}

/// Bytes that no two places share.
pub fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}
