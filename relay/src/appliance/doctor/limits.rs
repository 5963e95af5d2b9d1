//! Limits of the process: locked memory for the rings and the keys, files for the directory's connections.

use super::check::{Check, bytes, counted};
use super::topics::{MEMLOCK, OPEN_FILES};

/// What a shard's ring counts for where the kernel charges it (`tuning/README.md`, measured).
const RING_BYTES: u64 = 192 << 10;
/// What its keys take: a page or two for each kind.
const KEYS_BYTES: u64 = 16 << 10;
/// Below this many connections a fleet notices.
const OPEN_FILES_FEW: u64 = 65_536;

/// The limits of one process, existing or to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whose they are.
    pub whose: String,
    /// Bytes that may be locked; `u64::MAX` is no limit.
    pub locked_bytes: u64,
    /// Bytes it has locked, its keys; `None` where it does not run.
    pub keys_bytes: Option<u64>,
    /// Open files, the hard limit.
    pub open_files: u64,
    /// Whether locked memory is not counted (CAP_IPC_LOCK).
    pub may_lock: bool,
}

/// What is known of them.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Those of this process.
    pub own: Limits,
    /// Those of the relay that runs, else of the unit that is installed.
    pub service: Option<Limits>,
    /// Shards wanted.
    pub shards: usize,
    /// Whether the directory is on, and how many files it would like.
    pub open_files_wanted: Option<u64>,
}

/// The verdicts.
pub fn checks(facts: &Facts) -> Vec<Check> {
    let limits = facts.service.as_ref().unwrap_or(&facts.own);
    let hint =
        if facts.service.is_some() { "" } else { "; packaging/units/pilot-relay.service raises it for a service" };
    vec![locked(limits, facts.shards, hint), files(limits, facts.open_files_wanted, hint)]
}

fn locked(limits: &Limits, shards: usize, hint: &str) -> Check {
    let Limits { whose, locked_bytes, keys_bytes, may_lock, .. } = limits;
    let needed = RING_BYTES * shards as u64 + KEYS_BYTES;
    let have = bytes(*locked_bytes);
    let mut need = format!("{} and the keys need up to {}", counted(shards, "shard"), bytes(needed));
    if let Some(keys_bytes) = keys_bytes {
        need += &format!("; keys have locked {}", bytes(*keys_bytes));
    }
    let check = if *locked_bytes >= needed {
        MEMLOCK.ok(format!("{have} for {whose}; {need}"))
    } else if *may_lock {
        MEMLOCK.ok(format!("{have} for {whose}, which is not held to it (CAP_IPC_LOCK); {need}"))
    } else {
        MEMLOCK.problem(
            format!("{have} for {whose}; {need}"),
            format!("LimitMEMLOCK={}K in the unit, `ulimit -l {}` in a shell{hint}", needed >> 10, needed >> 10),
        )
    };
    check
        .value("limit_bytes", *locked_bytes)
        .value("needed_bytes", needed)
        .value("keys_bytes", *keys_bytes)
        .value("whose", whose.as_str())
}

fn files(limits: &Limits, wanted: Option<u64>, hint: &str) -> Check {
    let Limits { whose, open_files, .. } = limits;
    let Some(wanted) = wanted else {
        return OPEN_FILES.ok("the directory is off, so few files are needed").value("limit", *open_files);
    };
    let have = if *open_files == u64::MAX { "no limit".to_owned() } else { open_files.to_string() };
    let finding = format!("{have} for {whose}; each connection to the directory is one, of up to {wanted}");
    let advice = format!("LimitNOFILE={wanted} in the unit, `ulimit -Hn {wanted}` in a shell{hint}");
    let check = if *open_files >= wanted {
        OPEN_FILES.ok(finding)
    } else if *open_files >= OPEN_FILES_FEW {
        OPEN_FILES.note(finding).advise(advice)
    } else {
        OPEN_FILES.warn(finding, advice)
    };
    check.value("limit", *open_files).value("wanted", wanted).value("whose", whose.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn limits(whose: &str, locked_bytes: u64, open_files: u64) -> Limits {
        Limits { whose: whose.to_owned(), locked_bytes, keys_bytes: None, open_files, may_lock: false }
    }

    fn verdicts(own: Limits, service: Option<Limits>) -> Vec<(Status, String)> {
        let checks = checks(&Facts { own, service, shards: 4, open_files_wanted: Some(1 << 20) });
        checks.into_iter().map(|check| (check.status, check.finding)).collect()
    }

    #[test]
    fn the_service_is_judged_where_there_is_one() {
        let shell = limits("this shell", 64 << 10, 1024);
        let poor = verdicts(shell.clone(), None);
        assert_eq!([poor[0].0, poor[1].0], [Status::Problem, Status::Warn], "{poor:?}");
        assert!(poor[0].1.contains("64 KiB for this shell; 4 shards and the keys need up to 784 KiB"), "{poor:?}");
        let rich = verdicts(shell, Some(limits("the unit", 64 << 20, 1 << 20)));
        assert_eq!([rich[0].0, rich[1].0], [Status::Ok; 2], "{rich:?}");
        let at_work = Limits { keys_bytes: Some(8 << 10), ..limits("the relay at work", 64 << 20, 1 << 20) };
        assert!(locked(&at_work, 1, "").finding.ends_with("keys have locked 8 KiB"), "{:?}", locked(&at_work, 1, ""));
    }

    #[test]
    fn who_may_lock_is_not_held_to_the_limit() {
        let root = Limits { may_lock: true, ..limits("root", 0, 100_000) };
        let found = verdicts(root, None);
        assert_eq!([found[0].0, found[1].0], [Status::Ok, Status::Note], "{found:?}");
    }

    #[test]
    fn without_a_directory_files_do_not_matter() {
        assert_eq!(files(&limits("us", 0, 256), None, "").status, Status::Ok);
        assert_eq!(files(&limits("us", 0, u64::MAX), Some(1 << 20), "").status, Status::Ok);
    }
}
