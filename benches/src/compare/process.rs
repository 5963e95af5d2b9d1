//! A contender's process: started where the place says, pinned, charged, and gone when we are.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use crate::place::Site;

/// A running contender.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Kernel threads that work in its name: the softirq thread of its first CPU (a second is the generator's, too), and
    /// the threaded NAPI of its device.
    kernel_threads: Vec<u32>,
}

impl Process {
    /// Starts `program` at `site` on `cpus`, with the highest priority we may give. It ends when we do, however we end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(site: &Site, cpus: &[usize], program: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let list = cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let program_text = program.to_string_lossy().into_owned();
        let wrapping = ["-c", &list, "nice", "-n", "-20", "setpriv", "--pdeathsig", "KILL", "--", &program_text];
        let all: Vec<String> = wrapping.iter().map(ToString::to_string).chain(arguments.iter().cloned()).collect();
        let mut command: Command = site.command(Path::new("taskset"), &all);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(if std::env::var_os("COMPARE_VERBOSE").is_some() { Stdio::inherit() } else { Stdio::null() })
            .spawn()
            .with_context(|| format!("cannot start {program_text}"))?;
        let mut kernel_threads: Vec<u32> = cpus.first().and_then(|cpu| softirq_thread(*cpu)).into_iter().collect();
        for thread in site.charged_threads() {
            let pinned = Command::new("taskset").args(["-pc", &list, &thread.to_string()]).output()?;
            anyhow::ensure!(pinned.status.success(), "kernel thread {thread} cannot be pinned to CPU {list}");
            kernel_threads.extend(u32::try_from(thread.as_raw()));
        }
        Ok(Self { child, kernel_threads })
    }

    /// CPU time spent so far by all its threads and in its name.
    ///
    /// Softirq work that its own system calls trigger runs inside them and is part of the threads' time, unless the
    /// kernel was built with `CONFIG_IRQ_TIME_ACCOUNTING` (see [`softirq_time_is_apart`]).
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let own: u64 = tasks.filter_map(|task| run_time_ns(&task.path())).sum();
        let kernel = self.kernel_threads.iter().filter_map(|pid| run_time_ns(Path::new(&format!("/proc/{pid}"))));
        own + kernel.sum::<u64>()
    }

    /// Resident memory; 0 once it has ended.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        kib.map_or(0, |kib: u64| kib << 10)
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// Its exit status.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("it ended with {status}; set COMPARE_VERBOSE=1 to see what it says"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first field of `schedstat`: nanoseconds on a CPU.
fn run_time_ns(task: &Path) -> Option<u64> {
    fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
}

fn softirq_thread(cpu: usize) -> Option<u32> {
    let name = format!("ksoftirqd/{cpu}");
    let mut processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.find_map(|process| {
        let comm = fs::read_to_string(process.path().join("comm")).ok()?;
        (comm.trim() == name).then(|| process.file_name().to_str()?.parse().ok())?
    })
}

/// Whether this kernel keeps softirq time out of the threads' run time, so that [`Process::cpu_ns`] would be too low;
/// `None` where its configuration cannot be read.
#[must_use]
pub fn softirq_time_is_apart() -> Option<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let boot = fs::read_to_string(format!("/boot/config-{}", release.trim())).ok();
    let config = boot.or_else(|| {
        let output = Command::new("zcat").arg("/proc/config.gz").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })?;
    Some(config.lines().any(|line| line == "CONFIG_IRQ_TIME_ACCOUNTING=y"))
}
