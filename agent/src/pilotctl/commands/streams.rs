//! `connect`, `send`, `recv`: bytes on streams of any port.

use std::cell::Cell;
use std::future::Future;
use std::io::{IsTerminal, Read};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::channel::{Channel, Opening, Reader};
use crate::pilotctl::arguments::{Connect, Receive, Send};
use crate::pilotctl::clock;
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::{DIAL_TIMEOUT, Peer, Session, timed_out};
use crate::services::secure::Role;

/// For a response to what was sent.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a response, and of what comes on a stream, that are held in memory.
const RESPONSE_BYTES_MAX: usize = 16 << 20;
/// More of a response may come right behind its first bytes.
const RESPONSE_PAUSE: Duration = Duration::from_millis(50);
const PIPE_BYTES: usize = 32 << 10;
/// Bytes of standard input for one `send`.
const STDIN_BYTES_MAX: u64 = 64 << 20;

pub(super) async fn connect(session: &Session, screen: &mut Screen, what: &Connect) -> Result<(), Failure> {
    if let Some(message) = &what.message {
        let to = Target { peer: &what.peer, port: what.port(), is_secure: what.secure };
        return exchange(session, screen, &to, message.as_bytes()).await;
    }
    if screen.is_json() {
        return Err(Failure::usage("--json needs --message: a pipe has no JSON")
            .hint("use --message to send a single message, or leave --json out"));
    }
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, &what.peer).await?;
    let opening = Opening::new(&daemon, what.secure).await?;
    let dialling = opening.dial(&daemon, &peer, what.port());
    let channel = session.within(DIAL_TIMEOUT, "connect", dialling).await?;
    if std::io::stdin().is_terminal() {
        let proved = if what.secure { ", which has proved who it is" } else { "" };
        screen.talk(&format!("connected to {} port {}{proved}; end with Ctrl-D", peer.address, what.port()));
    }
    pipe(screen, channel).await
}

/// Standard input to the peer, what comes back to standard output. A stream has no half-close: after the end of the
/// input, what the peer still says within a pause is read, then the stream ends.
async fn pipe(screen: &mut Screen, channel: Channel) -> Result<(), Failure> {
    let Channel { mut reader, mut writer } = channel;
    let last_heard = Cell::new(clock::now());
    // Both at once: a peer that answers while it is written to would otherwise fill every queue on the way.
    let to_peer = async {
        let mut input = tokio::io::stdin();
        let mut bytes = vec![0; PIPE_BYTES];
        loop {
            let unreadable = |error| Failure::new(Code::Internal, format!("cannot read standard input: {error}"));
            match input.read(&mut bytes).await.map_err(unreadable)? {
                0 => break,
                len => writer.write(&bytes[..len]).await?,
            }
        }
        last_heard.set(clock::now());
        loop {
            tokio::time::sleep_until((last_heard.get() + LAST_WORDS).into()).await;
            if clock::since(last_heard.get()) >= LAST_WORDS {
                return Ok(());
            }
        }
    };
    let from_peer = async {
        while let Some(bytes) = reader.read().await? {
            screen.peer_bytes(&bytes)?;
            last_heard.set(clock::now());
        }
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = from_peer => outcome,
        outcome = to_peer => outcome,
    };
    writer.close().await;
    outcome
}

/// After the end of standard input, silence this long is the end of the answer.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub(super) async fn send(session: &Session, screen: &mut Screen, what: Send) -> Result<(), Failure> {
    let data = match what.data {
        Some(data) => data.into_bytes(),
        None => read_stdin()?,
    };
    let to = Target { peer: &what.peer, port: what.port, is_secure: false };
    exchange(session, screen, &to, &data).await
}

/// Where something is sent, as the user named it.
struct Target<'a> {
    peer: &'a str,
    port: u16,
    is_secure: bool,
}

/// What standard input holds.
pub(super) fn read_stdin() -> Result<Vec<u8>, Failure> {
    let mut data = Vec::new();
    let read = std::io::stdin().lock().take(STDIN_BYTES_MAX + 1).read_to_end(&mut data);
    read.map_err(|error| Failure::new(Code::Internal, format!("cannot read standard input: {error}")))?;
    if data.len() as u64 > STDIN_BYTES_MAX {
        return Err(Failure::usage("more than 64 MB on standard input").hint("send files with: pilotctl send-file"));
    }
    Ok(data)
}

async fn exchange(session: &Session, screen: &mut Screen, to: &Target<'_>, data: &[u8]) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, to.peer).await?;
    let opening = Opening::new(&daemon, to.is_secure).await?;
    let asking = async {
        let Channel { mut reader, mut writer } = opening.dial(&daemon, &peer, to.port).await?;
        writer.write(data).await?;
        let response = response(&mut reader).await?;
        writer.close().await;
        Ok(response)
    };
    let response = session.within(RESPONSE_TIMEOUT, "response", asking).await?;
    if screen.is_json() {
        return Ok(screen.data(exchanged(&peer, to.port, data, &response))?);
    }
    show_text(screen, &response)
}

/// What came, as lines: the last one ends, too.
fn show_text(screen: &mut Screen, bytes: &[u8]) -> Result<(), Failure> {
    screen.peer_bytes(bytes)?;
    if bytes.is_empty() || bytes.ends_with(b"\n") { Ok(()) } else { Ok(screen.line("")?) }
}

fn exchanged(peer: &Peer, port: u16, sent: &[u8], response: &[u8]) -> Value {
    let text = String::from_utf8_lossy;
    json!({"target": peer.address.to_string(), "port": port, "sent": text(sent), "response": text(response)})
}

/// What comes first, and what follows at once.
async fn response(reader: &mut Reader) -> Result<Vec<u8>, Failure> {
    let mut response = Vec::new();
    let mut next = reader.read().await?;
    while let Some(bytes) = next.take().filter(|_| response.len() < RESPONSE_BYTES_MAX) {
        response.extend(bytes);
        next = match tokio::time::timeout(RESPONSE_PAUSE, reader.read()).await {
            Ok(Ok(more)) => more,
            // A changed record is no end of a response, as a broken stream is.
            Ok(Err(failure)) if matches!(reader, Reader::Secure(_)) => return Err(failure),
            Ok(Err(_)) | Err(_) => None,
        };
    }
    Ok(response)
}

pub(super) async fn receive(session: &Session, screen: &mut Screen, what: &Receive) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let opening = Opening::new(&daemon, what.secure).await?;
    let listening = daemon.client.listen(what.port()).await;
    let mut listener = listening.map_err(|error| {
        let failure = Failure::from(error);
        if failure.hint.is_some() {
            failure
        } else {
            failure.while_("recv").hint("choose another port, or 0 for a free one")
        }
    })?;
    let port = listener.port();
    screen.talk(&format!("waiting for streams on port {port}"));
    let count = what.count.unwrap_or(1);
    let mut messages = Vec::new();
    let mut seq = 0_u64;
    let receiving = async {
        while count == 0 || seq < count {
            let stream = listener.accept().await?;
            let from = stream.remote().address;
            let opened = opening.open(&daemon, stream, Role::Server).await;
            let Channel { mut reader, writer } = match opened {
                Ok(channel) => channel,
                // Whoever it was, the next may be better.
                Err(failure) => {
                    screen.talk(&format!("refused {from}: {}", failure.message));
                    continue;
                }
            };
            let data = match response(&mut reader).await {
                Ok(data) => data,
                Err(failure) if what.secure => {
                    screen.talk(&format!("lost {from}: {}", failure.message));
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            writer.close().await;
            if what.secure {
                screen.talk(&format!("from {from}, which has proved who it is:"));
            }
            if screen.is_json() {
                let data_text = String::from_utf8_lossy(&data);
                let mut message = json!({"seq": seq, "port": port, "bytes": data.len(), "data": data_text});
                if what.secure {
                    message["from"] = from.to_string().into();
                }
                messages.push(message);
            } else {
                show_text(screen, &data)?;
            }
            seq += 1;
        }
        Ok(())
    };
    let outcome = until_enough(session, receiving).await?;
    report(screen, "messages", messages, outcome)
}

/// How a command ended that waits for others.
pub(super) enum Enough {
    /// All that was asked for has come.
    Complete,
    /// It did not come in time.
    OutOfTime(Duration),
    /// Stopped from the keyboard.
    Interrupted,
}

/// Waits as long as the user wants, for ever by default.
pub(super) async fn until_enough(
    session: &Session,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<Enough, Failure> {
    let limit = session.limit(Duration::ZERO);
    let out_of_time = async {
        match limit {
            Some(limit) => {
                tokio::time::sleep(limit).await;
                limit
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = work => outcome.map(|()| Enough::Complete),
        limit = out_of_time => Ok(Enough::OutOfTime(limit)),
        _ = tokio::signal::ctrl_c() => Ok(Enough::Interrupted),
    }
}

/// The sum for scripts, which get what has come in any case; nothing at all in time is a failure.
pub(super) fn report(screen: &mut Screen, field: &str, items: Vec<Value>, outcome: Enough) -> Result<(), Failure> {
    let out_of_time = matches!(outcome, Enough::OutOfTime(_));
    if screen.is_json() {
        screen.data(json!({field: items, "timeout": out_of_time}))?;
        return Ok(());
    }
    match outcome {
        Enough::OutOfTime(limit) => Err(timed_out(field, limit).hint("wait longer with --timeout")),
        Enough::Complete | Enough::Interrupted => Ok(()),
    }
}
