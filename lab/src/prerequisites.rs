//! What must be present before a laboratory opens, and what to do when it is not.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::wait::evidence;

const PACKAGE: &str = "pilotprotocol==1.18.0";

/// Programs of other people's packages: the command and the Debian package that brings it.
const COMMANDS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("mkfs.ext4", "e2fsprogs"),
    ("nft", "nftables"),
    ("xfs_io", "xfsprogs"),
    ("turnutils_stunclient", "coturn"),
    ("turnutils_natdiscovery", "coturn"),
    ("stun", "stun-client"),
];

/// The programs a laboratory runs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The appliance under test.
    pub pilot_relay: PathBuf,
    /// The unmodified daemon.
    pub pilot_daemon: PathBuf,
    /// The unmodified command-line tool.
    pub pilotctl: PathBuf,
}

/// Whether the long run was asked for (`PILOT_LAB_FULL=1`): the whole matrix and all rounds.
#[must_use]
pub fn full_run() -> bool {
    env::var("PILOT_LAB_FULL").is_ok_and(|value| value == "1")
}

/// Finds everything, or `None` when `PILOT_LAB_SKIP=1` asks to pass the laboratory by.
///
/// # Panics
/// When something is missing: a laboratory that passes without having run would be a lie.
#[track_caller]
pub fn programs() -> Option<Programs> {
    if env::var("PILOT_LAB_SKIP").is_ok_and(|value| value == "1") {
        evidence("SKIPPED because PILOT_LAB_SKIP=1; this test has shown nothing");
        return None;
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "the laboratory makes network namespaces: run it as root, or set PILOT_LAB_SKIP=1 to pass it by"
    );
    for (command, package) in COMMANDS {
        assert!(on_path(command), "`{command}` is not on PATH: apt-get install {package}, or add /usr/sbin to PATH");
    }
    Some(Programs { pilot_relay: pilot_relay(), pilot_daemon: pilot("pilot-daemon"), pilotctl: pilot("pilotctl") })
}

fn on_path(command: &str) -> bool {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(command).is_file())
}

/// The appliance named by `PILOT_RELAY_BIN`, else the one built last in the target folder of this test program.
fn pilot_relay() -> PathBuf {
    if let Some(named) = env::var_os("PILOT_RELAY_BIN") {
        let path = PathBuf::from(named);
        assert!(path.is_file(), "PILOT_RELAY_BIN names {}, which does not exist", path.display());
        return path;
    }
    let newest = newest_built("pilot-relay");
    newest.expect("no pilot-relay in the target folder: run `cargo build -p relay`, or set PILOT_RELAY_BIN")
}

fn newest_built(program: &str) -> Option<PathBuf> {
    let built = ["release", "debug"].map(|profile| target_folder().join(profile).join(program));
    let newest = built.into_iter().filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path))).max();
    newest.map(|(_, path)| path)
}

/// Our daemon and its command-line tool.
#[derive(Clone, Debug)]
pub struct AgentPrograms {
    /// The daemon.
    pub pilot_agent: PathBuf,
    /// The tool.
    pub pilotctl: PathBuf,
}

/// Ours as `PILOT_AGENT_BIN` and `PILOT_CTL_BIN` name them, else as they were built last beside this test program; `None`
/// when an empty `PILOT_AGENT_BIN` asks to pass them by.
///
/// # Panics
/// When they are wanted and missing.
#[track_caller]
pub fn agent() -> Option<AgentPrograms> {
    let named = |variable: &str, program: &str| match env::var_os(variable) {
        Some(path) => {
            assert!(Path::new(&path).is_file(), "{variable} names {}, which does not exist", path.display());
            PathBuf::from(path)
        }
        None => newest_built(program).unwrap_or_else(|| {
            panic!("no {program} in the target folder: run `cargo build -p agent`, or set {variable}")
        }),
    };
    if env::var_os("PILOT_AGENT_BIN").is_some_and(|path| path.is_empty()) {
        return None;
    }
    Some(AgentPrograms {
        pilot_agent: named("PILOT_AGENT_BIN", "pilot-agent"),
        pilotctl: named("PILOT_CTL_BIN", "pilotctl"),
    })
}

/// The Python that has the package of the unmodified programs.
#[must_use]
#[track_caller]
pub fn python() -> PathBuf {
    let python = pilot_folder().join("python");
    assert!(python.exists(), "no {}: run lab/fetch-pilot.sh", python.display());
    python
}

/// Our load generator as `PILOT_LOADGEN_BIN` names it, else as it was built last.
///
/// # Panics
/// When there is none.
#[must_use]
#[track_caller]
pub fn loadgen() -> PathBuf {
    match env::var_os("PILOT_LOADGEN_BIN") {
        Some(named) => PathBuf::from(named),
        None => newest_built("loadgen")
            .expect("no loadgen in the target folder: run `cargo build -p loadgen`, or set PILOT_LOADGEN_BIN"),
    }
}

/// A program of this crate, built with the test program that asks for it.
#[track_caller]
pub fn own_program(name: &str) -> PathBuf {
    let program = env::current_exe().expect("a test program knows its own path");
    // Test programs lie in `deps`, beside which the others are.
    let beside = program.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let found = beside.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no program {name} beside {}: run `cargo build -p lab`", program.display()))
}

/// The folder that holds `debug` and `release`: test programs live in `<target>/<profile>/deps`.
fn target_folder() -> PathBuf {
    let program = env::current_exe().expect("a test program knows its own path");
    program.ancestors().nth(3).expect("test programs lie three levels below the target folder").to_owned()
}

/// A program of the Python package. Its entry points are Python wrappers that copy the real program to the user's home
/// folder and wait for it; signals and process ids are only right when the real program is run.
fn pilot(program: &str) -> PathBuf {
    let folder = pilot_folder();
    let wrapped = real_program(&folder, program);
    wrapped.unwrap_or_else(|| {
        panic!(
            "no {program} of {PACKAGE} in {}: run lab/fetch-pilot.sh, or let PILOT_BIN_DIR name the `bin` folder of a \
             virtual environment that has it",
            folder.display()
        )
    })
}

fn pilot_folder() -> PathBuf {
    env::var_os("PILOT_BIN_DIR").map_or_else(|| workspace().join("target/pilot-venv/bin"), PathBuf::from)
}

fn real_program(folder: &Path, program: &str) -> Option<PathBuf> {
    let libraries = fs::read_dir(folder.join("../lib")).ok()?;
    let candidates =
        libraries.flatten().map(|python| python.path().join("site-packages/pilotprotocol/bin").join(program));
    candidates.chain([folder.join(program)]).find(|path| is_elf(path)).map(|path| path.canonicalize().unwrap_or(path))
}

fn is_elf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}
