//! Faults, injected for real: signals, small disks that fill up or refuse, limits of a running process, a wall clock that
//! jumps, names that do not resolve. What they touch belongs to the laboratory; all of it ends with its values.

mod disk;
mod memory;
mod names;
mod wall_clock;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::appliance::Appliance;
use crate::command;
use crate::wait::evidence;
use crate::world::World;

pub use disk::Disk;
pub use memory::MemoryBound;
pub use names::{NameServer, Says, use_name_server};
pub use wall_clock::WallClock;

/// One line of the table of faults: what was done, what happened, and how soon service was back by itself.
pub fn row(fault: &str, happened: &str, lost: usize, recovery: Duration) {
    evidence(format!("| {fault} | {happened} | lost {lost} | back after {recovery:.1?} |"));
}

/// Sends a signal to a program of the laboratory.
#[track_caller]
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().expect("process ids are small"));
    kill(pid, signal).unwrap_or_else(|error| panic!("cannot send {signal} to {pid}: {error}"));
}

/// Sets a limit of a running process, as `prlimit` takes it: `--nofile=100`.
#[track_caller]
pub fn limit(pid: u32, limit: &str) {
    command::run(Command::new("prlimit").args(["--pid", &pid.to_string(), limit]));
}

/// Open descriptors of a process.
#[must_use]
#[track_caller]
pub fn descriptors(pid: u32) -> usize {
    crate::process::descriptors(pid)
}

impl World {
    /// The folder in which the appliance keeps its data.
    #[must_use]
    #[track_caller]
    pub fn data_dir(&self) -> PathBuf {
        self.relay_host().stage.folder("pilot-relay")
    }

    /// Runs `pilot-relay` with a command and the appliance's data folder.
    #[track_caller]
    pub fn relay_command(&self, command: &[&str]) -> Output {
        let host = self.relay_host();
        let mut line = host.namespace().command(&host.stage.programs.pilot_relay);
        command::output(line.args(command).arg("--data-dir").arg(self.data_dir()))
    }

    /// Starts the appliance where it has to refuse; what it says, and its exit status.
    #[track_caller]
    pub fn refused_start(&self) -> (String, Option<i32>) {
        let host = self.relay_host();
        // One that serves after all is ended, and shows by its status.
        let mut line = host.namespace().command("timeout");
        line.args(["--signal=KILL", "20"]).arg(&host.stage.programs.pilot_relay);
        let output = command::output(line.arg("--data-dir").arg(self.data_dir()));
        (command::text(&output), output.status.code())
    }
}

/// How often a text is in what the appliance has logged.
#[must_use]
pub fn logged(appliance: &Appliance, text: &str) -> usize {
    appliance.log().lines().filter(|line| line.contains(text)).count()
}
