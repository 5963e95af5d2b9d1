//! What nodes offer, and groups of them: the shapes that are printed, for people and for scripts.

use serde_json::{Value, json};
use wire::ipc::Request;

use crate::world::{Ran, World};

fn with(answers: &[(Value, Value)]) -> World {
    let texts: Vec<_> = answers.iter().map(|(question, answer)| (question.to_string(), answer.to_string())).collect();
    let script: Vec<_> =
        texts.iter().map(|(question, answer)| (Request::Extension(question), answer.as_str())).collect();
    World::with_daemon(&script)
}

fn question(text: &str) -> Value {
    json!({"op": "query", "text": text, "tags": [], "group": null, "limit": 10, "offline": false})
}

fn hit(node: u32, hostname: &str, title: &str) -> Value {
    json!({
        "node_id": node, "address": format!("0:0000.0000.{node:04X}"), "hostname": hostname, "score": 1000 - node,
        "online": true, "last_seen": null, "tags": ["papers"], "public_key": "…", "title": title,
        "record": {"title": title, "text": "two\nlines", "tags": ["papers"], "price": {"per_call": 0}},
    })
}

#[test]
fn hits_line_up_also_where_characters_are_wide() {
    let hits =
        [hit(1, "specialist-papers", "resolve academic citations"), hit(2, "引用", "学术引用"), hit(3, "c", "x")];
    let answer = json!({"hits": hits, "rejected": []});
    let world = with(&[(question("citations"), answer.clone())]);
    let ran = world.run(&["query", "citations"]);
    let expected = "\
ADDRESS           HOSTNAME           SCORE  SEEN  TAGS     TITLE
0:0000.0000.0001  specialist-papers  999    now   #papers  resolve academic citations
0:0000.0000.0002  引用               998    now   #papers  学术引用
0:0000.0000.0003  c                  997    now   #papers  x
";
    assert_eq!((ran.status(), ran.out().as_str(), ran.err().as_str()), (0, expected, ""));
    let ran = world.run(&["--json", "query", "citations"]);
    assert_eq!(ran.json(), json!({"status": "ok", "data": answer}), "the record is whole, as JSON");
}

#[test]
fn nobody_found_is_status_1_as_with_grep() {
    let empty = json!({"hits": [], "rejected": []});
    let world = with(&[(question("cooking"), empty.clone())]);
    let ran = world.run(&["--json", "query", "cooking"]);
    assert_eq!((ran.status(), ran.json()), (1, json!({"status": "ok", "data": empty})));
    let ran = world.run(&["query", "cooking"]);
    assert_eq!((ran.status(), ran.out().as_str()), (1, ""));
    assert!(ran.err().contains("nobody who is online offers this"), "{}", ran.err());
}

#[test]
fn what_is_withheld_is_said() {
    let detail = "node 7's record is not what its key has signed (it was changed on the way, or in the directory)";
    let rejected = json!([{"node_id": 7, "reason": "altered", "detail": detail}]);
    let answer = json!({"hits": [hit(1, "a", "x")], "rejected": rejected});
    let world = with(&[(question("x"), answer)]);
    let ran = world.run(&["query", "x"]);
    assert_eq!(ran.err(), format!("1 result withheld: {detail}\n"));
    assert!(!ran.out().contains("node 7") && ran.status() == 0);
    assert_eq!(world.run(&["--json", "query", "x"]).json()["data"]["rejected"], rejected);
}

#[track_caller]
fn assert_harmless(ran: &Ran) {
    let shown = ran.out() + &ran.err();
    assert!(!shown.is_empty());
    let harmful = |character: char| character.is_control() && character != '\n' || character == '\u{202e}';
    assert!(!shown.contains(harmful), "{shown:?}");
    assert!(shown.lines().all(|line| line.len() < 6000), "bounded");
}

#[test]
fn what_others_offer_cannot_command_a_terminal() {
    let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\r\n\u{2066}";
    let long = evil.repeat(400);
    let mut one = hit(1, evil, &long);
    one["tags"] = json!([evil, long]);
    one["address"] = json!(evil);
    one["record"] = json!({"title": long, "text": evil, "tags": [evil], "input": {evil: evil}, "version": evil});
    let answer = json!({"hits": [one], "rejected": [{"node_id": 7, "reason": evil, "detail": evil}]});
    let groups = json!({"groups": [{"network_id": 3, "name": evil, "join_rule": evil, "members": 2, "joined": true}]});
    let invites = json!({"invites": [{"network_id": 3, "name": evil, "inviter_id": 1}]});
    let member = json!({"node_id": 1, "address": evil, "hostname": evil, "tags": [evil], "online": true});
    let members = json!({"network_id": 3, "own_node_id": 2, "members": [member], "more": false});
    let own = json!({"state": "refused", "reason": evil, "offer": {"title": evil, "text": evil, "tags": [evil]}});
    let world = with(&[
        (question("x"), answer.clone()),
        (json!({"op": "capability", "node_id": 1}), answer),
        (json!({"op": "capability"}), own),
        (json!({"op": "groups"}), groups),
        (json!({"op": "group_invites"}), invites),
        (json!({"op": "group_members", "group": "lab", "after": null}), members),
    ]);
    for command in [
        &["query", "x"][..],
        &["capability", "show", "1"],
        &["capability", "show"],
        &["group", "list"],
        &["group", "invites"],
        &["group", "members", "lab"],
    ] {
        let ran = world.run(command);
        assert_eq!(ran.status(), 0, "{command:?}: {}", ran.err());
        assert_harmless(&ran);
        let ran = world.run(&[&["--json"], command].concat());
        let shown = ran.out() + &ran.err();
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{shown:?}");
    }
    // A title is cut to its column, however long it is.
    let row = world.run(&["query", "x"]).out().lines().nth(1).unwrap().to_owned();
    assert!(row.chars().count() < 260 && row.contains('…'), "{row}");
}

#[test]
fn all_pages_of_a_large_group_are_read_and_who_is_online_comes_first() {
    let member = |node: u32| {
        let online = node.is_multiple_of(2);
        json!({"node_id": node, "address": "1:0000.0000.0001", "public": true, "online": online})
    };
    let page = |from: u32, more: bool| {
        let members: Vec<_> = (from..from + 2500).map(member).collect();
        json!({"network_id": 1, "own_node_id": 2, "members": members, "more": more})
    };
    let ask = |after: Value| json!({"op": "group_members", "group": "all", "after": after});
    let world = with(&[
        (ask(Value::Null), page(1, true)),
        (ask(json!(2500)), page(2501, true)),
        (ask(json!(5000)), page(5001, true)),
        (ask(json!(7500)), page(7501, false)),
    ]);
    let data = world.run(&["--json", "group", "members", "all"]).json()["data"].clone();
    let nodes: Vec<u64> =
        data["members"].as_array().unwrap().iter().map(|member| member["node_id"].as_u64().unwrap()).collect();
    assert_eq!((nodes.len(), &data["total"], &data["online"]), (10_000, &json!(10_000), &json!(5000)));
    assert_eq!((nodes[0], nodes[4999], nodes[5000]), (2, 10_000, 1));
    let ran = world.run(&["group", "members", "all"]);
    assert_eq!(ran.out().lines().count(), 10_001);
    assert!(ran.err().contains("10000 members, 5000 online"), "{}", ran.err());
}

#[test]
fn whoever_follows_a_group_is_told_when_nothing_can_be_known_and_when_something_was_missed() {
    let asked = |after: u64| json!({"op": "changes", "group": "lab", "after": after, "wait_seconds": 25});
    let change = json!({"what": "joined", "node_id": 9, "hostname": "nine"});
    let members = json!({"network_id": 3, "own_node_id": 2, "members": [], "more": false});
    let world = with(&[
        (json!({"op": "group_members", "group": "lab", "after": null}), members),
        (asked(0), json!({"cursor": 1, "reset": false, "changes": []})),
        (asked(1), json!({"cursor": 2, "reset": false, "changes": [], "away": "no answer"})),
        (asked(2), json!({"cursor": 3, "reset": false, "changes": [], "away": "no answer"})),
        (asked(3), json!({"cursor": 4, "reset": true, "changes": [change]})),
    ]);
    // The script ends there, and with it the daemon's patience.
    let ran = world.run(&["--json", "group", "members", "lab", "--follow"]);
    let lines: Vec<Value> = ran.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = lines[1..].iter().map(|line| line["event"].as_str().or(line["what"].as_str())).collect();
    assert_eq!(events, [Some("away"), Some("back"), Some("reset"), Some("joined")], "{}", ran.out());
    assert_eq!(lines[1]["detail"], "nothing new for now: no answer");
}

#[test]
fn mistakes_are_told_before_anything_is_asked() {
    let world = World::without_daemon();
    let file = world.home().join("offer.json");
    std::fs::write(&file, "{\"titel\": \"x\"}").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, expected) in [
        (&["capability", "set"][..], "required"),
        (&["capability", "set", "--file", file], "\"titel\" is unknown"),
        (&["capability", "set", "--title", "x", "--input-json", "{"], "--input-json is not JSON"),
        (&["capability", "set", "--title", "x", "--tag", "Two Words"], "invalid tag"),
        (&["query", "x", "--limit", "51"], "51"),
        (&["send-message", "--data", "x"], "required"),
        (&["send-message", "bravo", "--most-relevant", "x", "--data", "x"], "cannot be used with"),
        (&["send-message", "--group", "lab", "--data", "x"], "required"),
        (&["broadcast", "lab"], "required"),
        (&["broadcast", "lab", "--data", "{", "--type", "json"], "not JSON"),
        (&["group", "create", "lab", "--rule", "maybe"], "maybe"),
    ] {
        let ran = world.run(arguments);
        assert_eq!(ran.status(), 2, "{arguments:?}: {}", ran.err());
        assert!(ran.err().contains(expected), "{arguments:?}: {}", ran.err());
    }
    assert_eq!(world.run(&["capability", "set", "--file", "missing"]).status(), 1);
}

#[test]
fn an_older_daemon_is_named_as_what_is_in_the_way() {
    let world = World::with_daemon(&[]);
    let complaint = world.run(&["--json", "query", "x"]).complaint();
    assert_eq!(complaint["code"], "connection_failed");
    assert!(complaint["hint"].as_str().unwrap().contains("newer daemon"), "{complaint}");
}
