//! The program `pilot-agent` at work has no capabilities, filtered system calls, and files for its owner alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{Client, World, run};

pub struct Process(pub Child);

impl Process {
    pub fn start(world: &World, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-agent"));
        command.env_clear().env("HOME", world.folder()).args(["--confinement", "strict"]).args(flags);
        command.args(["--registry", &world.registry().to_string(), "--listen", "127.0.0.1:0"]);
        command.arg("--socket").arg(world.folder().join("confined.sock"));
        command.arg("--data-dir").arg(world.folder().join("confined"));
        Self(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub async fn up(self, world: &World) -> Self {
        let mut client = Client::connect(&world.folder().join("confined.sock"), || true).await;
        client.info().await;
        self
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn every_thread_is_confined_and_files_are_the_owners() {
    run(|| async {
        let world = World::new();
        let process = Process::start(&world, &[]).up(&world).await;
        let tasks = fs::read_dir(format!("/proc/{}/task", process.0.id())).unwrap();
        for task in tasks {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            for line in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
                assert!(status.contains(line), "{status}");
            }
        }
        let folder = world.folder().join("confined");
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&world.folder().join("confined.sock")), 0o600);
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
        }
    });
}

#[test]
fn a_crash_leaves_no_core_dump() {
    run(|| async {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        setrlimit(Resource::RLIMIT_CORE, hard, hard).unwrap();
        let world = World::new();
        let mut process = Process::start(&world, &[]).up(&world).await;
        kill(Pid::from_raw(process.0.id().cast_signed()), Signal::SIGABRT).unwrap();
        let status = process.0.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGABRT as i32));
        assert!(!status.core_dumped());
    });
}
