//! The program as a command: exit status, where its words go, closed pipes.

use std::process::{Command, Output, Stdio};

use crate::relay::{Behaviour, Fault, Relay};
use crate::turn;

pub fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A short load against `relay`.
pub fn load(relay: &Relay, arguments: &[&str]) -> Command {
    let mut command = loadgen(&["--no-directory", "--peers", "50", "--rate", "1000", "--seconds", "0.3"]);
    command.args(["--relay", &relay.address.to_string()]).args(arguments);
    command
}

/// The output of `command`, which makes a load: of a later try, as long as this host, busy with something else, keeps
/// the generator from making it.
pub fn undisturbed(command: &mut Command) -> Output {
    const TRIES_MAX: usize = 5;
    let _turn = turn();
    let mut output = command.output().unwrap();
    for _ in 1..TRIES_MAX {
        if status(&output) != 3 {
            break;
        }
        output = command.output().unwrap();
    }
    output
}

pub fn status(output: &Output) -> i32 {
    output.status.code().expect("it exits by itself")
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn without_loss_the_status_is_0_and_stdout_is_the_report() {
    let relay = Relay::start("127.0.0.1:0", Behaviour::default());
    let output = undisturbed(&mut load(&relay, &[]));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(status(&output), 0, "{stdout}{stderr}");
    assert!(stdout.starts_with("registered    50 of 50 "), "{stdout}");
    assert!(stdout.contains("\nsent          300 in 0.3 s") && stdout.contains("\ndelivered     300\n"), "{stdout}");
    assert!(stderr.contains("discovering: 50 of 50\n"), "{stderr}");
}

#[test]
fn json_is_all_that_stdout_gets() {
    let relay = Relay::start("127.0.0.1:0", Behaviour::default());
    let output = undisturbed(&mut load(&relay, &["--json"]));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status(&output), 0, "{report}");
    assert_eq!((&report["delivered"], &report["registered"]), (&300.into(), &50.into()));
    assert_eq!(report["verdict"], "ok");
}

#[test]
fn loss_makes_the_status_1() {
    let relay = Relay::start("127.0.0.1:0", Behaviour { fault: Some((Fault::Drop, 2)), ..Behaviour::default() });
    let output = undisturbed(&mut load(&relay, &[]));
    assert_eq!(status(&output), 1, "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("lost          150 (50.0000 %)"), "{}", text(&output.stdout));
    let tolerant = undisturbed(&mut load(&relay, &["--max-loss", "50"]));
    assert_eq!(status(&tolerant), 0, "{}", text(&tolerant.stdout));
}

/// No host makes a hundred million datagrams a second.
#[test]
fn a_load_that_cannot_be_made_makes_the_status_3_whatever_the_conditions_say() {
    let relay = Relay::start("127.0.0.1:0", Behaviour::default());
    let _turn = turn();
    let arguments = ["--rate", "100000000", "--seconds", "0.05", "--max-loss", "90", "--fail-if", "late>1%,rate<100M"];
    let mut command = loadgen(&["--no-directory", "--peers", "50", "--relay", &relay.address.to_string()]);
    let output = command.args(arguments).output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(status(&output), 3, "{stdout}{stderr}");
    assert!(stdout.contains("condition     rate<100M is true: "), "{stdout}");
    assert!(stdout.ends_with("nothing follows from late>1% and rate<100M\n"), "{stdout}");
    assert!(stderr.ends_with("/s\n") && stderr.contains("loadgen: late>1% is true: "), "{stderr}");
}

#[test]
fn mistakes_make_the_status_2_and_say_what_to_do() {
    for arguments in [
        &["--peers", "1"][..],
        &["--peers", "many"],
        &["--rte", "5"],
        &["--rate", "0"],
        &["--relay", "no.such.host.invalid"],
    ] {
        let output = loadgen(arguments).output().unwrap();
        assert_eq!(status(&output), 2, "{arguments:?}");
        assert!(output.stdout.is_empty());
        assert!(text(&output.stderr).contains("--help"), "{}", text(&output.stderr));
    }
}

#[test]
fn help_is_no_mistake() {
    let output = loadgen(&["--help"]).output().unwrap();
    assert_eq!(status(&output), 0);
    assert!(text(&output.stdout).contains("Exit status:"));
}

#[test]
fn silence_makes_the_status_3_and_says_what_to_start() {
    // Bound, but nobody reads: the port stays silent while the test runs.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let relay = silent.local_addr().unwrap().to_string();
    let output = loadgen(&["--no-directory", "--peers", "2", "--relay", &relay]).output().unwrap();
    assert_eq!(status(&output), 3);
    assert!(output.stdout.is_empty());
    let stderr = text(&output.stderr);
    assert!(stderr.contains("no answer from the relay") && stderr.contains("pilot-relay"), "{stderr}");
}

#[test]
fn a_directory_that_is_not_there_makes_the_status_3() {
    let relay = Relay::start("127.0.0.1:0", Behaviour::default());
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = loadgen(&["--peers", "2", "--registry", &refused]);
    let output = command.args(["--relay", &relay.address.to_string()]).output().unwrap();
    assert_eq!(status(&output), 3);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("cannot reach the directory") && stderr.contains("--no-directory"), "{stderr}");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let relay = Relay::start("127.0.0.1:0", Behaviour::default());
    let _turn = turn();
    let mut child = load(&relay, &[]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
