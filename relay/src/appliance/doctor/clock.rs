//! The clock: a shard reads it once a batch, without a system call where the source allows that.

use super::check::Check;
use super::topics::CLOCK;

/// A reading without a system call takes a few tens of nanoseconds; one with, several hundred.
const READING_NS_MAX: u64 = 150;

/// What is known of it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The source in use.
    pub source: Option<String>,
    /// Those the host has.
    pub available: Vec<String>,
    /// What a reading of `CLOCK_MONOTONIC` takes.
    pub reading_ns: u64,
}

/// The verdict.
pub fn check(facts: &Facts) -> Check {
    let Facts { source, available, reading_ns } = facts;
    let name = source.as_deref().unwrap_or("unknown");
    let kind = match name {
        "tsc" | "arch_sys_counter" => "the CPU's own counter",
        "kvm-clock" => "the hypervisor's, on top of the CPU's counter",
        "hyperv_clocksource_tsc_page" => "the hypervisor's page, on top of the CPU's counter",
        _ => "a device or a call into the hypervisor",
    };
    let finding = format!("{name}, {kind}; a reading takes {reading_ns} ns");
    let check = if *reading_ns <= READING_NS_MAX {
        CLOCK.ok(finding)
    } else if name != "tsc" && available.iter().any(|one| one == "tsc") {
        CLOCK.warn(
            format!("{finding}, a system call each"),
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
        )
    } else {
        CLOCK.note(format!("{finding}, a system call each, and this host offers nothing faster; a batch reads it once"))
    };
    check.value("source", name).value("reading_ns", *reading_ns)
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn verdict(source: &str, available: &[&str], reading_ns: u64) -> Status {
        let available = available.iter().map(|one| (*one).to_owned()).collect();
        check(&Facts { source: Some(source.to_owned()), available, reading_ns }).status
    }

    #[test]
    fn what_counts_is_what_a_reading_takes() {
        assert_eq!(verdict("tsc", &["tsc", "hpet"], 25), Status::Ok);
        assert_eq!(verdict("kvm-clock", &["kvm-clock"], 40), Status::Ok);
        assert_eq!(verdict("hpet", &["tsc", "hpet"], 900), Status::Warn);
        assert_eq!(verdict("xen", &["xen"], 400), Status::Note);
        assert_eq!(verdict("tsc", &["tsc"], 400), Status::Note, "a tsc that is slow all the same");
        assert_eq!(check(&Facts { source: None, available: Vec::new(), reading_ns: 20 }).status, Status::Ok);
    }
}
