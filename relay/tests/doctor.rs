//! `pilot-relay doctor` as its user meets it: what it says of a port, of a relay at work, of an address, and how it ends.

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

const README: &str = include_str!("../../tuning/README.md");
const SYSCTLS: &str = include_str!("../../tuning/90-pilot-relay.sysctl.conf");
/// Free ports on loopback, whichever they are.
const ANYWHERE: [&str; 8] =
    ["--beacon", "127.0.0.1:0", "--stun", "127.0.0.1:0", "--registry", "127.0.0.1:0", "--http", "127.0.0.1:0"];
/// How often a relay at work is asked before it is taken for silent.
const ATTEMPTS_MAX: usize = 30;
const FINE: i32 = 0;
const COULD_BE_BETTER: i32 = 1;
const WRONG_USAGE: i32 = 2;
const HAS_PROBLEMS: i32 = 3;

fn doctor(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-relay"));
    command.arg("doctor").args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The array it prints, and its exit status.
fn checks(arguments: &[&str]) -> (Vec<Value>, i32) {
    let output = doctor(&[&["--json"], arguments].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let array: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (array, output.status.code().unwrap())
}

fn find<'a>(checks: &'a [Value], id: &str, what: &str) -> &'a Value {
    let found = checks.iter().find(|check| check["id"] == id && check["finding"].as_str().unwrap().contains(what));
    found.unwrap_or_else(|| panic!("no {id} about {what} in {checks:#?}"))
}

fn headings() -> Vec<String> {
    README.lines().filter_map(|line| line.strip_prefix("### ")).map(|heading| heading.replace('`', "")).collect()
}

#[test]
fn every_advice_is_explained_in_the_tuning_guide() {
    let headings = headings();
    let (checks, status) = checks(&ANYWHERE);
    for check in &checks {
        let see = check["see"].as_str().unwrap();
        assert!(headings.iter().any(|heading| heading == see), "tuning/README.md lacks the heading {see}");
        let is_fault = matches!(check["status"].as_str(), Some("warn" | "problem"));
        assert!(!is_fault || check["advice"].is_string(), "no way out: {check}");
    }
    let worst = |status| checks.iter().any(|check| check["status"] == status);
    let expected = match (worst("problem"), worst("warn")) {
        (true, _) => HAS_PROBLEMS,
        (_, true) => COULD_BE_BETTER,
        _ => FINE,
    };
    assert_eq!(status, expected);
    for id in ["kernel", "io_uring", "clock", "memlock", "memory", "receive-buffer", "tracking", "ports", "advertise"] {
        find(&checks, id, "");
    }
}

#[test]
fn every_setting_of_the_sysctl_file_is_looked_at() {
    let headings = headings();
    let keys = SYSCTLS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let keys: Vec<&str> = keys.map(|(key, _)| key.trim().trim_start_matches('-')).collect();
    assert!(keys.len() >= 4, "{keys:?}");
    for key in keys {
        assert!(headings.iter().any(|heading| heading == key), "{key} is in the file and not in tuning/README.md");
    }
}

#[test]
fn people_get_plain_lines_where_nobody_asked_for_colour() {
    let output = doctor(&ANYWHERE);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\x1b'), "{text}");
    assert!(text.lines().next().is_some_and(|line| line.contains("kernel") && line.contains("Linux")), "{text}");
    assert!(text.contains(" ok, ") && text.contains(" problem: "), "{text}");
}

#[test]
fn a_port_that_another_program_holds_is_named_with_it() {
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let (checks, status) = checks(&[&["--beacon", &address], &ANYWHERE[2..]].concat());
    let port = find(&checks, "ports", &address);
    assert_eq!((port["status"].as_str(), status), (Some("problem"), HAS_PROBLEMS));
    let finding = port["finding"].as_str().unwrap();
    assert!(finding.contains(&format!("process {}", std::process::id())), "{finding}");
}

#[test]
fn a_relay_at_work_is_recognised_and_answers() {
    let relay = Relay::start();
    let beacon = relay.beacon.as_str();
    let arguments = ["--beacon", beacon, "--stun", "off", "--registry", "off", "--http", "off", "--advertise", beacon];
    // It gives up after a second, in which a busy host may not have let the relay run.
    let has_answered = |checks: &Vec<Value>| find(checks, "advertise", beacon)["values"]["answered"] == true;
    let asked = std::iter::repeat_with(|| checks(&arguments).0).take(ATTEMPTS_MAX).find(has_answered);
    let checks = asked.expect("the relay answers a doctor that asks often");
    let port = find(&checks, "ports", beacon);
    assert_eq!(port["status"], "ok", "{port}");
    assert!(port["finding"].as_str().unwrap().contains("relay at work"), "{port}");
    let limits = find(&checks, "memlock", "relay at work");
    assert!(limits["values"]["limit_bytes"].is_u64() && limits["values"]["keys_bytes"].is_u64(), "{limits}");
}

#[test]
fn nobody_is_asked_where_no_relay_runs() {
    let (checks, _) = checks(&[&["--advertise", "192.0.2.1:9"], &ANYWHERE[..]].concat());
    assert_eq!(find(&checks, "advertise", "192.0.2.1:9")["values"]["answered"], false);
}

#[test]
fn a_wrong_command_line_has_a_status_of_its_own() {
    for arguments in [&["--shards", "0"][..], &["--sessions-max", "0"], &["--bacon", "off"], &["--cpus", "1023"]] {
        let output = doctor(arguments);
        assert_eq!(output.status.code(), Some(WRONG_USAGE), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
}

/// A relay alone on a free port of loopback.
struct Relay {
    child: Child,
    beacon: String,
}

impl Relay {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-relay"));
        command.args(["--beacon", "127.0.0.1:0", "--stun", "off", "--registry", "off", "--http", "off"]);
        command.args(["--shards", "1", "--data-dir"]).arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("doctor"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let beacon = lines.find_map(|line| Some(line.trim().strip_prefix("beacon")?.trim().to_owned()));
        Self { child, beacon: beacon.expect("it says where it listens") }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
