//! One relay succeeds another while nodes talk.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::supervisor::{Node, Supervisor};

const OPEN: [&str; 2] = ["--admission", "open"];
/// Packets on their way at most, so that no node's own buffer overflows.
const WINDOW: u32 = 64;

fn with(flags: Vec<String>, more: &[&str]) -> Vec<String> {
    flags.into_iter().chain(more.iter().map(|&flag| flag.to_owned())).collect()
}

#[test]
fn nodes_notice_nothing_of_three_upgrades() {
    let mut supervisor = Supervisor::start("upgrade", &OPEN);
    let beacon = supervisor.address("beacon");
    let (alice, bob) = (Node::join(beacon, 1), Node::join(beacon, 2));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let talk = scope.spawn(|| {
            let (mut sent, mut heard) = (0, 0);
            while !stop.load(Ordering::Relaxed) || heard < sent {
                while !stop.load(Ordering::Relaxed) && sent - heard < WINDOW {
                    alice.send(&bob, sent);
                    sent += 1;
                }
                assert_eq!(bob.number(), heard);
                heard += 1;
            }
            heard
        });
        for round in 1..=3 {
            let before = supervisor.pid();
            let output = supervisor.upgrade(&[]);
            assert_eq!(output.status.code(), Some(0), "round {round}\n{}", supervisor.log());
            let text = String::from_utf8(output.stdout).unwrap();
            let report: Value = serde_json::from_str(text.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
            let after = &report["after"];
            let inherited = &after["inherited"];
            assert_eq!((&inherited["sessions"], &inherited["kernel_drops"]), (&2.into(), &0.into()), "{report}");
            assert_eq!(report["before"]["pid"], before);
            let pid = u32::try_from(after["pid"].as_u64().unwrap()).unwrap();
            assert_eq!(supervisor.state(|state| state.main_pid), Some(pid));
            if round == 1 {
                assert!(supervisor.end().success(), "{}", supervisor.log());
            }
            supervisor.adopt(pid);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(talk.join().unwrap() > WINDOW);
    });
    assert_eq!(supervisor.state(|state| state.stopping), 0, "the service goes on");
    assert_eq!(supervisor.get("/healthz").1, "ok\n");
    let (_, counters) = supervisor.get("/counters");
    let counters: Value = serde_json::from_str(&counters).unwrap();
    assert_eq!(counters["total"]["sessions"], 2);
    assert_eq!(counters["total"]["kernel_drops"], 0);
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let supervisor = Supervisor::start("refused", &OPEN);
    let (pid, beacon) = (supervisor.pid(), supervisor.address("beacon"));
    let (alice, bob) = (Node::join(beacon, 1), Node::join(beacon, 2));
    for (flags, why) in [
        (with(supervisor.flags(), &["--shards", "9999"]), "--shards must lie between 1 and"),
        (with(supervisor.flags(), &["--admin-token-file", "/nonexistent/token"]), "/nonexistent/token"),
        (with(supervisor.flags(), &["--no-such-flag"]), "--no-such-flag"),
        (with(supervisor.flags(), &["--enrol", "allowlist", "--allowlist", "/nonexistent/keys"]), "/nonexistent/keys"),
        (with(supervisor.flags(), &["--enrol", "allowlist"]), "name it with --allowlist FILE"),
        (with(supervisor.flags(), &["--tls-cert", "/nonexistent/cert", "--tls-key", "/nonexistent/key"]), "cert"),
    ] {
        let output = supervisor.upgrade(&flags);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(why) && errors.contains("the relay that ran goes on"), "{errors}");
        alice.send(&bob, 7);
        assert_eq!(bob.number(), 7);
    }
    assert_eq!(supervisor.pid(), pid);
    assert_eq!(supervisor.get("/healthz").1, "ok\n");
}

#[test]
fn the_environment_of_whoever_calls_is_not_the_successors() {
    if std::fs::read_to_string("/proc/self/cgroup").is_ok_and(|groups| groups.contains(".service")) {
        // Its unit would be taken for the relay's, and reloaded.
        eprintln!("SKIPPED: run this outside of a unit");
        return;
    }
    let mut supervisor = Supervisor::start("environment", &OPEN);
    let output = supervisor.upgrade_from_without(("PILOT_RELAY_SESSIONS_MAX", "0"));
    let said = supervisor.log();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(text.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    assert_eq!(report["after"]["environment"], Value::Null, "what may be secret is not shown");
    supervisor.adopt(u32::try_from(report["after"]["pid"].as_u64().unwrap()).unwrap());
}

#[test]
fn a_backup_that_waits_is_taken_over_by_a_restart_and_not_half_way_by_an_upgrade() {
    let mut supervisor = Supervisor::start("restore", &OPEN);
    let beacon = supervisor.address("beacon");
    let (alice, bob) = (Node::join(beacon, 1), Node::join(beacon, 2));
    let (data, backup) = (supervisor.folder.join("data"), supervisor.folder.join("one.backup"));
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-relay"));
        let output = command.args(arguments).arg(&backup).arg("--data-dir").arg(&data).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    command(&["backup", "--to"]);
    command(&["restore"]);
    let output = supervisor.upgrade(&[]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("a backup waits in") && errors.contains("the relay that ran goes on"), "{errors}");
    alice.send(&bob, 7);
    assert_eq!(bob.number(), 7);
    supervisor.wait("the store", |state| state.names().iter().any(|name| name.starts_with("ledger.")));
    supervisor.signal(Signal::SIGTERM);
    assert!(supervisor.end().success());
    std::fs::write(data.join("whereabouts"), "numbers of another database").unwrap();
    supervisor.start_again();
    let kept = supervisor.state(|state| state.status.clone());
    assert_eq!(kept, "serving; 0 sessions kept from the relay before", "their numbers may be others' now");
    assert!(!supervisor.log().contains("not a file of whereabouts"), "{}", supervisor.log());
}

#[test]
fn another_number_of_shards_costs_the_sockets_and_not_the_sessions() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("SKIPPED: one CPU has one shard");
        return;
    }
    let mut supervisor = Supervisor::start("shards", &["--admission", "open", "--shards", "2"]);
    let beacon = supervisor.address("beacon");
    let (alice, bob) = (Node::join(beacon, 1), Node::join(beacon, 2));
    // The port has to be named: a successor that binds anew would pick another.
    let flags = with(supervisor.flags(), &[]);
    let flags: Vec<String> = flags
        .into_iter()
        .scan(String::new(), |last, flag| {
            let fixed = if last == "--beacon" { beacon.to_string() } else { flag.clone() };
            let fixed = if last == "--shards" { "1".to_owned() } else { fixed };
            *last = flag;
            Some(fixed)
        })
        .collect();
    let output = supervisor.upgrade(&flags);
    assert_eq!(output.status.code(), Some(0), "{}", supervisor.log());
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(text.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    supervisor.adopt(u32::try_from(report["after"]["pid"].as_u64().unwrap()).unwrap());
    let inherited = &report["after"]["inherited"];
    assert_eq!(inherited["sessions"], 2);
    let refused = inherited["refused"].to_string();
    assert!(refused.contains("its sockets were made for 2 shards, and there are 1 now"), "{refused}");
    alice.send(&bob, 1);
    assert_eq!(bob.number(), 1);
}

#[test]
fn a_database_of_a_newer_program_is_refused_before_the_takeover() {
    let mut supervisor = Supervisor::start("newer", &OPEN);
    let (pid, beacon) = (supervisor.pid(), supervisor.address("beacon"));
    let (alice, bob) = (Node::join(beacon, 1), Node::join(beacon, 2));
    let data = supervisor.folder.join("data");
    let database = rusqlite::Connection::open(data.join("directory.sqlite")).unwrap();
    let schema: u32 = database.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    std::fs::write(data.join(format!("directory.sqlite-schema{schema}")), "as it was").unwrap();
    let output = supervisor.upgrade(&[]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let kept = format!("directory.sqlite-schema{schema}: to go back");
    // The file is open in the relay that runs.
    for words in ["schema 99", &kept, "the relay at work goes on", "stop whatever relay", "directory.sqlite-wal"] {
        assert!(errors.contains(words), "{words} in {errors}");
    }
    alice.send(&bob, 7);
    assert_eq!(bob.number(), 7);
    assert_eq!((supervisor.pid(), supervisor.get("/healthz").1.as_str()), (pid, "ok\n"));

    // The way out, as far as this program knows it.
    database.pragma_update(None, "user_version", schema).unwrap();
    drop(database);
    let output = supervisor.upgrade(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", supervisor.log());
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(text.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    supervisor.adopt(u32::try_from(report["after"]["pid"].as_u64().unwrap()).unwrap());
}

#[test]
fn a_damaged_database_is_refused_while_the_relay_that_has_it_open_goes_on() {
    const PAGE_BYTES: usize = 4096;
    let supervisor = Supervisor::start("damaged", &OPEN);
    let (pid, beacon) = (supervisor.pid(), supervisor.address("beacon"));
    let (alice, bob) = (Node::join(beacon, 1), Node::join(beacon, 2));
    let path = supervisor.folder.join("data/directory.sqlite");
    // So that the file is read, and not the log.
    let database = rusqlite::Connection::open(&path).unwrap();
    let _: u32 = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0)).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xA5; 4 * PAGE_BYTES], PAGE_BYTES as u64).unwrap();
    drop((file, database));
    let output = supervisor.upgrade(&[]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for words in ["damaged", "directory.sqlite", "pilot-relay restore FILE", "the relay that ran goes on"] {
        assert!(errors.contains(words), "{words} in {errors}");
    }
    alice.send(&bob, 7);
    assert_eq!(bob.number(), 7);
    assert_eq!(supervisor.get("/healthz").1, "ok\n");
    let status = supervisor.office().asks(r#"{"ask":"status"}"#);
    assert_eq!((&status["pid"], &status["phase"]), (&pid.into(), &"ok".into()), "{status}");
}

#[test]
fn who_asks_while_no_descriptor_is_left_waits_and_is_served() {
    let mut supervisor = Supervisor::start("descriptors", &OPEN);
    let limit = |soft: &str| {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &supervisor.pid().to_string(), &format!("--nofile={soft}:")]);
        assert!(prlimit.status().unwrap().success());
    };
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", supervisor.pid())).unwrap();
    let before = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    limit("3");
    // The kernel has a descriptor ready for the first to come.
    let first = supervisor.office();
    assert_eq!(first.asks(r#"{"ask":"status"}"#)["phase"], "ok");
    supervisor.wait_for_line("cannot serve the relay's own socket");
    let second = supervisor.office();
    second.says(r#"{"ask":"status"}"#);
    limit(before.split_whitespace().next().unwrap());
    assert_eq!(second.hears()["phase"], "ok", "{}", supervisor.log());
    let lines = supervisor.log().lines().filter(|line| line.contains("relay's own socket")).count();
    assert_eq!(lines, 2, "once when it begins and once when it ends: {}", supervisor.log());

    let output = supervisor.upgrade(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", supervisor.log());
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(text.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    supervisor.adopt(u32::try_from(report["after"]["pid"].as_u64().unwrap()).unwrap());
}

#[test]
fn another_address_of_the_same_port_takes_a_restart_and_that_is_said() {
    let mut supervisor = Supervisor::start("address", &OPEN);
    let pid = supervisor.pid();
    for flag in ["--http", "--registry"] {
        let bound = supervisor.address(if flag == "--http" { "admin" } else { "directory" });
        let moved = format!("0.0.0.0:{}", bound.port());
        supervisor.set(flag, &moved);
        let output = supervisor.upgrade(&supervisor.flags());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let takes = format!("the relay at work listens at {bound}; it has the port until it ends");
        for words in [&takes, "systemctl restart pilot-relay", "the relay that ran goes on"] {
            assert!(errors.contains(words), "{words} in {errors}");
        }
        assert!(!errors.contains("choose another address"), "{errors}");
    }
    assert_eq!(supervisor.office().asks(r#"{"ask":"status"}"#)["pid"], pid);
}
