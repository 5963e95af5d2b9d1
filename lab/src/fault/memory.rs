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
    /// Lets a process take so many bytes more: what it has stays charged elsewhere. When it needs more than that, the
    /// kernel kills it.
    #[must_use]
    #[track_caller]
    pub fn more(pid: u32, bytes: u64) -> Self {
        let is_first = Path::new(FIRST).join("memory.limit_in_bytes").exists();
        let (parent, limit) = if is_first { (FIRST, "memory.limit_in_bytes") } else { (SECOND, "memory.max") };
        if !is_first {
            // Fails where it is enabled already, in which case the limit can be written.
            let _ = fs::write(Path::new(SECOND).join("cgroup.subtree_control"), "+memory");
        }
        let group = Path::new(parent).join(format!("pilot-lab-{pid}"));
        fs::create_dir_all(&group).expect("root may make control groups");
        let bound = Self { parent: parent.into(), group, pid };
        bound.write(limit, &bytes.to_string());
        bound.write("cgroup.procs", &pid.to_string());
        bound
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
