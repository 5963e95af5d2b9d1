//! Every exchange that was captured from real programs, replayed in order with its real signatures.

use crate::*;
use serde_json::Value;

const CAPTURE: &str = include_str!("../../../wire/tests/vectors/registry_capture_1_18.json");
const JSON: &str = include_str!("../../../wire/tests/vectors/registry_json.json");

/// Replays `request` from loopback and returns the answer as JSON.
fn replay(world: &mut World, connection: u64, request: &Value) -> Value {
    let decoded = match Request::decode(request.to_string().as_bytes()) {
        Ok(decoded) => decoded,
        Err(error) => return serde_json::to_value(Answer::error(&error)).unwrap(),
    };
    let answer = world.outcome(from("127.0.0.1", connection), &decoded).answer;
    serde_json::to_value(answer).unwrap()
}

/// Takes out what differs from run to run.
fn without_times(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for name in ["timestamp", "created", "time"] {
                if let Some(time) = fields.get_mut(name) {
                    assert!(time.as_u64().is_some_and(|time| time > 1_700_000_000), "{name}");
                    *time = Value::Null;
                }
            }
            for field in fields.values_mut() {
                *field = without_times(field.take());
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = without_times(value.take())),
        _ => {}
    }
    value
}

/// Takes out the fields that are ours, which other programs skip.
fn without_ours(mut answer: Value) -> Value {
    for list in ["networks", "nodes"] {
        for entry in answer.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let online = entry.as_object_mut().and_then(|entry| entry.remove("online"));
            assert!(online.is_none_or(|online| online.is_u64() || online.is_boolean()));
        }
    }
    answer
}

/// What is answered otherwise than by the registry of the 1.9 line that was captured, and why.
fn otherwise(name: &str) -> Option<Value> {
    let found = |node: NodeId, hostname: &str| {
        serde_json::to_value(Answer::ResolveHostname {
            node_id: node,
            address: node.address(),
            public: false,
            hostname: hostname.into(),
        })
        .unwrap()
    };
    let refused = |text: &str| Some(serde_json::json!({ "type": "error", "error": text }));
    match &name[..2] {
        // Names of private nodes resolve: pilotctl asks without saying who it is (section 11.2).
        "17" | "29" | "31" => Some(found(NodeId(1), "bravo")),
        "30" => Some(found(NodeId(2), "alpha")),
        // Refusals say why, where the captured registry hid its reason.
        "18" => refused("trust required: node 1 is private and does not trust node 2; send it a handshake"),
        "23" => refused("trust required: node 2 is private and does not trust node 1; send it a handshake"),
        "44" => refused("trust with node 2 not found"),
        // The daemon accepted twice; one acceptance is delivered.
        "27" => Some(serde_json::json!({
            "type": "poll_handshakes_ok", "requests": [],
            "responses": [{ "accept": true, "from_node_id": 1, "timestamp": null }],
        })),
        // The text that 1.18.0 signs covers the new key; the captured registry did not know it.
        "56" => Some(serde_json::json!({
            "type": "rotate_key_ok", "node_id": 2, "address": "0:0000.0000.0002",
            "public_key": "N75ThjUjrt95ryuQVCI1Nnv8cVDslvw0LXoJhK+/5y8=",
        })),
        _ => None,
    }
}

#[test]
fn real_daemons_and_pilotctl_are_answered_in_kind() {
    let mut world = World::new();
    world.relays.clear();
    let capture: Value = serde_json::from_str(CAPTURE).unwrap();
    let entries = capture["entries"].as_array().unwrap();
    let mut different = 0;
    for entry in entries {
        let name = entry["name"].as_str().unwrap();
        let connection = entry["connection"].as_u64().unwrap();
        let answer = without_ours(without_times(replay(&mut world, connection, &entry["request"])));
        let captured = without_times(entry["response"].clone());
        let expected = otherwise(name).unwrap_or_else(|| captured.clone());
        different += usize::from(expected != captured);
        assert_eq!(answer, expected, "{name}");
    }
    assert_eq!((entries.len(), different), (56, 9));
}

/// What is answered otherwise than by v1.2.2: `Ok` to compare with instead, `Err` for an error with this text.
fn otherwise_than_v122(name: &str) -> Option<Result<Value, &'static str>> {
    match name {
        // Open to anyone in v1.2.2.
        "beacon_register" => Some(Err("admin token required for beacon_register")),
        "beacon_list" => Some(Ok(serde_json::json!({ "type": "beacon_list_ok", "beacons": [] }))),
        _ => None,
    }
}

#[test]
fn v122_requests_are_answered_with_all_that_v122_says() {
    let mut world = World::new();
    world.relays.clear();
    let file: Value = serde_json::from_str(JSON).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    for vector in vectors {
        let name = vector["name"].as_str().unwrap();
        let answer = without_times(replay(&mut world, 1, &vector["inputs"]["request"]));
        let captured = without_times(vector["expect"]["response"].clone());
        match otherwise_than_v122(name).unwrap_or(Ok(captured)) {
            Err(text) => assert_eq!(answer["error"], text, "{name}"),
            // v1.2.2 hides every reason.
            Ok(expected) if expected["type"] == "error" => {
                assert_eq!(answer["type"], "error", "{name}: {answer}");
                assert_ne!(answer["error"], "request failed", "{name}: the reason is told");
            }
            Ok(expected) => {
                for (field, value) in expected.as_object().unwrap() {
                    assert!(contains(&answer[field], value), "{name}: {field} is {}, not {value}", answer[field]);
                }
            }
        }
    }
    assert_eq!(vectors.len(), 39);
}

/// Whether `value` is `expected`, or an object or list of objects with more fields.
fn contains(value: &Value, expected: &Value) -> bool {
    match (value, expected) {
        (Value::Object(value), Value::Object(expected)) => {
            expected.iter().all(|(field, expected)| value.get(field).is_some_and(|value| contains(value, expected)))
        }
        (Value::Array(value), Value::Array(expected)) => {
            value.len() == expected.len()
                && value.iter().zip(expected).all(|(value, expected)| contains(value, expected))
        }
        (value, expected) => value == expected,
    }
}
