//! The directory's protocol against captured and generated vectors, and against hostile bytes.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use proptest::prelude::*;
use serde_json::{Value, json};
use wire::address::Address;
use wire::registry::answer::{self, Answer, AnswerError, Member};
use wire::registry::json::{ANSWER_VALUES_MAX, DEPTH_MAX, RequestError, VALUES_MAX};
use wire::registry::names::{NameError, check_hostname, normalise_tags};
use wire::registry::request::{Operation, Register, Request};
use wire::registry::{
    Base64, LENGTH_BYTES, MESSAGE_BYTES_MAX, PublicKey, is_binary_opening, push_message, split_message,
};
use wire::{DecodeError, NodeId};

const JSON: &str = include_str!("vectors/registry_json.json");
const CAPTURE: &str = include_str!("vectors/registry_capture_1_18.json");
const SIGNATURES: &str = include_str!("vectors/signatures.json");
const BINARY: &str = include_str!("vectors/registry_binary.json");

fn entries(file: &str, list: &str) -> Vec<Value> {
    let mut file: Value = serde_json::from_str(file).unwrap();
    serde_json::from_value(file[list].take()).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn framed(message: &impl serde::Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    push_message(&mut out, message);
    out
}

/// Requests that the directory refuses to understand, and why.
fn refused(name: &str) -> Option<RequestError> {
    match name {
        "register_without_key" => Some(RequestError::Missing("public_key")),
        "unknown_type" => Some(RequestError::UnknownType("nope".into())),
        _ => None,
    }
}

#[test]
fn captured_requests_decode_and_encode_to_the_same_object() {
    let json =
        entries(JSON, "vectors").into_iter().map(|entry| (entry["name"].clone(), entry["inputs"]["request"].clone()));
    let capture =
        entries(CAPTURE, "entries").into_iter().map(|entry| (entry["name"].clone(), entry["request"].clone()));
    let mut count = 0;
    for (name, mut sent) in json.chain(capture) {
        let decoded = Request::decode(sent.to_string().as_bytes());
        if let Some(error) = refused(name.as_str().unwrap()) {
            assert_eq!(decoded, Err(error));
            continue;
        }
        let encoded = serde_json::to_value(decoded.unwrap()).unwrap();
        // The one field nobody needs: an invitation names its network already.
        sent.as_object_mut().unwrap().remove("inviter_id");
        assert_eq!(encoded, sent, "{name}");
        count += 1;
    }
    assert_eq!(count, 39 + 56 - 2);
}

#[test]
fn captured_answers_decode_and_encode_to_the_same_object() {
    let json = entries(JSON, "vectors").into_iter().map(|entry| entry["expect"]["response"].clone());
    let capture = entries(CAPTURE, "entries").into_iter().map(|entry| entry["response"].clone());
    for sent in json.chain(capture) {
        let answer = Answer::decode(sent.to_string().as_bytes()).unwrap_or_else(|error| panic!("{sent}: {error}"));
        assert_eq!(serde_json::to_value(answer).unwrap(), sent);
    }
}

#[test]
fn captured_frames_split_at_their_length_and_nowhere_else() {
    for entry in entries(JSON, "vectors") {
        for hex in [&entry["hex"], &entry["expect"]["response_hex"]] {
            let frame = unhex(hex.as_str().unwrap());
            let body = &frame[LENGTH_BYTES..];
            assert_eq!(split_message(&frame), Ok(Some((body, &[][..]))));
            for end in 0..frame.len() {
                assert_eq!(split_message(&frame[..end]), Ok(None));
            }
            let two = [&frame[..], b"rest"].concat();
            assert_eq!(split_message(&two), Ok(Some((body, &b"rest"[..]))));

            let (mut longer, mut shorter) = (frame.clone(), frame.clone());
            longer[3] += 1;
            assert_eq!(split_message(&longer), Ok(None));
            shorter[3] -= 1;
            let (cut, _) = split_message(&shorter).unwrap().unwrap();
            assert_eq!(Request::decode(cut), Err(RequestError::NotAnObject));
        }
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_at_once() {
    let largest = u32::try_from(MESSAGE_BYTES_MAX).unwrap();
    assert_eq!(split_message(&largest.to_be_bytes()), Ok(None));
    let too_long = DecodeError::TooLong { length: MESSAGE_BYTES_MAX + 1, limit: MESSAGE_BYTES_MAX };
    assert_eq!(split_message(&(largest + 1).to_be_bytes()), Err(too_long));
    assert!(split_message(b"GET / HTTP/1.1\r\n").is_err());
}

#[test]
fn the_binary_opening_is_told_from_json() {
    let opening = entries(BINARY, "vectors").remove(0);
    assert!(is_binary_opening(&unhex(opening["hex"].as_str().unwrap())));
    assert!(!is_binary_opening(&framed(&Request::from(Operation::BeaconList))));
}

/// The operation of which `text` is the signed text.
fn operation_signed_by(text: &str) -> Operation {
    let (kind, rest) = text.split_once(':').unwrap();
    if kind == "register" {
        let (listen_addr, public_key) = rest.rsplit_once(':').unwrap();
        return Operation::Register(register(listen_addr, public_key.parse().unwrap()));
    }
    let numbers: Vec<u32> = rest.split(':').map(|number| number.parse().unwrap()).collect();
    let node = |at: usize| NodeId(numbers[at]);
    let network = |at: usize| u16::try_from(numbers[at]).unwrap();
    let node_id = node(0);
    match kind {
        "heartbeat" => Operation::Heartbeat { node_id, report: None, bans_since: None },
        "resolve" => Operation::Resolve { requester_id: node_id, node_id: node(1) },
        "set_visibility" => Operation::SetVisibility { node_id, public: true },
        "set_hostname" => Operation::SetHostname { node_id, hostname: "alpha".into() },
        "set_tags" => Operation::SetTags { node_id, tags: vec![] },
        "deregister" => Operation::Deregister { node_id },
        "report_trust" => Operation::ReportTrust { node_id, peer_id: node(1) },
        "revoke_trust" => Operation::RevokeTrust { node_id, peer_id: node(1) },
        "handshake" => {
            Operation::RequestHandshake { from_node_id: node_id, to_node_id: node(1), justification: String::new() }
        }
        "respond" => Operation::RespondHandshake { node_id, peer_id: node(1), accept: true },
        "poll_handshakes" => Operation::PollHandshakes { node_id },
        "punch" => Operation::Punch { requester_id: node_id, node_a: node_id, node_b: node(1) },
        "rotate" => Operation::RotateKey { node_id, new_public_key: Base64([7; 32]) },
        "join_network" => Operation::JoinNetwork { node_id, network_id: network(1), token: String::new() },
        "leave_network" => Operation::LeaveNetwork { node_id, network_id: network(1) },
        "invite" => Operation::InviteToNetwork { inviter_id: node_id, network_id: network(1), target_node_id: node(2) },
        "poll_invites" => Operation::PollInvites { node_id },
        "respond_invite" => Operation::RespondInvite { node_id, network_id: network(1), accept: true },
        "set_key_expiry" => Operation::SetKeyExpiry { node_id },
        "check_trust" => Operation::CheckTrust { node_id, peer_id: node(1) },
        _ => panic!("no operation for {text}"),
    }
}

fn register(listen_addr: &str, public_key: PublicKey) -> Register {
    Register {
        listen_addr: listen_addr.into(),
        public_key,
        owner: String::new(),
        hostname: String::new(),
        version: String::new(),
        lan_addrs: vec![],
        relay_only: false,
    }
}

#[test]
fn signed_texts_are_those_of_the_vectors() {
    let mut count = 0;
    for vector in entries(SIGNATURES, "vectors") {
        if !vector["name"].as_str().unwrap().starts_with("signed_text/") {
            continue;
        }
        let text = vector["inputs"]["signed_text"].as_str().unwrap();
        let operation = operation_signed_by(text);
        let texts = [operation.signed_text(), operation.older_signed_text()];
        assert!(texts.iter().flatten().any(|built| built == text), "{text}: {texts:?}");

        let seed = unhex(vector["inputs"]["ed25519_seed"].as_str().unwrap()).try_into().unwrap();
        let signed = Base64(SigningKey::from_bytes(&seed).sign(text.as_bytes()).to_bytes());
        assert_eq!(signed.to_string(), vector["expect"]["signature_base64"].as_str().unwrap());
        count += 1;
    }
    assert_eq!(count, 21);
}

#[test]
fn every_signature_of_the_capture_verifies_over_our_text() {
    let capture = entries(CAPTURE, "entries");
    let keys: Vec<(u64, PublicKey)> = capture
        .iter()
        .filter(|entry| entry["request"]["type"] == "register")
        .map(|entry| {
            let key = entry["request"]["public_key"].as_str().unwrap().parse().unwrap();
            (entry["response"]["node_id"].as_u64().unwrap(), key)
        })
        .collect();
    let mut count = 0;
    for entry in &capture {
        let request = Request::decode(entry["request"].to_string().as_bytes()).unwrap();
        let Some(signature) = request.signature else { continue };
        let key = match &request.operation {
            Operation::Register(register) => register.public_key,
            operation => {
                let signer = u64::from(operation.signer().unwrap().0);
                keys.iter().find(|(node, _)| *node == signer).unwrap().1
            }
        };
        let text = request.operation.signed_text().unwrap();
        let verified = VerifyingKey::from_bytes(&key.0).unwrap().verify_strict(text.as_bytes(), &signature.0.into());
        assert!(verified.is_ok(), "{}: {text}", entry["name"]);
        count += 1;
    }
    assert_eq!(count, 19);
}

#[test]
fn numbers_may_come_as_floats_and_wrong_types_are_named() {
    let after = |number: &str| {
        let request = Request::decode(format!("{{\"type\":\"changes\",\"after\":{number}}}").as_bytes())?;
        let Operation::Changes(changes) = request.operation else { panic!("{request:?}") };
        Ok::<_, RequestError>(changes.after)
    };
    assert_eq!(after("7.18e15"), Ok(7_180_000_000_000_000));
    assert_eq!(after("7180000000000001.0"), Ok(7_180_000_000_000_001));
    assert_eq!(after("9007199254740993"), Ok((1 << 53) + 1), "a whole number as such");
    for refused in ["9007199254740992.0", "1.5", "-1", "1e300"] {
        assert!(after(refused).is_err(), "{refused}");
    }
    let decode = |value: Value| Request::decode(value.to_string().as_bytes());
    assert_eq!(
        decode(json!({"type": "lookup", "node_id": 7.0})).unwrap().operation,
        Operation::Lookup { node_id: NodeId(7) }
    );
    for wrong in [json!("7"), json!(7.5), json!(-1), json!(1e300), json!(4_294_967_296_u64), json!([7]), json!(true)] {
        let error = decode(json!({"type": "lookup", "node_id": wrong})).unwrap_err();
        assert_eq!(error.to_string(), "invalid node_id: expected a whole number from 0 to 4294967295", "{wrong}");
    }
    let missing = decode(json!({"type": "lookup", "node_id": null})).unwrap_err();
    assert_eq!(missing, RequestError::Missing("node_id"));
    let tags = decode(json!({"type": "set_tags", "node_id": 1, "tags": "web"})).unwrap_err();
    assert_eq!(tags.to_string(), "invalid tags: expected a list of texts");
    let tag = decode(json!({"type": "set_tags", "node_id": 1, "tags": [1]})).unwrap_err();
    assert_eq!(tag.to_string(), "invalid tags: expected a text");
    let none = decode(json!({"type": "set_tags", "node_id": 1, "tags": null})).unwrap();
    assert_eq!(none.operation, Operation::SetTags { node_id: NodeId(1), tags: vec![] });
    let flag = decode(json!({"type": "set_visibility", "node_id": 1, "public": 1})).unwrap_err();
    assert_eq!(flag.to_string(), "invalid public: expected true or false");
    let key = decode(json!({"type": "register", "listen_addr": "", "public_key": "AAAA"})).unwrap_err();
    assert_eq!(key.to_string(), "invalid public_key: expected 32 bytes in base64");
    let signature = decode(json!({"type": "heartbeat", "node_id": 1, "signature": "%"})).unwrap_err();
    assert_eq!(signature.to_string(), "invalid signature: expected 64 bytes in base64");
    let network = decode(json!({"type": "list_nodes", "network_id": 65536})).unwrap_err();
    assert_eq!(network.to_string(), "invalid network_id: expected a whole number from 0 to 65535");
    let justification =
        json!({"type": "request_handshake", "from_node_id": 1, "to_node_id": 2, "justification": "x".repeat(1025)});
    assert_eq!(decode(justification).unwrap_err().to_string(), "justification too long: at most 1024");
}

#[test]
fn huge_deep_and_crowded_messages_are_refused_before_they_are_built() {
    let nested =
        |depth: usize| format!("{{\"type\":\"beacon_list\",\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(Request::decode(nested(DEPTH_MAX - 1).as_bytes()).is_ok());
    assert_eq!(Request::decode(nested(DEPTH_MAX).as_bytes()), Err(RequestError::TooDeep));
    assert_eq!(Request::decode("[".repeat(MESSAGE_BYTES_MAX).as_bytes()), Err(RequestError::TooDeep));

    let crowded = |count: usize| format!("{{\"type\":\"beacon_list\",\"x\":[{}0]}}", "0,".repeat(count));
    assert!(Request::decode(crowded(VALUES_MAX - 10).as_bytes()).is_ok());
    assert_eq!(Request::decode(crowded(VALUES_MAX).as_bytes()), Err(RequestError::TooManyValues(VALUES_MAX)));

    let brackets_in_text = json!({"type": "beacon_list", "x": "[{\\\"[,:".repeat(VALUES_MAX)}).to_string();
    assert!(Request::decode(brackets_in_text.as_bytes()).is_ok());
    let huge = vec![b' '; MESSAGE_BYTES_MAX + 1];
    assert_eq!(Request::decode(&huge), Err(RequestError::TooLong));
    for not_an_object in ["", "7", "[]", "\"x\"", "{", "{}{}", "{\"type\":}", "\u{feff}{}", "null"] {
        assert_eq!(Request::decode(not_an_object.as_bytes()), Err(RequestError::NotAnObject), "{not_an_object}");
    }
    assert_eq!(Request::decode(b"\xff\xfe{}"), Err(RequestError::NotAnObject));
    assert_eq!(Request::decode(b"{}"), Err(RequestError::UnknownType(String::new())));
}

#[test]
fn an_answer_holds_more_than_a_request() {
    let member = |number: u32| Member {
        node_id: NodeId(number),
        address: Address { network: 7, node: NodeId(number) },
        public: false,
        hostname: Some(format!("worker-{number}")),
        tags: vec!["gpu".to_owned(), "eu".to_owned()],
        last_seen: Some(1_767_225_600),
        online: None,
        real_addr: Some("198.51.100.7:4000".to_owned()),
    };
    let answer = Answer::ListNodes { nodes: (1..=5000).map(member).collect(), more: false };
    let text = serde_json::to_vec(&answer).unwrap();
    assert!(text.len() <= MESSAGE_BYTES_MAX, "{}", text.len());
    assert_eq!(Answer::decode(&text), Ok(answer));
    let crowded = format!("{{\"type\":\"beacon_list_ok\",\"x\":[{}0]}}", "0,".repeat(ANSWER_VALUES_MAX));
    let too_many = RequestError::TooManyValues(ANSWER_VALUES_MAX);
    assert_eq!(Answer::decode(crowded.as_bytes()), Err(AnswerError::Unbounded(too_many)));
}

#[test]
fn every_type_has_its_name_and_its_place() {
    for (index, name) in Operation::NAMES.iter().enumerate() {
        let fields = json!({
            "type": name, "node_id": 1, "peer_id": 2, "requester_id": 1, "from_node_id": 1, "to_node_id": 2,
            "node_a": 1, "node_b": 2, "network_id": 3, "inviter_id": 1, "target_node_id": 2, "beacon_id": 1,
            "public_key": Base64([9; 32]).to_string(), "new_public_key": Base64([9; 32]).to_string(),
        });
        let operation = Request::decode(fields.to_string().as_bytes()).unwrap().operation;
        assert_eq!((operation.index(), operation.name()), (index, *name));
        assert_eq!(serde_json::to_value(&operation).unwrap()["type"], **name);
        let signed_by_somebody = operation.signer().is_some() || matches!(*name, "register" | "check_trust");
        assert_eq!(operation.signed_text().is_some(), signed_by_somebody, "{name}");
    }
}

#[test]
fn error_texts_outside_the_list_are_hidden() {
    let text = |reason: &str| match Answer::error(&reason) {
        Answer::Error { error } => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(text("disk full at sector 9"), "request failed");
    assert_eq!(text(&answer::node_not_found(NodeId(7))), "node 7: node not found");
    assert_eq!(text(answer::SIGNATURE_FAILED), "signature verification failed");
    for error in [
        RequestError::TooLong,
        RequestError::TooDeep,
        RequestError::TooManyValues(VALUES_MAX),
        RequestError::NotAnObject,
        RequestError::UnknownType("x".into()),
        RequestError::Missing("x"),
        RequestError::Invalid { field: "x", expected: "y" },
        RequestError::FieldTooLong { field: "x", limit: 1 },
    ] {
        assert_eq!(text(&error.to_string()), error.to_string(), "would be hidden");
    }
}

#[test]
fn hostnames_and_tags_follow_their_rules() {
    let longest = "a".repeat(63);
    for name in ["a", "0", "web-1", longest.as_str()] {
        assert_eq!(check_hostname(name), Ok(()), "{name}");
    }
    let too_long = "a".repeat(64);
    for name in ["", "-a", "a-", "A", "a.b", "a_b", "ä", "a b", too_long.as_str()] {
        assert_eq!(check_hostname(name), Err(NameError::Hostname), "{name}");
    }
    assert_eq!(check_hostname("backbone"), Err(NameError::Reserved));

    let tags = |tags: &[&str]| normalise_tags(&tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>());
    assert_eq!(tags(&["#web", "gpu-2"]).unwrap(), ["web", "gpu-2"]);
    for wrong in ["", "#", "##web", "Web", "a b"] {
        assert_eq!(tags(&[wrong]), Err(NameError::Tag), "{wrong}");
    }
    assert_eq!(tags(&["a"; 11]), Err(NameError::TooManyTags));
}

#[test]
fn base64_is_taken_in_its_canonical_form_only() {
    let text = Base64([9; 32]).to_string();
    let key: PublicKey = text.parse().unwrap();
    assert_eq!(key.to_string(), text);
    let unpadded = text.trim_end_matches('=');
    let spare_bits_set = format!("{}l=", &text[..42]);
    for wrong in ["", unpadded, &spare_bits_set, &format!("{text}\n"), &"A".repeat(1000)] {
        assert!(wrong.parse::<PublicKey>().is_err(), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = split_message(&bytes);
        let _ = Request::decode(&bytes);
        let _ = Answer::decode(&bytes);
    }

    #[test]
    fn mangled_requests_never_panic(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let vectors = entries(JSON, "vectors");
        let mut frame = unhex(which.get(&vectors)["hex"].as_str().unwrap());
        let at = at.index(frame.len());
        frame[at] = byte;
        if let Ok(Some((message, _))) = split_message(&frame) {
            let _ = Request::decode(message);
        }
        let _ = Request::decode(&frame[LENGTH_BYTES..at.max(LENGTH_BYTES)]);
    }

    #[test]
    fn registrations_survive_the_wire(listen_addr in "[ -~]{0,40}", hostname in "\\PC{0,20}", key: [u8; 32], signature: [u8; 32], relay_only: bool, lan_addrs in proptest::collection::vec("[ -~]{0,20}", 0..16)) {
        let register = Register { hostname, lan_addrs, relay_only, ..register(&listen_addr, Base64(key)) };
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&signature);
        let request = Request { operation: Operation::Register(register), signature: Some(Base64(bytes)), admin_token: None };
        let frame = framed(&request);
        let (message, rest) = split_message(&frame).unwrap().unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(Request::decode(message), Ok(request));
    }
}
