//! STUN as a client of the relay meets it.

use std::net::SocketAddr;

use relay::endpoint::LocalId;
use relay::metrics::DropReason;
use relay::server::{Action, Admission};
use wire::stun::{ChangeRequest, ErrorCode, Outcome, REQUEST_MAX, Request, Response, TransactionId, attribute};

use super::world::{BEACON, BEACON_2, BEACON_V6, STUN, STUN_2, World};

const CLIENT: &str = "198.18.1.1:5000";

fn request(change: ChangeRequest) -> Vec<u8> {
    let request = Request { change, ..Request::new(TransactionId::new([7; 12])) };
    encode(&request)
}

fn encode(request: &Request) -> Vec<u8> {
    let mut buffer = [0; REQUEST_MAX];
    let len = request.encode(&mut buffer);
    buffer[..len].to_vec()
}

/// Asks `local` from `client`; the local address that answers and its bytes.
fn ask(world: &mut World, local: LocalId, client: &str, datagram: &[u8]) -> Option<(LocalId, Vec<u8>)> {
    world.receive_on(0, local, client, datagram);
    world.take_sent().pop().map(|sent| {
        assert_eq!(sent.to, client.parse::<SocketAddr>().unwrap());
        (sent.via, sent.bytes)
    })
}

#[test]
fn a_binding_request_is_answered_on_both_ports_and_families() {
    let mut world = World::new(Admission::Grace, 1);
    for (local, client) in [(BEACON, CLIENT), (STUN, CLIENT), (BEACON_V6, "[2001:db8::77]:5000")] {
        let (via, bytes) = ask(&mut world, local, client, &request(ChangeRequest::default())).unwrap();
        assert_eq!(via, local);
        let Response { outcome: Outcome::Success(success), .. } = Response::decode(&bytes).unwrap() else { panic!() };
        assert_eq!(success.mapped, client.parse().unwrap());
        assert_eq!(success.software, None, "the software is not named unless the operator wants it");
    }
}

#[test]
fn change_request_moves_the_answer_to_the_other_port_address_or_both() {
    let mut world = World::new(Admission::Grace, 1);
    for (address, port, from, expected) in [
        (false, true, STUN, BEACON),
        (true, false, STUN, STUN_2),
        (true, true, STUN, BEACON_2),
        (false, true, BEACON, STUN),
        (true, true, BEACON_2, STUN),
    ] {
        let (via, bytes) = ask(&mut world, from, CLIENT, &request(ChangeRequest { address, port })).unwrap();
        assert_eq!(via, expected);
        let Response { outcome: Outcome::Success(success), .. } = Response::decode(&bytes).unwrap() else { panic!() };
        let origin = world.shards[0].locals().get(expected).unwrap().bound;
        assert_eq!(success.origin, Some(origin), "RESPONSE-ORIGIN is where the answer comes from");
    }
}

#[test]
fn other_address_names_the_other_address_and_port() {
    let mut world = World::new(Admission::Grace, 1);
    let (_, bytes) = ask(&mut world, STUN, CLIENT, &request(ChangeRequest::default())).unwrap();
    let Response { outcome: Outcome::Success(success), .. } = Response::decode(&bytes).unwrap() else { panic!() };
    assert_eq!(success.other, Some("198.18.0.3:9001".parse().unwrap()));
}

#[test]
fn another_address_that_is_not_bound_is_refused_with_420() {
    let mut world = World::new(Admission::Grace, 1);
    let change = ChangeRequest { address: true, port: false };
    let (via, bytes) = ask(&mut world, BEACON_V6, "[2001:db8::77]:5000", &request(change)).unwrap();
    assert_eq!(via, BEACON_V6);
    let Response { outcome: Outcome::Error { code, unknown, .. }, .. } = Response::decode(&bytes).unwrap() else {
        panic!()
    };
    assert_eq!(code, ErrorCode::UnknownAttribute.number());
    assert_eq!(unknown.as_slice(), [attribute::CHANGE_REQUEST]);
}

#[test]
fn classic_requests_are_answered_on_the_stun_port_alone() {
    let mut world = World::new(Admission::Grace, 1);
    let classic = encode(&Request::new(TransactionId::from_bytes([9; 16])));
    let (via, bytes) = ask(&mut world, STUN, CLIENT, &classic).unwrap();
    assert_eq!(via, STUN);
    let response = Response::decode(&bytes).unwrap();
    assert!(response.transaction.is_classic());
    assert!(matches!(response.outcome, Outcome::Success(success) if success.mapped == CLIENT.parse().unwrap()));
    assert_eq!(ask(&mut world, BEACON, CLIENT, &classic), None);
}

#[test]
fn the_stun_port_speaks_stun_alone() {
    let mut world = World::new(Admission::Grace, 1);
    for datagram in [&b"\x01\0\0\0\x01"[..], b"\x05\0\0\0\x01\0\0\0\x02x", b"PILP", b""] {
        let action = world.receive_on(0, STUN, CLIENT, datagram);
        assert_eq!(action, Action::Drop(DropReason::Malformed));
    }
    assert_eq!(world.take_sent(), []);
}
