//! What a program may still do once it serves. Whoever takes it over by a bug then has what it needs for its work, and
//! nothing else of the host.
//!
//! | step | when | what |
//! |---|---|---|
//! | [`harden`] | first of all | no core dumps, no debugger of the same user, files for the owner alone, room for locked keys |
//! | [`Confinement::enter`] | sockets are bound, no second thread is there | no capabilities, [`paths`] and ports by Landlock |
//! | [`seal`] | all is set up | [`calls`] by seccomp, on every thread |
//!
//! Capabilities and Landlock belong to a thread and pass to those it starts, hence the order; seccomp filters are put on
//! all threads at once. What a ring of io_uring does is seen by Landlock and not by seccomp: a ring that can be restricted
//! to some operations has to be.
//!
//! What the kernel lacks is said once, and with [`Mode::Strict`] an error.
#![forbid(unsafe_code)]

mod calls;
mod memory;
mod modes;
mod paths;
mod rights;

use std::path::PathBuf;

use clap::ValueEnum;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode as Permissions, umask};
use serde::Deserialize;

pub use calls::Rings;
pub use memory::tell_of_keys;
pub use modes::keep_to_owner;

/// How strictly a program is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As far as this kernel can
    #[default]
    Auto,
    /// Completely, or it does not start
    Strict,
    /// Not at all, for debuggers
    Off,
}

/// Why a program does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part is missing, and all were wanted.
    #[error("{0}, and --confinement strict was asked for; choose auto to go without")]
    Missing(String),
    /// Root without capabilities is a user like any other.
    #[error(
        "{0} belongs to another user, and root gives its capabilities up before it serves; run as that user (the package's \
         unit does), or change the owner: chown -R root {0}"
    )]
    NotOurs(PathBuf),
}

/// What a program needs of the host beyond what it has opened.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    /// How strictly.
    pub mode: Mode,
    /// Files that are read again later; those beside them may be read too, as files are replaced by others of their name.
    pub reads: Vec<PathBuf>,
    /// Folders and files that are written.
    pub writes: Vec<PathBuf>,
    /// Folders in which a unix socket appears and goes.
    pub socket_folders: Vec<PathBuf>,
    /// TCP ports that are connected to, beside that of name servers.
    pub connects: Vec<u16>,
    /// TCP ports that are bound later.
    pub binds: Vec<u16>,
    /// Ports below 1024 are bound later too, where this process may.
    pub low_ports: bool,
}

/// Keeps secrets from core dumps, from debuggers and from other users' eyes. To be called first of all.
pub fn harden(mode: Mode) {
    umask(Permissions::S_IRWXG | Permissions::S_IRWXO);
    // Before the first key, and before the capability for it is gone.
    memory::raise_limit();
    memory::watch_keys();
    if mode == Mode::Off {
        return;
    }
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "a crash may leave a core dump, with keys in it");
    }
    // Where core dumps go to a program, the limit does not count.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "other programs of this user can read the memory of this one");
    }
}

impl Confinement {
    /// Gives up what is not needed, for the calling thread and all that it starts from now on.
    ///
    /// # Errors
    /// A part is missing and [`Mode::Strict`] was asked for, or a folder can no longer be written.
    pub fn enter(&self) -> Result<(), Error> {
        if self.mode == Mode::Off {
            tracing::warn!("this process is not confined; --confinement off is for debuggers");
            return Ok(());
        }
        memory::tell_of_swap();
        self.demand(alone())?;
        self.demand(rights::drop(self.low_ports))?;
        self.demand(paths::restrict(self))?;
        match self.writes.iter().find(|path| path.exists() && !rights::can_write(path)) {
            Some(path) if rights::is_root() => Err(Error::NotOurs(path.clone())),
            // The system will say what is wrong when it is written.
            _ => Ok(()),
        }
    }

    fn demand(&self, done: Result<(), String>) -> Result<(), Error> {
        demand(self.mode, done)
    }
}

/// Filters the system calls of all threads, those there are and those to come. `rings` says whether one may still be made.
///
/// # Errors
/// The kernel cannot, and [`Mode::Strict`] was asked for.
pub fn seal(mode: Mode, rings: Rings) -> Result<(), Error> {
    if mode == Mode::Off {
        return Ok(());
    }
    demand(mode, calls::filter(rings))
}

/// Threads that run already would keep what this one gives up.
fn alone() -> Result<(), String> {
    match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) | Err(_) => Ok(()),
        Ok(threads) => Err(format!("{threads} threads run already, of which only one can be confined")),
    }
}

fn demand(mode: Mode, done: Result<(), String>) -> Result<(), Error> {
    match done {
        Err(text) if mode == Mode::Strict => Err(Error::Missing(text)),
        Err(text) => {
            tracing::info!("{text}; going on without");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
