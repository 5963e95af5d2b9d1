//! The program `pilot-agent`: settings and their errors, exit codes, signals.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use wire::ipc::Request;

use crate::world::{Client, LOOK, PATIENCE, World, run};

/// The program, without the settings of whoever runs the tests.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-agent"));
    command.env_clear().stdin(Stdio::null());
    command
}

fn refused(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(stdout, b"");
    stderr
}

/// The one line of an error about a value.
fn one_line(command: &mut Command) -> String {
    let stderr = refused(command);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[test]
fn wrong_values_are_refused_in_one_line_that_says_what_to_write() {
    let cases = [
        (["--registry", "somewhere"], "write HOST:PORT"),
        (["--beacon", "h:0"], "write HOST:PORT"),
        (["--listen", "4000"], "write IP:PORT"),
        (["--endpoint", "0.0.0.0:1"], "write the address"),
        (["--hostname", "My Host"], "lower-case letters"),
        (["--registry-fingerprint", "abc"], "64 hex digits"),
        (["--log-level", "=="], "write error, warn, info"),
        (["--config", "/nowhere/at/all"], "cannot read"),
        (["-registry", "somewhere"], "write HOST:PORT"),
    ];
    for (arguments, hint) in cases {
        let folder = tempfile::tempdir().unwrap();
        let line = one_line(program().env("HOME", folder.path()).args(arguments));
        assert!(line.contains(hint) && line.contains(arguments[1]), "{arguments:?}: {line}");
    }
    assert!(one_line(program().env("HOME", "/tmp").arg("--encrypt=false")).contains("always encrypted"));
    assert!(refused(program().arg("--regsitry")).contains("--registry"), "a slip of the pen is corrected");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    fs::write(&file, "registry = \"file\"\n").unwrap();
    let command = || {
        let mut command = program();
        command.env("HOME", folder.path()).arg("--config").arg(&file);
        command
    };
    assert!(one_line(&mut command()).contains("--registry file"));
    assert!(one_line(command().env("PILOT_REGISTRY", "environment")).contains("--registry environment"));
    assert!(
        one_line(command().env("PILOT_REGISTRY", "environment").args(["--registry", "flag"])).contains("registry flag")
    );
    fs::write(&file, "public = true\nregsitry = \"h:1\"\n").unwrap();
    let line = one_line(&mut command());
    assert!(line.contains("line 2") && line.contains("regsitry"), "{line}");
}

/// A daemon in a process of its own.
struct Process {
    child: Child,
    socket: std::path::PathBuf,
}

impl Process {
    fn start(world: &World, name: &str) -> Self {
        let socket = world.folder().join(format!("{name}.sock"));
        let child = Self::command(world, name).spawn().unwrap();
        Self { child, socket }
    }

    fn command(world: &World, name: &str) -> Command {
        let mut command = program();
        command
            .args(["-registry", &world.registry().to_string(), "-beacon", &world.beacon().to_string()])
            .args(["-listen", "127.0.0.1:0", "-public", "-hostname", name, "-log-format", "json"])
            .arg(format!("-socket={}", world.folder().join(format!("{name}.sock")).display()))
            .arg("--data-dir")
            .arg(world.folder().join(name))
            .stderr(Stdio::piped());
        command
    }

    async fn client(&self) -> Client {
        Client::connect(&self.socket, || true).await
    }

    /// What it has logged, once it has ended.
    async fn ended(self) -> (Option<i32>, String) {
        let output = timeout(PATIENCE, spawn_blocking(|| self.child.wait_with_output().unwrap()));
        let output = output.await.expect("the program does not end").unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
}

async fn registered(client: &mut Client) {
    let registered = async {
        while client.info().await["node_id"] == 0 {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, registered).await.expect("not registered in time");
}

fn is_json(log: &str) -> bool {
    !log.is_empty() && log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
}

#[test]
fn signals_end_it_gracefully() {
    run(|| async {
        let world = World::new();
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let process = Process::start(&world, "alpha");
            registered(&mut process.client().await).await;
            let (socket, pid) = (process.socket.clone(), world.folder().join("alpha/pilot.pid"));
            assert_eq!(fs::read_to_string(&pid).unwrap().trim(), process.child.id().to_string());
            process.signal(signal);
            let (code, log) = process.ended().await;
            assert_eq!(code, Some(0), "{log}");
            assert!(is_json(&log) && log.contains("stopped"), "{log}");
            assert!(!socket.exists() && !pid.exists());
        }
    });
}

#[test]
fn a_second_one_ends_with_a_code_of_its_own() {
    run(|| async {
        let world = World::new();
        let first = Process::start(&world, "alpha");
        first.client().await.info().await;
        let (code, log) = Process::start(&world, "alpha").ended().await;
        assert_eq!(code, Some(3), "{log}");
        assert!(log.contains("another daemon answers on"), "{log}");
        first.client().await.info().await;
        first.signal(Signal::SIGTERM);
        first.ended().await;
    });
}

/// Whoever loses must not take the winner's socket away.
#[test]
fn of_two_that_start_at_once_one_serves() {
    run(|| async {
        let world = World::new();
        for _ in 0..5 {
            let mut started = [Process::start(&world, "alpha"), Process::start(&world, "alpha")];
            let lost = async {
                loop {
                    let ended = started.iter_mut().map(|process| process.child.try_wait().unwrap());
                    if let Some(index) = ended.into_iter().position(|status| status.is_some()) {
                        return index;
                    }
                    sleep(LOOK).await;
                }
            };
            let lost = timeout(PATIENCE, lost).await.expect("neither gives up");
            let [first, second] = started;
            let (winner, loser) = if lost == 0 { (second, first) } else { (first, second) };
            let (code, log) = loser.ended().await;
            assert_eq!(code, Some(3), "{log}");
            winner.client().await.info().await;
            winner.signal(Signal::SIGTERM);
            let (code, log) = winner.ended().await;
            assert_eq!(code, Some(0), "{log}");
        }
    });
}

#[test]
fn one_that_was_killed_is_replaced() {
    run(|| async {
        let world = World::new();
        let mut first = Process::start(&world, "alpha");
        let mut client = first.client().await;
        registered(&mut client).await;
        let node = client.node().await;
        first.child.kill().unwrap();
        first.child.wait().unwrap();
        assert!(Path::exists(&first.socket), "nobody has tidied up");
        let second = Process::start(&world, "alpha");
        let mut client = second.client().await;
        registered(&mut client).await;
        assert_eq!(client.node().await, node);
        second.signal(Signal::SIGTERM);
        assert_eq!(second.ended().await.0, Some(0));
    });
}

/// In its own process the daemon has an io_uring where this host allows one.
#[test]
fn a_file_is_received() {
    run(|| async {
        let world = World::new();
        let (alpha, bravo) = (Process::start(&world, "alpha"), Process::start(&world, "bravo"));
        let (mut a, mut b) = (alpha.client().await, bravo.client().await);
        registered(&mut a).await;
        registered(&mut b).await;
        let stream = a.dial(b.node().await, 1001).await;
        // A frame of type 4: the name and the content (section 9 of the wire specification).
        let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 253) as u8).collect();
        let name = b"numbers.bin";
        let length = u32::try_from(2 + name.len() + content.len()).unwrap();
        let mut frame = [4_u32.to_be_bytes(), length.to_be_bytes()].concat();
        frame.extend_from_slice(&u16::try_from(name.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(name);
        frame.extend_from_slice(&content);
        for piece in frame.chunks(500_000) {
            a.send(Request::Send { connection: stream, data: piece }).await;
        }
        let answer = a.receive(stream, 8 + "ACK FILE ".len()).await;
        assert!(answer[8..].starts_with(b"ACK FILE"), "{}", answer.escape_ascii());
        let received = fs::read_dir(world.folder().join("bravo/received")).unwrap().map(|entry| entry.unwrap().path());
        let received: Vec<_> = received.filter(|path| path.is_file()).collect();
        assert_eq!(received.len(), 1, "{received:?}");
        assert!(fs::read(&received[0]).unwrap() == content);
        for process in [alpha, bravo] {
            process.signal(Signal::SIGTERM);
            let (code, log) = process.ended().await;
            assert_eq!(code, Some(0), "{log}");
        }
    });
}

#[test]
fn it_starts_without_a_directory_and_says_so() {
    run(|| async {
        let world = World::new();
        let nowhere = std::net::TcpListener::bind(crate::world::loopback()).unwrap().local_addr().unwrap();
        let mut settings = world.settings("bravo");
        settings.registry = Some(nowhere.to_string());
        let daemon = crate::world::Daemon::start(settings);
        let mut client = daemon.client().await;
        assert_eq!(client.info().await["node_id"], 0);
        let text = client.refused(Request::SetHostname("charlie")).await;
        assert!(text.contains("no id yet"), "{text}");
        let text = client.refused(Request::ResolveHostname("charlie")).await;
        assert!(text.contains("cannot be reached"), "{text}");
        daemon.stop().await.unwrap();
    });
}
