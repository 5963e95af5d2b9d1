//! `inbox`, `received`: what has come, from the daemon's folders. No daemon is needed.
//!
//! A message is a file of JSON. Existing daemons write other names for the encoding than ours; both are read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use super::{number_of, text_of};
use crate::pilotctl::arguments::{Choice, Inbox, InboxRead};
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::Session;
use crate::pilotctl::{clock, duration, text};

/// Characters of a message in a list.
const PREVIEW_CHARACTERS: usize = 200;
/// A message of 64 MiB, each byte escaped.
const MESSAGE_FILE_BYTES_MAX: u64 = 512 << 20;
/// What is not whole yet.
const PARTIAL_FOLDER: &str = ".partial";

/// One file of a folder.
struct Entry {
    path: PathBuf,
    name: String,
    bytes: u64,
    modified: u64,
}

pub(super) fn inbox(session: &Session, screen: &mut Screen, what: Inbox) -> Result<(), Failure> {
    let folder = session.places.inbox();
    if let Some(InboxRead::Read { id }) = what.read {
        return read_one(screen, &folder, &id);
    }
    let now = clock::unix_seconds();
    let mut entries = entries(&folder).map_err(|error| unreadable(&folder, &error))?;
    entries.retain(|entry| entry.name.ends_with(".json"));
    if what.choice.clear {
        return clear(screen, entries, what.choice.before, now, "message", None);
    }
    let all = entries.len();
    let mut messages: Vec<Map<String, Value>> = Vec::new();
    for entry in &entries {
        let Some(message) = read_message(entry) else { continue };
        let from_wanted = what.from.as_ref().is_none_or(|from| text_field(&message, "from").contains(from.as_str()));
        let age = now.saturating_sub(received_at(&message).unwrap_or(entry.modified));
        if from_wanted && what.choice.since.is_none_or(|since| age <= since.as_secs()) {
            messages.push(message);
        }
    }
    messages.sort_by(|a, b| {
        (text_field(b, "received_at"), text_field(b, "id")).cmp(&(text_field(a, "received_at"), text_field(a, "id")))
    });
    let filtered = what.from.is_some() || what.choice.since.is_some();
    let total = if filtered { messages.len() } else { all };
    let limit = if what.latest { 1 } else { what.choice.limit };
    messages.truncate(if limit == 0 { usize::MAX } else { limit });
    if screen.is_json() {
        let shown = messages.len();
        let messages: Vec<Value> = messages.into_iter().map(|message| for_scripts(message, what.latest)).collect();
        let mut data = json!({"messages": messages, "shown": shown, "total": total});
        if folder.is_dir() {
            data["dir"] = json!(folder.to_string_lossy());
        }
        return Ok(screen.data(data)?);
    }
    if messages.is_empty() {
        screen.line(if filtered { "no such messages" } else { "the inbox is empty" })?;
        screen.talk("they come from others: pilotctl send-message THIS-NODE --data hello");
        return Ok(());
    }
    screen.line(&format!("{} · the newest {}", text::count(total as u64, "message"), messages.len()))?;
    for message in messages {
        let message = Value::Object(message);
        screen.line("")?;
        let age = unix_field(&message).map_or("?".to_owned(), |at| duration::span(now.saturating_sub(at)));
        let (kind, size) = (text_of(&message, "type"), text::size(number_of(&message, "bytes")));
        let from = screen.bold(&text_of(&message, "from"));
        screen.line(&format!("{from} · {kind} · {size} · {age} ago"))?;
        let reply_to = text_of(&message, "reply_to");
        let reply = if reply_to.is_empty() { String::new() } else { format!(" · answers {reply_to}") };
        screen.line(&screen.dim(&format!("{}{reply}", text_of(&message, "id"))))?;
        let body = body(&message);
        let body = String::from_utf8_lossy(&body);
        let shown = if what.latest { body } else { text::shortened(&body, PREVIEW_CHARACTERS).into_owned().into() };
        screen.line(&text::harmless_lines(&shown))?;
    }
    screen.talk("\nwhole: pilotctl inbox read ID, inbox --latest · choose: --from, --since, --limit · delete: --clear");
    Ok(())
}

fn read_one(screen: &mut Screen, folder: &Path, id: &str) -> Result<(), Failure> {
    let missing = || {
        Failure::new(Code::NotFound, format!("no message \"{}\" in the inbox", text::harmless(id)))
            .hint("see their ids: pilotctl inbox")
    };
    // An id is a file's name, and nothing else may be read by it.
    let entries = entries(folder).map_err(|error| unreadable(folder, &error))?;
    let entry = entries.into_iter().find(|entry| entry.name.strip_suffix(".json") == Some(id)).ok_or_else(missing)?;
    let message = read_message(&entry).ok_or_else(|| {
        Failure::new(Code::Internal, format!("{} is not a message", entry.path.display()))
            .hint("delete it, or move it away")
    })?;
    if screen.is_json() {
        return Ok(screen.data(for_scripts(message, true))?);
    }
    let message = Value::Object(message);
    let rows = [("ID", "id"), ("From", "from"), ("When", "received_at"), ("Type", "type")];
    for (title, field) in rows {
        screen.line(&format!("{:<12}{}", format!("{title}:"), text_of(&message, field)))?;
    }
    screen.line(&format!("{:<12}{}", "Bytes:", number_of(&message, "bytes")))?;
    for (title, field) in [("Message ID", "message_id"), ("Answers", "reply_to")] {
        if message[field].is_string() {
            screen.line(&format!("{:<12}{}", format!("{title}:"), text_of(&message, field)))?;
        }
    }
    screen.line("")?;
    screen.peer_bytes(&body(&message))?;
    Ok(screen.line("")?)
}

pub(super) fn received(session: &Session, screen: &mut Screen, choice: &Choice) -> Result<(), Failure> {
    let folder = session.places.received();
    let now = clock::unix_seconds();
    let mut files = entries(&folder).map_err(|error| unreadable(&folder, &error))?;
    if choice.clear {
        return clear(screen, files, choice.before, now, "file", Some(&folder.join(PARTIAL_FOLDER)));
    }
    if let Some(since) = choice.since {
        files.retain(|file| now.saturating_sub(file.modified) <= since.as_secs());
    }
    files.sort_by(|a, b| (b.modified, &b.name).cmp(&(a.modified, &a.name)));
    let total = files.len();
    files.truncate(if choice.limit == 0 { usize::MAX } else { choice.limit });
    if screen.is_json() {
        let listed: Vec<Value> = files
            .iter()
            .map(|file| {
                let path = file.path.to_string_lossy();
                json!({"name": file.name, "bytes": file.bytes, "modified": text::timestamp(file.modified), "path": path})
            })
            .collect();
        let mut data = json!({"files": listed, "shown": listed.len(), "total": total});
        if folder.is_dir() {
            data["dir"] = json!(folder.to_string_lossy());
        }
        return Ok(screen.data(data)?);
    }
    if files.is_empty() {
        screen.line("no files")?;
        screen.talk("they come from others: pilotctl send-file THIS-NODE FILE");
        return Ok(());
    }
    let mut table = crate::pilotctl::table::Table::new(&["SIZE", "AGE", "NAME"]);
    for file in &files {
        let age = duration::span(now.saturating_sub(file.modified));
        table.row([text::size(file.bytes), age, file.name.clone()]);
    }
    table.show(screen)?;
    screen.talk(&format!("{} of {} in {}", files.len(), text::count(total as u64, "file"), folder.display()));
    Ok(())
}

/// The answer to a message, once it is in the inbox.
pub(super) fn reply(session: &Session, message_id: &str) -> Option<Value> {
    let entries = entries(&session.places.inbox()).ok()?;
    let mut replies = entries.iter().filter(|entry| entry.name.ends_with(".json")).filter_map(read_message);
    let reply = replies.find(|message| text_field(message, "reply_to") == message_id)?;
    Some(for_scripts(reply, true))
}

fn clear(
    screen: &mut Screen,
    entries: Vec<Entry>,
    before: Option<Duration>,
    now: u64,
    noun: &str,
    partials: Option<&Path>,
) -> Result<(), Failure> {
    let is_old = |entry: &Entry| before.is_none_or(|age| now.saturating_sub(entry.modified) > age.as_secs());
    let all = entries.len();
    let cleared = remove(entries.iter().filter(|entry| is_old(entry)))?;
    let remaining = all - cleared;
    let mut data = json!({"cleared": cleared, "remaining": remaining});
    if let Some(folder) = partials {
        let partials = self::entries(folder).unwrap_or_default();
        data["cleared_partial"] = json!(remove(partials.iter().filter(|entry| is_old(entry)))?);
    }
    if screen.is_json() {
        return Ok(screen.data(data)?);
    }
    Ok(screen.line(&format!("{} deleted, {remaining} left", text::count(cleared as u64, noun)))?)
}

fn remove<'a>(entries: impl Iterator<Item = &'a Entry>) -> Result<usize, Failure> {
    let mut removed = 0;
    for entry in entries {
        match fs::remove_file(&entry.path) {
            Ok(()) => removed += 1,
            // Another was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&entry.path, &error)),
        }
    }
    Ok(removed)
}

/// The files of a folder; none where there is no folder yet.
fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut entries = Vec::new();
    for entry in listing {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that has gone meanwhile is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && !name.starts_with('.') {
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let modified = modified.map_or(0, |since| since.as_secs());
            entries.push(Entry { path: entry.path(), name, bytes: metadata.len(), modified });
        }
    }
    Ok(entries)
}

/// What is no message is passed over.
fn read_message(entry: &Entry) -> Option<Map<String, Value>> {
    let text = if entry.bytes <= MESSAGE_FILE_BYTES_MAX { fs::read(&entry.path).ok()? } else { return None };
    let Value::Object(mut message) = serde_json::from_slice(&text).ok()? else { return None };
    message.get("data")?.as_str()?;
    message.insert("id".to_owned(), json!(entry.name.trim_end_matches(".json")));
    Some(message)
}

fn text_field<'a>(message: &'a Map<String, Value>, field: &str) -> &'a str {
    message.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn received_at(message: &Map<String, Value>) -> Option<u64> {
    text::unix_seconds(text_field(message, "received_at"))
}

fn unix_field(message: &Value) -> Option<u64> {
    text::unix_seconds(message["received_at"].as_str()?)
}

fn is_base64(message: &Value) -> bool {
    ["data_encoding", "encoding"].iter().any(|field| message[*field] == "base64")
}

/// What the message says, as it was sent.
fn body(message: &Value) -> Vec<u8> {
    let data = message["data"].as_str().unwrap_or_default();
    let decoded = is_base64(message).then(|| BASE64.decode(data).ok()).flatten();
    decoded.unwrap_or_else(|| data.as_bytes().to_vec())
}

/// As existing scripts have it: a preview in lists, the data in single ones.
fn for_scripts(mut message: Map<String, Value>, whole: bool) -> Value {
    let value = Value::Object(message.clone());
    let encoded = is_base64(&value);
    message.remove("data_encoding");
    message.remove("encoding");
    if whole {
        if encoded {
            message.insert("data_encoding".to_owned(), json!("base64"));
        }
    } else {
        message.remove("data");
        let body = body(&value);
        let preview = String::from_utf8_lossy(&body);
        message.insert("preview".to_owned(), json!(text::shortened(&preview, PREVIEW_CHARACTERS)));
    }
    Value::Object(message)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Internal, format!("cannot read or change {}: {error}", path.display()))
        .hint("run pilotctl as the user that runs the daemon")
}
