//! Capabilities: none is kept but that for low ports, where one is configured. Those that help were used before: sockets with large buffers and low ports are bound, the
//! limit of locked memory is raised. An address that appears later gets the buffers that the kernel's settings allow.

use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat, geteuid};

/// Gives up capabilities, and the way to get some by running a program.
pub fn drop(but_low_ports: bool) -> Result<(), String> {
    nix::sys::prctl::set_no_new_privs().map_err(|error| format!("cannot give up new privileges: {error}"))?;
    let had = caps::read(None, CapSet::Effective).unwrap_or_default();
    let mut kept = CapsHashSet::new();
    if but_low_ports && had.contains(&Capability::CAP_NET_BIND_SERVICE) {
        kept.insert(Capability::CAP_NET_BIND_SERVICE);
    }
    if !had.is_empty() && is_root() {
        tracing::info!(?kept, "started as root: capabilities are given up; the package's unit starts it without any");
    }
    let clear = || -> Result<(), caps::errors::CapsError> {
        caps::clear(None, CapSet::Ambient)?;
        if had.contains(&Capability::CAP_SETPCAP) {
            caps::clear(None, CapSet::Bounding)?;
        }
        // Inheritable and effective ones lie within the permitted, which therefore go last.
        caps::clear(None, CapSet::Inheritable)?;
        caps::set(None, CapSet::Effective, &kept)?;
        caps::set(None, CapSet::Permitted, &kept)
    };
    clear().map_err(|error| format!("cannot give up capabilities: {error}"))
}

pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Whether this process, as it is now, may write to `path`, folders entered and files replaced.
pub fn can_write(path: &Path) -> bool {
    let wanted = if path.is_dir() { AccessFlags::W_OK | AccessFlags::X_OK } else { AccessFlags::W_OK };
    let here = nix::fcntl::AT_FDCWD;
    // A disk that is read-only today may not be tomorrow.
    !matches!(faccessat(here, path, wanted, AtFlags::AT_EACCESS), Err(nix::Error::EACCES))
}
