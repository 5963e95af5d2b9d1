//! Bans in heartbeats: what they look like, that nobody else notices, and that no shape of them does harm.
#![expect(clippy::unwrap_used, reason = "tests")]

mod fixtures;
mod invariants;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use wire::NodeId;
use wire::registry::bans::{Cursor, LISTED_MAX, Listed};
use wire::registry::{Answer, Operation, Request, push_message};

fn beat(bans_since: Option<Cursor>) -> Operation {
    Operation::Heartbeat { node_id: NodeId(7), report: None, bans_since }
}

fn written(message: &impl serde::Serialize) -> String {
    let mut out = Vec::new();
    push_message(&mut out, message);
    String::from_utf8(out.split_off(4)).unwrap()
}

fn cursor(at: u64, after: u32) -> Cursor {
    Cursor { at, after: NodeId(after) }
}

#[test]
fn who_does_not_ask_is_heard_and_answered_as_ever() {
    assert_eq!(written(&Request::from(beat(None))), r#"{"type":"heartbeat","node_id":7}"#);
    assert_eq!(written(&Answer::Heartbeat { time: 5, bans: None }), r#"{"type":"heartbeat_ok","time":5}"#);
    let mut count = 0;
    let heartbeats = fixtures::vectors("registry_json.json").into_iter();
    for vector in heartbeats.filter(|vector| vector.inputs["request"]["type"] == "heartbeat") {
        let request = Request::decode(&vector.bytes()[4..]).unwrap();
        assert!(matches!(request.operation, Operation::Heartbeat { bans_since: None, .. }), "{}", vector.name);
        let again: Value = serde_json::from_str(&written(&request)).unwrap();
        assert_eq!(again, vector.inputs["request"], "nothing is added");
        let answer = Answer::decode(vector.expect["response"].to_string().as_bytes()).unwrap();
        let again: Value = serde_json::from_str(&written(&answer)).unwrap();
        assert_eq!(again, vector.expect["response"], "nothing is added");
        count += 1;
    }
    assert_eq!(count, 3);
}

#[test]
fn who_asks_says_how_far_it_has_been_told() {
    let asks = Request::from(beat(Some(cursor(1_800_000_000, 9))));
    let text = r#"{"type":"heartbeat","node_id":7,"bans_since":{"at":1800000000,"after":9}}"#;
    assert_eq!(written(&asks), text);
    assert_eq!(Request::decode(text.as_bytes()), Ok(asks));
    assert_eq!(
        beat(Some(Cursor::ALL)).signed_text(),
        beat(None).signed_text(),
        "the signature is that of any heartbeat"
    );

    let bans = Listed { node_ids: vec![NodeId(5), NodeId(9)], next: cursor(1_800_000_060, 0) };
    let answer = Answer::Heartbeat { time: 1_800_000_360, bans: Some(bans) };
    let text =
        r#"{"type":"heartbeat_ok","time":1800000360,"bans":{"node_ids":[5,9],"next":{"at":1800000060,"after":0}}}"#;
    assert_eq!(written(&answer), text);
    assert_eq!(Answer::decode(text.as_bytes()), Ok(answer));
}

#[test]
fn what_has_another_shape_counts_as_not_there() {
    for shape in
        [json!(5), json!("5"), json!(true), json!({"at": -1}), json!({"at": 0.5}), json!({"after": 1_u64 << 32})]
    {
        let text = json!({"type": "heartbeat", "node_id": 7, "bans_since": shape}).to_string();
        assert_eq!(Request::decode(text.as_bytes()), Ok(Request::from(beat(None))), "{text}");
    }
    let from_start = json!({"type": "heartbeat", "node_id": 7, "bans_since": {}}).to_string();
    assert_eq!(Request::decode(from_start.as_bytes()), Ok(Request::from(beat(Some(Cursor::PRESENT)))));

    let next = json!({"at": 1, "after": 0});
    let too_long: Vec<u32> = (1..=u32::try_from(LISTED_MAX).unwrap() + 1).collect();
    for shape in [
        json!(null),
        json!([5]),
        json!({"node_ids": [5]}),
        json!({"node_ids": 5, "next": next}),
        json!({"node_ids": ["5"], "next": next}),
        json!({"node_ids": [-5], "next": next}),
        json!({"node_ids": too_long, "next": next}),
    ] {
        let text = json!({"type": "heartbeat_ok", "time": 3, "bans": shape}).to_string();
        assert_eq!(Answer::decode(text.as_bytes()), Ok(Answer::Heartbeat { time: 3, bans: None }), "{text}");
    }
    let longest = json!({"type": "heartbeat_ok", "time": 3, "bans": {"node_ids": &too_long[1..], "next": next}});
    let Ok(Answer::Heartbeat { bans: Some(bans), .. }) = Answer::decode(longest.to_string().as_bytes()) else {
        panic!()
    };
    assert_eq!(bans.node_ids.len(), LISTED_MAX);
}

proptest! {
    #[test]
    fn cursors_and_lists_survive_a_round_trip(
        at: u64, after: u32, time: u64, node_ids in vec(any::<u32>().prop_map(NodeId), 0..50),
    ) {
        let asks = Request::from(beat(Some(cursor(at, after))));
        prop_assert_eq!(Request::decode(written(&asks).as_bytes()), Ok(asks));
        let answer = Answer::Heartbeat { time, bans: Some(Listed { node_ids, next: cursor(at, after) }) };
        prop_assert_eq!(Answer::decode(written(&answer).as_bytes()), Ok(answer));
    }

    #[test]
    fn no_damage_makes_the_decoders_panic(
        place in 0..200_usize, byte: u8, keep in 0..200_usize, is_answer: bool,
    ) {
        let bans = Listed { node_ids: vec![NodeId(5), NodeId(u32::MAX)], next: cursor(u64::MAX, 3) };
        let mut message = match is_answer {
            true => written(&Answer::Heartbeat { time: u64::MAX, bans: Some(bans) }),
            false => written(&Request::from(beat(Some(cursor(u64::MAX, u32::MAX))))),
        }
        .into_bytes();
        let len = message.len();
        message[place % len] = byte;
        invariants::all(&message);
        message.truncate(keep % len);
        invariants::all(&message);
    }

    #[test]
    fn whatever_stands_in_the_fields_the_heartbeat_is_read(text in "[\\[\\]{},:0-9\"a-z.-]{0,40}") {
        for value in [serde_json::from_str(&text).unwrap_or(Value::Null), Value::String(text)] {
            let request = json!({"type": "heartbeat", "node_id": 7, "bans_since": value}).to_string();
            prop_assert!(Request::decode(request.as_bytes()).is_ok());
            let answer = json!({"type": "heartbeat_ok", "time": 7, "bans": value}).to_string();
            prop_assert!(Answer::decode(answer.as_bytes()).is_ok());
            invariants::all(request.as_bytes());
            invariants::all(answer.as_bytes());
        }
    }
}
