//! What scripts parse: the same keys and types as existing tools print.

use serde_json::{Value, json};
use wire::ipc::Request;

use crate::world::{CAPTURE, PRINTED, World};

/// Keys and types, without values. An empty list says nothing of what would be in it.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(items) => json!([items.first().map(shape)]),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
    }
}

/// The captured `info`, with the peers and streams that another command of the capture showed.
fn busy_info() -> String {
    let capture: Value = serde_json::from_str(CAPTURE).unwrap();
    let answer = capture["entries"][0]["frames"][1]["hex"].as_str().unwrap();
    let bytes: Vec<u8> =
        (2..answer.len()).step_by(2).map(|at| u8::from_str_radix(&answer[at..at + 2], 16).unwrap()).collect();
    let mut info: Value = serde_json::from_slice(&bytes).unwrap();
    let printed: Value = serde_json::from_str(PRINTED).unwrap();
    let entries = printed["entries"].as_array().unwrap();
    let data = |command: &str| {
        let entry = entries.iter().find(|entry| entry["command"] == command).unwrap();
        entry["output"]["data"].clone()
    };
    info["conn_list"] = data("pilotctl --json connections")["connections"].clone();
    info["peer_list"] = data("pilotctl --json peers")["peers"].clone();
    info["peer_list"][0]["endpoint"] = json!("192.0.2.1:4000");
    info.to_string()
}

/// Words of a command line as the capture writes them: a message of two words is one.
fn words(command: &str) -> Vec<&str> {
    let (command, message) = match command.split_once("--data hello there") {
        Some((before, _)) => (before, Some(["--data", "hello there"])),
        None => (command, None),
    };
    command.split_whitespace().skip(1).chain(message.into_iter().flatten()).collect()
}

#[test]
fn every_command_prints_the_shape_that_scripts_know() {
    let printed: Value = serde_json::from_str(PRINTED).unwrap();
    let entries = printed["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 30);
    let found = entries.iter().find(|entry| entry["command"] == "pilotctl --json lookup 1").unwrap();
    let idle = World::with_daemon(&[]).and_directory(found["output"]["data"].clone());
    let busy_info = busy_info();
    let busy = World::with_daemon(&[(Request::Info, &busy_info)]);
    for world in [&idle, &busy] {
        std::fs::write(world.home().join("f.txt"), "some file text\n").unwrap();
    }
    for entry in entries {
        let command = entry["command"].as_str().unwrap();
        let words = words(command);
        let world = if ["peers", "connections"].contains(&words[1]) { &busy } else { &idle };
        let ran = world.run(&words);
        assert_eq!(ran.status(), 0, "{command}: {}", ran.err());
        assert_eq!(shape(&ran.json()), shape(&entry["output"]), "{command}: {}", ran.out());
    }
}

#[test]
fn where_hosts_are_stays_out_of_what_scripts_pass_on() {
    let busy_info = busy_info();
    let world = World::with_daemon(&[(Request::Info, &busy_info)]);
    for command in ["info", "peers"] {
        let printed = world.run(&["--json", command]).out();
        assert!(!printed.contains("endpoint") && !printed.contains("192.0.2.1"), "{command}: {printed}");
    }
    assert!(world.run(&["peers"]).out().contains("192.0.2.1:4000"), "a person may see it");
}

#[test]
fn what_comes_in_has_the_shape_that_scripts_know() {
    let world = World::with_daemon(&[]);
    let ran = world.run(&["--json", "recv", "5000", "--timeout", "30s"]);
    let expected = json!([{"bytes": 11, "data": "from a peer", "port": 5000, "seq": 0}]);
    assert_eq!(ran.json(), json!({"status": "ok", "data": {"messages": expected, "timeout": false}}));
    let ran = world.run(&["--json", "listen", "2000", "--count", "1", "--timeout", "30s"]);
    let message = json!({"bytes": 10, "data": "a datagram", "src_addr": "0:0000.0000.0002", "src_port": 50001});
    assert_eq!(ran.json(), json!({"status": "ok", "data": {"messages": [message], "timeout": false}}));
    let ran = world.run(&["--json", "subscribe", "bravo", "news", "--count", "1", "--timeout", "200ms"]);
    assert_eq!(ran.json(), json!({"status": "ok", "data": {"events": [], "timeout": true}}));
    assert_eq!(ran.status(), 0);
}

#[test]
fn the_inbox_of_an_existing_daemon_is_shown_as_scripts_know_it() {
    let world = World::without_daemon();
    let inbox = world.home().join(".pilot/inbox");
    std::fs::create_dir_all(&inbox).unwrap();
    let message = json!({
        "bytes": 5, "data": "hello", "data_encoding": "utf8", "from": "0:0000.0000.0002", "message_id": "7fb7",
        "received_at": "2026-11-22T20:42:04.591576787Z", "type": "TEXT",
    });
    let id = "TEXT-20261122-204204.591-000001";
    std::fs::write(inbox.join(format!("{id}.json")), message.to_string()).unwrap();
    std::fs::write(inbox.join("not a message.json"), "{}").unwrap();
    let listed = world.run(&["--json", "inbox"]).json()["data"].clone();
    let common = json!({
        "bytes": 5, "from": "0:0000.0000.0002", "id": id, "message_id": "7fb7",
        "received_at": "2026-11-22T20:42:04.591576787Z", "type": "TEXT",
    });
    let with = |field: &str| {
        let mut message = common.clone();
        message[field] = json!("hello");
        message
    };
    assert_eq!(listed["messages"], json!([with("preview")]));
    assert_eq!(listed["dir"], json!(inbox.to_string_lossy()));
    let latest = world.run(&["--json", "inbox", "--latest"]).json()["data"]["messages"].clone();
    assert_eq!(latest, json!([with("data")]));
    assert_eq!(world.run(&["--json", "inbox", "read", id]).json()["data"], {
        let mut whole = with("data");
        whole["data_encoding"] = json!("utf8");
        whole
    });
    assert_eq!(world.run(&["inbox", "read", "../../etc/passwd"]).status(), 1);
    let cleared = world.run(&["--json", "inbox", "--clear"]).json();
    assert_eq!(cleared, json!({"status": "ok", "data": {"cleared": 2, "remaining": 0}}));
    assert_eq!(std::fs::read_dir(&inbox).unwrap().count(), 0);
}
