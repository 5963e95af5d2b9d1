//! An end in peace.

use std::process::{Command, Stdio};

use super::supervisor::{Node, Supervisor};

#[test]
fn who_is_served_is_served_on_and_nobody_new() {
    let mut supervisor = Supervisor::start("drain", &["--admission", "open"]);
    let beacon = supervisor.address("beacon");
    let (alice, bob) = (Node::join(beacon, 1), Node::join(beacon, 2));
    let mut drain = Command::new(env!("CARGO_BIN_EXE_pilot-relay"));
    drain.args(["drain", "--deadline", "8", "--data-dir"]).arg(supervisor.folder.join("data"));
    let mut drain = drain.stderr(Stdio::null()).spawn().unwrap();
    supervisor.wait("draining", |state| state.status.starts_with("draining"));
    assert_eq!(supervisor.get("/healthz"), ("HTTP/1.1 503 Service Unavailable".to_owned(), "draining\n".to_owned()));
    // Answered, so that it knows its address, and not stored: what it is sent goes nowhere.
    let carol = Node::join(beacon, 3);
    alice.send(&carol, 1);
    alice.send(&bob, 2);
    assert_eq!(bob.number(), 2);
    let (_, metrics) = supervisor.get("/metrics");
    let refused = metrics.lines().filter(|line| line.starts_with("pilot_relay_claims_while_draining_total"));
    let refused: u64 = refused.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert_eq!(refused, 1, "{metrics}");
    assert!(supervisor.end().success(), "the deadline is a good end\n{}", supervisor.log());
    assert!(drain.wait().unwrap().success());
}
