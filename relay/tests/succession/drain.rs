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

#[test]
fn a_drain_while_a_successor_prepares_is_carried_out_and_the_successor_refused() {
    let mut supervisor = Supervisor::start("drain-first", &["--admission", "open"]);
    let (successor, operator) = (supervisor.office(), supervisor.office());
    assert_eq!(successor.asks(r#"{"ask":"succeed"}"#)["answer"], "descriptors");
    assert_eq!(operator.asks(r#"{"ask":"drain","deadline_seconds":1}"#)["answer"], "draining");
    let refused = successor.asks(r#"{"ask":"take"}"#);
    assert_eq!(
        (&refused["answer"], &refused["why"]),
        (&"refused".into(), &"this relay is draining since you asked".into())
    );
    supervisor.wait("draining", |state| state.status.starts_with("draining"));
    assert!(supervisor.end().success(), "{}", supervisor.log());
}

#[test]
fn a_drain_after_a_successor_has_taken_over_is_refused() {
    let mut supervisor = Supervisor::start("drain-last", &["--admission", "open"]);
    let (successor, operator) = (supervisor.office(), supervisor.office());
    assert_eq!(successor.asks(r#"{"ask":"succeed"}"#)["answer"], "descriptors");
    assert_eq!(successor.asks(r#"{"ask":"take"}"#)["answer"], "stopped");
    let refused = operator.asks(r#"{"ask":"drain","deadline_seconds":1}"#);
    assert_eq!(refused["answer"], "refused", "{refused}");
    assert!(refused["why"].as_str().unwrap().contains("drain that one"), "{refused}");
    successor.says(r#"{"ask":"serving"}"#);
    assert!(supervisor.end().success(), "{}", supervisor.log());
}
