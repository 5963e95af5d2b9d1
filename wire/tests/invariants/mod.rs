//! What must hold of each decoder, whatever bytes it is given. The properties feed it chance, vectors cut short and
//! vectors damaged; the fuzz targets feed it what reaches new code.

#![allow(dead_code, reason = "a fuzz target uses one of them")]

use wire::address::{Address, SocketAddress};
use wire::beacon::{self, ENDPOINT_MESSAGE_MAX, Message};
use wire::codec::Writer;
use wire::packet::Packet;
use wire::registry::{self, Answer};
use wire::services::events::Event;
use wire::services::exchange::{Frame, PAYLOAD_MAX};
use wire::services::secure::{PROOF_LEN, Proof, Record};
use wire::stun::{self, ErrorResponse, Outcome, REQUEST_MAX, RESPONSE_MAX, RequestError, Response, Success};
use wire::tunnel;
use wire::{Format, ipc};

/// Every decoder at once.
pub fn all(bytes: &[u8]) {
    for hold in [address, beacon, ipc, packet, registry, services, stun, tunnel] {
        hold(bytes);
    }
}

/// What decodes is encoded to the bytes it came from; a frame but for blanks in its tag's JSON and what follows its end.
pub fn services(bytes: &[u8]) {
    if let Ok(Some((event, taken))) = Event::decode(bytes) {
        let mut encoded = Vec::new();
        event.encode(&mut encoded).expect("what was read can be written");
        assert_eq!(encoded, bytes[..taken]);
    }
    if let Ok(Some((record, taken))) = Record::decode(bytes) {
        let mut encoded = Vec::new();
        record.encode(&mut encoded).expect("what was read can be written");
        assert_eq!(encoded, bytes[..taken]);
    }
    if let Ok(proof) = Proof::decode(bytes) {
        assert_eq!(proof.encode(), bytes[..PROOF_LEN]);
    }
    if let Ok(Some((frame, taken))) = Frame::decode(bytes, PAYLOAD_MAX) {
        let mut encoded = Vec::new();
        frame.encode(&mut encoded, PAYLOAD_MAX).expect("what was read can be written");
        assert_eq!(Frame::decode(&encoded, PAYLOAD_MAX), Ok(Some((frame, encoded.len()))));
        assert!(frame.tag.is_some() || encoded.len() <= taken, "what follows a whole message is ignored");
    }
}

/// What parses prints a canonical text, which parses to the same.
pub fn address(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk() {
        let address = Address::from_bytes(*bytes);
        assert_eq!(address.to_bytes(), *bytes);
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse(), Ok(address));
        assert!(text.to_ascii_uppercase().ends_with(&address.to_string()), "only zeros in front may go");
    }
    if let Ok(socket) = text.parse::<SocketAddress>() {
        assert_eq!(socket.to_string().parse(), Ok(socket));
    }
}

/// What decodes is encoded to no more bytes than it came from, and decodes to the same again.
pub fn beacon(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else { return };
    assert_eq!(Format::of(bytes), Format::Beacon);
    let encoded = written(bytes.len(), |out| message.encode(out));
    match (message, Message::decode(&encoded).expect("what was written can be read")) {
        (Message::DiscoverReply(endpoint), Message::DiscoverReply(again))
        | (Message::PunchCommand(endpoint), Message::PunchCommand(again)) => {
            assert_eq!((endpoint.ip().to_canonical(), endpoint.port()), (again.ip(), again.port()));
            assert!(encoded.len() <= ENDPOINT_MESSAGE_MAX);
        }
        (message, again) => {
            assert_eq!(message, again);
            assert_eq!(encoded, bytes[..encoded.len()]);
        }
    }
    if let Message::Relay { sender, dest, inner } = message {
        let mut buffer = bytes.to_vec();
        let part = beacon::relay_into_deliver(&mut buffer);
        assert_eq!(Message::decode(&buffer[part]), Ok(Message::Deliver { sender, inner }));
        let mut buffer = bytes.to_vec();
        let part = beacon::relay_into_deliver_to(&mut buffer);
        assert_eq!(Message::decode(&buffer[part]), Ok(Message::DeliverTo { sender, dest, inner }));
    }
}

/// Requests survive a round trip, refusals and responses can be read by a client, and none exceeds its room.
pub fn stun(bytes: &[u8]) {
    match stun::Request::decode(bytes) {
        Ok(request) => {
            let mut out = [0; REQUEST_MAX];
            let len = request.encode(&mut out);
            assert_eq!(stun::Request::decode(&out[..len]), Ok(request));
            stun_error(request.refuse_change());
        }
        Err(RequestError::Refuse(error)) => stun_error(error),
        Err(RequestError::Drop(_)) => {}
    }
    if let Ok(Response { transaction, outcome: Outcome::Success(success) }) = Response::decode(bytes) {
        let once = encoded_success(&success, &transaction);
        let response = Response::decode(&once).expect("what was written can be read");
        let Outcome::Success(again) = response.outcome else { panic!("a success stays one") };
        assert_eq!(response.transaction, transaction);
        assert_eq!(
            (again.mapped.ip(), again.mapped.port()),
            (success.mapped.ip().to_canonical(), success.mapped.port())
        );
        assert_eq!(encoded_success(&again, &transaction), once, "the second round changes nothing");
    }
}

fn stun_error(error: ErrorResponse) {
    let mut out = [0; RESPONSE_MAX];
    let len = error.encode(&mut out);
    let outcome = Outcome::Error { code: error.code.number(), unknown: error.unknown };
    assert_eq!(Response::decode(&out[..len]), Ok(Response { transaction: error.transaction, outcome }));
}

fn encoded_success(success: &Success<'_>, transaction: &stun::TransactionId) -> Vec<u8> {
    let mut out = [0; RESPONSE_MAX];
    let len = success.encode(transaction, &mut out);
    out[..len].to_vec()
}

/// What decodes is encoded to the very bytes it came from.
pub fn packet(bytes: &[u8]) {
    let Ok(packet) = Packet::decode(bytes) else { return };
    assert_eq!(written(packet.encoded_len(), |out| packet.encode(out)), bytes[..packet.encoded_len()]);
}

/// What decodes is encoded to the very bytes it came from.
pub fn tunnel(bytes: &[u8]) {
    let Ok(frame) = tunnel::Frame::decode(bytes) else { return };
    assert_eq!(Format::of(bytes), Format::Tunnel);
    assert_eq!(written(frame.encoded_len(), |out| frame.encode(out)), bytes[..frame.encoded_len()]);
}

/// As one frame and as a stream of frames: what decodes survives a round trip.
pub fn ipc(bytes: &[u8]) {
    ipc_frame(bytes);
    let (mut decoder, mut rest) = (ipc::frame_decoder(), bytes);
    while let Ok(Some(frame)) = decoder.decode(&mut rest) {
        assert!(frame.len() <= ipc::FRAME_MAX);
        ipc_frame(frame);
    }
}

fn ipc_frame(frame: &[u8]) {
    let mut out = Vec::new();
    if let Ok(request) = ipc::Request::decode(frame) {
        request.encode(&mut out);
        assert_eq!(ipc::Request::decode(&out[4..]), Ok(request));
    }
    out.clear();
    if let Ok(reply) = ipc::Reply::decode(frame) {
        reply.encode(&mut out);
        assert_eq!(ipc::Reply::decode(&out[4..]), Ok(reply));
    }
}

/// As one message and as a stream of messages: what decodes survives a round trip.
pub fn registry(bytes: &[u8]) {
    registry_message(bytes);
    let mut rest = bytes;
    while let Ok(Some((message, behind))) = registry::split_message(rest) {
        assert!(message.len() <= registry::MESSAGE_BYTES_MAX);
        registry_message(message);
        rest = behind;
    }
}

fn registry_message(message: &[u8]) {
    if let Ok(request) = registry::Request::decode(message) {
        let mut out = Vec::new();
        registry::push_message(&mut out, &request);
        let (again, _) = registry::split_message(&out).expect("under the limit").expect("complete");
        assert_eq!(registry::Request::decode(again), Ok(request));
    }
    if let Ok(answer) = Answer::decode(message) {
        let mut out = Vec::new();
        registry::push_message(&mut out, &answer);
        let (again, _) = registry::split_message(&out).expect("under the limit").expect("complete");
        assert_eq!(Answer::decode(again), Ok(answer));
    }
}

/// What `encode` writes into that much room.
pub fn written(room: usize, encode: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; room];
    let mut out = Writer::new(&mut buffer);
    encode(&mut out);
    let len = out.len();
    buffer.truncate(len);
    buffer
}
