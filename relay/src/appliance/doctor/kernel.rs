//! The kernel: its age, and whether it lets this host have rings like the relay's.

use relay::uring::RingError;

use super::check::{Check, counted, sysctl};
use super::topics::{IO_URING, KERNEL, MEMLOCK, Topic};

const OLDEST: (u32, u32) = (6, 1);
const DISABLED: &str = "kernel.io_uring_disabled";

/// What is known of it.
#[derive(Debug)]
pub struct Facts {
    /// As `uname -r` prints it.
    pub release: String,
    /// The setting of that name: 0 everybody, 1 members of a group and CAP_SYS_ADMIN, 2 nobody; `None` before 6.6.
    pub io_uring_disabled: Option<u32>,
    /// The group that 1 admits.
    pub io_uring_group: Option<i64>,
    /// Whether system calls of this process are filtered.
    pub is_filtered: bool,
    /// Shards wanted.
    pub shards: usize,
    /// What came of making a ring for each.
    pub rings: Result<(), RingError>,
}

/// The verdicts.
pub fn checks(facts: &Facts) -> Vec<Check> {
    vec![age(facts), io_uring(facts).value("disabled", facts.io_uring_disabled).value("filtered", facts.is_filtered)]
}

fn age(facts: &Facts) -> Check {
    let release = &facts.release;
    let check = match version(release) {
        Some(version) if version >= OLDEST => KERNEL.ok(format!("Linux {release}")),
        Some(_) => KERNEL.problem(
            format!("Linux {release} is older than 6.1, and its io_uring lacks what the relay uses"),
            "install a kernel of 6.1 or later; Debian 12 has one",
        ),
        None => KERNEL.note(format!("the kernel calls itself {release:?}, which tells no version")),
    };
    check.value("release", release.as_str())
}

fn io_uring(facts: &Facts) -> Check {
    let group = facts.io_uring_group.unwrap_or(-1);
    match (&facts.rings, facts.io_uring_disabled.unwrap_or(0)) {
        (Ok(()), 0) => IO_URING.ok(format!("allowed; made a ring for {}", counted(facts.shards, "shard"))),
        (Ok(()), level) => IO_URING.warn(
            format!("works for this user, but {DISABLED}={level} admits only CAP_SYS_ADMIN and group {group}"),
            sysctl(DISABLED, 0),
        ),
        (Err(RingError::Forbidden), level) if level > 0 => {
            IO_URING.problem(format!("{DISABLED}={level} forbids it to this user"), sysctl(DISABLED, 0))
        }
        (Err(RingError::Missing), _) if facts.is_filtered => IO_URING.problem(
            "missing, or hidden by the seccomp filter of this process",
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile",
        ),
        (Err(RingError::Forbidden), _) => {
            let by = if facts.is_filtered { "the seccomp filter of this process" } else { "a security module" };
            IO_URING.problem(
                format!("forbidden by {by}"),
                "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile",
            )
        }
        (Err(error @ RingError::Memory), _) => {
            Topic { heading: MEMLOCK.heading, ..IO_URING }.problem(error.to_string(), "ulimit -l 65536")
        }
        (Err(error @ (RingError::Missing | RingError::Feature(_))), _) => {
            IO_URING.problem(error.to_string(), "install a kernel of 6.1 or later that is built with CONFIG_IO_URING")
        }
        (Err(RingError::Io(error)), _) => IO_URING.problem(
            format!("no ring can be made: {error}"),
            "strace -e trace=%desc pilot-relay doctor shows the call",
        ),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn facts(rings: Result<(), RingError>, disabled: Option<u32>) -> Facts {
        let release = "6.12.3-cloud-amd64".to_owned();
        Facts { release, io_uring_disabled: disabled, io_uring_group: Some(7), is_filtered: false, shards: 2, rings }
    }

    fn verdict(rings: Result<(), RingError>, disabled: Option<u32>) -> (Status, String) {
        let check = io_uring(&facts(rings, disabled));
        (check.status, format!("{} -> {}", check.finding, check.advice.unwrap_or_default()))
    }

    #[test]
    fn an_old_kernel_is_a_problem() {
        let of = |release: &str| age(&Facts { release: release.to_owned(), ..facts(Ok(()), None) }).status;
        assert_eq!(["6.1.0-13-amd64", "6.18.44", "7.0"].map(of), [Status::Ok; 3]);
        assert_eq!(["5.15.0-91-generic", "6.0.19"].map(of), [Status::Problem; 2]);
        assert_eq!(of("mainline"), Status::Note);
    }

    #[test]
    fn a_ring_that_can_be_made_is_fine_unless_only_for_this_user() {
        assert_eq!([None, Some(0)].map(|level| verdict(Ok(()), level).0), [Status::Ok; 2]);
        let (status, text) = verdict(Ok(()), Some(1));
        assert!(status == Status::Warn && text.contains("group 7") && text.contains("sysctl -w"), "{text}");
    }

    #[test]
    fn a_refused_ring_is_a_problem_with_its_cause() {
        for (error, level, mention) in [
            (RingError::Forbidden, 2, "sysctl -w kernel.io_uring_disabled=0"),
            (RingError::Forbidden, 0, "seccomp"),
            (RingError::Memory, 0, "ulimit -l"),
            (RingError::Missing, 0, "CONFIG_IO_URING"),
            (RingError::Feature("rings of eight entries"), 0, "rings of eight entries"),
            (RingError::Io(std::io::Error::from_raw_os_error(5)), 0, "strace"),
        ] {
            let (status, text) = verdict(Err(error), Some(level));
            assert!(status == Status::Problem && text.contains(mention), "{mention}: {text}");
        }
        let filtered = io_uring(&Facts { is_filtered: true, ..facts(Err(RingError::Forbidden), Some(0)) });
        assert!(filtered.finding.contains("seccomp filter"), "{}", filtered.finding);
        // As podman's own profile has it.
        let hidden = io_uring(&Facts { is_filtered: true, ..facts(Err(RingError::Missing), Some(0)) });
        assert!(hidden.finding.contains("hidden by the seccomp filter"), "{}", hidden.finding);
    }
}
