//! Messages as files: one JSON object each, whole or not there at all. Names and fields are those of existing daemons, so that
//! either's tools read the other's inbox.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::folder::{self, Entry, stamp};
use super::partial::Partial;
use crate::rfc3339;
use crate::services::files::Files;

/// Bytes of a message that are escaped at once; a multiple of three, for base64.
const PIECE: usize = 192 << 10;
/// Numbers tried for messages of one millisecond.
const NUMBERS_MAX: usize = 1000;
/// A message's file cannot be longer: each of its bytes may take six.
const FILE_BYTES_MAX: u64 = 6 * (64 << 20) + (64 << 10);
const SUFFIX: &str = ".json";
const BASE64_NAME: &str = "base64";

/// A message as its file says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `TEXT`, `BINARY` or `JSON`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The sender's address.
    pub from: String,
    /// Bytes of what was sent.
    pub bytes: u64,
    /// When, as RFC 3339 writes it.
    pub received_at: String,
    /// The sender's id for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The id of the message it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// `utf8` or `base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_encoding: Option<String>,
    /// What it says, if that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// In base64 what is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_b64: Option<String>,
}

impl Message {
    /// What it says, as it was sent.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let encoded = self.data_b64.as_deref().or_else(|| {
            // Where there is one field for both.
            self.data.as_deref().filter(|_| self.data_encoding.as_deref() == Some(BASE64_NAME))
        });
        let decoded = encoded.and_then(|encoded| BASE64.decode(encoded).ok());
        decoded.unwrap_or_else(|| self.data.clone().unwrap_or_default().into_bytes())
    }
}

/// A message and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The file's name without `.json`.
    pub id: String,
    /// When the file was written, in unix seconds.
    pub modified: u64,
    /// The message.
    pub message: Message,
}

/// Messages of an inbox, read one by one.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    entries: Vec<Entry>,
}

impl Inbox {
    /// The inbox at `folder`. One that does not exist yet is empty.
    ///
    /// # Errors
    /// What the system says about the folder.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let mut entries = folder::entries(folder)?;
        entries.retain(|entry| entry.name.ends_with(SUFFIX));
        entries.sort_by(|a, b| (when(&b.name), &b.name).cmp(&(when(&a.name), &a.name)));
        Ok(Self { entries })
    }

    /// Their files, the newest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The messages, the newest first. Files that are no messages are passed over.
    pub fn messages(&self) -> impl Iterator<Item = Stored> {
        self.entries.iter().filter_map(read)
    }
}

/// Reads a message.
#[must_use]
pub fn read(entry: &Entry) -> Option<Stored> {
    let text = if entry.bytes <= FILE_BYTES_MAX { std::fs::read(&entry.path).ok()? } else { return None };
    let message: Message = serde_json::from_slice(&text).ok()?;
    let has_body = message.data.is_some() || message.data_b64.is_some();
    let id = entry.name.strip_suffix(SUFFIX)?.to_owned();
    has_body.then_some(Stored { id, modified: entry.modified, message })
}

/// Names begin with the kind, then comes the time.
fn when(name: &str) -> &str {
    name.split_once('-').map_or(name, |(_, time)| time)
}

/// The kind whose data is never text.
pub(super) const BINARY: &str = "BINARY";

/// A message to be stored.
pub(super) struct Letter<'a> {
    pub kind: &'static str,
    pub from: String,
    /// Since 1970.
    pub unix: Duration,
    /// Where to begin with numbers within one millisecond.
    pub number: usize,
    pub message_id: Option<&'a str>,
    pub reply_to: Option<&'a str>,
    pub data: &'a [u8],
}

/// Writes a message to `draft`, then gives it its name in `folder`.
pub(super) async fn store<F: Files>(
    files: &F,
    folder: &Path,
    draft: PathBuf,
    letter: &Letter<'_>,
) -> io::Result<PathBuf> {
    let mut file = Partial::open(files, draft, u64::MAX).await?;
    let written = write(files, &mut file, letter).await;
    let published = match written {
        Ok(()) => publish(files, file.path(), folder, letter).await,
        Err(error) => Err(error),
    };
    if published.is_err() {
        // What is wrong is said already.
        let _ = files.remove(file.path()).await;
    }
    published
}

async fn write<F: Files>(files: &F, file: &mut Partial<F>, letter: &Letter<'_>) -> io::Result<()> {
    let text = if letter.kind == BINARY { None } else { str::from_utf8(letter.data).ok() };
    let mut message = Message {
        kind: letter.kind.to_owned(),
        from: letter.from.clone(),
        bytes: letter.data.len() as u64,
        received_at: rfc3339::format_precise(letter.unix),
        message_id: letter.message_id.map(str::to_owned),
        reply_to: letter.reply_to.map(str::to_owned),
        ..Message::default()
    };
    let (encoding, body) = match text {
        Some(_) => ("utf8", &mut message.data),
        None => (BASE64_NAME, &mut message.data_b64),
    };
    *body = Some(String::new());
    message.data_encoding = Some(encoding.to_owned());
    // The data comes last and in pieces: escaped, all of it would take a multiple of its bytes.
    let mut buffer = serde_json::to_vec(&message)?;
    buffer.truncate(buffer.len() - "\"}".len());
    match text {
        Some(mut rest) => {
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.floor_char_boundary(PIECE));
                let quoted = serde_json::to_string(piece)?;
                buffer.extend(&quoted.as_bytes()[1..quoted.len() - 1]);
                rest = behind;
                buffer = flushed(files, file, buffer).await?;
            }
        }
        None => {
            for piece in letter.data.chunks(PIECE) {
                buffer.extend(BASE64.encode(piece).as_bytes());
                buffer = flushed(files, file, buffer).await?;
            }
        }
    }
    buffer.extend(b"\"}\n");
    flushed(files, file, buffer).await?;
    file.finish(files).await?;
    Ok(())
}

async fn flushed<F: Files>(files: &F, file: &mut Partial<F>, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut buffer = file.append(files, buffer).await?;
    buffer.clear();
    Ok(buffer)
}

async fn publish<F: Files>(files: &F, draft: &Path, folder: &Path, letter: &Letter<'_>) -> io::Result<PathBuf> {
    for number in letter.number..letter.number + NUMBERS_MAX {
        let target = folder.join(format!("{}-{}{SUFFIX}", letter.kind, stamp(letter.unix, number)));
        match files.publish(draft, &target).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome.map(|()| target),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many messages in one millisecond"))
}
