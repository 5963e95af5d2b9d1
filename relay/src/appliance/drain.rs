//! `pilot-relay drain`: an end that nobody notices who is still being served.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use relay::Time;
use relay::metrics::Counter;
use relay::runtime::Relay;

use super::phase::{CurrentPhase, Phase};
use super::service_manager::ServiceManager;
use super::succession::{self, End, Request};

/// A relay over which nothing has gone for so long serves nobody any more.
const IDLE: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How much longer than until the next look the service manager is asked to wait.
const EXTENSION: Duration = Duration::from_secs(5);

/// Which relay, and how long.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// The relay's data folder
    #[arg(long, value_name = "DIR", env = "PILOT_RELAY_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Seconds after which it ends even if somebody is still being served
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub deadline: u64,
}

/// Tells the running relay, and waits for its end.
///
/// # Errors
/// There is none, it does not answer, or another has come in its place.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (path, channel) = super::upgrade::find(arguments.data_dir.as_deref())?;
    let channel = channel.with_context(|| format!("no relay listens at {}", path.display()))?;
    let pid = channel.peer().context("cannot ask who the relay runs as")?.pid();
    channel.ask(&Request::Drain { deadline_seconds: arguments.deadline })?;
    eprintln!(
        "pilot-relay: draining; it ends when nobody is served any more, at the latest in {} s",
        arguments.deadline
    );
    while let Ok(Some(channel)) = succession::connect(&path) {
        let answers = channel.peer().context("cannot ask who the relay runs as")?.pid();
        if answers != pid {
            bail!("it has ended, and another relay (process {answers}) serves in its place; drain that one: ask again");
        }
        pause();
    }
    eprintln!("pilot-relay: it has ended");
    Ok(ExitCode::SUCCESS)
}

/// The end of a process that is not our child cannot be awaited as an event.
fn pause() {
    let (_alive, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(LOOK_INTERVAL);
}

/// Drains `relay` on a thread of its own: until nothing has been forwarded for a while, or the deadline.
///
/// # Errors
/// No thread can be started.
pub fn begin(
    relay: Arc<Relay>,
    phase: &CurrentPhase,
    manager: ServiceManager,
    deadline: Duration,
    end: mpsc::Sender<End>,
) -> io::Result<()> {
    if phase.get() >= Phase::Draining {
        return Ok(());
    }
    phase.advance(Phase::Draining);
    relay.drain();
    tracing::info!(deadline_seconds = deadline.as_secs(), "draining: no session begins any more");
    let body = move || {
        let started = Time::read_clock();
        let (mut forwarded, mut moved) = (forwarded(&relay), started);
        loop {
            let extension = (LOOK_INTERVAL + EXTENSION).as_micros();
            manager.tell(&[&format!("EXTEND_TIMEOUT_USEC={extension}"), "STATUS=draining: no session begins any more"]);
            pause();
            let (now, count) = (Time::read_clock(), self::forwarded(&relay));
            if count != forwarded {
                (forwarded, moved) = (count, now);
            }
            if now.since(moved) >= IDLE || now.since(started) >= deadline {
                let _ = end.send(End::Drained);
                return;
            }
        }
    };
    thread::Builder::new().name("drain".to_owned()).spawn(body).map(drop)
}

fn forwarded(relay: &Relay) -> u64 {
    relay.counters().iter().map(|shard| shard.get(Counter::Forwarded)).sum()
}
