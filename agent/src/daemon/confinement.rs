//! What the daemon may still do; how, says the crate `confinement`. All of it is given up before the runtime starts, so
//! that no thread escapes: sockets, the ring for files and the directory's connection are made within.
//!
//! The ring is tokio-uring's, which cannot be restricted to some operations. What it can do beyond the filter of system
//! calls is what Landlock and the missing capabilities leave: the same files, and no sockets but ordinary ones.

use std::path::{Path, PathBuf};

use ::confinement::{Confinement, Rings, seal};

use super::state::State;
use crate::config::values::Listen;
use crate::config::{Config, IDENTITY_NAME};

/// Ports below are the system's own, which takes a capability to bind.
const LOW_PORTS_END: u16 = 1024;

/// Confines this thread and all it will start.
///
/// # Errors
/// The data folder cannot be made; [`::confinement::Error`].
pub fn enter(config: &Config) -> anyhow::Result<()> {
    // Rules are for folders that are there.
    State::open(&config.data_dir)?;
    ::confinement::keep_to_owner(&config.data_dir, IDENTITY_NAME, &[IDENTITY_NAME]);
    needs(config).enter()?;
    seal(config.confinement, Rings::ToCome)?;
    Ok(())
}

fn needs(config: &Config) -> Confinement {
    let tunnel = match config.listen {
        Listen::Anywhere(port) => port,
        Listen::At(address) => address.port(),
    };
    let http = config.http.map(|address| address.port());
    let collector = super::collector(config).and_then(|options| options.port());
    Confinement {
        mode: config.confinement,
        reads: Vec::new(),
        writes: vec![config.data_dir.clone(), identity_place(config)],
        socket_folders: vec![folder_of(&config.socket)],
        connects: [config.registry.port].into_iter().chain(collector).collect(),
        binds: http.into_iter().collect(),
        low_ports: [tunnel].into_iter().chain(http).any(|port| port != 0 && port < LOW_PORTS_END),
    }
}

/// A key that is there is the only file needed of its folder; one that is to be made needs the folder.
fn identity_place(config: &Config) -> PathBuf {
    if config.identity.exists() { config.identity.clone() } else { folder_of(&config.identity) }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}
