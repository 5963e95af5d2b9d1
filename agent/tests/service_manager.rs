//! `pilot-agent` under a service manager, whose place a socket takes: it is told of the start, of life, and of the end.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_service_manager_is_told_of_start_life_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("notify");
    let manager = UnixDatagram::bind(&place).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pilot-agent"))
        .env_clear()
        .env("HOME", folder.path())
        .env("NOTIFY_SOCKET", &place)
        .env("WATCHDOG_USEC", "200000")
        .args(["--registry", "127.0.0.1:9", "--listen", "127.0.0.1:0", "--no-event-log", "--socket"])
        .arg(folder.path().join("socket"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut message = [0; 256];
    let mut await_word = |word: &str| {
        loop {
            let length = manager.recv(&mut message).unwrap_or_else(|error| panic!("nobody said {word}: {error}"));
            if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == word) {
                return;
            }
        }
    };
    await_word("READY=1");
    await_word("WATCHDOG=1");
    // No terminal of its has gone.
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGHUP).unwrap();
    await_word("WATCHDOG=1");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    await_word("STOPPING=1");
    assert!(child.wait().unwrap().success());
}
