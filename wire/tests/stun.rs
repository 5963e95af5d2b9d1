//! STUN as RFC 8489, 5780 and 3489 ask for it, told as exchanges; `stun-types` is the second opinion.

use std::net::SocketAddr;

use stun_types::attribute::{ErrorCode as TheirErrorCode, Software, UnknownAttributes, XorMappedAddress};
use stun_types::message::{BINDING, Message, MessageClass, MessageWrite, MessageWriteExt, MessageWriteVec};
use wire::DecodeError;
use wire::stun::{
    ATTRIBUTES_MAX, AttributeList, ChangeRequest, Class, ErrorCode, ErrorResponse, HEADER_LEN, Header, MessageWriter,
    Outcome, REQUEST_MAX, RESPONSE_MAX, Request, RequestError, Response, SOFTWARE_MAX, Success, TransactionId,
    UNKNOWN_MAX, attribute,
};

const V4: &str = "198.51.100.7:41001";
const V6: &str = "[2001:db8::7]:41001";

fn transaction() -> TransactionId {
    TransactionId::new(*b"transaction1")
}

fn classic_transaction() -> TransactionId {
    TransactionId::from_bytes(*b"sixteen bytes id")
}

fn endpoint(text: &str) -> SocketAddr {
    text.parse().expect("an endpoint")
}

/// A Binding message with these attributes.
fn message(class: Class, transaction: &TransactionId, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let mut message = MessageWriter::new(&mut buffer, class, transaction);
    for (kind, value) in attributes {
        message.attribute(*kind, value);
    }
    let len = message.finish();
    buffer.truncate(len);
    buffer
}

fn request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    message(Class::Request, &transaction(), attributes)
}

fn encoded(request: Request) -> Vec<u8> {
    let mut out = [0; REQUEST_MAX];
    let len = request.encode(&mut out);
    out[..len].to_vec()
}

fn refusal(datagram: &[u8]) -> ErrorResponse {
    match Request::decode(datagram) {
        Err(RequestError::Refuse(error)) => error,
        other => panic!("an error response expected: {other:?}"),
    }
}

fn drop_reason(datagram: &[u8]) -> DecodeError {
    match Request::decode(datagram) {
        Err(RequestError::Drop(error)) => error,
        other => panic!("silence expected: {other:?}"),
    }
}

#[test]
fn everything_asked_for_is_there() {
    let change = ChangeRequest { address: true, port: false };
    let request = Request { transaction: transaction(), change, fingerprint: true };
    assert_eq!(Request::decode(&encoded(request)), Ok(request));
    assert_eq!(encoded(request).len(), REQUEST_MAX);
}

#[test]
fn damaged_headers_stay_without_answer() {
    let plain = encoded(Request::new(transaction()));
    for len in 0..HEADER_LEN {
        assert!(matches!(drop_reason(&plain[..len]), DecodeError::Truncated { .. }), "{len} bytes");
    }
    for (at, value) in [(0, 0x40), (0, 0x80), (2, 0x01), (3, 1), (3, 4)] {
        let mut damaged = plain.clone();
        damaged[at] = value;
        drop_reason(&damaged);
    }
    drop_reason(&[plain.as_slice(), &[0; 4]].concat());
}

#[test]
fn only_binding_requests_are_served() {
    for class in [Class::Indication, Class::Success, Class::Error] {
        drop_reason(&message(class, &transaction(), &[]));
    }
    let mut allocate = encoded(Request::new(transaction()));
    allocate[1] = 3;
    assert_eq!(Header::decode(&allocate).map(|header| (header.class, header.method)), Ok((Class::Request, 3)));
    drop_reason(&allocate);
}

#[test]
fn the_class_sits_between_the_bits_of_the_method() {
    for (kind, class, method) in [
        (0x0001_u16, Class::Request, 1),
        (0x0011, Class::Indication, 1),
        (0x0101, Class::Success, 1),
        (0x0111, Class::Error, 1),
        (0x3EEF, Class::Request, 0xFFF),
        (0x3FFF, Class::Error, 0xFFF),
        (0x0200, Class::Request, 0x080),
        (0x0020, Class::Request, 0x010),
    ] {
        let datagram = [&kind.to_be_bytes(), &[0, 0], transaction().as_bytes().as_slice()].concat();
        let header = Header::decode(&datagram).expect("a header");
        assert_eq!((header.class, header.method), (class, method), "{kind:#06x}");
    }
}

#[test]
fn a_wrong_or_misplaced_fingerprint_stays_without_answer() {
    let good = encoded(Request { fingerprint: true, ..Request::new(transaction()) });
    for at in 8..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        assert_ne!(Request::decode(&damaged), Request::decode(&good), "byte {at}");
    }
    let mut damaged = good.clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    assert_eq!(drop_reason(&damaged), DecodeError::Checksum);

    let mut buffer = [0; 64];
    let mut early = MessageWriter::new(&mut buffer, Class::Request, &transaction());
    early.fingerprint().attribute(attribute::SOFTWARE, b"late");
    let len = early.finish();
    assert_eq!(drop_reason(&buffer[..len]), DecodeError::Invalid("FINGERPRINT; it must be the last attribute"));
    drop_reason(&request(&[(attribute::FINGERPRINT, &[0; 8])]));
}

#[test]
fn attributes_that_run_past_the_end_are_a_bad_request() {
    let good = request(&[(attribute::SOFTWARE, b"12345678")]);
    for length in [9_u16, 12, 0x7FFF, 0xFFFF] {
        let mut long = good.clone();
        long[HEADER_LEN + 2..HEADER_LEN + 4].copy_from_slice(&length.to_be_bytes());
        let error = refusal(&long);
        assert_eq!((error.code, error.transaction), (ErrorCode::BadRequest, transaction()), "length {length}");
    }
    assert_eq!(refusal(&request(&[(attribute::CHANGE_REQUEST, &[0; 8])])).code, ErrorCode::BadRequest);
    assert_eq!(refusal(&request(&[(attribute::CHANGE_REQUEST, &[])])).code, ErrorCode::BadRequest);
}

#[test]
fn the_number_of_attributes_is_bounded() {
    let most = vec![(attribute::SOFTWARE, [].as_slice()); ATTRIBUTES_MAX];
    Request::decode(&request(&most)).expect("as many as are allowed");
    let more = vec![(attribute::SOFTWARE, [].as_slice()); ATTRIBUTES_MAX + 1];
    assert_eq!(refusal(&request(&more)).code, ErrorCode::BadRequest);
}

#[test]
fn unknown_attributes_are_named_if_they_must_be_understood() {
    let optional = request(&[(0x8000, b"whatever"), (0xFFFF, b"")]);
    Request::decode(&optional).expect("what need not be understood is passed over");

    let required = request(&[(0x7001, b""), (0x8001, b""), (0x7002, b"x"), (0x7001, b"again")]);
    let error = refusal(&required);
    assert_eq!((error.code, error.unknown.as_slice()), (ErrorCode::UnknownAttribute, [0x7001, 0x7002].as_slice()));

    let many: Vec<(u16, &[u8])> = (0x7001..0x7010).map(|kind| (kind, [].as_slice())).collect();
    let unknown = refusal(&request(&many)).unknown;
    assert_eq!(unknown.as_slice(), (0x7001..0x7001 + UNKNOWN_MAX as u16).collect::<Vec<_>>());
}

#[test]
fn what_would_aim_responses_at_others_is_refused() {
    for (kind, value) in [
        (attribute::PADDING, [0; 64].as_slice()),
        (attribute::RESPONSE_PORT, [0x12, 0x34, 0, 0].as_slice()),
        (attribute::RESPONSE_ADDRESS, [0, 1, 0x12, 0x34, 1, 2, 3, 4].as_slice()),
    ] {
        for transaction in [transaction(), classic_transaction()] {
            let error = refusal(&message(Class::Request, &transaction, &[(kind, value)]));
            assert_eq!((error.code, error.unknown.as_slice()), (ErrorCode::UnknownAttribute, [kind].as_slice()));
        }
    }
    let request = Request { change: ChangeRequest { address: true, port: true }, ..Request::new(transaction()) };
    assert_eq!(request.refuse_change().unknown.as_slice(), [attribute::CHANGE_REQUEST]);
}

#[test]
fn nothing_after_an_integrity_check_counts_but_the_fingerprint() {
    let attributes: [(u16, &[u8]); 3] =
        [(attribute::MESSAGE_INTEGRITY, &[0; 20]), (0x7001, b""), (attribute::CHANGE_REQUEST, &[0, 0, 0, 6])];
    let decoded = Request::decode(&request(&attributes));
    assert_eq!(decoded, Ok(Request::new(transaction())));
}

#[test]
fn dialects_know_different_attributes() {
    let source = [(attribute::SOURCE_ADDRESS, [0; 8].as_slice())];
    assert_eq!(refusal(&request(&source)).unknown.as_slice(), [attribute::SOURCE_ADDRESS]);
    Request::decode(&message(Class::Request, &classic_transaction(), &source)).expect("known to RFC 3489");
    let nonce = [(attribute::NONCE, b"nonce".as_slice())];
    Request::decode(&request(&nonce)).expect("known to RFC 8489");
    let classic = refusal(&message(Class::Request, &classic_transaction(), &nonce));
    assert_eq!(classic.unknown.as_slice(), [attribute::NONCE]);
}

#[test]
fn classic_errors_are_padded_as_rfc_3489_has_it() {
    let unknown: AttributeList = [0x7001, 0x7002, 0x7003].into_iter().collect();
    for code in [ErrorCode::BadRequest, ErrorCode::UnknownAttribute, ErrorCode::ServerError] {
        let error = ErrorResponse { transaction: classic_transaction(), code, unknown, fingerprint: true };
        let mut out = [0; RESPONSE_MAX];
        let len = error.encode(&mut out);
        let reason_len = u16::from_be_bytes([out[HEADER_LEN + 2], out[HEADER_LEN + 3]]);
        assert_eq!(reason_len % 4, 0);
        assert_eq!(out[len - 8..len], [0x70, 1, 0x70, 2, 0x70, 3, 0x70, 1], "an odd list repeats a member");
        let outcome = Response::decode(&out[..len]).map(|response| response.outcome);
        assert_eq!(outcome, Ok(Outcome::Error { code: code.number(), unknown }));
    }
}

#[test]
fn responses_carry_all_addresses_in_both_families() {
    for (mapped, other) in [(V4, V6), (V6, V4)] {
        for transaction in [transaction(), classic_transaction()] {
            let success = Success {
                mapped_in_clear: true,
                origin: Some(endpoint(mapped)),
                other: Some(endpoint(other)),
                software: (!transaction.is_classic()).then_some("relay"),
                fingerprint: !transaction.is_classic(),
                ..Success::new(endpoint(mapped))
            };
            let mut out = [0; RESPONSE_MAX];
            let len = success.encode(&transaction, &mut out);
            let outcome = Outcome::Success(success);
            assert_eq!(Response::decode(&out[..len]), Ok(Response { transaction, outcome }));
        }
    }
}

#[test]
fn mapped_ipv6_goes_out_as_ipv4() {
    let mut out = [0; RESPONSE_MAX];
    let len = Success::new(endpoint("[::ffff:198.51.100.7]:41001")).encode(&transaction(), &mut out);
    let outcome = Response::decode(&out[..len]).map(|response| response.outcome);
    assert_eq!(outcome, Ok(Outcome::Success(Success::new(endpoint(V4)))));
}

#[test]
fn the_largest_response_fits() {
    let software = "ü".repeat(SOFTWARE_MAX);
    let success = Success {
        mapped_in_clear: true,
        origin: Some(endpoint(V6)),
        other: Some(endpoint(V6)),
        software: Some(&software),
        fingerprint: true,
        ..Success::new(endpoint(V6))
    };
    let mut out = [0; RESPONSE_MAX];
    assert_eq!(success.encode(&transaction(), &mut out), RESPONSE_MAX);
    assert!(Response::decode(&out).is_ok());
}

#[test]
fn responses_with_unknown_demands_or_without_address_are_no_success() {
    let mapped: &[u8] = &[0, 1, 0xA0, 0x29, 198, 51, 100, 7];
    let response = |attributes: &[(u16, &[u8])]| {
        let datagram = message(Class::Success, &transaction(), attributes);
        Response::decode(&datagram).map(|response| response.transaction)
    };
    assert_eq!(response(&[(attribute::MAPPED_ADDRESS, mapped)]), Ok(transaction()));
    assert_eq!(response(&[(attribute::MAPPED_ADDRESS, mapped), (0x7001, b"")]), Err(DecodeError::UnknownType(0x7001)));
    assert!(response(&[]).is_err());
    assert!(response(&[(attribute::MAPPED_ADDRESS, &mapped[..7])]).is_err());
    assert!(response(&[(attribute::MAPPED_ADDRESS, &[0, 3, 0, 0, 0, 0, 0, 0])]).is_err());
}

#[test]
fn a_second_implementation_reads_our_responses() {
    for mapped in [V4, V6].map(endpoint) {
        let success = Success {
            mapped_in_clear: true,
            software: Some("relay"),
            fingerprint: true,
            origin: Some(endpoint(V4)),
            ..Success::new(mapped)
        };
        let mut out = [0; RESPONSE_MAX];
        let len = success.encode(&transaction(), &mut out);
        let theirs = Message::from_bytes(&out[..len]).expect("a message with a right fingerprint");
        assert!(theirs.has_class(MessageClass::Success) && theirs.has_method(BINDING));
        let xor = theirs.attribute::<XorMappedAddress>().expect("XOR-MAPPED-ADDRESS");
        assert_eq!(xor.addr(theirs.transaction_id()), mapped);
        assert_eq!(theirs.attribute::<Software>().expect("SOFTWARE").software(), "relay");
    }
}

#[test]
fn a_second_implementation_reads_our_errors() {
    let error = refusal(&request(&[(0x7001, b""), (0x7002, b"")]));
    let mut out = [0; RESPONSE_MAX];
    let len = ErrorResponse { fingerprint: true, ..error }.encode(&mut out);
    let theirs = Message::from_bytes(&out[..len]).expect("a message with a right fingerprint");
    assert!(theirs.has_class(MessageClass::Error));
    let code = theirs.attribute::<TheirErrorCode>().expect("ERROR-CODE");
    assert_eq!((code.code(), code.reason()), (420, "Unknown Attribute"));
    let unknown = theirs.attribute::<UnknownAttributes>().expect("UNKNOWN-ATTRIBUTES");
    assert!(unknown.has_attribute(0x7001.into()) && unknown.has_attribute(0x7002.into()));
}

#[test]
fn we_read_what_a_second_implementation_writes() {
    let mut theirs = Message::builder_request(BINDING, MessageWriteVec::new());
    theirs.add_attribute(&Software::new("theirs").expect("short enough")).expect("room");
    theirs.add_fingerprint().expect("room");
    let question = theirs.finish();
    let request = Request::decode(&question).expect("a request");
    assert!(request.fingerprint && !request.transaction.is_classic());

    let question = Message::from_bytes(&question).expect("a message");
    for mapped in [V4, V6].map(endpoint) {
        let mut answer = Message::builder_success(&question, MessageWriteVec::new());
        let address = XorMappedAddress::new(mapped, question.transaction_id());
        answer.add_attribute(&address).expect("room");
        answer.add_fingerprint().expect("room");
        let answer = answer.finish();
        let expected = Success { fingerprint: true, ..Success::new(mapped) };
        let outcome = Outcome::Success(expected);
        assert_eq!(Response::decode(&answer), Ok(Response { transaction: request.transaction, outcome }));
    }
}
