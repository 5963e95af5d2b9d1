//! Memory that holds keys, and memory that is locked.
//!
//! Keys that stay lie in locked pages of their own (crate `secrets`), and what a computation with one leaves on the stack is
//! wiped. What cannot be moved there is kept from the disk by the service's unit alone (`MemorySwapMax=0`): keys of TLS inside
//! its library, stacks while they are computed with, requests on their way. The process is not locked as a whole, since it
//! could not give memory back any more, and all of it would count against a limit at which serving ends. Where a host may
//! swap this process, or has no room for its keys, that is said.

use std::fs;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Raises the limit of locked memory as far as this process may: rings count against it once the capability to exceed it is
/// gone.
pub fn raise_limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK) else { return };
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_err() && soft < hard {
        // What is too little is said by who needs it.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard);
    }
}

/// Sees that it is said, once, should a key find no locked memory.
pub fn watch_keys() {
    secrets::when_unlocked(|| {
        let limit_bytes = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft);
        tracing::warn!(
            limit_bytes,
            "keys cannot be locked in memory any more, and may be written to swap: raise the limit (LimitMEMLOCK in the unit, \
             `ulimit -l` in a shell), and see that mlock is not forbidden here"
        );
    });
}

/// Says how much of the keys is locked.
pub fn tell_of_keys() {
    let secrets::Usage { locked_bytes, unlocked_bytes } = secrets::usage();
    tracing::info!(locked_bytes, unlocked_bytes, "keys lie in locked memory");
}

/// Says it where other secrets may come to lie on a disk.
pub fn tell_of_swap() {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = |group: &str| fs::read_to_string(format!("/sys/fs/cgroup{group}/memory.swap.max")).ok();
    if has_disk(&swaps) && !is_kept_in_memory(&groups, limit) {
        tracing::info!(
            "this host may write to its swap what is not locked, as keys of TLS; start the service with MemorySwapMax=0 as \
             the package's unit does, or encrypt the swap"
        );
    }
}

/// A head line, then a line a device. Compressed memory is no disk.
fn has_disk(swaps: &str) -> bool {
    swaps.lines().skip(1).any(|line| !line.trim().is_empty() && !line.starts_with("/dev/zram"))
}

/// Whether a group this process is in may swap nothing.
fn is_kept_in_memory(groups: &str, limit: impl Fn(&str) -> Option<String>) -> bool {
    let Some(own) = groups.lines().find_map(|line| line.strip_prefix("0::")) else { return false };
    let mut group = own.trim_end_matches('/');
    loop {
        if limit(group).is_some_and(|limit| limit.trim() == "0") {
            return true;
        }
        match group.rfind('/') {
            Some(at) => group = &group[..at],
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_on_a_disk_is_told_from_none() {
        let head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert!(!has_disk("") && !has_disk(head));
        assert!(!has_disk(&format!("{head}/dev/zram0  partition\t8\t0\t100\n")));
        assert!(has_disk(&format!("{head}/dev/zram0  partition\t8\t0\t100\n/dev/vda2  partition\t8\t0\t-2\n")));
    }

    #[test]
    fn a_group_that_swaps_nothing_covers_those_below() {
        let limits =
            |zero: &'static str| move |group: &str| Some(if group == zero { "0\n" } else { "max\n" }.to_owned());
        let groups = "1:cpu:/x\n0::/system.slice/relay.service/child\n";
        assert!(is_kept_in_memory(groups, limits("/system.slice/relay.service")));
        assert!(is_kept_in_memory(groups, limits("/system.slice")));
        assert!(!is_kept_in_memory(groups, limits("/system")));
        assert!(!is_kept_in_memory("0::/\n", |_| None));
        assert!(!is_kept_in_memory("", |_| Some("0".to_owned())));
    }
}
