//! The flight recorder and traces: what is shown, what is asked of the daemon, and daemons that know neither.

use serde_json::json;
use wire::ipc::Request;

use crate::world::World;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn event(what: &str, unix_ms: u64) -> serde_json::Value {
    json!({"event": "path_direct", "what": what, "unix_ms": unix_ms, "address": "0:0000.0000.0001", "node_id": 1})
}

#[test]
fn events_are_shown_with_their_offsets_or_passed_on_to_scripts() {
    let answer = json!({"node_id": 1, "events": [event("first", 1_769_860_800_000), event("last", 1_769_860_800_250)]});
    let answer = answer.to_string();
    let world = World::with_daemon(&[(Request::Extension("{\"node_id\":1,\"op\":\"events\"}"), &answer)]);
    let shown = world.run(&["events", "1"]).out();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), 2, "{shown}");
    assert!(lines[0].contains("12:00:00.000Z") && lines[0].ends_with("+0.000s  first"), "{shown}");
    assert!(lines[1].ends_with("+0.250s  last"), "{shown}");
    let data = world.run(&["--json", "events", "1", "--count", "1"]).json()["data"].clone();
    assert_eq!(data["events"], json!([event("last", 1_769_860_800_250)]));
}

#[test]
fn a_daemon_without_a_recorder_is_named_and_what_to_do() {
    let world = World::with_daemon(&[]);
    let ran = world.run(&["events"]);
    assert_eq!(ran.status(), 1);
    assert!(ran.err().contains("no flight recorder") && ran.err().contains("hint:"), "{}", ran.err());
}

#[test]
fn scripts_learn_the_trace_of_a_message_where_the_daemon_has_one() {
    let known = json!({"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "traceparent": TRACEPARENT}).to_string();
    let question = "{\"connection\":1,\"op\":\"trace\"}";
    let message = ["--json", "send-message", "1", "--data", "any news?"];
    let sent = World::with_daemon(&[(Request::Extension(question), &known)]).run(&message).json();
    assert_eq!(sent["data"]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let sent = World::with_daemon(&[]).run(&message).json();
    assert!(sent["data"].get("trace_id").is_none(), "{sent}");
}

#[test]
fn a_message_to_the_best_or_to_many_belongs_to_the_trace_as_any_other() {
    let told = json!({"op": "trace", "traceparent": TRACEPARENT}).to_string();
    let (own, query) = (
        json!({"op": "capability"}).to_string(),
        json!({
            "op": "query", "text": "citations", "group": null, "limit": 10,
        }),
    );
    let query = query.to_string();
    let hit = json!({"node_id": 1, "address": "0:0000.0000.0001", "hostname": "one", "public_key": "key"});
    let hits = json!({"hits": [hit], "rejected": []}).to_string();
    let proved = json!({"op": "tunnel_key", "node_id": 1, "connection": 1}).to_string();
    let members = json!({"op": "group_members", "group": "lab", "after": null}).to_string();
    let member = json!({"node_id": 1, "address": "0:0000.0000.0001", "hostname": "one", "online": true});
    let members_answer = json!({"network_id": 3, "own_node_id": 2, "members": [member], "more": false}).to_string();
    let known = json!({"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "traceparent": TRACEPARENT}).to_string();
    let world = World::with_daemon(&[
        (Request::Extension(&told), "{}"),
        (Request::Extension(&own), "{\"node_id\":2}"),
        (Request::Extension(&query), &hits),
        (Request::Extension(&proved), "{\"public_key\":\"key\"}"),
        (Request::Extension(&members), &members_answer),
        (Request::Extension("{\"connection\":1,\"op\":\"trace\"}"), &known),
    ]);
    let flags = ["--json", "--traceparent", TRACEPARENT];
    let best = ["send-message", "--most-relevant", "citations", "--data", "who?"];
    let sent = world.run(&[&flags[..], &best].concat()).json();
    assert_eq!(sent["data"]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736", "{sent}");
    assert_eq!(
        world.times_asked(Request::Extension(&told)),
        2,
        "by the connection that asks, and by the one that sends"
    );
    let sent = world.run(&[&flags[..], &["broadcast", "lab", "--data", "news"]].concat()).json();
    assert_eq!(sent["data"]["results"][0]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736", "{sent}");
    assert_eq!(world.times_asked(Request::Extension(&told)), 4);
}

#[test]
fn a_traceparent_comes_from_the_command_line_or_the_environment() {
    let world = World::with_daemon(&[]);
    let wrong = world.run(&["--traceparent", "00-xyz", "ping", "1", "-c", "1"]);
    assert_eq!(wrong.status(), 2);
    assert!(wrong.err().contains("traceparent, such as 00-"), "{}", wrong.err());
    // A daemon that knows traces is told before the dial, by each command that dials.
    let told = json!({"op": "trace", "traceparent": TRACEPARENT}).to_string();
    let world = World::with_daemon(&[(Request::Extension(&told), "{}")]);
    assert!(world.run(&["--traceparent", TRACEPARENT, "ping", "1", "-c", "1"]).0.status.success());
    assert_eq!(world.times_asked(Request::Extension(&told)), 1);
    assert!(world.command(&["ping", "1", "-c", "1"]).env("TRACEPARENT", TRACEPARENT).status().unwrap().success());
    assert_eq!(world.times_asked(Request::Extension(&told)), 2);
    // One that makes no sense in the environment is not the user's mistake; a daemon that knows none pings all the same.
    for value in ["nonsense", TRACEPARENT] {
        let ran = world.command(&["ping", "1", "-c", "1"]).env("TRACEPARENT", value).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
}
