//! Memory: what the settings need against what is there, and whether it comes in huge pages.

use super::check::{Check, bytes};
use super::topics::{HUGE_PAGES, MEMORY};

const SWITCH: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// What is known of it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What the settings imply.
    pub needed_bytes: u64,
    /// What the kernel could give now, the cgroup's limit included.
    pub available_bytes: Option<u64>,
    /// Whether a relay with these settings runs already and has its part.
    pub is_running: bool,
    /// The transparent huge pages setting in force: always, madvise or never.
    pub huge_pages: Option<String>,
}

/// The verdicts.
pub fn checks(facts: &Facts) -> Vec<Check> {
    vec![amount(facts), huge_pages(facts)]
}

fn amount(facts: &Facts) -> Check {
    let needed = facts.needed_bytes;
    let need = format!("these settings need {}", bytes(needed));
    let check = match facts.available_bytes {
        None => MEMORY.note(format!("{need}; the kernel does not tell what is available")),
        Some(available) if available >= needed.saturating_mul(2) => {
            MEMORY.ok(format!("{need} of the {} available", bytes(available)))
        }
        Some(available) if available >= needed || facts.is_running => {
            MEMORY.note(format!("{need}, and {} are available", bytes(available)))
        }
        Some(available) => MEMORY.problem(
            format!("{need}, and only {} are available", bytes(available)),
            "choose fewer sessions with --sessions-max, or fewer --shards",
        ),
    };
    check.value("needed_bytes", needed).value("available_bytes", facts.available_bytes)
}

fn huge_pages(facts: &Facts) -> Check {
    let setting = facts.huge_pages.as_deref();
    let check = match setting {
        Some(setting @ ("always" | "madvise")) => {
            HUGE_PAGES.ok(format!("{setting}; session tables of 64 MiB or more ask for them"))
        }
        Some(setting) => HUGE_PAGES.warn(
            format!("{setting}; session tables of 64 MiB or more lie in pages of 4 KiB"),
            format!("echo madvise > {SWITCH}"),
        ),
        None => HUGE_PAGES.note("this kernel has none"),
    };
    check.value("setting", setting)
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn facts(available_bytes: Option<u64>, huge_pages: &str) -> Facts {
        Facts { needed_bytes: 100 << 20, available_bytes, is_running: false, huge_pages: Some(huge_pages.to_owned()) }
    }

    #[test]
    fn the_sum_is_held_against_what_is_there() {
        let of = |mebibytes: u64| amount(&facts(Some(mebibytes << 20), "always")).status;
        assert_eq!([200, 150, 99].map(of), [Status::Ok, Status::Note, Status::Problem]);
        assert_eq!(amount(&facts(None, "always")).status, Status::Note);
        let running = Facts { is_running: true, ..facts(Some(50 << 20), "always") };
        assert_eq!(amount(&running).status, Status::Note, "it has its memory already");
    }

    #[test]
    fn huge_pages_may_be_asked_for_or_not() {
        let of = |setting| huge_pages(&facts(None, setting)).status;
        assert_eq!(["always", "madvise", "never"].map(of), [Status::Ok, Status::Ok, Status::Warn]);
        assert_eq!(huge_pages(&Facts { huge_pages: None, ..facts(None, "") }).status, Status::Note);
    }
}
