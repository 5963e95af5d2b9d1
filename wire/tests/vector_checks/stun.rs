//! STUN messages: those of RFC 5769, and the dialects and refusals around them.

use std::net::SocketAddr;

use wire::stun::{
    ChangeRequest, ErrorCode, Outcome, REQUEST_MAX, RESPONSE_MAX, Request, RequestError, Response, Success,
    has_magic_cookie,
};

use crate::fixtures::{Vector, number};

pub fn check(vector: &Vector) -> Option<()> {
    assert_eq!(has_magic_cookie(vector.bytes()), !vector.name.starts_with("classic"));
    match vector.bytes()[0] {
        0 if vector.expect.get("refused").is_some() => refused(vector),
        0 if vector.expect.get("change_port").is_some() => request(vector),
        1 if vector.expect.get("mapped").is_some() => response(vector),
        _ => return None,
    }
    Some(())
}

fn request(vector: &Vector) {
    let flag = |key: &str| vector.expect[key].as_bool().expect("a flag");
    let request = Request::decode(vector.bytes()).expect("a request");
    assert_eq!(request.transaction.as_bytes(), &vector.bytes()[4..20]);
    assert_eq!(request.change, ChangeRequest { address: flag("change_address"), port: flag("change_port") });
    assert_eq!(request.fingerprint, flag("fingerprint"));
    if vector.name.starts_with("request_") {
        let mut out = [0; REQUEST_MAX];
        let len = request.encode(&mut out);
        assert_eq!(&out[..len], vector.bytes());
    }
}

fn refused(vector: &Vector) {
    let Err(RequestError::Refuse(error)) = Request::decode(vector.bytes()) else { panic!("to be refused") };
    let unknown: Vec<u16> = vector.expect["unknown"].as_array().expect("a list").iter().map(number).collect();
    assert_eq!(error.code, ErrorCode::UnknownAttribute);
    assert_eq!(error.code.number(), number::<u16>(&vector.expect["refused"]));
    assert_eq!(error.unknown.as_slice(), unknown);
    assert_eq!(error.fingerprint, vector.expect["fingerprint"]);
    let mut out = [0; RESPONSE_MAX];
    let len = error.encode(&mut out);
    let Response { transaction, outcome } = Response::decode(&out[..len]).expect("a response");
    assert_eq!(transaction.as_bytes(), &vector.bytes()[4..20]);
    assert_eq!(outcome, Outcome::Error { code: 420, unknown: error.unknown });
}

fn response(vector: &Vector) {
    let endpoint = |key: &str| vector.expect[key].as_str().map(|text| text.parse::<SocketAddr>().expect("an endpoint"));
    let Response { transaction, outcome } = Response::decode(vector.bytes()).expect("a response");
    let success = Success {
        mapped: endpoint("mapped").expect("a mapped address"),
        mapped_in_clear: transaction.is_classic(),
        origin: endpoint("origin"),
        other: endpoint("other"),
        software: vector.expect["software"].as_str(),
        fingerprint: vector.expect["fingerprint"].as_bool().expect("a flag"),
    };
    assert_eq!(outcome, Outcome::Success(success));
    let mut out = [0; RESPONSE_MAX];
    let len = success.encode(&transaction, &mut out);
    if transaction.is_classic() {
        assert_eq!(&out[..len], vector.bytes());
    } else {
        // Those of RFC 5769 carry a MESSAGE-INTEGRITY, so the bytes differ.
        assert_eq!(Response::decode(&out[..len]), Ok(Response { transaction, outcome }));
    }
}
