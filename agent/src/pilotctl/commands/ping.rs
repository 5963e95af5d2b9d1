//! `ping`, `traceroute`, `bench`: how a peer answers at its echo port.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::ipc::Request;

use crate::client::Stream;
use crate::pilotctl::arguments::{Bench, Ping};
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::{DIAL_TIMEOUT, Daemon, Peer, Session, close};
use crate::pilotctl::{clock, duration, text};

const ECHO_PORT: u16 = 7;
/// For one reply; a stream repeats what is lost well before.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// For the first reply, which may have to wait for a tunnel, and for slow ones, over the sum of the intervals.
const RUN_SLACK: Duration = Duration::from_secs(10);
const TRACES: u32 = 3;
const BENCH_TIMEOUT: Duration = Duration::from_secs(120);
const BENCH_CHUNK: usize = 32 << 10;

/// One run of pings.
#[derive(Default)]
struct Run {
    replies: Vec<(u32, Duration)>,
    failures: Vec<(u32, String)>,
    last_failure: Option<Failure>,
    out_of_time: bool,
    interrupted: bool,
}

pub(super) async fn ping(session: &Session, screen: &mut Screen, what: &Ping) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, &what.peer).await?;
    let mut run = Run::default();
    let usual = what.interval.saturating_mul(what.count) + RUN_SLACK;
    let deadline = session.limit(usual).map(|limit| clock::now() + limit);
    {
        let pinging = run_pings(&daemon, screen, &peer, what, deadline, &mut run);
        let outcome = tokio::select! {
            outcome = pinging => outcome,
            _ = tokio::signal::ctrl_c() => { Ok(true) }
        };
        run.interrupted = outcome?;
    }
    let replies = run.replies.len();
    if screen.is_json() {
        let answered = run.replies.iter().map(|(seq, rtt)| {
            (*seq, json!({"seq": seq, "bytes": payload(*seq).len(), "rtt_ms": duration::json_milliseconds(*rtt)}))
        });
        let failed = run.failures.iter().map(|(seq, error)| (*seq, json!({"seq": seq, "error": error})));
        let mut results: Vec<(u32, Value)> = answered.chain(failed).collect();
        results.sort_by_key(|(seq, _)| *seq);
        let results: Vec<Value> = results.into_iter().map(|(_, result)| result).collect();
        let address = peer.address.to_string();
        if replies > 0 || run.out_of_time {
            screen.data(json!({"target": address, "to": address, "results": results, "timeout": run.out_of_time}))?;
        }
    } else {
        summary(screen, &daemon, &peer, &run).await?;
    }
    match (replies, run.last_failure) {
        (0, Some(failure)) => Err(failure),
        (0, None) if !run.interrupted => Err(Failure::told(Code::Timeout)),
        _ => Ok(()),
    }
}

/// True when it was stopped from the keyboard, which it does not see itself.
async fn run_pings(
    daemon: &Daemon,
    screen: &mut Screen,
    peer: &Peer,
    what: &Ping,
    deadline: Option<Instant>,
    run: &mut Run,
) -> Result<bool, Failure> {
    let mut stream = None;
    for seq in 0..what.count {
        let started = clock::now();
        let left = |limit: Duration| deadline.map_or(limit, |end| end.saturating_duration_since(started).min(limit));
        if left(REPLY_TIMEOUT).is_zero() {
            run.out_of_time = true;
            break;
        }
        match one_ping(daemon, peer, &mut stream, seq, left(DIAL_TIMEOUT)).await {
            Ok(rtt) => {
                run.replies.push((seq, rtt));
                if !screen.is_json() {
                    let mark = screen.good("✓");
                    screen.line(&format!("{mark} reply from {} · {}", peer.address, duration::milliseconds(rtt)))?;
                }
            }
            Err(failure) => {
                stream = None;
                if !screen.is_json() {
                    let mark = screen.bad("✗");
                    screen.line(&format!(
                        "{mark} no reply from {} · {}",
                        peer.address,
                        text::harmless(&failure.message)
                    ))?;
                }
                run.failures.push((seq, failure.message.clone()));
                run.out_of_time |= deadline.is_some_and(|end| clock::now() >= end);
                run.last_failure = Some(failure);
            }
        }
        if seq + 1 < what.count {
            tokio::time::sleep_until((started + what.interval).into()).await;
        }
    }
    if let Some(stream) = stream {
        close(stream).await;
    }
    Ok(false)
}

/// The round trip on an open stream; what it takes to open it is no part of it.
async fn one_ping(
    daemon: &Daemon,
    peer: &Peer,
    stream: &mut Option<Stream>,
    seq: u32,
    limit: Duration,
) -> Result<Duration, Failure> {
    let silent = |after: Duration| {
        Failure::new(Code::Timeout, format!("nothing within {}", duration::milliseconds(after)))
            .hint(format!("see what was tried: pilotctl explain {}", peer.address))
    };
    let open = match stream {
        Some(open) => open,
        None => {
            let dialled = tokio::time::timeout(limit, daemon.dial(peer, ECHO_PORT)).await;
            stream.insert(dialled.map_err(|_| silent(limit))??)
        }
    };
    let limit = limit.min(REPLY_TIMEOUT);
    let started = clock::now();
    let echoed = tokio::time::timeout(limit, echo(open, &payload(seq))).await;
    echoed.map_err(|_| silent(limit))??;
    Ok(clock::since(started))
}

fn payload(seq: u32) -> Vec<u8> {
    format!("ping-{seq}").into_bytes()
}

/// Sends, and reads until as many bytes have come back.
async fn echo(stream: &mut Stream, sent: &[u8]) -> Result<(), Failure> {
    let broken = |error: std::io::Error| {
        let reason = match error.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe => "the peer closed".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(Code::ConnectionFailed, reason)
            .hint("does the peer have an echo service, and does it trust this node?")
    };
    stream.write_all(sent).await.map_err(broken)?;
    let mut echoed = vec![0; sent.len()];
    stream.read_exact(&mut echoed).await.map_err(broken)?;
    if echoed == sent { Ok(()) } else { Err(broken(std::io::Error::other("the echo differs from what was sent"))) }
}

async fn summary(screen: &mut Screen, daemon: &Daemon, peer: &Peer, run: &Run) -> Result<(), Failure> {
    let sent = run.replies.len() + run.failures.len();
    let mut line = format!("{} of {}", run.replies.len(), text::count(sent as u64, "ping"));
    line.push_str(" answered");
    let times = || run.replies.iter().map(|(_, rtt)| *rtt);
    if let (Some(fastest), Some(slowest)) = (times().min(), times().max()) {
        let mean = times().sum::<Duration>() / u32::try_from(run.replies.len()).unwrap_or(u32::MAX);
        let [fastest, mean, slowest] = [fastest, mean, slowest].map(duration::milliseconds);
        line.push_str(&format!(" · fastest {fastest} · mean {mean} · slowest {slowest}"));
        if let Some(path) = path(daemon, peer).await {
            line.push_str(&format!(" · {path}"));
        }
    }
    if run.out_of_time {
        line.push_str(" · out of time");
    }
    Ok(screen.line(&line)?)
}

/// How the peer is reached now, if the daemon says.
async fn path(daemon: &Daemon, peer: &Peer) -> Option<&'static str> {
    let info = daemon.ask(Request::Info).await.ok()?;
    let entry = info["peer_list"].as_array()?.iter().find(|entry| entry["node_id"] == peer.node.0)?;
    match entry["relay"].as_bool()? {
        true => Some("through the relay"),
        false => Some("direct"),
    }
}

pub(super) async fn traceroute(session: &Session, screen: &mut Screen, named: &str) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, named).await?;
    let tracing = async {
        let started = clock::now();
        let mut stream = daemon.dial(&peer, ECHO_PORT).await?;
        let setup = clock::since(started);
        let mut samples = Vec::new();
        for trace in 0..TRACES {
            let sent = format!("trace-{trace}").into_bytes();
            let started = clock::now();
            echo(&mut stream, &sent).await?;
            samples.push((sent.len(), clock::since(started)));
        }
        close(stream).await;
        Ok((setup, samples))
    };
    let (setup, samples) = session.within(DIAL_TIMEOUT, "traceroute", tracing).await?;
    if screen.is_json() {
        let samples: Vec<Value> = samples
            .into_iter()
            .map(|(bytes, rtt)| json!({"bytes": bytes, "rtt_ms": duration::json_milliseconds(rtt)}))
            .collect();
        let (target, setup_ms) = (peer.address.to_string(), duration::json_milliseconds(setup));
        return Ok(screen.data(json!({"target": target, "setup_ms": setup_ms, "rtt_samples": samples}))?);
    }
    let path = path(&daemon, &peer).await.map_or(String::new(), |path| format!(" · {path}"));
    screen.line(&format!("{}{path}", peer.address))?;
    screen.line(&format!(
        "  connected in {}  (key exchange where there was no tunnel, and the stream's handshake)",
        duration::milliseconds(setup)
    ))?;
    let round_trips: Vec<_> = samples.into_iter().map(|(_, rtt)| duration::milliseconds(rtt)).collect();
    Ok(screen.line(&format!("  round trips  {}", round_trips.join("  ")))?)
}

pub(super) async fn bench(session: &Session, screen: &mut Screen, what: &Bench) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, &what.peer).await?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked with the command line")]
    let bytes = (what.megabytes * 1_048_576.0) as usize;
    screen.talk(&format!("sending {} to the echo port of {}", text::size(bytes as u64), peer.address));
    let measuring = async {
        let stream = daemon.dial(&peer, ECHO_PORT).await?;
        measure(stream, bytes).await
    };
    let measured = session.within(BENCH_TIMEOUT, "bench", measuring).await?;
    let per_second = |duration: Duration| what.megabytes / duration.as_secs_f64().max(1e-9);
    let complete = measured.echoed == bytes;
    if screen.is_json() {
        screen.data(json!({
            "target": peer.address.to_string(),
            "sent_bytes": bytes,
            "send_duration_ms": measured.sent_in.as_millis() as u64,
            "send_mbps": per_second(measured.sent_in),
            "recv_bytes": measured.echoed,
            "total_duration_ms": measured.echoed_in.as_millis() as u64,
            "total_mbps": per_second(measured.echoed_in),
            "complete": complete,
        }))?;
    } else {
        let row = |title: &str, bytes: usize, took: Duration| {
            format!(
                "{title} {} in {} ({:.1} MB/s)",
                text::size(bytes as u64),
                duration::milliseconds(took),
                per_second(took)
            )
        };
        screen.line(&row("sent  ", bytes, measured.sent_in))?;
        if complete {
            screen.line(&row("echoed", bytes, measured.echoed_in))?;
        } else {
            screen.line(&format!("echoed {} only", text::size(measured.echoed as u64)))?;
        }
    }
    if complete { Ok(()) } else { Err(Failure::told(Code::ConnectionFailed)) }
}

struct Measured {
    sent_in: Duration,
    echoed: usize,
    echoed_in: Duration,
}

/// Sends and reads at the same time; one after the other would fill every queue on the way.
async fn measure(stream: Stream, bytes: usize) -> Result<Measured, Failure> {
    let started = clock::now();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let chunk: Vec<u8> = (0..BENCH_CHUNK).map(|index| (index % 251) as u8).collect();
    let sending = async {
        let mut left = bytes;
        while left > 0 {
            let len = left.min(chunk.len());
            writer.write_all(&chunk[..len]).await?;
            left -= len;
        }
        Ok::<_, std::io::Error>(clock::since(started))
    };
    let reading = async {
        let mut buffer = vec![0; BENCH_CHUNK];
        let mut echoed = 0;
        while echoed < bytes {
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(len) => echoed += len,
            }
        }
        (echoed, clock::since(started))
    };
    let (sent, (echoed, echoed_in)) = tokio::join!(sending, reading);
    let sent_in = sent.map_err(|_| {
        Failure::new(Code::ConnectionFailed, "the peer closed before all was sent")
            .hint("does it have an echo service? try: pilotctl ping PEER")
    })?;
    close(reader.unsplit(writer)).await;
    Ok(Measured { sent_in, echoed, echoed_in })
}
