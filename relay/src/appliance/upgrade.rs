//! `pilot-relay upgrade`: this program succeeds the relay that runs, without losing a datagram.
//!
//! Under a service manager it goes through that: a process in its own confinement could not start one with more rights. The
//! unit's `ExecReload` is this command again, which then starts the successor within the service.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::geteuid;
use relay::Time;

use super::cli;
use super::data_dir;
use super::phase::Phase;
use super::succession::{self, Channel, Status};

/// The unit's run-time folder.
const RUNTIME_DIRECTORY: &str = "/run/pilot-relay";
/// How long a successor may take from its start to serving everything; a directory of a million nodes takes seconds, first to
/// be looked at and then to be read. Less than the unit's `TimeoutStartSec`, or nobody would hear what is said after it.
const READY_WITHIN: Duration = Duration::from_secs(100);
const LOOK_INTERVAL_MS: u16 = 20;

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
    /// Only start the successor of the relay that is asked here
    #[arg(long, hide = true, value_name = "SOCKET")]
    pub launch: Option<PathBuf>,
    /// Flags of the successor [default: those of the relay that runs, also where its unit's ExecStart has changed since:
    /// that takes systemctl restart]. Under systemd they are the unit's, and settings belong into its file
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
    if let Some(path) = &arguments.launch {
        launch(path, &arguments.flags)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (path, channel) = find(arguments.data_dir.as_deref())?;
    let channel = channel.with_context(|| {
        format!("no relay listens at {}; start one, or name the --data-dir of the one that runs", path.display())
    })?;
    let peer = channel.peer().context("cannot ask who the relay runs as")?;
    let before = succession::status(&channel)?;
    drop(channel);
    // Set for the commands of a unit.
    let within_unit = std::env::var_os("MAINPID").is_some();
    let unit = before.unit.as_deref().filter(|_| !within_unit);
    let after = match way(peer.uid() == geteuid().as_raw(), peer.pid(), unit, main_pid)? {
        Way::Reload(unit) => reload(unit, &path)?,
        Way::Start => start(&arguments, &path, &before, within_unit)?,
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

/// How the successor comes to be.
#[derive(Debug, PartialEq, Eq)]
enum Way<'a> {
    /// The service manager starts it in this unit.
    Reload(&'a str),
    /// This process does.
    Start,
}

/// A relay of our own user is believed. What another user's says of itself is only what a stranger says: nothing is started
/// on its word, and its unit is reloaded only if the service manager itself knows it as that unit's.
fn way<'a>(
    is_ours: bool,
    pid: i32,
    unit: Option<&'a str>,
    main_pid: impl FnOnce(&str) -> anyhow::Result<i32>,
) -> anyhow::Result<Way<'a>> {
    match unit {
        Some(unit) if is_ours => Ok(Way::Reload(unit)),
        Some(unit) if main_pid(unit)? == pid && pid > 0 => Ok(Way::Reload(unit)),
        Some(unit) => bail!("pid {pid} says it is {unit}, and the service manager does not; run this as its user"),
        None if is_ours => Ok(Way::Start),
        None => bail!("the relay runs as another user (pid {pid}); run this as that user"),
    }
}

/// The main process of `unit`, as the service manager knows it; 0 where there is none.
fn main_pid(unit: &str) -> anyhow::Result<i32> {
    let output = Command::new("systemctl").args(["show", "--property", "MainPID", "--value", "--", unit]).output();
    let output = output.with_context(|| format!("cannot run systemctl to ask for {unit}"))?;
    String::from_utf8_lossy(&output.stdout).trim().parse().with_context(|| format!("systemctl knows no unit {unit}"))
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

/// Starts the successor, and waits until it serves; `None` when it took over and failed. Within a unit the environment is
/// the unit's; else it has the settings of the relay that runs, and not those of whoever calls.
fn start(arguments: &Arguments, path: &Path, before: &Status, within_unit: bool) -> anyhow::Result<Option<Status>> {
    let inherited: Vec<OsString> = before.arguments.iter().map(OsString::from).collect();
    let flags = if arguments.flags.is_empty() { &inherited } else { &arguments.flags };
    // The successor has its end of this open for as long as it lives.
    let (ended, alive) = nix::unistd::pipe().context("cannot make a pipe")?;
    let mut launcher = this_program()?;
    launcher.args(["upgrade", "--launch"]).arg(path).arg("--").args(flags).stdin(Stdio::from(alive));
    if let Some(settings) = before.environment.as_ref().filter(|_| !within_unit) {
        let ours = std::env::vars_os().map(|(name, _)| name);
        let ours = ours.filter(|name| name.to_string_lossy().starts_with(cli::ENVIRONMENT));
        for name in ours {
            launcher.env_remove(name);
        }
        launcher.envs(settings);
    }
    if !launcher.status().context("cannot start this program again")?.success() {
        bail!("the successor could not be started; the relay that ran goes on");
    }
    // It holds our copy of the successor's end.
    drop(launcher);
    let started = Time::read_clock();
    loop {
        let mut watched = [PollFd::new(ended.as_fd(), PollFlags::empty())];
        let has_ended = poll(&mut watched, LOOK_INTERVAL_MS).is_ok_and(|ready| ready > 0);
        let status = ask(path);
        match status {
            Some(status) if status.pid != before.pid && status.phase == Phase::Serving.text() => {
                return Ok(Some(status));
            }
            Some(status) if has_ended && goes_on(&status, before) => {
                bail!("the successor ended before it took over, and says why above; the relay that ran goes on")
            }
            Some(status) if goes_on(&status, before) && Time::read_clock().since(started) > READY_WITHIN => bail!(
                "the successor has not taken over within {} s, and may still do so; the relay that ran goes on until then",
                READY_WITHIN.as_secs()
            ),
            _ if has_ended || Time::read_clock().since(started) > READY_WITHIN => return Ok(None),
            _ => {}
        }
    }
}

/// Whether it is the relay from before that answers, and nobody has taken over. It may be draining by now.
fn goes_on(status: &Status, before: &Status) -> bool {
    status.pid == before.pid && status.phase != Phase::Stopping.text()
}

/// Starts the successor and leaves it alone at once: a service manager only takes its own children for a main process, and
/// a process whose parent has ended becomes one.
fn launch(path: &Path, flags: &[OsString]) -> anyhow::Result<()> {
    let mut successor = this_program()?;
    // A group of its own, so that what ends this command does not end it.
    successor.args(flags).arg("--succeed").arg(path).process_group(0);
    // What it prints is not the answer of this command.
    successor.stdout(std::io::stderr().as_fd().try_clone_to_owned().context("cannot copy a descriptor")?);
    successor.spawn().context("cannot start this program again").map(drop)
}

fn this_program() -> anyhow::Result<Command> {
    std::env::current_exe().context("cannot tell which program this is").map(Command::new)
}

fn ask(path: &Path) -> Option<Status> {
    let channel = succession::connect(path).ok()??;
    succession::status(&channel).ok()
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn report(arguments: &Arguments, before: &Status, after: &Status) -> anyhow::Result<()> {
    if arguments.json {
        // What is set in the environment may be secret.
        let shown = |status: &Status| Status { environment: None, ..status.clone() };
        println!("{}", serde_json::json!({ "before": shown(before), "after": shown(after) }));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_users_relay_says_of_itself_starts_nothing() {
        let unit = Some("relay.service");
        let unasked = |_: &str| -> anyhow::Result<i32> { panic!("no need to ask") };
        assert_eq!(way(true, 7, unit, unasked).unwrap(), Way::Reload("relay.service"));
        assert_eq!(way(true, 7, None, unasked).unwrap(), Way::Start);
        assert_eq!(way(false, 7, unit, |_| Ok(7)).unwrap(), Way::Reload("relay.service"));
        assert!(way(false, 7, unit, |_| Ok(8)).unwrap_err().to_string().contains("service manager does not"));
        assert!(way(false, 0, unit, |_| Ok(0)).is_err(), "no process is none");
        assert!(way(false, 7, unit, |_| bail!("no systemctl")).is_err());
        assert!(way(false, 7, None, unasked).unwrap_err().to_string().contains("another user"));
    }
}
