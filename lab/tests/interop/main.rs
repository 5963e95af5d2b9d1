//! Programs that know nothing of ours drive our daemon: the unmodified `pilotctl`, command line by command line, and the
//! unmodified Python SDK. Each story runs with the unmodified daemon first, which proves the story right.

mod shape;

use std::fs;
use std::time::Duration;

use lab::{Daemon, DaemonFlags, Program, World, evidence, python, wait_until};
use serde_json::Value;

/// What `pilotctl` 1.18.0 printed beside the unmodified daemon.
const RECORDED: &str = include_str!("cli_json_1_18.json");
const SDK_SCRIPT: &str = include_str!("sdk.py");
/// Daemons poll the directory for handshakes every 10 to 30 seconds.
const TRUSTED_WITHIN: Duration = Duration::from_secs(60);
/// Commands that ours must know besides the recorded ones, with what they need to print.
const MORE_COMMANDS: [(&str, &[&str]); 3] =
    [("approve 2", &[]), ("set-private", &["node_id"]), ("clear-hostname", &[])];

#[test]
fn their_tool_drives_their_daemon() {
    drive_by_tool(Program::Pilot1_18, Program::Pilot1_18, Program::Pilot1_18);
}

#[test]
fn their_tool_drives_our_daemon() {
    drive_by_tool(Program::Pilot1_18, Program::Ours, Program::Ours);
}

#[test]
fn their_tool_drives_our_daemon_toward_theirs() {
    drive_by_tool(Program::Pilot1_18, Program::Ours, Program::Pilot1_18);
}

#[test]
fn their_tool_drives_their_daemon_toward_ours() {
    drive_by_tool(Program::Pilot1_18, Program::Pilot1_18, Program::Ours);
}

#[test]
fn our_tool_prints_the_same_beside_their_daemon() {
    drive_by_tool(Program::Ours, Program::Pilot1_18, Program::Pilot1_18);
}

#[test]
fn our_tool_prints_the_same_beside_our_daemon() {
    drive_by_tool(Program::Ours, Program::Ours, Program::Ours);
}

/// Both daemons in one host: the SDK talks to two sockets, and no path is in question.
#[test]
fn the_python_sdk_gets_the_same_answers() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let theirs = drive_by_sdk(&world, Program::Pilot1_18, Program::Pilot1_18);
    evidence(format!("{} steps of the SDK with two unmodified daemons", theirs.len()));
    if !Program::Ours.is_available() {
        return;
    }
    for far in Program::ALL {
        let ours = drive_by_sdk(&world, Program::Ours, far);
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(theirs["step"], ours["step"], "beside ours, toward {far}");
            let differences = shape::differences(&theirs["shape"], &ours["shape"]);
            assert!(differences.is_empty(), "{} beside ours, toward {far}: {differences:?}", theirs["step"]);
        }
        assert_eq!(theirs.len(), ours.len(), "beside ours, toward {far}");
        evidence(format!("{} steps of the SDK beside ours, toward {far}", ours.len()));
    }
}

fn drive_by_tool(tool: Program, alpha: Program, bravo: Program) {
    let Some(world) = World::open() else { return };
    if ![tool, alpha, bravo].iter().all(|program| program.is_available()) {
        return;
    }
    let _appliance = world.appliance();
    // Ids are handed out in order, and the recorded command lines name 1 and 2.
    let flags = |name| DaemonFlags::named(name).public().trust_auto_approve().fixed_port();
    let alpha = Daemon::start_ready(&world.host("alpha"), flags("alpha").program(alpha));
    let bravo = Daemon::start_ready(&world.host("bravo"), flags("bravo").program(bravo));
    assert_eq!((alpha.node(), bravo.node()), (1, 2), "the recorded command lines name these");
    fs::write(alpha.folder().join("f.txt"), "fifteen letters").expect("the scratch folder is writable");

    let recorded: Value = serde_json::from_str(RECORDED).expect("the record is JSON");
    let entries = recorded["entries"].as_array().expect("the record is a list");
    let mut failures = Vec::new();
    for entry in entries {
        let line = entry["command"].as_str().and_then(|line| line.strip_prefix("pilotctl --json "));
        let line = line.expect("every recorded command line begins so");
        if line == "trust" {
            wait_until("bravo to be trusted", TRUSTED_WITHIN, || {
                let trusted = alpha.pilotctl_of(tool, &["trust"]).ok()?;
                (!trusted["trusted"].as_array()?.is_empty()).then_some(())
            });
        }
        match alpha.pilotctl_of(tool, &split(line)) {
            Ok(printed) => {
                let differences = shape::differences(&entry["output"]["data"], &printed);
                failures.extend(differences.iter().map(|difference| format!("`{line}`: {difference}")));
            }
            Err(error) => failures.push(format!("`{line}` failed: {}", error.trim())),
        }
    }
    for (line, keys) in MORE_COMMANDS {
        match alpha.pilotctl_of(tool, &split(line)) {
            Ok(printed) => {
                let missing = keys.iter().filter(|key| printed.get(**key).is_none());
                failures.extend(missing.map(|key| format!("`{line}`: {key} is missing in {printed}")));
            }
            Err(error) => failures.push(format!("`{line}` failed: {}", error.trim())),
        }
    }
    let told = format!("{tool} pilotctl, {alpha}, {bravo}");
    let tried = entries.len() + MORE_COMMANDS.len();
    assert!(failures.is_empty(), "{told}: {} of {tried} command lines:\n{}", failures.len(), failures.join("\n"));
    evidence(format!("{told}: {tried} command lines have the recorded shapes"));
}

/// Splits a recorded command line; what follows `--data` or `--message` is one argument.
fn split(line: &str) -> Vec<&str> {
    for option in ["--data", "--message"] {
        if let Some((before, value)) = line.split_once(option) {
            return before.split_whitespace().chain([option, value.trim()]).collect();
        }
    }
    line.split_whitespace().collect()
}

/// Runs the script; a line of JSON for each step.
fn drive_by_sdk(world: &World, near: Program, far: Program) -> Vec<Value> {
    let start = |name: String, program| {
        let flags = DaemonFlags::named(&name).program(program).public().fixed_port();
        Daemon::start(&world.host(&name), flags)
    };
    let kind = format!("{near}-{far}").replace('.', "");
    let (mut near, mut far) = (start(format!("near-{kind}"), near), start(format!("far-{kind}"), far));
    near.wait_ready();
    far.wait_ready();
    near.time_to_reach(far.hostname(), TRUSTED_WITHIN);
    let script = near.folder().join("sdk.py");
    fs::write(&script, SDK_SCRIPT).expect("the scratch folder is writable");
    let python = python();
    let library = fs::read_dir(python.with_file_name("../lib")).expect("a virtual environment has libraries");
    let library = library.flatten().map(|entry| entry.path().join("site-packages/pilotprotocol/bin/libpilot.so"));
    let library = library.into_iter().find(|path| path.is_file()).expect("the package has its library");
    let mut command = near.command(python);
    let any_bytes = [&near, &far].iter().all(|daemon| daemon.program() == Program::Ours);
    command
        .arg(&script)
        .args([near.socket(), far.socket()])
        .args(any_bytes.then_some("--any-bytes"))
        .env("PILOT_LIB_PATH", library);
    let output = command.output().expect("Python runs");
    let steps = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "sdk.py with {near} and {far}, after these steps:\n{steps}{errors}");
    steps.lines().map(|line| serde_json::from_str(line).expect("every step is a line of JSON")).collect()
}
