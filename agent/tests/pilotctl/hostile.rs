//! What others wrote cannot command a terminal.

use serde_json::json;
use wire::ipc::{HandshakeRequest, Request};

use crate::world::{Ran, World};

#[track_caller]
fn assert_harmless(ran: &Ran) {
    let shown = ran.out() + &ran.err();
    assert!(!shown.is_empty());
    let harmful = |character: char| character.is_control() && character != '\n' || character == '\u{202e}';
    assert!(!shown.contains(harmful), "{shown:?}");
}

#[test]
fn answers_of_the_daemon_are_shown_escaped() {
    let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\r";
    let resolved = json!({"address": "0:0000.0000.0001", "hostname": evil, "node_id": 1, "public": true}).to_string();
    let info = json!({"hostname": evil, "version": evil, "peer_list": [{"node_id": 1, "endpoint": evil}]}).to_string();
    let pending = json!({"pending": [{"node_id": 9, "justification": evil, "public_key": evil}]}).to_string();
    let explained = json!({
        "path": evil, "why": evil, "endpoint": evil, "own_nat": {"summary": evil}, "peer_nat": {"mapped": evil},
        "candidates": [{"endpoint": evil, "kind": evil, "state": evil}], "since_secs": 1e300,
        "events": [{"at_secs_ago": 1.0, "what": evil}], "session": {"established": true}, "rtt_ms": -1.0, "relay": evil,
    })
    .to_string();
    let happened =
        json!({"events": [{"what": evil, "address": evil, "trace_id": evil, "unix_ms": u64::MAX}]}).to_string();
    let world = World::with_daemon(&[
        (Request::ResolveHostname("bravo"), &resolved),
        (Request::Info, &info),
        (Request::Handshake(HandshakeRequest::Pending), &pending),
        (Request::Extension("{\"node_id\":1,\"op\":\"explain\"}"), &explained),
        (Request::Extension("{\"node_id\":1,\"op\":\"events\"}"), &happened),
        (Request::Extension("{\"op\":\"events\"}"), &happened),
    ]);
    for command in [
        &["find", "bravo"][..],
        &["info"],
        &["peers"],
        &["pending"],
        &["explain", "1"],
        &["events", "1"],
        &["events"],
        &["daemon", "status"],
    ] {
        for json in [&[][..], &["--json"]] {
            let ran = world.run(&[json, command].concat());
            assert_eq!(ran.status(), 0, "{command:?}: {}", ran.err());
            assert_harmless(&ran);
        }
    }
    let shown = world.run(&["explain", "1"]).out();
    assert!(shown.contains("What was tried:") && shown.contains("What happened:"), "{shown}");
}

#[test]
fn messages_are_shown_escaped() {
    let world = World::without_daemon();
    let inbox = world.home().join(".pilot/inbox");
    std::fs::create_dir_all(&inbox).unwrap();
    let message = json!({
        "bytes": 9, "data": "\u{1b}[2Jgone\u{9b}m", "from": "\u{1b}c", "received_at": "\u{7}", "type": "\u{8}", "message_id": "\u{1b}",
    });
    std::fs::write(inbox.join("TEXT-1.json"), message.to_string()).unwrap();
    assert_harmless(&world.run(&["inbox"]));
    assert_harmless(&world.run(&["--json", "inbox"]));
}
