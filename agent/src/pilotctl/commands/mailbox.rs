//! `inbox`, `received`: what has come, from the daemon's folders. No daemon is needed.
//!
//! Our daemon and existing ones keep them alike, so that all are read.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::pilotctl::arguments::{Choice, Inbox, InboxRead};
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::Session;
use crate::pilotctl::{clock, duration, text};
use crate::rfc3339;
use crate::services::exchange::folder::{self, Entry};
use crate::services::exchange::inbox::{self, Message, Stored};

/// Characters of a message in a list.
const PREVIEW_CHARACTERS: usize = 200;
/// What is not whole yet.
const PARTIAL_FOLDER: &str = ".partial";

pub(super) fn inbox(session: &Session, screen: &mut Screen, what: Inbox) -> Result<(), Failure> {
    let folder = session.places.inbox();
    if let Some(InboxRead::Read { id }) = what.read {
        return read_one(screen, &folder, &id);
    }
    let now = clock::unix_seconds();
    let stored = inbox::Inbox::open(&folder).map_err(|error| unreadable(&folder, &error))?;
    if what.choice.clear {
        return clear(screen, stored.entries(), what.choice.before, now, "message", None);
    }
    let is_wanted = |stored: &Stored| {
        let age = now.saturating_sub(received_at(&stored.message).unwrap_or(stored.modified));
        what.from.as_ref().is_none_or(|from| stored.message.from.contains(from.as_str()))
            && what.choice.since.is_none_or(|since| age <= since.as_secs())
    };
    let limit = match what.choice.limit {
        _ if what.latest => 1,
        0 => usize::MAX,
        limit => limit,
    };
    let filtered = what.from.is_some() || what.choice.since.is_some();
    let mut wanted = stored.messages().filter(is_wanted);
    let messages: Vec<Stored> = wanted.by_ref().take(limit).collect();
    // Without a filter the others need not be read.
    let total = if filtered { messages.len() + wanted.count() } else { stored.entries().len() };
    if screen.is_json() {
        let shown = messages.len();
        let messages: Vec<Value> =
            messages.iter().map(|stored| if what.latest { latest(stored) } else { preview(stored) }).collect();
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
    for Stored { id, message, .. } in &messages {
        screen.line("")?;
        let age = received_at(message).map_or("?".to_owned(), |at| duration::span(now.saturating_sub(at)));
        let (from, kind) = (text::harmless(&message.from), text::harmless(&message.kind));
        screen.line(&format!("{} · {kind} · {} · {age} ago", screen.bold(&from), text::size(message.bytes)))?;
        let reply = message.reply_to.as_ref().map(|id| format!(" · answers {}", text::harmless(id)));
        screen.line(&screen.dim(&format!("{}{}", text::harmless(id), reply.unwrap_or_default())))?;
        let body = message.body();
        match std::str::from_utf8(&body) {
            Ok(body) if what.latest => screen.line(&text::harmless_lines(body))?,
            Ok(body) => screen.line(&text::harmless_lines(&text::shortened(body, PREVIEW_CHARACTERS)))?,
            Err(_) => screen.line(&screen.dim("(no text; its bytes: pilotctl --json inbox read ID)"))?,
        }
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
    let stored = inbox::Inbox::open(folder).map_err(|error| unreadable(folder, &error))?;
    let entry = stored.entries().iter().find(|entry| entry.name.strip_suffix(".json") == Some(id));
    let entry = entry.ok_or_else(missing)?;
    let stored = inbox::read(entry).ok_or_else(|| {
        Failure::new(Code::Internal, format!("{} is not a message", entry.path.display()))
            .hint("delete it, or move it away")
    })?;
    if screen.is_json() {
        return Ok(screen.data(whole(&stored))?);
    }
    let Stored { id, message, .. } = &stored;
    let bytes = message.bytes.to_string();
    let rows = [
        ("ID", Some(id)),
        ("From", Some(&message.from)),
        ("When", Some(&message.received_at)),
        ("Type", Some(&message.kind)),
        ("Bytes", Some(&bytes)),
        ("Message ID", message.message_id.as_ref()),
        ("Answers", message.reply_to.as_ref()),
    ];
    for (title, value) in rows {
        if let Some(value) = value {
            screen.line(&format!("{:<12}{}", format!("{title}:"), text::harmless(value)))?;
        }
    }
    screen.line("")?;
    screen.peer_bytes(&message.body())?;
    Ok(screen.line("")?)
}

pub(super) fn received(session: &Session, screen: &mut Screen, choice: &Choice) -> Result<(), Failure> {
    let folder = session.places.received();
    let now = clock::unix_seconds();
    let mut files = folder::entries(&folder).map_err(|error| unreadable(&folder, &error))?;
    if choice.clear {
        return clear(screen, &files, choice.before, now, "file", Some(&folder.join(PARTIAL_FOLDER)));
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
                json!({"name": file.name, "bytes": file.bytes, "modified": rfc3339::format(file.modified), "path": path})
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

/// The answer to a message, once it is in the inbox; not before `since`, in unix seconds.
pub(super) fn reply(session: &Session, message_id: &str, since: u64) -> Option<Message> {
    let stored = inbox::Inbox::open(&session.places.inbox()).ok()?;
    let mut recent = stored.entries().iter().filter(|entry| entry.modified >= since).filter_map(inbox::read);
    recent.find(|stored| stored.message.reply_to.as_deref() == Some(message_id)).map(|stored| stored.message)
}

fn clear(
    screen: &mut Screen,
    entries: &[Entry],
    before: Option<Duration>,
    now: u64,
    noun: &str,
    partials: Option<&Path>,
) -> Result<(), Failure> {
    let is_old = |entry: &Entry| before.is_none_or(|age| now.saturating_sub(entry.modified) > age.as_secs());
    let all = entries.len();
    let remove = |entries: &[Entry]| {
        folder::remove(entries.iter().filter(|entry| is_old(entry))).map_err(|error| not_removed(&error))
    };
    let cleared = remove(entries)?;
    let remaining = all - cleared;
    let mut data = json!({"cleared": cleared, "remaining": remaining});
    if let Some(folder) = partials {
        data["cleared_partial"] = json!(remove(&folder::entries(folder).unwrap_or_default())?);
    }
    if screen.is_json() {
        return Ok(screen.data(data)?);
    }
    Ok(screen.line(&format!("{} deleted, {remaining} left", text::count(cleared as u64, noun)))?)
}

fn received_at(message: &Message) -> Option<u64> {
    rfc3339::parse(&message.received_at)
}

/// A message in a list, as existing scripts have it: what is no text has an empty preview.
fn preview(stored: &Stored) -> Value {
    let mut value = whole(stored);
    let text = value["data"].as_str().unwrap_or_default();
    value["preview"] = json!(text::shortened(text, PREVIEW_CHARACTERS));
    if let Value::Object(fields) = &mut value {
        fields.retain(|field, _| !matches!(field.as_str(), "data" | "data_b64" | "data_encoding"));
    }
    value
}

/// The newest one: its data is there even where it is no text, and empty then.
fn latest(stored: &Stored) -> Value {
    let mut value = whole(stored);
    if stored.message.data.is_none() {
        value["data"] = json!("");
    } else if let Value::Object(fields) = &mut value {
        fields.remove("data_encoding");
    }
    value
}

/// Everything, as its file has it.
fn whole(stored: &Stored) -> Value {
    let mut value = json!(stored.message);
    value["id"] = json!(stored.id);
    value
}

fn not_removed(error: &io::Error) -> Failure {
    Failure::new(Code::Internal, format!("cannot delete: {error}"))
        .hint("run pilotctl as the user that runs the daemon")
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Internal, format!("cannot read {}: {error}", path.display()))
        .hint("run pilotctl as the user that runs the daemon")
}
