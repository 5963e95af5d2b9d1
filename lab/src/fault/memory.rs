//! A bound for the memory that a running process takes from now on, set by the kernel's memory controller.

use std::fs;
use std::path::{Path, PathBuf};

const FIRST: &str = "/sys/fs/cgroup/memory";
const SECOND: &str = "/sys/fs/cgroup";

/// A control group with one process in it, until it is dropped.
#[derive(Debug)]
pub struct MemoryBound {
    parent: PathBuf,
    group: PathBuf,
    pid: u32,
}

impl MemoryBound {
    /// Lets a process take so many bytes more, and none of them in swap: what it has stays charged elsewhere. When it needs
    /// more than that, the kernel kills it.
    #[must_use]
    #[track_caller]
    pub fn more(pid: u32, bytes: u64) -> Self {
        let is_first = Path::new(FIRST).join("memory.limit_in_bytes").exists();
        let bytes = bytes.to_string();
        // The first controller counts memory and swap together, and takes that bound once there is one for memory.
        let (parent, limit, (swap, swap_limit)) = if is_first {
            (FIRST, "memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", bytes.as_str()))
        } else {
            (SECOND, "memory.max", ("memory.swap.max", "0"))
        };
        if !is_first {
            // Fails where it is enabled already, in which case the limit can be written.
            let _ = fs::write(Path::new(SECOND).join("cgroup.subtree_control"), "+memory");
        }
        let group = Path::new(parent).join(format!("pilot-lab-{pid}"));
        fs::create_dir_all(&group).expect("root may make control groups");
        let bound = Self { parent: parent.into(), group, pid };
        bound.write(limit, &bytes);
        // A kernel that does not count swap has no such file.
        if bound.group.join(swap).exists() {
            bound.write(swap, swap_limit);
        }
        bound.write("cgroup.procs", &pid.to_string());
        bound
    }

    /// How many bytes the process may have in swap; none where the kernel does not count them.
    #[must_use]
    pub fn swap_max(&self) -> Option<u64> {
        let first =
            || Some(self.read("memory.memsw.limit_in_bytes")?.saturating_sub(self.read("memory.limit_in_bytes")?));
        self.read("memory.swap.max").or_else(first)
    }

    /// A bound; one that is not set is the largest.
    fn read(&self, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.group.join(name)).ok()?;
        Some(text.trim().parse().unwrap_or(u64::MAX))
    }

    #[track_caller]
    fn write(&self, name: &str, value: &str) {
        let path = self.group.join(name);
        fs::write(&path, value).unwrap_or_else(|error| {
            panic!("cannot write {value} to {}: {error}; is there a memory controller?", path.display())
        });
    }
}

impl Drop for MemoryBound {
    fn drop(&mut self) {
        // It may have ended.
        let _ = fs::write(self.parent.join("cgroup.procs"), self.pid.to_string());
        let _ = fs::remove_dir(&self.group);
    }
}
