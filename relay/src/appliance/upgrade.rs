//! `pilot-relay upgrade`: this program succeeds the relay that runs, without losing a datagram.
//!
//! Under a service manager it goes through that: a process in its own confinement could not start one with more rights. The
//! unit's `ExecReload` is this command again, which then starts the successor within the service.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use relay::Time;

use super::data_dir;
use super::phase::Phase;
use super::succession::{self, Channel, Status};

/// The unit's run-time folder.
const RUNTIME_DIRECTORY: &str = "/run/pilot-relay";
/// How long a successor may take from its start to serving everything; a directory of a million nodes takes seconds.
const READY_WITHIN: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What `--help` says at its end.
pub const EXIT_STATUS: &str = "\
Exit status:
  0  the successor serves
  1  nothing has changed: the relay that ran goes on
  2  the command line is wrong
  3  the successor has taken over and does not serve everything";

/// Which relay, and how the next one runs.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// The data folder of the relay that runs
    #[arg(long, value_name = "DIR", env = "PILOT_RELAY_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print what became of it as JSON
    #[arg(long)]
    pub json: bool,
    /// Flags of the successor [default: those of the relay that runs]. Under systemd the unit has them
    #[arg(last = true, value_name = "FLAGS")]
    pub flags: Vec<OsString>,
}

/// Finds the relay that runs: by the service manager's word, in the folder given, else in the usual ones.
///
/// # Errors
/// It may not be asked.
pub fn find(data_dir: Option<&Path>) -> anyhow::Result<(PathBuf, Option<Channel>)> {
    let usual = [Some(PathBuf::from(RUNTIME_DIRECTORY)), data_dir::default_path().ok()];
    let mut paths: Vec<PathBuf> = succession::socket_path(data_dir).into_iter().collect();
    if data_dir.is_none() {
        paths.extend(usual.into_iter().flatten().filter_map(|folder| succession::socket_in(&folder)));
    }
    for path in &paths {
        if let Some(channel) = succession::connect(path)? {
            return Ok((path.clone(), Some(channel)));
        }
    }
    let path = paths.into_iter().next().context("no folder to look for a relay in; name its --data-dir")?;
    Ok((path, None))
}

/// Runs it.
///
/// # Errors
/// Nothing has changed; the text says why.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (path, channel) = find(arguments.data_dir.as_deref())?;
    let channel = channel.with_context(|| {
        format!("no relay listens at {}; start one, or name the --data-dir of the one that runs", path.display())
    })?;
    let before = succession::status(&channel)?;
    drop(channel);
    // Set for the commands of a unit.
    let within_unit = std::env::var_os("MAINPID").is_some();
    let after = match &before.unit {
        Some(unit) if !within_unit => reload(unit, &path)?,
        _ => start(&arguments, &path, &before)?,
    };
    let Some(after) = after else {
        eprintln!("pilot-relay: the successor took over and does not serve everything; see its log");
        return Ok(ExitCode::from(3));
    };
    if after.pid == before.pid {
        bail!("pid {} still serves; see its log for why the successor did not take over", before.pid);
    }
    report(&arguments, &before, &after)?;
    Ok(ExitCode::SUCCESS)
}

/// Has the service manager do it.
fn reload(unit: &str, path: &Path) -> anyhow::Result<Option<Status>> {
    let status = Command::new("systemctl").args(["reload", "--", unit]).status();
    let status = status.with_context(|| format!("cannot run systemctl; run it yourself: systemctl reload {unit}"))?;
    if !status.success() {
        bail!("systemctl reload {unit} failed ({status}); see: journalctl -u {unit}");
    }
    Ok(ask(path))
}

/// Starts the successor, and waits until it serves; `None` when it took over and failed.
fn start(arguments: &Arguments, path: &Path, before: &Status) -> anyhow::Result<Option<Status>> {
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = Command::new(&program);
    if arguments.flags.is_empty() {
        command.args(&before.arguments);
    } else {
        command.args(&arguments.flags);
    }
    // A group of its own, so that what ends this command does not end it.
    command.arg("--succeed").arg(path).stdin(Stdio::null()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let started = Time::read_clock();
    loop {
        let status = ask(path);
        if let Some(exit) = child.try_wait().context("cannot wait for the successor")? {
            return match status {
                Some(status) if status.pid == before.pid && status.phase == before.phase => {
                    bail!("the successor ended ({exit}) before it took over; the relay that ran goes on")
                }
                _ => Ok(None),
            };
        }
        match status {
            Some(status) if status.pid == child.id() && status.phase == Phase::Serving.text() => {
                return Ok(Some(status));
            }
            _ if Time::read_clock().since(started) > READY_WITHIN => return Ok(None),
            _ => pause(),
        }
    }
}

fn ask(path: &Path) -> Option<Status> {
    let channel = succession::connect(path).ok()??;
    succession::status(&channel).ok()
}

/// Readiness of a process that is told to nobody but the service manager cannot be awaited as an event.
fn pause() {
    let (_alive, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(LOOK_INTERVAL);
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn report(arguments: &Arguments, before: &Status, after: &Status) -> anyhow::Result<()> {
    if arguments.json {
        println!("{}", serde_json::json!({ "before": before, "after": after }));
        return Ok(());
    }
    let inherited = after.inherited.as_ref().context("the successor says nothing of what it took over")?;
    println!(
        "{} (pid {}) is succeeded by {} (pid {}): {} sessions kept, nobody received for {:.1} ms, {} datagrams lost",
        before.version,
        before.pid,
        after.version,
        after.pid,
        inherited.sessions,
        inherited.gap_ms.unwrap_or_default(),
        inherited.kernel_drops
    );
    for refused in &inherited.refused {
        println!("  not taken over: {refused}");
    }
    Ok(())
}
