//! The relay as it serves: without capabilities, behind filters, with files for its owner alone, and without core dumps.
//! What that keeps it from is tried in the tests of the crate `confinement`; that it can still do its work, in all others.

#[path = "../../secrets/tests/support/scan.rs"]
mod scan;

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use sha2::{Digest as _, Sha256};

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const CAP_NET_BIND_SERVICE: u64 = 1 << 10;
/// None.
const NOBODY: u32 = 65534;

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("confinement").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("data")).unwrap();
    folder
}

fn command(folder: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-relay"));
    command.arg("--data-dir").arg(folder.join("data")).args([
        "--stun",
        "off",
        "--shards",
        "1",
        "--sessions-max",
        "1000",
    ]);
    command.args(["--registry", "127.0.0.1:0", "--http", "127.0.0.1:0", "--confinement", "strict"]).args(flags);
    let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    command
        .env_remove("RUST_LOG")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command
}

/// A relay at work; killed when it is dropped.
struct Relay {
    child: Child,
    folder: PathBuf,
}

impl Relay {
    /// Started, and sealed: the last step before it is ready.
    fn start(name: &str, flags: &[&str]) -> Self {
        Self::start_in(folder(name), flags)
    }

    fn start_in(folder: PathBuf, flags: &[&str]) -> Self {
        let child = command(&folder, flags).spawn().unwrap();
        let mut relay = Self { child, folder };
        // Nothing tells when it is: the kernel is asked.
        let (_alive, never) = mpsc::channel::<()>();
        for _ in 0..PATIENCE.as_millis() / LOOK_INTERVAL.as_millis() {
            if relay.threads().iter().all(|status| status.contains("Seccomp:\t2")) {
                return relay;
            }
            assert_eq!(relay.child.try_wait().unwrap(), None, "it has ended\n{}", relay.log());
            let _ = never.recv_timeout(LOOK_INTERVAL);
        }
        panic!("it is not sealed\n{}", relay.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// What the kernel says of each thread.
    fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok()).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of capabilities.
fn capabilities(status: &str, set: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(":\t"));
    u64::from_str_radix(line.unwrap(), 16).unwrap()
}

#[test]
fn every_thread_is_confined() {
    let relay = Relay::start("threads", &["--beacon", "127.0.0.1:0"]);
    let threads = relay.threads();
    assert!(threads.len() > 5, "shard, directory, HTTP, signals and others");
    for status in &threads {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(capabilities(status, set), 0, "{status}");
        }
        if geteuid().is_root() {
            assert_eq!(capabilities(status, "CapBnd"), 0, "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", relay.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().rev().take(3).collect::<Vec<_>>(), ["bytes", "0", "0"]);
    assert!(!relay.log().contains("going on without"), "{}", relay.log());
}

/// The admin token is kept as its digest; of the relay's key nothing is kept but what is public.
#[test]
fn secrets_lie_in_locked_memory_and_nowhere_else() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root may read another process's memory");
        return;
    }
    let folder = folder("keys");
    // The first makes them, the second reads them.
    for start in ["first", "second"] {
        let relay = Relay::start_in(folder.clone(), &["--beacon", "127.0.0.1:0"]);
        let process = relay.child.id().to_string();
        let mappings = scan::mappings(&process).unwrap();
        let read = |name| fs::read_to_string(folder.join("data").join(name)).unwrap().trim().to_owned();
        let (token, key) = (read("admin-token"), read("relay-key"));
        let seed: Vec<u8> =
            (0..key.len()).step_by(2).map(|at| u8::from_str_radix(&key[at..at + 2], 16).unwrap()).collect();
        let digest = Sha256::digest(&token);
        for (name, bytes, is_kept) in [
            ("the token's text", token.as_bytes(), false),
            ("the token's digest", &digest, true),
            ("the key's text", key.as_bytes(), false),
            ("the key's seed", &seed, false),
        ] {
            for half in bytes.chunks(bytes.len() / 2) {
                let found = scan::find(&process, &mappings, half).unwrap();
                let elsewhere: Vec<_> = found.iter().filter(|(mapping, _)| !mapping.is_for_keys()).collect();
                let places: Vec<_> = elsewhere.iter().map(|(mapping, at)| format!("{at:x} {}", mapping.name)).collect();
                assert!(places.is_empty(), "{start} start: {name} lies in {places:#?}");
                assert_eq!(!found.is_empty(), is_kept, "{start} start: {name}");
            }
        }
    }
}

#[test]
fn a_low_port_keeps_what_it_takes() {
    if !geteuid().is_root() {
        return;
    }
    let relay = Relay::start("low", &["--beacon", "127.87.41.3:987"]);
    for status in relay.threads() {
        assert_eq!(capabilities(&status, "CapEff"), CAP_NET_BIND_SERVICE, "{status}");
    }
}

#[test]
fn what_was_open_to_others_is_closed() {
    let relay = Relay::start("modes", &["--beacon", "127.0.0.1:0"]);
    let folder = relay.folder.clone();
    let data = folder.join("data");
    drop(relay);
    let files = || fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert!(files().iter().all(|file| mode(file) & 0o077 == 0), "{:?}", files());
    let database = data.join("directory.sqlite");
    fs::set_permissions(&database, Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    let relay = Relay::start_in(folder, &["--beacon", "127.0.0.1:0"]);
    assert_eq!((mode(&data), mode(&database)), (0o700, 0o600));
    assert!(relay.log().contains("was open to others"), "{}", relay.log());
}

#[test]
fn a_crash_leaves_no_core_dump() {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    setrlimit(Resource::RLIMIT_CORE, hard, hard).unwrap();
    let mut relay = Relay::start("core", &["--beacon", "127.0.0.1:0"]);
    kill(Pid::from_raw(relay.child.id().cast_signed()), Signal::SIGABRT).unwrap();
    let status = relay.child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32));
    assert!(!status.core_dumped());
}

#[test]
fn a_folder_of_another_user_is_refused_in_time() {
    if !geteuid().is_root() {
        return;
    }
    let folder = folder("owner");
    let data = folder.join("data");
    chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    let status = command(&folder, &["--beacon", "127.0.0.1:0", "--admission", "open"]).status().unwrap();
    let mut log = String::new();
    fs::File::open(folder.join("log")).unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("belongs to another user") && log.contains("chown"), "{log}");
}

#[test]
fn the_password_of_a_collector_is_not_told() {
    let url = "http://somebody:hunter2@127.0.0.1:1";
    let relay = Relay::start("password", &["--beacon", "127.0.0.1:0", "--otlp", url, "--log-level", "trace"]);
    assert!(!relay.log().contains("hunter2"), "{}", relay.log());
}
