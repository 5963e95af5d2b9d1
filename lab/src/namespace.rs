//! One network namespace: made, entered, measured and removed. Which namespaces exist and how they are wired is `world`.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::command;
use crate::traffic::Traffic;

const NAME_PREFIX: &str = "pilot-lab";
const NETNS_FOLDER: &str = "/run/netns";

/// A network namespace that lives as long as this value.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with loopback up. The name holds the process id, so that test programs can run side by side
    /// and a later run can tell what a killed one left behind.
    #[must_use]
    #[track_caller]
    pub fn create(role: &str) -> Self {
        static SEQUENCE: AtomicU32 = AtomicU32::new(0);
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME_PREFIX}-{}-{sequence}-{role}", std::process::id());
        command::run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// The name `ip netns` knows.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in this namespace; `arguments` are split at white space.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        command::run(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()))
    }

    /// Writes a kernel setting below `/proc/sys/net`.
    #[track_caller]
    pub fn set(&self, setting: &str, value: &str) {
        let path = format!("/proc/sys/net/{setting}");
        self.enter(|| fs::write(&path, value))
            .unwrap_or_else(|error| panic!("cannot write {value} to {path}: {error}"));
    }

    /// A count of its kernel's, by the names of RFC 4293 and its like in `/proc/net/snmp`: `("Udp", "OutDatagrams")`.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    #[track_caller]
    pub fn count(&self, protocol: &str, name: &str) -> u64 {
        // Not that of the process, which is in another namespace.
        let text = self.enter(|| fs::read_to_string("/proc/thread-self/net/snmp")).expect("the kernel counts");
        named_count(&text, protocol, name).unwrap_or_else(|| panic!("no {protocol} {name} in:\n{text}"))
    }

    /// Packets may come from addresses that this machine has no route to, as forged ones do; what a new namespace starts
    /// with is the host's affair.
    #[track_caller]
    pub fn accept_any_source(&self, interface: &str) {
        for which in ["all", "default", interface] {
            self.set(&format!("ipv4/conf/{which}/rp_filter"), "0");
        }
    }

    /// A command that will run in this namespace; its process id is that of `program`, because `ip` becomes it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `action` on a thread inside this namespace. Sockets opened there stay there wherever they are used later.
    #[track_caller]
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let path = Path::new(NETNS_FOLDER).join(&self.name);
        let joined = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(&path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
                setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a network namespace it made");
                action()
            });
            inside.join()
        });
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// What has passed through an interface so far.
    #[must_use]
    #[track_caller]
    pub fn traffic(&self, interface: &str) -> Traffic {
        Traffic::from_ip_json(&self.ip(&format!("-j -s link show dev {interface}")))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A drop may run while a test is failing; what cannot be removed now is removed by the next run.
        let _ = command::output(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// For each protocol there is a line of names, then one of values.
fn named_count(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let at = lines.next()?.split(' ').position(|one| one == name)?;
    lines.next()?.split(' ').nth(at)?.parse().ok()
}

/// Removes namespaces of laboratories whose process is gone, and the programs that still run in them.
pub fn remove_stale() {
    let Ok(entries) = fs::read_dir(NETNS_FOLDER) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner_is_gone(&name) {
            let pids = command::output(Command::new("ip").args(["netns", "pids", &name]));
            for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
                let _ = command::output(Command::new("kill").args(["-KILL", pid]));
            }
            let _ = command::output(Command::new("ip").args(["netns", "del", &name]));
        }
    }
}

fn owner_is_gone(name: &str) -> bool {
    let owner = name.strip_prefix(NAME_PREFIX).and_then(|rest| rest.split('-').nth(1));
    owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_their_names() {
        let text = "Udp: InDatagrams NoPorts\nUdp: 12 3\nUdpLite: InDatagrams NoPorts\nUdpLite: 0 7\n";
        assert_eq!(named_count(text, "Udp", "NoPorts"), Some(3));
        assert_eq!(named_count(text, "UdpLite", "NoPorts"), Some(7));
        assert_eq!([named_count(text, "Udp", "OutDatagrams"), named_count(text, "Tcp", "NoPorts")], [None, None]);
    }
}
