//! The thread's side: lines to the file, and the next file when it is full.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;

use nix::fcntl::OFlag;

use super::{Counts, Message, Options};

/// Bytes that are written at once, when so much is waiting.
const CHUNK_BYTES: usize = 64 * 1024;

/// The file being written.
#[derive(Debug)]
pub struct Writer {
    options: Options,
    counts: Arc<Counts>,
    /// `None` after a rotation that could not open the next.
    file: Option<File>,
    /// Its length, all of it whole lines.
    file_bytes: u64,
    is_failing: bool,
}

/// Lines that are written together.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    lines: u64,
}

impl Writer {
    /// Makes the folder and opens the file.
    pub fn open(options: Options, counts: Arc<Counts>) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&options.folder)?;
        let mut this = Self { options, counts, file: None, file_bytes: 0, is_failing: false };
        this.reopen()?;
        Ok(this)
    }

    /// Writes what comes until the log is given up or is to end.
    pub fn run(&mut self, messages: &Receiver<Message>) {
        let mut chunk = Chunk::default();
        loop {
            let next = if self.counts.ending.load(Relaxed) { messages.try_recv().ok() } else { messages.recv().ok() };
            let Some(mut message) = next else { break };
            loop {
                match message {
                    Message::Line(line) => {
                        if chunk.bytes.len() + line.len() > CHUNK_BYTES || !self.fits(chunk.bytes.len() + line.len()) {
                            self.write(&mut chunk);
                        }
                        chunk.bytes.extend(line);
                        chunk.lines += 1;
                    }
                    Message::Flush(done) => {
                        self.write(&mut chunk);
                        // Whoever asked may have lost patience.
                        let _ = done.send(());
                    }
                    Message::Wake => {}
                }
                match messages.try_recv() {
                    Ok(more) => message = more,
                    Err(_) => break,
                }
            }
            self.write(&mut chunk);
        }
    }

    fn fits(&self, bytes: usize) -> bool {
        self.file_bytes + bytes as u64 <= self.options.file_bytes_max
    }

    /// Writes and empties `chunk`. What fails is counted, and warned of once until it succeeds again.
    fn write(&mut self, chunk: &mut Chunk) {
        let Chunk { bytes, lines } = std::mem::take(chunk);
        if lines == 0 {
            return;
        }
        match self.append(&bytes) {
            Ok(()) => {
                self.counts.written.fetch_add(lines, Relaxed);
                if std::mem::take(&mut self.is_failing) {
                    let dropped = self.counts.dropped.load(Relaxed);
                    tracing::info!(folder = %self.options.folder.display(), dropped, "events are kept again");
                }
            }
            Err(error) => {
                self.counts.dropped.fetch_add(lines, Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    let folder = self.options.folder.display();
                    tracing::warn!(%folder, %error, "events cannot be kept; silent until they can be");
                }
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file_bytes > 0 && !self.fits(bytes.len()) {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        if let Err(error) = file.write_all(bytes) {
            // Nothing is to be left of what is counted as dropped.
            file.set_len(self.file_bytes)?;
            return Err(error);
        }
        self.file_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Moves every file on by one. As long as that fails nothing is written, so that no file grows beyond its bound.
    fn rotate(&mut self) -> io::Result<()> {
        let oldest = self.options.files_max.saturating_sub(1);
        for age in (0..oldest).rev() {
            absent_is_fine(fs::rename(self.options.path(age), self.options.path(age + 1)))?;
        }
        if oldest == 0 {
            absent_is_fine(fs::remove_file(self.options.path(0)))?;
        }
        (self.file, self.file_bytes) = (None, 0);
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        let path = self.options.path(0);
        let mut open = OpenOptions::new();
        open.read(true).append(true).create(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        let mut file = open.open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        let mut file_bytes = file.metadata()?.len();
        if file_bytes > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            // The host went down while a line was being written.
            if last != *b"\n" {
                file.write_all(b"\n")?;
                file_bytes += 1;
            }
        }
        (self.file, self.file_bytes) = (Some(file), file_bytes);
        Ok(())
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str) -> Chunk {
        Chunk { bytes: text.as_bytes().to_vec(), lines: 1 }
    }

    /// Every write to `/dev/full` finds the disk full.
    #[test]
    fn a_full_disk_costs_the_events_of_the_meantime() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(folder.path());
        let counts = Arc::<Counts>::default();
        let mut writer = Writer::open(options.clone(), Arc::clone(&counts)).unwrap();
        writer.write(&mut chunk("1\n"));
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let roomy = writer.file.replace(full);
        writer.write(&mut chunk("2\n"));
        writer.write(&mut chunk("3\n"));
        assert!(writer.is_failing);
        writer.file = roomy;
        writer.write(&mut chunk("4\n"));
        assert!(!writer.is_failing);
        assert_eq!((counts.written.load(Relaxed), counts.dropped.load(Relaxed)), (2, 2));
        assert_eq!(fs::read_to_string(options.path(0)).unwrap(), "1\n4\n");
    }
}
