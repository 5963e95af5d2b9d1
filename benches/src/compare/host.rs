//! This host: what explains the figures, and the generator's own place on it.

use std::fs;

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use crate::process::softirq_time_is_apart;

/// Pins the calling thread, and gives it priority where that is allowed.
///
/// # Errors
/// When there is no such CPU.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("no CPU {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("CPU {cpu} cannot be used; choose another with --generator-cpu"))?;
    // Only steadies the figures. Where the scheduler groups by session, priorities count within a session only, and the
    // group has one of its own.
    let _ = std::process::Command::new("renice").args(["-n", "-20", "-p", &std::process::id().to_string()]).output();
    Ok(())
}

/// High priority for this session, until dropped.
#[derive(Debug)]
pub struct Priority(Option<String>);

const AUTOGROUP: &str = "/proc/self/autogroup";

impl Priority {
    /// Takes it, where the kernel groups by session and allows it. An interrupt from the terminal gives it back, too, and
    /// ends the program.
    ///
    /// # Errors
    /// When signals cannot be waited for.
    pub fn take() -> anyhow::Result<Self> {
        let before = fs::read_to_string(AUTOGROUP).ok();
        let before = before.and_then(|text| Some(text.rsplit_once(' ')?.1.trim().to_owned()));
        let before = before.filter(|_| fs::write(AUTOGROUP, "-20").is_ok());
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block().context("cannot block signals")?;
        let restore = Self(before.clone());
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if let Ok(signal) = signals.wait() {
                drop(restore);
                std::process::exit(128 + signal as i32);
            }
        })?;
        Ok(Self(before))
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = fs::write(AUTOGROUP, before);
        }
    }
}

/// What a reader must know of the machine.
#[must_use]
pub fn describe() -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown", |(_, model)| model.trim());
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = read("/proc/loadavg");
    [
        ("cpu", model.to_owned()),
        ("cpus", cpuinfo.lines().filter(|line| line.starts_with("processor")).count().max(cpus).to_string()),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("load before", load.split_whitespace().next().unwrap_or_default().to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// What on this host makes the figures mean something else.
#[must_use]
pub fn remarks() -> Vec<String> {
    match softirq_time_is_apart() {
        Some(false) => Vec::new(),
        Some(true) => vec![
            "this kernel accounts softirq time apart (CONFIG_IRQ_TIME_ACCOUNTING): the CPU figures lack the part of the \
             softirq work that ran inside the relays' own system calls"
                .to_owned(),
        ],
        None => vec!["the kernel's configuration cannot be read: whether softirq time is accounted apart is unknown".to_owned()],
    }
}
