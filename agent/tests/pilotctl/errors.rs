//! How commands fail: what the shell sees, what a script reads, what a person is told to do.

use std::process::Stdio;

use serde_json::json;
use wire::ipc::Request;

use crate::world::{Ran, World};

#[test]
fn without_a_daemon_the_status_says_so() {
    let world = World::without_daemon();
    let ran = world.run(&["--json", "info"]);
    assert_eq!(ran.status(), 3);
    let hint = format!("start the daemon with: pilotctl daemon start  (tried {})", world.socket().display());
    let expected = json!({
        "status": "error", "code": "not_running", "error": "daemon is not running", "message": "daemon is not running",
        "hint": hint,
    });
    assert_eq!(ran.complaint(), expected);
    let ran = world.run(&["daemon", "status"]);
    assert_eq!((ran.status(), ran.out().as_str()), (3, "○ daemon stopped\n"));
    assert_eq!(world.run(&["--json", "daemon", "status"]).json()["data"]["running"], false);
    assert_eq!(world.run(&["daemon", "stop"]).status(), 3);
}

#[test]
fn a_pid_file_of_a_process_that_is_no_daemon_is_not_believed() {
    let world = World::without_daemon();
    std::fs::create_dir(world.home().join(".pilot")).unwrap();
    std::fs::write(world.home().join(".pilot/pilot.pid"), std::process::id().to_string()).unwrap();
    assert_eq!(world.run(&["--json", "daemon", "status"]).json()["data"]["pid"], 0);
    assert_eq!(world.run(&["daemon", "stop"]).status(), 3, "and this test is still running");
}

/// A program that looks like the daemon, and listens nowhere.
struct Pretender(std::process::Child);

impl Pretender {
    fn start(world: &World, socket: &std::path::Path) -> Self {
        let program = world.home().join("pilot-agent");
        std::fs::write(&program, "echo ready\nread line\n").unwrap();
        let mut command = std::process::Command::new("/bin/sh");
        let command = command.arg(&program).arg("--socket").arg(socket);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        Self(child)
    }
}

impl Drop for Pretender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_daemon_of_another_socket_is_neither_shown_nor_stopped() {
    let world = World::without_daemon();
    let mut daemon = Pretender::start(&world, &world.home().join("other.sock"));
    let pid_file = world.home().join(".pilot/pilot.pid");
    std::fs::create_dir(world.home().join(".pilot")).unwrap();
    std::fs::write(&pid_file, daemon.0.id().to_string()).unwrap();
    assert_eq!(world.run(&["--json", "daemon", "status"]).json()["data"]["pid"], 0);
    assert_eq!(world.run(&["daemon", "stop"]).status(), 3);
    assert!(daemon.0.try_wait().unwrap().is_none(), "it runs still");
    assert!(pid_file.exists(), "the file is its own");
    drop(daemon);
    let mut daemon = Pretender::start(&world, &world.socket());
    std::fs::write(&pid_file, daemon.0.id().to_string()).unwrap();
    assert_eq!(world.run(&["--json", "daemon", "status"]).json()["data"]["pid"], daemon.0.id());
    let stopped = world.run(&["daemon", "stop"]);
    assert_eq!(stopped.status(), 0, "{}", stopped.err());
    assert!(daemon.0.try_wait().unwrap().is_some());
}

#[test]
fn mistakes_in_the_command_line_are_told_apart_from_failures() {
    let world = World::with_daemon(&[]);
    for arguments in [
        &["--json", "ping"][..],
        &["--json", "pign", "bravo"],
        &["--json", "ping", "bravo", "--timeout", "soon"],
        &["--json", "dgram", "bravo", "70000", "--data", "x"],
        &["--json", "ping", "0:12"],
        &["--json", "set-hostname", "Not a name!"],
        &["--json", "send-message", "bravo", "--data", "{", "--type", "json"],
        &["--json", "connect", "bravo", "7"],
    ] {
        let ran = world.run(arguments);
        let complaint = ran.complaint();
        assert_eq!((ran.status(), &complaint["code"]), (2, &json!("invalid_argument")), "{arguments:?}");
        assert!(complaint["hint"].is_string() || arguments.contains(&"0:12"), "{complaint}");
    }
    assert!(world.run(&["pign", "bravo"]).err().contains("'ping'"), "the command meant is named");
}

#[test]
fn failures_say_what_and_what_to_do_next() {
    let world = World::with_daemon(&[]);
    for (arguments, code, hint) in [
        (&["ping", "nobody"][..], "not_found", "handshake"),
        (&["find", "nobody"], "not_found", "handshake"),
        (&["send", "bravo", "4242", "--data", "x"], "connection_failed", "ping"),
        (&["send-file", "bravo", "missing"], "not_found", "path"),
        (&["broadcast", "3", "hello"], "auth_required", "PILOT_ADMIN_TOKEN"),
        (&["lookup", "1"], "connection_failed", "--registry"),
        (&["connect", "bravo", "--secure", "--message", "x"], "connection_failed", "pilot-agent"),
        (&["recv", "--secure"], "connection_failed", "pilot-agent"),
        (&["network", "join", "7"], "connection_failed", "network list"),
    ] {
        let complaint = world.run(&[&["--json"], arguments].concat()).complaint();
        assert_eq!(complaint["code"], code, "{arguments:?}: {complaint}");
        assert!(complaint["hint"].as_str().unwrap().contains(hint), "{arguments:?}: {complaint}");
        let ran = world.run(arguments);
        assert_eq!(ran.status(), 1, "{arguments:?}");
        assert!(ran.err().contains("error: ") && ran.err().contains("hint:  "), "{}", ran.err());
    }
}

#[test]
fn the_files_fingerprint_is_not_of_a_directory_that_the_environment_names() {
    let world = World::without_daemon();
    std::fs::create_dir(world.home().join(".pilot")).unwrap();
    let config = json!({ "registry": "127.0.0.1:1", "registry_fingerprint": "none" }).to_string();
    std::fs::write(world.home().join(".pilot/config.json"), config).unwrap();
    // What is no fingerprint is complained about where it counts.
    let command = || world.command(&["--json", "lookup", "1"]);
    let of_file = Ran(command().env_remove("PILOT_REGISTRY").output().unwrap()).complaint();
    assert_eq!(of_file["code"], "invalid_argument", "{of_file}");
    let of_environment = Ran(command().output().unwrap()).complaint();
    assert_eq!(of_environment["code"], "connection_failed", "{of_environment}");
}

#[test]
fn a_daemon_that_cannot_explain_is_asked_what_it_knows() {
    let world = World::with_daemon(&[]);
    let explained = world.run(&["--json", "explain", "bravo"]).json()["data"].clone();
    assert_eq!((&explained["partial"], &explained["path"]), (&json!(true), &json!("none")));
    assert!(world.run(&["explain", "bravo"]).err().contains("cannot say why"));
}

#[test]
fn nobody_reading_the_output_is_no_failure() {
    let world = World::without_daemon();
    let mut child = world.command(&["man"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_daemon_that_does_not_start_is_quoted() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::without_daemon();
    let program = world.home().join("pilot-agent");
    std::fs::write(&program, "#!/bin/sh\necho \"error: bind $2: Address already in use\"\nexit 4\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ran = crate::world::Ran(
        world
            .command(&["daemon", "start"])
            .env("PILOT_AGENT_BIN", &program)
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap(),
    );
    assert_eq!(ran.status(), 1);
    assert!(ran.err().contains("Address already in use") && ran.err().contains("--listen"), "{}", ran.err());
    assert!(!world.home().join(".pilot/pilot.pid").exists());
}

#[test]
fn a_daemon_is_started_with_what_it_shall_tell_of_itself() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::without_daemon();
    let program = world.home().join("pilot-agent");
    std::fs::write(&program, "#!/bin/sh\necho \"error: $*\"\nexit 4\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = ["--otlp-endpoint", "http://127.0.0.1:4318", "--trace-sample", "0.5", "--http", "127.0.0.1:9090"];
    let mut command = world.command(&[&["daemon", "start", "--no-event-log"], &options[..]].concat());
    let ran =
        crate::world::Ran(command.env("PILOT_AGENT_BIN", &program).env("PATH", "/usr/bin:/bin").output().unwrap());
    assert!(ran.err().contains(&options.join(" ")) && ran.err().contains("--no-event-log"), "{}", ran.err());
}

#[test]
fn a_path_is_explained_on_one_screen() {
    let explained = json!({
        "node_id": 1, "address": "0:0000.0000.0001", "path": "direct", "why": "a sealed probe sent there was answered",
        "endpoint": "198.51.100.7:4000", "since_secs": 71.5, "rtt_ms": 20.04, "relay": "192.0.2.1:9001",
        "own_nat": {"summary": "no NAT, endpoint-independent filtering", "mapped": "203.0.113.9:4000"},
        "peer_nat": {"summary": "address-dependent mapping, unknown filtering"},
        "candidates": [
            {"endpoint": "198.51.100.7:4000", "kind": "punched", "state": "works", "rtt_ms": 20.04, "tries": 2},
            {"endpoint": "10.0.0.2:4000", "kind": "lan", "state": "no answer yet", "tries": 5},
        ],
        "events": [{"at_secs_ago": 72.25, "what": "first contact, through the relay"},
            {"at_secs_ago": 0.43, "what": "direct to 198.51.100.7:4000, 20.0 ms"}],
        "session": {"established_secs_ago": 72.0, "established": true, "forward_secrecy": true,
            "rekeyed_secs_ago": 3.2, "rekeyings": 2},
        "sent_direct": 1, "sent_relayed": 4,
    })
    .to_string();
    let resolved =
        json!({"address": "0:0000.0000.0001", "hostname": "bravo", "node_id": 1, "public": true}).to_string();
    let world = World::with_daemon(&[
        (Request::ResolveHostname("bravo"), &resolved),
        (Request::Extension("{\"node_id\":1,\"op\":\"explain\"}"), &explained),
    ]);
    let shown = world.run(&["explain", "bravo"]).out();
    let expected = "\
bravo · 0:0000.0000.0001  direct · round trip 20ms · for 1m11s
  endpoint   198.51.100.7:4000
  relay      192.0.2.1:9001
  why        a sealed probe sent there was answered
  our NAT    no NAT, endpoint-independent filtering · seen as 203.0.113.9:4000
  their NAT  address-dependent mapping, unknown filtering
  keys       agreed 1m12s ago · renewed 2 times, last 3.2s ago · forward secrecy
  sent       1 datagram direct, 4 through the relay

What was tried:
  ENDPOINT           KIND     STATE          TRIES  ROUND TRIP
  198.51.100.7:4000  punched  works          2      20ms
  10.0.0.2:4000      lan      no answer yet  5      –

What happened:
     1m12s ago  first contact, through the relay
      0.4s ago  direct to 198.51.100.7:4000, 20.0 ms
";
    assert_eq!(shown, expected);
}
