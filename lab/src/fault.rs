//! Faults, injected for real: signals, small disks that fill up or refuse, limits of a running process, a wall clock that
//! jumps, names that do not resolve. What they touch belongs to the laboratory; all of it ends with its values.

mod disk;
mod names;

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
pub use names::{NameServer, use_name_server};

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

/// Address space of a process in bytes.
#[must_use]
#[track_caller]
pub fn address_space_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the program runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("the kernel tells VmSize");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("VmSize is a number of kB") * 1024
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

/// A wall clock for the appliance alone, which jumps when told to. The machine's clock stays.
#[derive(Debug)]
pub struct WallClock {
    file: PathBuf,
}

impl WallClock {
    /// The library that answers in the place of the kernel.
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

    /// A clock that shows the time.
    ///
    /// # Panics
    /// When `libfaketime` is not there.
    #[must_use]
    #[track_caller]
    pub fn new(world: &World) -> Self {
        let library = PathBuf::from(Self::LIBRARY);
        assert!(library.exists(), "{} is missing: apt-get install libfaketime", library.display());
        let clock = Self { file: world.relay_host().stage.scratch().join("wall-clock") };
        clock.jump("+0");
        clock
    }

    /// Has an appliance read this clock.
    #[must_use]
    pub fn worn_by(&self, flags: crate::ApplianceFlags) -> crate::ApplianceFlags {
        flags
            .environment("LD_PRELOAD", Self::LIBRARY)
            .environment("FAKETIME_TIMESTAMP_FILE", &self.file.to_string_lossy())
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .environment("DONT_FAKE_MONOTONIC", "1")
    }

    /// Moves it away from the true time: `+1d`, `-3600`.
    #[track_caller]
    pub fn jump(&self, offset: &str) {
        let beside = self.file.with_extension("new");
        let written = std::fs::write(&beside, format!("{offset}\n")).and_then(|()| std::fs::rename(beside, &self.file));
        written.expect("the scratch folder is writable");
    }
}

/// How often a text is in what the appliance has logged.
#[must_use]
pub fn logged(appliance: &Appliance, text: &str) -> usize {
    appliance.log().lines().filter(|line| line.contains(text)).count()
}

/// Whether the appliance ends within a second.
#[must_use]
pub fn try_wait_ended(appliance: &mut Appliance) -> bool {
    let watch = crate::wait::Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(1) {
        if !appliance.is_running() {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    false
}
