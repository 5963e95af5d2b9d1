//! `send-message`, `send-file`: into a peer's inbox and its folder for files.

use std::io;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use wire::services::exchange::Tag;

use super::streams::read_stdin;
use super::{mailbox, relevant};
use crate::client::Stream;
use crate::pilotctl::arguments::{MessageType, SendFile, SendMessage};
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::{Daemon, Peer, Session, close};
use crate::pilotctl::{clock, duration, text};
use crate::services::exchange::inbox;
use crate::services::exchange::sender::{self, Message};
use crate::services::exchange::transfer::{self, Transport};
use crate::services::files::Threads;

pub(super) const PORT: u16 = 1001;
/// To deliver one message.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks into the inbox for an answer.
const REPLY_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of a message, which both sides hold in memory.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
const ID_BYTES: usize = 16;

pub(super) async fn send_message(session: &Session, screen: &mut Screen, what: SendMessage) -> Result<(), Failure> {
    let data = content(what.data.as_deref(), what.data_file.as_deref())?;
    let kind = what.r#type.name();
    let message = message(what.r#type, &data)?;
    let daemon = session.connect().await?;
    let Some(peer) = &what.peer else {
        let reply_to = what.reply_to.as_deref();
        let delivered = relevant::message(session, screen, &daemon, &what.relevant, message, reply_to).await?;
        return relevant::report(session, screen, &delivered, kind, data.len(), what.wait).await;
    };
    let peer = daemon.peer(screen, peer).await?;
    let mut open: Option<Stream> = None;
    let mut last_id = String::new();
    let since = clock::unix_seconds();
    for seq in 0..what.count {
        let id = message_id()?;
        let reused = open.is_some();
        let tag = Tag { message_id: Some(&id), reply_to: what.reply_to.as_deref() };
        let delivering = async {
            let mut stream = match open.take() {
                Some(stream) => stream,
                None => daemon.dial(&peer, PORT).await?,
            };
            let acknowledged = sender::send(&mut stream, message, Some(tag)).await.map_err(failed)?;
            Ok((stream, acknowledged))
        };
        let (stream, acknowledged) = session.within(MESSAGE_TIMEOUT, "send-message", delivering).await?;
        let trace_id = if screen.is_json() { daemon.trace_of(&stream).await } else { None };
        if what.reuse_conn {
            open = Some(stream);
        } else {
            close(stream).await;
        }
        if screen.is_json() {
            let address = peer.address.to_string();
            let mut sent = json!({
                "target": address, "to": address, "type": kind, "bytes": data.len(), "seq": seq, "reused": reused,
                "ack": acknowledged.text, "tagged": acknowledged.is_tagged,
            });
            if acknowledged.is_tagged {
                sent["message_id"] = json!(id);
            }
            if let Some(trace_id) = trace_id {
                sent["trace_id"] = json!(trace_id);
            }
            if let Some(wait) = what.wait.filter(|_| seq + 1 == what.count) {
                sent["reply"] = json!(await_reply(session, &id, wait, since).await?);
            }
            screen.data(sent)?;
        } else {
            let mark = screen.good("✓");
            let size = text::size(data.len() as u64);
            screen.line(&format!("{mark} delivered to {} · {kind} · {size} · message id {id}", peer.address))?;
        }
        last_id = id;
    }
    if let Some(stream) = open {
        close(stream).await;
    }
    if let Some(wait) = what.wait.filter(|_| !screen.is_json()) {
        let reply = await_reply(session, &last_id, wait, since).await?;
        screen.line(&text::harmless_bytes(&reply.body()))?;
    }
    Ok(())
}

/// The message, its form checked.
pub(super) fn message(kind: MessageType, data: &[u8]) -> Result<Message<'_>, Failure> {
    if kind == MessageType::Binary {
        return Ok(Message::Binary(data));
    }
    let text = std::str::from_utf8(data)
        .map_err(|_| Failure::usage("this is no text").hint("send other bytes with --type binary"))?;
    if kind == MessageType::Text {
        return Ok(Message::Text(text));
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map_err(|error| Failure::usage(format!("this is not JSON: {error}")).hint("or send it as --type text"))?;
    Ok(Message::Json(text))
}

/// What is to be sent, from the command line, standard input or a file.
pub(super) fn content(data: Option<&str>, file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    match (data, file) {
        (Some("-"), _) => read_stdin(),
        (Some(data), _) => Ok(data.as_bytes().to_vec()),
        (None, Some(path)) => {
            let unreadable = |error: io::Error| file_failure(path, &error);
            let length = std::fs::metadata(path).map_err(unreadable)?.len();
            if length > MESSAGE_BYTES_MAX {
                return Err(Failure::usage(format!("{} is too long for a message", path.display()))
                    .hint("send it as a file: pilotctl send-file"));
            }
            std::fs::read(path).map_err(unreadable)
        }
        (None, None) => Err(Failure::usage("--data is required")),
    }
}

/// A name for a message that nobody else chooses.
pub(super) fn message_id() -> Result<String, Failure> {
    let bytes = clock::chance::<ID_BYTES>()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The inbox is a folder that the daemon fills; it is looked at until the answer is there.
pub(super) async fn await_reply(
    session: &Session,
    message_id: &str,
    wait: Duration,
    since: u64,
) -> Result<inbox::Message, Failure> {
    let deadline = clock::now() + wait;
    loop {
        if let Some(reply) = mailbox::reply(session, message_id, since) {
            return Ok(reply);
        }
        if clock::now() >= deadline {
            return Err(Failure::new(
                Code::Timeout,
                format!("no answer to message {message_id} within {}", duration::limit(wait)),
            )
            .hint("it was delivered; look later: pilotctl inbox"));
        }
        tokio::time::sleep(REPLY_INTERVAL).await;
    }
}

pub(super) async fn send_file(session: &Session, screen: &mut Screen, what: &SendFile) -> Result<(), Failure> {
    let metadata = std::fs::metadata(&what.file).map_err(|error| file_failure(&what.file, &error))?;
    let name = what.file.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = match name {
        Some(name) if metadata.is_file() => name,
        _ => {
            return Err(Failure::usage(format!("{} is not a file", what.file.display()))
                .hint("send a folder as an archive: tar cf FOLDER.tar FOLDER"));
        }
    };
    let daemon = session.connect().await?;
    let Some(peer) = &what.peer else {
        return relevant::send_file(session, screen, &daemon, &what.relevant, &what.file, &name).await;
    };
    let peer = daemon.peer(screen, peer).await?;
    let bar = progress_bar(metadata.len(), &name);
    let started = clock::now();
    let mut unreachable = None;
    let sending = async {
        let dial = async || dial(&daemon, &peer, &mut unreachable).await;
        let sent = transfer::send_file(&Threads, &what.file, &name, dial, |progress| {
            if progress.resumed_bytes > 0 && bar.position() == 0 {
                bar.set_message(format!("{name}, resumed"));
                bar.reset_eta();
            }
            bar.set_position(progress.acknowledged_bytes);
        });
        sent.await.map_err(failed)
    };
    // A file takes as long as it takes; silence is noticed by the transfer itself.
    let outcome = session.within(Duration::ZERO, "send-file", sending).await;
    bar.finish_and_clear();
    let sent = outcome.map_err(|failure| unreachable.take().unwrap_or(failure))?;
    let took = clock::since(started);
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown with few figures")]
    let bytes_per_second = sent.bytes_sent as f64 / took.as_secs_f64().max(1e-9);
    let megabytes_per_second = bytes_per_second / 1_048_576.0;
    let sha256: String = sent.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    if screen.is_json() {
        return Ok(screen.data(json!({
            "bytes": sent.bytes,
            "bytes_resumed": sent.bytes_resumed,
            "bytes_sent": sent.bytes_sent,
            "destination": peer.address.to_string(),
            "elapsed_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "filename": name,
            "sha256": sha256,
            // Megabits, as existing tools have it.
            "throughput_mbps": bytes_per_second * 8e-6,
            "transport": match sent.transport { Transport::FileStream => "filestream", Transport::Whole => "file" },
            "verified": sent.is_verified,
        }))?);
    }
    let (size, took) = (text::size(sent.bytes), duration::milliseconds(took));
    let shown = text::harmless(&name);
    let mark = screen.good("✓");
    screen.line(&format!(
        "{mark} {shown} sent to {} · {size} in {took} ({megabytes_per_second:.1} MB/s)",
        peer.address
    ))?;
    if sent.bytes_resumed > 0 {
        let there = text::size(sent.bytes_resumed);
        screen.line(&match sent.connections {
            1 => format!("  {there} were there already"),
            connections => format!("  the connection broke; the last of {connections} went on after {there}"),
        })?;
    }
    screen.line(&format!("  sha256 {sha256}{}", if sent.is_verified { ", checked by the receiver" } else { "" }))?;
    Ok(())
}

/// What the transfer takes for a broken connection has a better explanation here.
async fn dial(daemon: &Daemon, peer: &Peer, unreachable: &mut Option<Failure>) -> io::Result<Stream> {
    daemon.dial(peer, PORT).await.inspect(|_| ()).map_err(|failure| {
        let error = io::Error::other(failure.message.clone());
        *unreachable = Some(failure);
        error
    })
}

fn progress_bar(bytes: u64, name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} · {binary_bytes_per_sec} · {eta}");
    let bar = ProgressBar::new(bytes);
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.set_message(text::harmless(name).into_owned());
    bar
}

fn file_failure(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::new(Code::NotFound, format!("file not found: {}", path.display())),
        _ => Failure::new(Code::Internal, format!("cannot read {}: {error}", path.display())),
    }
    .hint("is the path right, and may you read it?")
}

fn failed(error: sender::Error) -> Failure {
    match error {
        sender::Error::NotSendable(error) => Failure::usage(format!("this cannot be sent: {error}"))
            .hint("ids have letters, digits and -_.: only; big contents go with: pilotctl send-file"),
        sender::Error::Refused(reason) => {
            let shown = text::harmless(&reason).into_owned();
            Failure::new(Code::ConnectionFailed, format!("the peer refuses: {shown}"))
                .hint("its inbox may be full, or its disk")
        }
        other => Failure::new(Code::ConnectionFailed, text::harmless(&other.to_string()))
            .hint("is the peer reachable? pilotctl ping PEER"),
    }
}
