//! Files and TCP ports, by Landlock.
//!
//! Files that are named once and replaced by others of their name (certificates, resolv.conf) are allowed by their folder:
//! a rule follows the file, not the name. The kernel's own folders are allowed as a whole for the same reason: what lies in
//! them appears and goes. `/etc` is readable for the looking up of names, which for root means all of it.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, RestrictionStatus, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::Confinement;

/// What this code knows of; a kernel that knows less is asked for less.
const KNOWN: ABI = ABI::V6;
const NAME_SERVER_PORT: u16 = 53;
/// What libraries read: names of hosts, the facts of interfaces and of this process, randomness, code that looks up names.
const LIBRARIES_READ: [&str; 14] = [
    "/etc",
    "/proc",
    "/sys",
    "/dev/null",
    "/dev/random",
    "/dev/urandom",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/systemd/resolve",
];

/// Restricts the calling thread and those it starts.
pub fn restrict(confinement: &Confinement) -> Result<(), String> {
    let status = apply(confinement).map_err(|error| format!("Landlock cannot restrict files: {error}"))?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced, _) => Ok(()),
        (RulesetStatus::PartiallyEnforced, _) => {
            Err("this kernel's Landlock restricts a part only; Linux 6.12 knows all of it".to_owned())
        }
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err("Landlock is switched off in this kernel: add it to lsm= on its command line".to_owned())
        }
        (RulesetStatus::NotEnforced, _) => Err("this kernel has no Landlock, so files are not restricted".to_owned()),
    }
}

fn apply(confinement: &Confinement) -> Result<RestrictionStatus, RulesetError> {
    let Confinement { reads, writes, socket_folders, connects, binds, .. } = confinement;
    let look = AccessFs::ReadFile | AccessFs::ReadDir;
    // Nothing is ever run, and no device is made.
    let change = AccessFs::from_all(KNOWN)
        & !(AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::MakeFifo | AccessFs::IoctlDev);
    let appear = AccessFs::MakeSock | AccessFs::RemoveFile;
    let connects =
        connects.iter().chain([&NAME_SERVER_PORT]).map(|port| Ok(NetPort::new(*port, AccessNet::ConnectTcp)));
    let binds = binds.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::BindTcp)));
    Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(scopes())?
        .create()?
        .add_rules(path_beneath_rules(LIBRARIES_READ, look))?
        .add_rules(path_beneath_rules(this_program(), AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(reads.iter().flat_map(|path| folders_of(path)), look))?
        .add_rules(path_beneath_rules(writes, change))?
        .add_rules(path_beneath_rules(socket_folders, appear))?
        .add_rules::<_, _, _, RulesetError>(connects)?
        .add_rules(binds)?
        .restrict_self()
}

/// Signals stay within; so do abstract sockets, unless the service manager listens at one.
fn scopes() -> BitFlags<Scope> {
    let is_abstract = |socket: std::ffi::OsString| socket.as_encoded_bytes().starts_with(b"@");
    if std::env::var_os("NOTIFY_SOCKET").is_some_and(is_abstract) {
        Scope::Signal.into()
    } else {
        Scope::Signal | Scope::AbstractUnixSocket
    }
}

/// A panic reads the names of functions from it.
fn this_program() -> Option<PathBuf> {
    std::env::current_exe().ok()
}

/// The folder of a file, and where it is a link the folder it leads to.
fn folders_of(path: &Path) -> Vec<PathBuf> {
    let folder = |path: &Path| match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Some(PathBuf::from(".")),
        folder => folder.map(Path::to_owned),
    };
    let real = path.canonicalize().ok();
    let mut folders: Vec<PathBuf> = folder(path).into_iter().chain(real.and_then(|real| folder(&real))).collect();
    folders.dedup();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_where_its_name_is_and_where_it_lies() {
        assert_eq!(folders_of(Path::new("relay.toml")), [PathBuf::from(".")]);
        let link = folders_of(Path::new("/proc/self/exe"));
        assert_eq!(link.first(), Some(&PathBuf::from("/proc/self")));
        let program = std::env::current_exe().unwrap().canonicalize().unwrap();
        assert_eq!(link.last().map(PathBuf::as_path), program.parent());
    }
}
