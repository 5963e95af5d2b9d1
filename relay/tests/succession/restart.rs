//! Restarts through the store of the service manager: asked for, and after a kill.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::supervisor::{Node, Supervisor, answer, ask};

/// No more than a node has room for.
const PACKETS: u32 = 100;
/// Ids that no directory knows are only stored where nobody checks.
const OPEN: [&str; 4] = ["--admission", "open", "--shards", "1"];

/// Two nodes, whose sessions have reached the ledger.
fn pair(supervisor: &Supervisor) -> (Node, Node) {
    let beacon = supervisor.address("beacon");
    let pair = (Node::join(beacon, 1), Node::join(beacon, 2));
    pair.0.send(&pair.1, u32::MAX);
    // The batch after the one that stored the sessions has written them.
    assert_eq!(pair.1.number(), u32::MAX);
    pair
}

fn metric(supervisor: &Supervisor, name: &str) -> u64 {
    let (_, text) = supervisor.get("/metrics");
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn goes_on_after(name: &str, signal: Signal) {
    let mut supervisor = Supervisor::start(name, &OPEN);
    let (alice, bob) = pair(&supervisor);
    supervisor.wait("the store", |state| {
        let names = state.names();
        ["beacon.main.0.", "beacon.fragmenting.0.", "directory", "admin", "ledger."]
            .iter()
            .all(|wanted| names.iter().any(|name| name.starts_with(wanted)))
    });
    let admin = supervisor.address("admin");
    supervisor.signal(signal);
    let ended = supervisor.end();
    assert_eq!(ended.success(), signal == Signal::SIGTERM, "{ended}\n{}", supervisor.log());
    for number in 0..PACKETS {
        alice.send(&bob, number);
    }
    // Whoever connects meanwhile waits and is not refused.
    let mut waiting = TcpStream::connect(admin).unwrap();
    ask(&mut waiting, "/healthz");
    supervisor.start_again();
    for number in 0..PACKETS {
        assert_eq!(bob.number(), number, "{}", supervisor.log());
    }
    let (_, health) = answer(waiting);
    assert!(["ok\n", "starting\n"].contains(&health.as_str()), "{health}");
    assert_eq!(metric(&supervisor, "pilot_relay_sessions_inherited_total"), 2);
    assert_eq!(metric(&supervisor, "pilot_relay_kernel_drops_total"), 0);
    assert_eq!(supervisor.state(|state| state.status.clone()), "serving; 2 sessions kept from the relay before");
    // One ledger is kept, this relay's; and nothing is kept twice.
    supervisor.wait("one ledger", |state| {
        state.names().iter().filter(|name| name.starts_with("ledger.")).count() == 1 && state.store.len() == 5
    });
    supervisor.signal(Signal::SIGTERM);
    assert!(supervisor.end().success());
    assert!(supervisor.state(|state| state.stopping) > 0);
}

#[test]
fn a_restart_loses_nothing_that_is_sent_meanwhile() {
    goes_on_after("restart", Signal::SIGTERM);
}

#[test]
fn a_kill_loses_nothing_that_is_sent_afterwards() {
    goes_on_after("kill", Signal::SIGKILL);
}

#[test]
fn a_stored_listener_that_no_longer_fits_is_given_up_and_its_port_is_bound_anew() {
    let mut supervisor = Supervisor::start("misfit", &OPEN);
    let admin = supervisor.address("admin");
    supervisor.wait("the store", |state| state.names().contains(&"admin"));
    supervisor.signal(Signal::SIGTERM);
    assert!(supervisor.end().success());
    supervisor.set("--http", &format!("0.0.0.0:{}", admin.port()));
    // While the old one was kept, the port was in use.
    supervisor.start_again();
    assert_eq!(supervisor.get("/healthz").1, "ok\n", "{}", supervisor.log());
    supervisor.wait("the new one", |state| {
        let kept = state.store.iter().find(|(name, _)| name == "admin");
        kept.is_some_and(|(_, file)| {
            let listener = std::net::TcpListener::from(file.try_clone().unwrap());
            listener.local_addr().unwrap().ip().is_unspecified()
        })
    });
}

#[test]
fn a_ledger_of_another_layout_is_refused_by_name_and_the_sockets_are_kept() {
    const LAYOUT_OFFSET: u64 = 8;
    let mut supervisor = Supervisor::start("layout", &OPEN);
    let (alice, bob) = pair(&supervisor);
    supervisor.wait("the ledger", |state| state.names().iter().any(|name| name.starts_with("ledger.")));
    let beacon = supervisor.address("beacon");
    supervisor.signal(Signal::SIGTERM);
    assert!(supervisor.end().success());
    supervisor.state(|state| {
        let ledger: &OwnedFd = &state.store.iter().find(|(name, _)| name.starts_with("ledger.")).unwrap().1;
        let ledger = std::fs::File::from(ledger.try_clone().unwrap());
        ledger.write_all_at(&99u32.to_le_bytes(), LAYOUT_OFFSET).unwrap();
    });
    alice.send(&bob, 1);
    supervisor.start_again();
    assert_eq!(metric(&supervisor, "pilot_relay_sessions_inherited_total"), 0);
    assert!(supervisor.log().contains("its layout is 99, and this version reads layout 1"), "{}", supervisor.log());
    // The same port, and who says where it is is served again.
    let (alice, bob) = (Node::join(beacon, 1), Node::join(beacon, 2));
    alice.send(&bob, 2);
    assert_eq!(bob.number(), 2);
}

#[test]
fn the_service_manager_sees_signs_of_life() {
    let supervisor = Supervisor::start("watchdog", &OPEN);
    supervisor.wait("signs of life", |state| state.signs_of_life >= 2);
}

/// A start that fails, up to what it says of that.
fn failing(supervisor: &mut Supervisor, flag: &str, value: &str) {
    supervisor.signal(Signal::SIGKILL);
    supervisor.end();
    supervisor.set(flag, value);
    supervisor.spawn();
}

#[test]
fn a_start_that_fails_is_not_tried_again_at_once_and_can_be_ended_meanwhile() {
    let mut supervisor = Supervisor::start("late-address", &OPEN);
    // Of a range for documents, which no host has.
    failing(&mut supervisor, "--beacon", "192.0.2.1:0");
    supervisor.wait("why", |state| state.status.contains("choose an address of this host with --beacon"));
    let pid = Pid::from_raw(supervisor.pid().cast_signed());
    let (report, end) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| report.send(supervisor.end()));
        let early = end.recv_timeout(Duration::from_secs(1));
        assert!(early.is_err(), "it ended by itself: {early:?}");
        kill(pid, Signal::SIGTERM).unwrap();
        assert_eq!(end.recv().unwrap().signal(), Some(Signal::SIGTERM as i32));
    });
}

#[test]
fn a_start_that_cannot_succeed_ends_at_once_with_a_status_of_its_own() {
    let mut supervisor = Supervisor::start("wrong-setting", &OPEN);
    failing(&mut supervisor, "--shards", "0");
    let end = supervisor.end();
    assert_eq!(end.code(), Some(2), "{end}\n{}", supervisor.log());
}
