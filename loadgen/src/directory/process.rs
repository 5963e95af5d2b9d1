//! What the kernel tells about the directory's process, when it is on this host: the processor time it has used and the
//! memory it holds.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The kernel counts processor time in hundredths of a second (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);
/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// A process on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident now.
    pub resident_bytes: u64,
    /// Resident at most, since it started.
    pub peak_bytes: u64,
}

impl Process {
    /// The process that listens at `address`; `None` if it is not on this host or not to be seen by us.
    #[must_use]
    pub fn listening_at(address: SocketAddr) -> Option<Self> {
        // An address can be bound where it lives.
        TcpListener::bind((address.ip(), 0)).ok()?;
        let sockets: Vec<_> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .into_iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .flat_map(|table| listeners(&table, address.port()))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        let processes = fs::read_dir("/proc").ok()?;
        let mut pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        pids.find(|pid| holds(*pid, &sockets)).map(|pid| Self { pid })
    }

    /// The process `pid`.
    ///
    /// # Errors
    /// There is none.
    pub fn numbered(pid: u32) -> io::Result<Self> {
        let this = Self { pid };
        this.processor_time().map(|_| this)
    }

    /// Processor time of all its threads, in user space and in the kernel.
    ///
    /// # Errors
    /// The process is gone.
    pub fn processor_time(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name in parentheses may hold anything; behind it, utime and stime are the 12th and 13th fields.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum::<u32>();
        Ok(TICK * ticks)
    }

    /// Its memory.
    ///
    /// # Errors
    /// The process is gone.
    pub fn memory(&self) -> io::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        Ok(Memory { resident_bytes: bytes("VmRSS:"), peak_bytes: bytes("VmHWM:") })
    }
}

/// The inodes of sockets that listen on `port`, out of a table of the kernel's.
fn listeners(table: &str, port: u16) -> Vec<u64> {
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state) = (fields.get(1)?, fields.get(3)?);
        let is_it = *state == LISTENING && local.rsplit_once(':')?.1 == format!("{port:04X}");
        if is_it { fields.get(9)?.parse().ok() } else { None }
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_found_and_whoever_does_not_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let process = Process::listening_at(address).unwrap();
        assert_eq!(process.pid, std::process::id());
        assert!(process.memory().unwrap().resident_bytes > 1 << 16);
        drop(listener);
        assert_eq!(Process::listening_at(address), None);
        assert_eq!(Process::listening_at("198.51.100.7:9000".parse().unwrap()), None);
        assert!(Process::numbered(u32::MAX).is_err());
    }

    #[test]
    fn a_table_of_sockets_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0\n\
            1: 0100007F:2328 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0\n\
            2: 0100007F:2329 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0\n";
        assert_eq!(listeners(table, 9000), [4711]);
    }
}
