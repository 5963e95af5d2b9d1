//! What Linux says of this process, under the names that every Prometheus client uses, and which build it is.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

use crate::prometheus::{Kind, Text};

/// `process_…` and `pilot_build_info` of `program`. To be appended once to what a process exposes. A figure that cannot be
/// had is left out.
#[must_use]
pub fn text(program: &str, version: &str) -> String {
    let mut out = Text::new("");
    out.family("pilot_build_info", Kind::Gauge, "Which build this is; always 1.");
    out.sample("pilot_build_info", &[("program", program), ("version", version)], 1);
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        let ticks_per_second = system(SysconfVar::CLK_TCK).unwrap_or(100) as f64;
        let cpu_seconds = stat.cpu_ticks as f64 / ticks_per_second;
        out.counter("process_cpu_seconds_total", "Processor time of this process.", cpu_seconds);
        out.gauge("process_virtual_memory_bytes", "Address space of this process.", stat.virtual_bytes);
        if let Some(page_bytes) = system(SysconfVar::PAGE_SIZE) {
            let resident_bytes = stat.resident_pages * page_bytes;
            out.gauge("process_resident_memory_bytes", "Memory this process holds.", resident_bytes);
        }
        if let Some(boot_seconds) = boot_seconds() {
            let start = boot_seconds as f64 + stat.start_ticks as f64 / ticks_per_second;
            out.gauge("process_start_time_seconds", "When this process started, in Unix time.", start);
        }
    }
    if let Ok(folder) = fs::read_dir("/proc/self/fd") {
        // One of them is the folder's own.
        let open = folder.count().saturating_sub(1);
        out.gauge("process_open_fds", "Open file descriptors.", open);
    }
    if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        out.gauge("process_max_fds", "File descriptors that may be open.", limit);
    }
    let keys = secrets::usage();
    out.family("pilot_keys_bytes", Kind::Gauge, "Memory that keys lie in, by whether it could be locked.");
    out.sample("pilot_keys_bytes", &[("memory", "locked")], keys.locked_bytes);
    out.sample("pilot_keys_bytes", &[("memory", "unlocked")], keys.unlocked_bytes);
    out.finish()
}

/// Of `/proc/self/stat`, see proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name before may hold blanks and parentheses; field 3 is behind its last one.
        let (_, behind) = text.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

fn system(what: SysconfVar) -> Option<u64> {
    sysconf(what).ok().flatten().and_then(|value| u64::try_from(value).ok())
}

fn boot_seconds() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 70 30 13 14 15 16 17 18 4242 8192 3 20 21";
        let wanted = Stat { cpu_ticks: 100, start_ticks: 4242, virtual_bytes: 8192, resident_pages: 3 };
        assert_eq!(Stat::parse(text), Some(wanted));
        assert_eq!(Stat::parse("12 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_all_of_it() {
        let _key = secrets::Locked::new([1_u8; 32]);
        let text = text("test", "1.2.3");
        assert!(text.contains("pilot_keys_bytes{memory=\"locked\"} 64\n"), "{text}");
        assert!(text.contains("pilot_build_info{program=\"test\",version=\"1.2.3\"} 1\n"), "{text}");
        for name in ["cpu_seconds_total", "resident_memory_bytes", "start_time_seconds", "open_fds", "max_fds"] {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("process_{name} ")));
            let value: f64 = line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap();
            assert!(value > 0.0 || name == "cpu_seconds_total", "{name} {value}");
        }
    }
}
