//! Messages as files: one JSON object each, whole or not there at all. Names begin with the time, so that they sort.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::partial::Partial;
use super::received::visible;
use crate::rfc3339;
use crate::services::files::Files;

/// Bytes of a message that are escaped at once; a multiple of three, for base64.
const PIECE: usize = 192 << 10;
/// Numbers tried for messages of one second.
const NUMBERS_MAX: usize = 100_000;
/// A message's file cannot be longer: each of its bytes may take six.
const FILE_BYTES_MAX: u64 = 6 * (64 << 20) + (64 << 10);

/// A message as its file says it, and as clients show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `text`, `binary` or `json`.
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
    /// `base64`, where `data` is that of bytes that are no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// What it says; base64 where `encoding` says so.
    pub data: String,
}

/// Messages of an inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The newest, the newest first, each with its file.
    pub messages: Vec<(PathBuf, Message)>,
    /// All there are.
    pub total: usize,
}

/// Reads the newest messages of the inbox at `folder`, `limit` at most. One that does not exist yet is empty.
///
/// # Errors
/// What the system says about the folder; files that are no messages are passed over.
pub fn list(folder: &Path, limit: usize) -> io::Result<Listing> {
    let mut paths = message_paths(folder)?;
    paths.sort();
    let total = paths.len();
    let messages = paths.into_iter().rev().filter_map(|path| read(&path).map(|message| (path, message)));
    Ok(Listing { messages: messages.take(limit).collect(), total })
}

/// Removes all messages; says how many.
///
/// # Errors
/// What the system says.
pub fn clear(folder: &Path) -> io::Result<usize> {
    let paths = message_paths(folder)?;
    paths.iter().try_for_each(std::fs::remove_file)?;
    Ok(paths.len())
}

fn message_paths(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = visible(folder)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    Ok(paths)
}

fn read(path: &Path) -> Option<Message> {
    let is_small = path.metadata().is_ok_and(|metadata| metadata.len() <= FILE_BYTES_MAX);
    let text = is_small.then(|| std::fs::read_to_string(path).ok())??;
    serde_json::from_str(&text).ok()
}

/// A message to be stored.
pub(super) struct Letter<'a> {
    pub kind: &'static str,
    pub from: String,
    pub unix: u64,
    /// Where to begin with numbers within one second.
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
    let text = str::from_utf8(letter.data).ok();
    let message = Message {
        kind: letter.kind.to_owned(),
        from: letter.from.clone(),
        bytes: letter.data.len() as u64,
        received_at: rfc3339::format(letter.unix),
        message_id: letter.message_id.map(str::to_owned),
        reply_to: letter.reply_to.map(str::to_owned),
        encoding: text.is_none().then(|| "base64".to_owned()),
        data: String::new(),
    };
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
    let time = rfc3339::format(letter.unix).replace([':', '-'], "");
    for tried in 0..NUMBERS_MAX {
        let number = (letter.number + tried) % NUMBERS_MAX;
        let target = folder.join(format!("{time}-{number:05}-{}.json", letter.kind));
        match files.publish(draft, &target).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome.map(|()| target),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many messages in one second"))
}
