//! Messages as files.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A message as its file says it, and as clients show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `text`, `binary` or `json`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The sender's address.
    pub from: String,
    /// What it says; base64 where `encoding` says so.
    pub data: String,
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
#[expect(clippy::unimplemented, reason = "the shape first")]
pub fn list(_folder: &Path, _limit: usize) -> io::Result<Listing> {
    unimplemented!()
}

/// Removes all messages; says how many.
///
/// # Errors
/// What the system says.
#[expect(clippy::unimplemented, reason = "the shape first")]
pub fn clear(_folder: &Path) -> io::Result<usize> {
    unimplemented!()
}
