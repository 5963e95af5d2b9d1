//! What the kernel tells about a running program: the memory it holds and the CPU time it has used.

use std::fs;
use std::time::Duration;

/// The kernel counts CPU time in hundredths of a second (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Resident memory of a process in bytes.
#[track_caller]
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let status = read(&format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("VmRSS is a number of kB") * 1024
}

/// CPU time of a process and all its threads, in user space and in the kernel.
#[track_caller]
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = read(&format!("/proc/{pid}/stat"));
    // The name in parentheses may hold anything; behind it, utime and stime are the 12th and 13th fields.
    let fields = stat.rsplit_once(')').expect("the kernel puts the name in parentheses").1;
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum::<u32>();
    TICK * ticks
}

/// Open descriptors of a process.
#[track_caller]
pub(crate) fn descriptors(pid: u32) -> usize {
    let path = format!("/proc/{pid}/fd");
    fs::read_dir(&path).unwrap_or_else(|error| panic!("the program is gone: {path}: {error}")).count()
}

/// CPU time that the whole machine has spent in software interrupts: other programs' packets are in it.
#[must_use]
#[track_caller]
pub fn softirq_time() -> Duration {
    let stat = read("/proc/stat");
    let total = stat.lines().next().and_then(|line| line.split_whitespace().nth(7)?.parse::<u32>().ok());
    TICK * total.expect("the first line of /proc/stat counts software interrupts")
}

#[track_caller]
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("the program is gone: {path}: {error}"))
}
