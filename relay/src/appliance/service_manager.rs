//! What the service manager is told and gives, by the protocol of `sd_notify(3)`: readiness, a watchdog, and a store in
//! which sockets and sessions outlive this process. Where there is none, all of this is silence.
//!
//! Written out rather than taken from a crate: the one for it wants another for sending descriptors, and the whole is a
//! datagram.

use std::env;
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use relay::inheritance::Descriptor;
use relay::runtime::Relay;

use super::phase::{CurrentPhase, Phase};

/// How long the service manager may take to read what was sent before.
const BARRIER_WITHIN_MS: u16 = 5000;
/// Signs of life within the time after which the service manager loses patience.
const SIGNS_PER_WATCHDOG: u32 = 4;

/// Where the service manager listens, if there is one.
#[derive(Clone, Debug)]
pub struct ServiceManager {
    socket: Option<OsString>,
}

impl ServiceManager {
    /// The one of this process's environment.
    #[must_use]
    pub fn of_environment() -> Self {
        Self { socket: env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) }
    }

    /// Whether there is one.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// Says `lines`, each a variable with its value. That it cannot be told is worth a word in the log and no more.
    pub fn tell(&self, lines: &[&str]) {
        self.try_tell(&lines.join("\n"), None);
    }

    /// Keeps a copy of `file` under `name` until [`Self::forget`], for whoever is started next.
    pub fn store(&self, name: &str, file: impl AsFd) {
        self.try_tell(&format!("FDSTORE=1\nFDNAME={name}"), Some(file.as_fd()));
    }

    /// Closes what is kept under `name`.
    pub fn forget(&self, name: &str) {
        self.try_tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
    }

    /// Waits until all that was said has been read.
    pub fn settle(&self) {
        if !self.is_there() {
            return;
        }
        let Ok((read, write)) = nix::unistd::pipe() else { return };
        self.try_tell("BARRIER=1", Some(write.as_fd()));
        drop(write);
        // The other end is closed by the one who has read it.
        let _ = poll(&mut [PollFd::new(read.as_fd(), PollFlags::POLLIN)], PollTimeout::from(BARRIER_WITHIN_MS));
    }

    fn try_tell(&self, text: &str, file: Option<BorrowedFd<'_>>) {
        if let Err(error) = self.send(text, file) {
            tracing::warn!(%error, "cannot reach the service manager at NOTIFY_SOCKET");
        }
    }

    fn send(&self, text: &str, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let bytes = socket.as_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => UnixAddr::new_abstract(name)?,
            None => UnixAddr::new(bytes)?,
        };
        let from = UnixDatagram::unbound()?;
        let raw = file.map(|file| [file.as_raw_fd()]);
        let rights = raw.as_ref().map(|raw| ControlMessage::ScmRights(raw));
        let parts = [IoSlice::new(text.as_bytes())];
        sendmsg(from.as_raw_fd(), &parts, rights.as_slice(), MsgFlags::MSG_NOSIGNAL, Some(&address))?;
        Ok(())
    }
}

/// What the service manager has kept for this process. To be called first of all.
///
/// # Errors
/// It says that it passes descriptors and they are not open.
pub fn passed() -> anyhow::Result<Vec<Descriptor>> {
    let number = |name| env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let files = relay::socket::passed_descriptors(number("LISTEN_FDS").unwrap_or(0) as usize)?;
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    Ok(files.into_iter().zip(names).map(|(file, name)| Descriptor { name, file }).collect())
}

/// How long this process may be silent, where it is watched.
#[must_use]
pub fn watchdog_of_environment() -> Option<Duration> {
    let number = |name| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let other = number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|micros| *micros > 0 && !other).map(Duration::from_micros)
}

/// The systemd unit this process belongs to, where a service manager has started it.
#[must_use]
pub fn unit() -> Option<String> {
    env::var_os("NOTIFY_SOCKET")?;
    unit_of(&std::fs::read_to_string("/proc/self/cgroup").ok()?)
}

fn unit_of(groups: &str) -> Option<String> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    path.rsplit('/').find(|part| part.ends_with(".service")).map(str::to_owned)
}

/// Shows signs of life for as long as every shard goes round its loop; ends with this value.
#[derive(Debug)]
pub struct Watchdog {
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    /// Begins, for a service manager that waits at most `patience`.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        manager: ServiceManager,
        relay: Arc<Relay>,
        phase: Arc<CurrentPhase>,
        patience: Duration,
    ) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel::<()>();
        let body = move || {
            let mut progress = Progress::new(relay.turns());
            let mut stuck_before = None;
            loop {
                relay.nudge();
                let timeout = ended.recv_timeout(patience / SIGNS_PER_WATCHDOG) == Err(mpsc::RecvTimeoutError::Timeout);
                // Shards that have been told to end stand still.
                if !timeout || phase.get() == Phase::Stopping {
                    return;
                }
                let stuck = progress.stuck(relay.turns());
                if stuck.is_none() {
                    manager.tell(&["WATCHDOG=1"]);
                } else if stuck != stuck_before {
                    tracing::error!(
                        shard = stuck,
                        "the shard does not move; the service manager will end this process"
                    );
                }
                stuck_before = stuck;
            }
        };
        thread::Builder::new().name("watchdog".to_owned()).spawn(body)?;
        Ok(Self { _alive: alive })
    }
}

/// Whether each shard has gone round its loop since the last look.
#[derive(Debug)]
struct Progress(Vec<u64>);

impl Progress {
    const fn new(turns: Vec<u64>) -> Self {
        Self(turns)
    }

    /// The first shard that has not.
    fn stuck(&mut self, turns: Vec<u64>) -> Option<usize> {
        let before = std::mem::replace(&mut self.0, turns);
        self.0.iter().zip(before).position(|(now, before)| *now == before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_stands_still_is_found() {
        let mut progress = Progress::new(vec![1, 1, 1]);
        assert_eq!(progress.stuck(vec![2, 9, 2]), None);
        assert_eq!(progress.stuck(vec![3, 9, 3]), Some(1));
        assert_eq!(progress.stuck(vec![4, 10, 4]), None);
    }

    #[test]
    fn the_unit_is_the_innermost_service() {
        assert_eq!(unit_of("0::/system.slice/pilot-relay.service\n").as_deref(), Some("pilot-relay.service"));
        let nested = "1:cpu:/x\n0::/user.slice/user@0.service/app.slice/relay.service/control\n";
        assert_eq!(unit_of(nested).as_deref(), Some("relay.service"));
        assert_eq!(unit_of("0::/init.scope\n"), None);
    }
}
