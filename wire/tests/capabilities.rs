//! Capability records and queries, ours alone: on the wire, signed, and from strangers.

use ed25519_dalek::VerifyingKey;
use proptest::prelude::*;
use serde_json::{Value, json};
use wire::NodeId;
use wire::address::Address;
use wire::registry::answer::{Answer, Hit, asked_elsewhere, directory_time, shown, signed_at_another_time};
use wire::registry::capability::{FORMAT, RECORD_BYTES_MAX, Record};
use wire::registry::request::{Changes, Operation, QUERY_BYTES_MAX, QUERY_LIMIT_MAX, Query, Request};
use wire::registry::{Base64, MESSAGE_BYTES_MAX, PublicKey, push_message, split_message};

#[test]
fn capabilities_and_queries_survive_the_wire_and_are_signed_as_a_whole() {
    let record = Record {
        format: FORMAT,
        node: NodeId(7),
        public_key: Base64([9; 32]),
        serial: 1_764_000_000_000,
        withdrawn: false,
        title: "Academic \"citations\" \u{1b}[31m 学术引用".into(),
        text: String::new(),
        tags: vec!["papers".into()],
        input: Some(json!({"citation": [1.5, null]})),
        output: None,
        price: None,
        limits: None,
        version: String::new(),
    };
    let text = record.encode().unwrap();
    let publish = Operation::PublishCapability { node_id: NodeId(7), record: text.clone() };
    assert_eq!(publish.signer(), Some(NodeId(7)));
    assert_eq!(publish.signed_text().unwrap(), format!("capability:7:{text}"));
    let query = Query {
        requester_id: Some(NodeId(7)),
        text: "a:b,c".into(),
        tags: vec!["x".into(), "y".into()],
        network_id: Some(3),
        node_id: Some(NodeId(4)),
        offline: true,
        limit: 5,
        at: None,
    };
    let signed = |query: &Query| Operation::Query(query.clone()).signed_text();
    assert_eq!(signed(&query).unwrap(), "query:7:3:4:true:5:x,y:a:b,c");
    let bare = Query { requester_id: Some(NodeId(7)), ..Query::default() };
    assert_eq!(signed(&bare).unwrap(), "query:7:::false:0::");
    let dated = Query { at: Some(1_790_000_000), ..query.clone() };
    assert_eq!(signed(&dated).unwrap(), "query2:1790000000:7:3:4:true:5:x,y:a:b,c");
    let anonymous = Query { requester_id: None, ..query.clone() };
    assert_eq!((signed(&anonymous), Operation::Query(anonymous.clone()).signer()), (None, None));

    for operation in [
        publish,
        Operation::Query(query),
        Operation::Query(dated),
        Operation::Query(anonymous),
        Operation::Query(Query::default()),
    ] {
        let request = Request { signature: Some(Base64([5; 64])), ..operation.into() };
        let mut frame = Vec::new();
        push_message(&mut frame, &request);
        let (message, _) = split_message(&frame).unwrap().unwrap();
        let decoded = Request::decode(message).unwrap();
        let Operation::PublishCapability { record: sent, .. } = &decoded.operation else {
            assert_eq!(decoded, request);
            continue;
        };
        assert_eq!(Record::decode(sent), Ok(record.clone()), "byte for byte, so that the signature fits");
        assert_eq!(decoded, request);
    }

    let hit = Hit {
        node_id: NodeId(7),
        address: Address { network: 3, node: NodeId(7) },
        hostname: Some("specialist-papers".into()),
        score: 1000,
        online: true,
        last_seen: Some(1_764_000_000),
        tags: vec!["papers".into()],
        public_key: Base64([9; 32]),
        record: Some(text),
        signature: Some(Base64([5; 64])),
    };
    let bare = Hit { hostname: None, last_seen: None, tags: vec![], record: None, signature: None, ..hit.clone() };
    for answer in [
        Answer::Query { hits: vec![hit, bare] },
        Answer::Query { hits: vec![] },
        Answer::PublishCapability { node_id: NodeId(7), serial: u64::MAX },
    ] {
        assert_eq!(Answer::decode(&serde_json::to_vec(&answer).unwrap()), Ok(answer));
    }
}

#[test]
fn bounds_of_records_and_queries_are_told_by_name() {
    let decode = |value: Value| Request::decode(value.to_string().as_bytes());
    let reason = |value: Value| decode(value).unwrap_err().to_string();
    let publish = |bytes: usize| json!({"type": "publish_capability", "node_id": 1, "record": "x".repeat(bytes)});
    assert!(decode(publish(RECORD_BYTES_MAX)).is_ok());
    assert_eq!(reason(publish(RECORD_BYTES_MAX + 1)), "record too long: at most 8192");
    assert_eq!(reason(json!({"type": "publish_capability", "record": ""})), "invalid request: node_id is required");
    let query = |bytes: usize| json!({"type": "query", "text": "x".repeat(bytes)});
    assert!(decode(query(QUERY_BYTES_MAX)).is_ok());
    assert_eq!(reason(query(QUERY_BYTES_MAX + 1)), "text too long: at most 1024");
    assert_eq!(reason(json!({"type": "query", "limit": -1})), "invalid limit: expected a whole number from 0 to 65535");
    assert_eq!(reason(json!({"type": "query", "tags": "x"})), "invalid tags: expected a list of texts");
    let record = json!({"type": "publish_capability", "node_id": 1, "record": {"title": "x"}});
    assert_eq!(reason(record), "invalid record: expected a text");
}

#[test]
fn the_longest_answer_to_a_query_fits_a_message() {
    let hit = Hit {
        node_id: NodeId(u32::MAX),
        address: Address { network: u16::MAX, node: NodeId(u32::MAX) },
        hostname: Some("x".repeat(63)),
        score: 1000,
        online: true,
        last_seen: Some(u64::MAX),
        tags: vec!["x".repeat(32); 10],
        public_key: Base64([9; 32]),
        // Quotes and backslashes double.
        record: Some("\\\"".repeat(RECORD_BYTES_MAX / 2)),
        signature: Some(Base64([5; 64])),
    };
    let answer = Answer::Query { hits: vec![hit; usize::from(QUERY_LIMIT_MAX)] };
    let text = serde_json::to_vec(&answer).unwrap();
    assert!(text.len() <= MESSAGE_BYTES_MAX, "{}", text.len());
    assert_eq!(Answer::decode(&text), Ok(answer));
}

proptest! {
    #[test]
    fn records_and_queries_of_strangers_never_panic(text in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..400), tag in any::<String>(), limit: u16) {
        let _ = Record::decode(&text);
        let _ = Record::decode(&String::from_utf8_lossy(&bytes));
        let query = json!({"type": "query", "requester_id": 1, "text": text, "tags": [tag], "limit": limit});
        if let Ok(request) = Request::decode(query.to_string().as_bytes()) {
            prop_assert_eq!(&Request::decode(&serde_json::to_vec(&request).unwrap()), &Ok(request));
        }
        let publish = json!({"type": "publish_capability", "node_id": 1, "record": text});
        let _ = Request::decode(publish.to_string().as_bytes());
    }
}

#[test]
fn questions_say_when_they_were_signed_where_somebody_asks() {
    let changes = Changes { requester_id: Some(NodeId(7)), network_id: Some(3), after: 9, wait_seconds: 60, at: None };
    let ask = |changes: &Changes| Operation::Changes(changes.clone());
    assert_eq!(ask(&changes).signed_text().unwrap(), "changes:7:3");
    let dated = ask(&changes).to_be_signed_at(Some(1_790_000_000));
    assert_eq!(dated.signed_text().unwrap(), "changes2:1790000000:7:3");
    assert_eq!((dated.signed_at(), ask(&changes).signed_at()), (Some(1_790_000_000), None));
    let mut frame = Vec::new();
    push_message(&mut frame, &Request::from(dated.clone()));
    let (message, _) = split_message(&frame).unwrap().unwrap();
    assert_eq!(Request::decode(message).unwrap().operation, dated);
    assert_eq!(dated.to_be_signed_at(None), ask(&changes));
    // Nobody signs what nobody asks.
    let anonymous = ask(&Changes { requester_id: None, ..changes }).to_be_signed_at(Some(5));
    assert_eq!((anonymous.signed_at(), anonymous.signed_text()), (None, None));
    let heartbeat = Operation::Heartbeat { node_id: NodeId(7), report: None, bans_since: None };
    assert_eq!(heartbeat.clone().to_be_signed_at(Some(5)), heartbeat);

    let error = signed_at_another_time(100, 1_790_000_000);
    assert_eq!(directory_time(&error), Some(1_790_000_000));
    assert!(shown(&error), "{error}");
    let error = asked_elsewhere(1_790_000_000);
    assert_eq!((directory_time(&error), shown(&error)), (Some(1_790_000_000), true));
    for other in ["", "the directory's clock says ", "the directory's clock says 99999999999999999999;", "100"] {
        assert_eq!(directory_time(other), None, "{other}");
    }
}

#[test]
fn the_signatures_of_questions_are_those_of_the_vectors() {
    let file: Value = serde_json::from_str(include_str!("vectors/questions.json")).unwrap();
    let key: PublicKey = file["public_key"].as_str().unwrap().parse().unwrap();
    let key = VerifyingKey::from_bytes(&key.0).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    for vector in vectors {
        let request = Request::decode(vector["request"].to_string().as_bytes()).unwrap();
        let text = request.operation.signed_text().unwrap();
        assert_eq!(text, vector["text"]);
        let verify = |text: &str| key.verify_strict(text.as_bytes(), &request.signature.unwrap().0.into());
        assert!(verify(&text).is_ok(), "{text}");
        // What one time was signed for stands for no other, and for none.
        let other = request.operation.clone().to_be_signed_at(match request.operation.signed_at() {
            Some(_) => None,
            None => Some(1_790_000_000),
        });
        assert!(verify(&other.signed_text().unwrap()).is_err(), "{text}");
    }
    assert_eq!(vectors.len(), 4);
}
