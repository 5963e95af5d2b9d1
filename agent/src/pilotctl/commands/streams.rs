//! `connect`, `send`, `recv`: bytes on streams of any port.

use std::future::Future;
use std::io::{IsTerminal, Read};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::Stream;
use crate::pilotctl::arguments::{Connect, Receive, Send};
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::{DIAL_TIMEOUT, Peer, Session, close, timed_out};
use crate::pilotctl::text;

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
        return exchange(session, screen, &what.peer, what.port, message.as_bytes()).await;
    }
    if screen.is_json() {
        return Err(Failure::usage("--json needs --message: a pipe has no JSON")
            .hint("use --message to send a single message, or leave --json out"));
    }
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, &what.peer).await?;
    let dialling = daemon.dial(&peer, what.port);
    let stream = session.within(DIAL_TIMEOUT, "connect", dialling).await?;
    if std::io::stdin().is_terminal() {
        screen.talk(&format!("connected to {} port {}; end with Ctrl-D", peer.address, what.port));
    }
    pipe(screen, stream).await
}

/// Standard input to the peer, what comes back to standard output. A stream has no half-close: after the end of the
/// input, what the peer still says within a pause is read, then the stream ends.
async fn pipe(screen: &mut Screen, stream: Stream) -> Result<(), Failure> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut input = tokio::io::stdin();
    let mut from_user = vec![0; PIPE_BYTES];
    let mut from_peer = vec![0; PIPE_BYTES];
    let mut input_open = true;
    loop {
        tokio::select! {
            read = reader.read(&mut from_peer) => match read {
                Ok(0) => return Ok(()),
                Ok(len) => screen.peer_bytes(&from_peer[..len])?,
                Err(error) => return Err(broken(&error)),
            },
            read = input.read(&mut from_user), if input_open => match read {
                Ok(0) => input_open = false,
                Ok(len) => writer.write_all(&from_user[..len]).await.map_err(|error| broken(&error))?,
                Err(error) => return Err(Failure::new(Code::Internal, format!("cannot read standard input: {error}"))),
            },
            () = tokio::time::sleep(LAST_WORDS), if !input_open => {
                close(reader.unsplit(writer)).await;
                return Ok(());
            }
        }
    }
}

/// After the end of standard input, silence this long is the end of the answer.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub(super) async fn send(session: &Session, screen: &mut Screen, what: Send) -> Result<(), Failure> {
    let data = match what.data {
        Some(data) => data.into_bytes(),
        None => read_stdin()?,
    };
    exchange(session, screen, &what.peer, what.port, &data).await
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

async fn exchange(session: &Session, screen: &mut Screen, named: &str, port: u16, data: &[u8]) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, named).await?;
    let asking = async {
        let mut stream = daemon.dial(&peer, port).await?;
        stream.write_all(data).await.map_err(|error| broken(&error))?;
        let response = response(&mut stream).await?;
        close(stream).await;
        Ok(response)
    };
    let response = session.within(RESPONSE_TIMEOUT, "response", asking).await?;
    if screen.is_json() {
        return Ok(screen.data(exchanged(&peer, port, data, &response))?);
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
async fn response(stream: &mut Stream) -> Result<Vec<u8>, Failure> {
    let mut response = Vec::new();
    let mut buffer = vec![0; PIPE_BYTES];
    let mut len = stream.read(&mut buffer).await.map_err(|error| broken(&error))?;
    while len > 0 && response.len() < RESPONSE_BYTES_MAX {
        response.extend_from_slice(&buffer[..len]);
        len = match tokio::time::timeout(RESPONSE_PAUSE, stream.read(&mut buffer)).await {
            Ok(Ok(len)) => len,
            Ok(Err(_)) | Err(_) => 0,
        };
    }
    Ok(response)
}

pub(super) async fn receive(session: &Session, screen: &mut Screen, what: &Receive) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let listening = daemon.client.listen(what.port).await;
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
            let mut stream = listener.accept().await?;
            let data = response(&mut stream).await?;
            close(stream).await;
            if screen.is_json() {
                let data_text = String::from_utf8_lossy(&data);
                messages.push(json!({"seq": seq, "port": port, "bytes": data.len(), "data": data_text}));
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

fn broken(error: &std::io::Error) -> Failure {
    let reason = match error.kind() {
        std::io::ErrorKind::BrokenPipe => "the peer closed the stream".to_owned(),
        _ => text::harmless(&error.to_string()).into_owned(),
    };
    Failure::new(Code::ConnectionFailed, reason)
        .hint("does something listen on that port, and does it trust this node?")
}
