//! How a relay that fails ends, so that whoever watches over it does what helps. A wrong setting has an exit status of its
//! own, after which the unit does not start it again. After all else it does, at once and for ever, since datagrams wait in
//! the stored sockets: so a relay that fails right after its start takes its time to end, and what only comes late, an address
//! or a disk, is met without a spin.

use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use relay::Time;
use relay::interfaces::Changes;

use super::service_manager::ServiceManager;
use super::{cli, reload};

/// As clap ends the program for a wrong command line.
const WRONG_SETTING: u8 = 2;
/// From one start to the next, where a service manager starts the next: it stores the sockets, so that a relay which has
/// served longer loses nothing by ending at once.
const LIFE_MIN: Duration = Duration::from_secs(10);

/// A setting with which no relay will start, however often it is tried.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct WrongSetting(anyhow::Error);

/// What is wrong with settings, unless it is a name, which may get an address yet.
#[must_use]
pub fn of_settings(error: anyhow::Error) -> anyhow::Error {
    if cli::is_of_a_name(&format!("{error:#}")) { error } else { WrongSetting(error).into() }
}

/// Ends a relay started at `began` whose command line could not be read.
#[must_use]
pub fn of_reading(error: &flags::Error, began: Time) -> ExitCode {
    let exit = error.report("pilot-relay");
    let text = error.to_string();
    if !cli::is_of_a_name(&text) {
        return exit;
    }
    // A successor and other commands have the service's environment, too.
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let is_command = words.first().is_some_and(|word| !word.as_encoded_bytes().starts_with(b"-"));
    if !is_command && !words.iter().any(|word| word == "--succeed") {
        let _ = reload::Hangups::block();
        linger(&text, began);
    }
    ExitCode::FAILURE
}

/// Ends a relay started at `began` that was to serve. A successor ends at once: the relay at work goes on.
pub fn end(error: &anyhow::Error, began: Time, is_successor: bool) -> ExitCode {
    eprintln!("pilot-relay: {error:#}");
    // Whoever wants it to end does not have to wait.
    let _ = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect::<SigSet>().thread_unblock();
    if error.is::<WrongSetting>() {
        return ExitCode::from(WRONG_SETTING);
    }
    if !is_successor {
        linger(&format!("{error:#}"), began);
    }
    ExitCode::FAILURE
}

/// Waits, under a service manager, until the next start is due, or an address of the host changes: it may be the one that
/// was missing.
fn linger(why: &str, began: Time) {
    let manager = ServiceManager::of_environment();
    let left = LIFE_MIN.saturating_sub(Time::read_clock().since(began));
    if left.is_zero() || !manager.is_there() {
        return;
    }
    let changes = Changes::subscribe();
    let why = why.lines().next().unwrap_or_default();
    manager.tell(&[&format!("STATUS=starts anew within {} s: {why}", left.as_secs() + 1)]);
    if changes.and_then(|changes| changes.wait(Some(left))).is_err() {
        std::thread::park_timeout(left);
    }
}
