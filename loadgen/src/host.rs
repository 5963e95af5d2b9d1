//! What this host is, as far as a report tells.

use std::net::{SocketAddr, UdpSocket};

use crate::report::Host;

/// Looks at this host; `relay` may be on it.
#[must_use]
pub fn describe(relay: SocketAddr) -> Host {
    let kernel = nix::sys::utsname::uname().map_or_else(
        |_| "unknown".to_owned(),
        |names| format!("{} {}", names.sysname().to_string_lossy(), names.release().to_string_lossy()),
    );
    Host {
        processor: processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        processors: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        kernel,
        // An address can be bound where it lives.
        is_shared_with_relay: UdpSocket::bind((relay.ip(), 0)).is_ok(),
    }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
