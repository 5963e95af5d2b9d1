//! What unmodified pilotctl 1.18.0 sent to its daemon, sent to ours: the answers have the same shapes, in the same order.
//! The capture is `ipc_capture_1_18.json` of the wire specification.

use std::collections::BTreeMap;

use serde_json::Value;
use wire::ipc::{HandshakeRequest, Reply, Request, command};

use crate::world::{Client, Daemon, Frame, LOOK, World, run};

/// Fields whose values differ from run to run.
const VARYING: [&str; 2] = ["approved_at", "public_key"];
/// Answers that tell how a daemon fares: shapes only.
const FIGURES: [u8; 3] = [command::INFO + 1, command::HEALTH + 1, command::PREFER_DIRECT + 1];
/// `cmd=1, connection=4`.
const CONNECTION: std::ops::Range<usize> = 1..5;

struct Captured {
    from_client: bool,
    frame: Vec<u8>,
    is_whole: bool,
}

fn entries() -> Vec<(String, Vec<Captured>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/tests/vectors/ipc_capture_1_18.json");
    let document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let captured = |frame: &Value| {
        let hex = frame["hex"].as_str().unwrap();
        let bytes: Vec<u8> = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let is_whole = frame["length"].as_u64() == Some(bytes.len() as u64);
        Captured { from_client: frame["direction"] == "client→daemon", frame: bytes, is_whole }
    };
    let entry = |entry: &Value| {
        let frames = entry["frames"].as_array().unwrap().iter().map(captured).collect();
        (entry["command"].as_str().unwrap().to_owned(), frames)
    };
    document["entries"].as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn pilotctl_hears_what_it_heard_from_the_original() {
    run(|| async {
        let world = World::new();
        // The numbers of the capture: bravo is node 1, alpha node 2.
        let mut settings = world.settings("bravo");
        settings.trust_auto_approve = Some(true);
        let _bravo = world.start(settings).await;
        let mut settings = world.settings("alpha");
        settings.owner = Some("a@x.test".to_owned());
        let alpha = world.start(settings).await;
        let entries = entries();
        assert_eq!(entries.len(), 27);
        for (command_line, frames) in entries {
            if command_line == "pilotctl trust" {
                await_trust(&alpha).await;
            }
            replay(&alpha, &command_line, &frames).await;
        }
    });
}

/// The capture's trust had time to come about.
async fn await_trust(daemon: &Daemon) {
    let mut client = daemon.client().await;
    let wait = HandshakeRequest::WaitForTrust { node: wire::NodeId(1), timeout_ms: 60_000 };
    assert_eq!(client.ask(Request::Handshake(wait)).await.json()["trusted"], true);
    while client.trusted().await["trusted"][0]["mutual"] != true {
        tokio::time::sleep(LOOK).await;
    }
}

async fn replay(daemon: &Daemon, command_line: &str, frames: &[Captured]) {
    let mut client = daemon.client().await;
    let mut connections = BTreeMap::new();
    let mut surplus = None;
    for Captured { from_client, frame, is_whole } in frames {
        if *from_client {
            let mut frame = frame.clone();
            if let command::SEND | command::CLOSE = frame[0] {
                // One that the capture opened elsewhere has no other name here.
                let captured: [u8; 4] = frame[CONNECTION].try_into().unwrap();
                let ours = connections.get(&captured).copied().unwrap_or(captured);
                frame[CONNECTION].copy_from_slice(&ours);
            }
            client.send_raw(&frame).await;
            continue;
        }
        let heard = if frame[0] == command::RECV {
            Frame(received(&mut client, frame.len(), &mut surplus).await)
        } else {
            client.next().await.expect("an answer")
        };
        if frame[0] == command::DIAL_OK {
            assert_eq!(heard.0[0], command::DIAL_OK, "{command_line}: {heard:?}");
            connections.insert(frame[CONNECTION].try_into().unwrap(), heard.0[CONNECTION].try_into().unwrap());
        }
        compare(command_line, frame, *is_whole, &heard, &connections);
    }
}

/// The bytes of one frame, which may come in several, or together with those of the next: these are the surplus.
async fn received(client: &mut Client, length: usize, surplus: &mut Option<Vec<u8>>) -> Vec<u8> {
    let mut whole = match surplus.take() {
        Some(surplus) => surplus,
        None => client.next().await.expect("bytes of a stream").0,
    };
    while whole.len() < length {
        let next = client.next().await.expect("more bytes of a stream").0;
        assert_eq!(next[..CONNECTION.end], whole[..CONNECTION.end]);
        whole.extend_from_slice(&next[CONNECTION.end..]);
    }
    if whole.len() > length {
        *surplus = Some([&whole[..CONNECTION.end], &whole[length..]].concat());
        whole.truncate(length);
    }
    whole
}

fn compare(
    command_line: &str,
    captured: &[u8],
    is_whole: bool,
    heard: &Frame,
    connections: &BTreeMap<[u8; 4], [u8; 4]>,
) {
    assert_eq!(heard.0[0], captured[0], "{command_line}: {heard:?}");
    match (Reply::decode(captured).expect("the capture can be decoded"), heard.reply()) {
        (Reply::Recv { connection, data: expected }, Reply::Recv { connection: ours, data }) => {
            assert_eq!(connections[&connection.to_be_bytes()], ours.to_be_bytes(), "{command_line}");
            assert_eq!(data, expected, "{command_line}");
        }
        // Numbers of its own choice.
        (Reply::DialOk { .. }, Reply::DialOk { .. }) => {}
        (Reply::CloseOk { connection }, Reply::CloseOk { connection: ours }) => {
            assert_eq!(connections[&connection.to_be_bytes()], ours.to_be_bytes(), "{command_line}");
        }
        (Reply::Answer { json: "", .. }, Reply::Answer { json, .. }) => assert_eq!(json, "", "{command_line}"),
        // Long answers are cut in the capture; their shape is seen in shorter ones.
        (Reply::Answer { .. }, Reply::Answer { .. }) if !is_whole => {}
        (Reply::Answer { command, json }, Reply::Answer { .. }) => {
            let expected = serde_json::from_str(json).unwrap();
            compare_json(command_line, "", &expected, &heard.json(), FIGURES.contains(&command));
        }
        (expected, ours) => assert_eq!(expected, ours, "{command_line}"),
    }
}

/// Every field of `expected` is there, with a value of the same kind; with the same value where that does not vary.
fn compare_json(command_line: &str, field: &str, expected: &Value, ours: &Value, shape_only: bool) {
    match (expected, ours) {
        (Value::Object(expected), Value::Object(ours)) => {
            for (field, value) in expected {
                let Some(ours) = ours.get(field) else { panic!("{command_line}: no {field} in {ours:?}") };
                compare_json(command_line, field, value, ours, shape_only || VARYING.contains(&field.as_str()));
            }
        }
        (Value::Array(expected), Value::Array(ours)) if !shape_only => {
            assert_eq!(expected.len(), ours.len(), "{command_line}: {field}");
            for (expected, ours) in expected.iter().zip(ours) {
                compare_json(command_line, field, expected, ours, shape_only);
            }
        }
        _ if shape_only => {
            let same = std::mem::discriminant(expected) == std::mem::discriminant(ours);
            assert!(same, "{command_line}: {field} is {ours}, was {expected}");
        }
        _ => assert_eq!(expected, ours, "{command_line}: {field}"),
    }
}
