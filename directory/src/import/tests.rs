//! Snapshots, from plain to broken, and what becomes of them in a service.

use ed25519_dalek::SigningKey;
use serde_json::json;

use super::*;
use crate::config::Limits;
use std::time::Duration;

use wire::registry::request::Register;
use wire::registry::{Answer, Operation};

use crate::service::{Caller, ConnectionId, Decision, Now, Service};

const NOW: u64 = 1_795_000_000;

fn key(seed: u8) -> PublicKey {
    Base64(SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes())
}

fn planned(snapshot: &serde_json::Value) -> Plan {
    plan(snapshot.to_string().as_bytes(), NOW, 1000).unwrap()
}

fn stored(plan: &Plan) -> Facts {
    let mut store = Store::in_memory(NOW).unwrap();
    store.commit(&plan.changes).unwrap();
    store.load().unwrap()
}

/// As section 6.5 describes it, with a hole at 2 and at 5, and a key that is gone at 4.
fn fleet() -> serde_json::Value {
    let (one, three, four) = (key(1).to_string(), key(3).to_string(), key(4).to_string());
    json!({
        "next_node": 7,
        "next_net": 2,
        "nodes": {
            "1": { "id": 1, "public_key": one, "owner": "a@example.org", "real_addr": "198.51.100.1:4000",
                   "networks": [0, 1], "public": true, "hostname": "alice", "tags": ["#gpu", "eu"],
                   "last_seen": "2026-11-22T10:00:00Z", "polo_score": 3 },
            "3": { "id": 3, "public_key": three, "networks": [0], "task_exec": true },
            "6": { "id": 6, "public_key": key(6).to_string(), "hostname": "zoe" },
        },
        "networks": { "0": { "id": 0, "name": "backbone", "join_rule": "open", "members": [1, 3, 6] },
                      "1": { "id": 1, "name": "Research", "join_rule": "token", "token": "secret", "members": [1, 3] } },
        "trust_pairs": ["1:3", "3:6"],
        "pub_key_idx": { one: 1, three: 3, four: 4, key(6).to_string(): 6 },
        "handshake_inbox": { "1": [{ "from_node_id": 6, "justification": "please", "timestamp": "2026-11-22T10:00:00Z" }] },
        "handshake_responses": { "6": [{ "from_node_id": 3, "accept": true }] },
    })
}

#[test]
fn a_fleet_keeps_its_numbers_names_and_trust() {
    let plan = planned(&fleet());
    assert_eq!(plan.invalid, []);
    let expected = Summary {
        nodes: 3,
        hostnames: 2,
        tagged: 1,
        public: 1,
        kept_for_keys: 1,
        unused_numbers: 2,
        trust_pairs: 2,
        networks: 1,
        members: 2,
        requests: 1,
        responses: 1,
    };
    assert_eq!(plan.summary, expected);
    let facts = stored(&plan);
    let alice = &facts.nodes[0];
    assert_eq!((alice.id, alice.key, alice.hostname.as_deref()), (NodeId(1), key(1), Some("alice")));
    assert_eq!((alice.public, alice.signs, alice.endpoint.as_str()), (true, false, "198.51.100.1:4000"));
    assert_eq!(alice.tags, ["gpu", "eu"]);
    assert_eq!((facts.nodes[3].key, facts.nodes[3].registered), (key(4), false));
    let pair = |truster, trusted| TrustFact { truster: NodeId(truster), trusted: NodeId(trusted) };
    for direction in [pair(1, 3), pair(3, 1), pair(3, 6), pair(6, 3)] {
        assert!(facts.trust.contains(&direction), "{direction:?}");
    }
    assert_eq!(facts.networks[0].token_digest, Some(Sha256::digest("secret").into()));
    assert_eq!((facts.networks[0].creator, facts.members.len()), (NodeId(1), 2));
    assert_eq!((facts.requests[0].from, facts.requests[0].to), (NodeId(6), NodeId(1)));
    assert_eq!((facts.responses[0].from, facts.responses[0].to), (NodeId(3), NodeId(6)));
}

#[test]
fn nobody_gets_a_number_that_was_handed_out() {
    let facts = stored(&planned(&fleet()));
    let unused: Vec<&NodeFact> = [1, 4].map(|place| &facts.nodes[place]).to_vec();
    for fact in unused {
        assert!(!fact.registered && fact.signs && !is_identity(&fact.key), "{fact:?}");
    }
    // Without the next number the highest one is the last.
    let mut snapshot = fleet();
    snapshot.as_object_mut().unwrap().remove("next_node");
    assert_eq!(stored(&planned(&snapshot)).nodes.len(), 6);
    let service = Service::new(facts, &Limits::default(), None);
    assert_eq!(service.registered().collect::<Vec<_>>(), [NodeId(1), NodeId(3), NodeId(6)]);
}

#[test]
fn lists_may_be_arrays_and_numbers_texts() {
    let snapshot = json!({
        "nodes": [{ "node_id": "1", "public_key": key(1).to_string() }, { "id": 2, "key": key(2).to_string() }],
        "trust_pairs": [[1, 2], "2:1"],
        "pub_key_idx": [{ "public_key": key(9).to_string(), "node_id": 2 }],
        "networks": null,
    });
    let plan = planned(&snapshot);
    assert_eq!(plan.invalid, []);
    assert_eq!((plan.summary.nodes, plan.summary.trust_pairs), (2, 1));
    assert_eq!(stored(&plan).retired_keys, [(key(9), NodeId(2))]);
}

#[test]
fn what_cannot_be_taken_is_named_with_its_reason() {
    let good = key(1).to_string();
    let snapshot = json!({
        "nodes": {
            "1": { "id": 1, "public_key": good, "hostname": "Not A Name", "tags": ["UPPER"], "networks": [9] },
            "2": { "id": 3, "public_key": key(2).to_string() },
            "4": { "public_key": "short" },
            "5": { "public_key": good },
            "6": { },
            "7": { "public_key": Base64([2; 32]).to_string() },
            "0": { "public_key": key(8).to_string() },
            "4000": { "public_key": key(9).to_string() },
            "8": { "public_key": key(10).to_string(), "hostname": "twin" },
            "9": { "public_key": key(11).to_string(), "hostname": "twin", "real_addr": "nowhere" },
        },
        "trust_pairs": ["1:1", "1:77", "x", 5],
        "networks": [{ "id": 1, "name": "bad name", "members": [1] }, { "id": 2, "name": "empty" },
                     { "id": 3, "name": "t", "join_rule": "token", "members": [1, 5] }, { "id": 70000, "name": "far" }],
        "pub_key_idx": { "no key": 1 },
        "handshake_inbox": { "1": [{ "from_node_id": 99 }], "x": [{ "from_node_id": 1 }] },
    });
    let plan = planned(&snapshot);
    let lines: Vec<String> = plan.invalid.iter().map(ToString::to_string).collect();
    for expected in [
        "node 1: hostname \"Not A Name\" left out",
        "node 1: tags left out",
        "node 1: is in network 9, which is not among",
        "node 2: it says it is 3",
        "node 4: its key is not 32 bytes in base64",
        "node 5: node 1 has the same key",
        "node 6: there is no public_key",
        "node 7: the key is none of Ed25519",
        "node 0: numbers lie between 1 and 1000",
        "node 4000: numbers lie between 1 and 1000",
        "node 9: hostname \"twin\" left out, as node 8 has it",
        "node 9: endpoint \"nowhere\" left out",
        "trust 1:1: a node with itself",
        "trust 1:77: node 77 is not among the nodes",
        "trust x: write two numbers",
        "trust entry 4: write two numbers",
        "network 1: invalid group name",
        "network 2: nobody is in it",
        "network 3: it is joined with a token",
        "network 70000: 70000 is no number of a network",
        "key no key: the key is not 32 bytes",
        "request 1: node 99 is not among the nodes",
        "request x: \"x\" is no node",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected:?} is missing in {lines:#?}");
    }
    // The rest is whole.
    let facts = stored(&plan);
    assert_eq!(facts.nodes.iter().filter(|node| node.registered).count(), 3);
}

#[test]
fn what_is_no_snapshot_is_refused() {
    for text in ["", "[]", "{}", "{\"nodes\": 7}", "not json", "{\"nodes\": {}, \"next_node\": 99999}"] {
        assert!(plan(text.as_bytes(), NOW, 1000).is_err(), "{text}");
    }
    let empty = plan(b"{\"nodes\": {}}", NOW, 1000).unwrap();
    assert_eq!((empty.changes.len(), empty.invalid.len()), (0, 0));
}

#[test]
fn only_an_empty_directory_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let plan = planned(&fleet());
    write(&plan, folder.path(), NOW).unwrap();
    let again = write(&plan, folder.path(), NOW).unwrap_err().to_string();
    assert!(again.contains("has 6 nodes already"), "{again}");
    assert_eq!(Store::open(folder.path(), NOW).unwrap().load().unwrap().nodes.len(), 6);
}

fn unsigned(service: &mut Service, now: Now, key: PublicKey) -> Answer {
    let caller = Caller {
        connection: ConnectionId(1),
        ip: "198.51.100.1".parse().unwrap(),
        exempt: false,
        advertised: &[],
        extensions: &[],
        relay_key: None,
    };
    let register = Register {
        listen_addr: "[::1]:4000".into(),
        public_key: key,
        owner: String::new(),
        hostname: String::new(),
        version: String::new(),
        lan_addrs: vec![],
        relay_only: false,
    };
    match service.handle(now, &caller, &Operation::Register(register).into(), None) {
        Decision::Done(outcome) => outcome.answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn neither_a_stranger_nor_silence_frees_the_number_of_a_key_that_is_away() {
    let facts = stored(&planned(&fleet()));
    assert!(facts.nodes[3].last_seen_day.is_some(), "it was there with the fleet");
    let mut service = Service::new(facts, &Limits::default(), None);
    let mut now = Now { monotonic: Duration::from_secs(1000), unix_seconds: NOW };
    let refused = unsigned(&mut service, now, key(4));
    assert!(matches!(&refused, Answer::Error { .. }), "{refused:?}");
    for _ in 0..4 {
        while service.sweep(now) {}
        now.monotonic += Duration::from_secs(SECONDS_PER_DAY);
        now.unix_seconds += SECONDS_PER_DAY;
    }
    match unsigned(&mut service, now, key(8)) {
        Answer::Register(registered) => assert_eq!(registered.node_id, NodeId(7)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_two_keys_of_one_number_the_second_is_named() {
    let mut snapshot = fleet();
    snapshot["pub_key_idx"][key(9).to_string()] = 4.into();
    let plan = planned(&snapshot);
    let lines: Vec<String> = plan.invalid.iter().map(ToString::to_string).collect();
    assert!(lines.len() == 1 && lines[0].contains("has node 4 already"), "{lines:?}");
    assert_eq!(stored(&plan).retired_keys, []);
}
