//! `daemon start`, `stop`, `status`: the daemon of this host, asked over its socket, else looked after as a process.

mod process;

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::{Value, json};
use wire::ipc::Request;

use super::{number_of, text_of};
use crate::client::{Client, ConnectError};
use crate::pilotctl::arguments::{Daemon, Start};
use crate::pilotctl::duration;
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::places::Places;
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::Session;
use crate::pilotctl::{clock, text};
use process::Process;

/// For a daemon to be registered.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// For a daemon to end: it closes its streams first.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// For a running daemon to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of the log that are shown where the daemon does not start.
const LOG_LINES: usize = 12;

pub(super) async fn run(session: &Session, screen: &mut Screen, command: Daemon) -> Result<(), Failure> {
    match command {
        Daemon::Start(how) => start(session, screen, &how).await,
        Daemon::Stop => stop(session, screen).await,
        Daemon::Status => status(session, screen).await,
    }
}

/// What `info` says, if a daemon answers.
enum Found {
    Nobody,
    Silent,
    Answers(Client, Value),
}

impl Found {
    const fn info(&self) -> Option<&Value> {
        match self {
            Self::Answers(_, info) => Some(info),
            Self::Nobody | Self::Silent => None,
        }
    }
}

/// The process of the daemon on the socket: its own word, else that of the pid file where this is about the same socket.
fn process_of(session: &Session, places: &Places, info: Option<&Value>) -> Option<Process> {
    match info.map(|info| &info["pid"]).filter(|pid| !pid.is_null()) {
        Some(pid) => Process::numbered(i32::try_from(pid.as_i64()?).ok()?),
        None => Process::of(places).filter(|process| process.listens_on(&session.socket, !session.is_socket_named)),
    }
}

async fn find(socket: &Path) -> Result<Found, Failure> {
    let client = match Client::connect(socket).await {
        Ok(client) => client,
        Err(ConnectError::NotRunning(_)) => return Ok(Found::Nobody),
        Err(error) => return Err(error.into()),
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, client.ask(Request::Info)).await {
        Ok(Ok(info)) => Ok(Found::Answers(client, info)),
        Ok(Err(_)) | Err(_) => Ok(Found::Silent),
    }
}

async fn start(session: &Session, screen: &mut Screen, how: &Start) -> Result<(), Failure> {
    let places = how.data_dir.clone().map_or_else(|| session.places.clone(), Places::new);
    match find(&session.socket).await? {
        Found::Answers(_, info) => return report(screen, session, &places, how, &info, true),
        Found::Silent => {
            return Err(Failure::new(Code::ConnectionFailed, "a daemon is running, but does not answer")
                .hint("stop it first: pilotctl daemon stop"));
        }
        Found::Nobody => {}
    }
    let program = process::program()?;
    let arguments = process::arguments(session, how);
    if how.foreground {
        return Err(process::replace(&program, &arguments, &places));
    }
    let mut started = process::spawn(&program, &arguments, &places)?;
    let limit = session.limit(START_TIMEOUT);
    let deadline = limit.map(|limit| clock::now() + limit);
    loop {
        if let Some(status) = started.ended() {
            return Err(not_started(screen, status, &places.log(), started.log_start));
        }
        if let Found::Answers(_, info) = find(&session.socket).await.unwrap_or(Found::Nobody)
            && number_of(&info, "node_id") != 0
        {
            return report(screen, session, &places, how, &info, false);
        }
        if deadline.is_some_and(|deadline| clock::now() >= deadline) {
            let waited = limit.unwrap_or_default();
            return Err(Failure::new(
                Code::Timeout,
                format!("the daemon runs, but is not registered after {}; it keeps trying", duration::limit(waited)),
            )
            .hint(format!("is the directory reachable (--registry)? see {}", places.log().display())));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Why a daemon ended at once: in its own words, where it has put them into one line for the user.
fn not_started(screen: &mut Screen, status: ExitStatus, log: &Path, log_start: u64) -> Failure {
    let tail = process::tail(log, log_start, LOG_LINES);
    let last = tail.last().map(String::as_str).unwrap_or_default();
    let advice = process::advice(&tail, log);
    if let Some(reason) = last.strip_prefix(process::COMPLAINT) {
        let failure =
            Failure::new(Code::ConnectionFailed, format!("the daemon did not start: {}", text::harmless(reason)));
        return if status.code() == Some(process::WRONG_OPTIONS) { failure } else { failure.hint(advice) };
    }
    screen.talk(&format!("the last lines of {}:", log.display()));
    for line in &tail {
        screen.talk(&format!("  {}", text::harmless(line)));
    }
    let last = if screen.is_json() && !last.is_empty() { format!(": {}", text::harmless(last)) } else { String::new() };
    Failure::new(Code::ConnectionFailed, format!("the daemon did not start ({status}){last}")).hint(advice)
}

fn report(
    screen: &mut Screen,
    session: &Session,
    places: &Places,
    how: &Start,
    info: &Value,
    already: bool,
) -> Result<(), Failure> {
    let pid = process_of(session, places, Some(info)).map_or(0, |process| process.pid());
    let log = places.log();
    if screen.is_json() {
        return Ok(screen.data(json!({
            "running": true, "already_running": already, "pid": pid, "pid_file": places.pid_file().to_string_lossy(),
            "socket": session.socket.to_string_lossy(), "log_file": log.to_string_lossy(),
            "node_id": info["node_id"], "address": info["address"], "hostname": info["hostname"],
        }))?);
    }
    let what = if already { "daemon already running" } else { "daemon running" };
    screen.line(&format!("{} {}", screen.good("●"), screen.bold(what)))?;
    let hostname = text_of(info, "hostname");
    let hostname = if hostname.is_empty() { "none; set one: pilotctl set-hostname NAME" } else { &*hostname };
    screen.line(&format!("  address   {} (node {})", text_of(info, "address"), number_of(info, "node_id")))?;
    screen.line(&format!("  hostname  {hostname}"))?;
    screen.line(&format!("  relay     {}", super::node::relay_of(info)))?;
    screen.line(&format!("  socket    {}", session.socket.display()))?;
    if pid != 0 {
        screen.line(&format!("  log       {}", log.display()))?;
        screen.line(&format!("  process   {pid}"))?;
    }
    if let Some(wanted) = how.hostname.as_deref().filter(|wanted| info["hostname"] != *wanted) {
        let wanted = text::harmless(wanted);
        screen.talk(&match already {
            true => format!("it keeps its hostname; change it: pilotctl set-hostname {wanted}"),
            false => format!("the directory has not given it the hostname \"{wanted}\"; another node may have it"),
        });
    }
    Ok(())
}

async fn stop(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let places = &session.places;
    let found = find(&session.socket).await?;
    let process = process_of(session, places, found.info());
    let mut asked = false;
    if let Found::Answers(client, _) = &found {
        let question = json!({"op": "stop"}).to_string();
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.ask(Request::Extension(&question))).await;
        // A daemon that ends at once has no time for an answer.
        asked = !matches!(answer, Ok(Err(crate::client::RequestError::Refused(_))));
    }
    if !asked {
        match (&process, &found) {
            (Some(process), _) => process.terminate()?,
            (None, Found::Nobody) => {
                return Err(Failure::new(Code::NotRunning, "daemon is not running")
                    .hint("there is nothing to stop; start one: pilotctl daemon start"));
            }
            (None, _) => {
                return Err(Failure::new(
                    Code::ConnectionFailed,
                    "a daemon runs that pilotctl did not start and cannot stop",
                )
                .hint("stop it the way it was started, such as with its service manager"));
            }
        }
    }
    drop(found);
    wait_for_end(session, process.as_ref()).await?;
    if screen.is_json() {
        return Ok(screen.data(json!({"stopped": true, "pid": process.map_or(0, |process| process.pid())}))?);
    }
    Ok(screen.line("daemon stopped")?)
}

async fn wait_for_end(session: &Session, process: Option<&Process>) -> Result<(), Failure> {
    let limit = session.limit(STOP_TIMEOUT);
    let deadline = limit.map(|limit| clock::now() + limit);
    loop {
        let has_ended = process.is_none_or(|process| !process.is_running());
        if has_ended && matches!(Client::connect(&session.socket).await, Err(ConnectError::NotRunning(_))) {
            return Ok(());
        }
        if deadline.is_some_and(|deadline| clock::now() >= deadline) {
            let pid = process.map_or(String::new(), |process| format!(" {}", process.pid()));
            let waited = limit.unwrap_or_default();
            return Err(Failure::new(
                Code::Timeout,
                format!("the daemon has not ended within {}", duration::limit(waited)),
            )
            .hint(format!("wait longer with --timeout, or end it: kill -9{pid}")));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn status(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let places = &session.places;
    let found = find(&session.socket).await?;
    let pid = process_of(session, places, found.info()).map_or(0, |process| process.pid());
    let running = pid != 0 || !matches!(found, Found::Nobody);
    let mut data = json!({
        "running": running,
        "responsive": matches!(found, Found::Answers(..)),
        "pid": pid,
        "pid_file": places.pid_file().to_string_lossy(),
        "socket": session.socket.to_string_lossy(),
    });
    if let Found::Answers(_, info) = &found {
        for field in ["address", "connections", "hostname", "node_id", "peers", "uptime_secs"] {
            data[field] = info[field].clone();
        }
    }
    if screen.is_json() {
        screen.data(data)?;
    } else {
        match &found {
            Found::Answers(_, info) => {
                screen.line(&format!("{} {}", screen.good("●"), screen.bold("daemon running")))?;
                screen.line(&format!("  node      {}", super::node::identity_of(info)))?;
                let connections = text::count(number_of(info, "connections"), "connection");
                screen
                    .line(&format!("  uptime    {} · {connections}", duration::span(number_of(info, "uptime_secs"))))?;
                screen.line(&format!("  peers     {}", super::node::peers_line(info)))?;
                screen.line(&format!("  relay     {}", super::node::relay_of(info)))?;
                screen.line(&match pid {
                    0 => "  process   not started by pilotctl".to_owned(),
                    pid => format!("  process   {pid} · log {}", places.log().display()),
                })?;
            }
            Found::Silent => {
                screen.line(&format!(
                    "{} {}",
                    screen.bad("●"),
                    screen.bold("daemon running, but it does not answer")
                ))?;
                screen.talk(&format!("see {}", places.log().display()));
            }
            Found::Nobody if pid != 0 => {
                screen.line(&format!("{} {}", screen.bad("●"), screen.bold("daemon starting, or not listening")))?;
                screen.talk(&format!(
                    "process {pid} runs, but not with {}; see {}",
                    session.socket.display(),
                    places.log().display()
                ));
            }
            Found::Nobody => {
                screen.line(&format!("{} {}", screen.dim("○"), screen.bold("daemon stopped")))?;
                screen.talk("start it: pilotctl daemon start");
            }
        }
    }
    match found {
        Found::Answers(..) => Ok(()),
        Found::Silent => Err(Failure::told(Code::Timeout)),
        Found::Nobody => Err(Failure::told(Code::NotRunning)),
    }
}
