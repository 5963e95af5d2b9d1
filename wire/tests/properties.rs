//! Properties of all decoders: no input makes them panic, and what is encoded decodes to the same.

mod fixtures;
mod invariants;

use std::net::{IpAddr, SocketAddr};

use invariants::written;
use proptest::collection::vec;
use proptest::prelude::*;
use wire::NodeId;
use wire::address::{Address, SocketAddress};
use wire::beacon::{CLAIM_LEN, ENDPOINT_MESSAGE_MAX, Message};
use wire::ipc::{self, HandshakeRequest, ManagedRequest, NetworkRequest, Reply};
use wire::packet::{Flags, Packet, Protocol};
use wire::registry;
use wire::stun::{
    AttributeList, ChangeRequest, ErrorCode, ErrorResponse, Outcome, REQUEST_MAX, RESPONSE_MAX, Request, Response,
    SOFTWARE_MAX, Success, TransactionId,
};
use wire::trace::TraceContext;
use wire::tunnel::{Frame, Nonce, SignedKeyExchange};

/// The vectors as decoders see them: datagrams, frames with and without their length, and texts.
fn messages() -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = fixtures::datagrams().into_iter().map(|(_, bytes)| bytes).collect();
    for (_, frame) in fixtures::ipc_frames() {
        messages.push(frame[4..].to_vec());
        messages.push(frame);
    }
    let texts = fixtures::vectors("addresses.json").into_iter();
    messages.extend(texts.map(|vector| vector.text("text").as_bytes().to_vec()));
    messages.extend(fixtures::registry_messages());
    let services = ["services.json", "services_newest_synthetic.json", "secure443.json"].into_iter();
    messages.extend(services.flat_map(fixtures::vectors).filter_map(|vector| vector.bytes));
    // A trace message, which is ours and in no file: nodes 5 and 7, ids of ABs and CDs, sampled.
    messages.push([&[0x0D, 0, 0, 0, 5, 0, 0, 0, 7][..], &[0xAB; 16], &[0xCD; 8], &[1]].concat());
    messages
}

/// Bytes looked at in one message: beyond this the captured ones hold only data and JSON.
const DAMAGED_BYTES_MAX: usize = 600;

#[test]
fn every_prefix_of_every_vector() {
    for message in messages() {
        for len in 0..=message.len().min(DAMAGED_BYTES_MAX) {
            invariants::all(&message[..len]);
        }
    }
}

#[test]
fn every_byte_of_every_vector_off_by_one() {
    for mut message in messages() {
        for at in 0..message.len().min(DAMAGED_BYTES_MAX) {
            let byte = message[at];
            for off_by_one in [byte.wrapping_add(1), byte.wrapping_sub(1)] {
                message[at] = off_by_one;
                invariants::all(&message);
            }
            message[at] = byte;
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..2000)) {
        invariants::all(&bytes);
    }

    #[test]
    fn arbitrary_bytes_behind_a_known_start(
        start in prop::sample::select(messages()), keep in 0..40_usize, bytes in vec(any::<u8>(), 0..200),
    ) {
        let kept = &start[..keep.min(start.len())];
        invariants::all(&[kept, bytes.as_slice()].concat());
    }

    #[test]
    fn arbitrary_texts(text in "[0-9]{0,6}:?([0-9a-fA-F]{3,5}\\.?){0,4}:?[0-9]{0,6}") {
        invariants::address(text.as_bytes());
    }

    #[test]
    fn addresses(address in socket_address()) {
        prop_assert_eq!(address.to_string().parse(), Ok(address));
        prop_assert_eq!(address.address.to_string().parse(), Ok(address.address));
        prop_assert_eq!(Address::from_bytes(address.address.to_bytes()), address.address);
    }

    #[test]
    fn beacon_messages(
        nodes in any::<[u32; 2]>(), flag: bool, kind: u8, endpoint in canonical_endpoint(), inner in data(),
        context in trace_context(), relay_key: [u8; 32], cookie: [u8; 16], halves: [[u8; 32]; 2],
    ) {
        let signature: [u8; 64] = std::array::from_fn(|index| halves[index / 32][index % 32]);
        let [sender, dest] = nodes.map(NodeId);
        let held = &inner[..inner.len() / 4 * 4];
        for message in [
            Message::Discover { node: sender, extended: flag },
            Message::DiscoverReply(endpoint),
            Message::PunchRequest { requester: sender, target: dest },
            Message::PunchCommand(endpoint),
            Message::Relay { sender, dest, inner: &inner },
            Message::Deliver { sender, inner: &inner },
            Message::Sync { beacon: sender.0, nodes: held },
            Message::DeliverTo { sender, dest, inner: &inner },
            Message::Notify { kind },
            Message::Challenge { relay_key: &relay_key, cookie: &cookie },
            Message::Claim { node: sender, cookie: &cookie, signature: &signature },
            Message::Trace { sender, dest, context },
        ] {
            let bytes = written(CLAIM_LEN.max(ENDPOINT_MESSAGE_MAX) + inner.len(), |out| message.encode(out));
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
        }
    }

    #[test]
    fn stun_requests(transaction in transaction(), address: bool, port: bool, fingerprint: bool) {
        let fingerprint = fingerprint && !transaction.is_classic();
        let request = Request { transaction, change: ChangeRequest { address, port }, fingerprint };
        let mut out = [0; REQUEST_MAX];
        let len = request.encode(&mut out);
        prop_assert_eq!(Request::decode(&out[..len]), Ok(request));
    }

    #[test]
    fn stun_responses(
        transaction in transaction(), mapped in canonical_endpoint(), mapped_in_clear: bool,
        origin in prop::option::of(canonical_endpoint()), other in prop::option::of(canonical_endpoint()),
        software in prop::option::of("[a-z/ .0-9]{0,64}"), fingerprint: bool,
    ) {
        let classic = transaction.is_classic();
        let success = Success {
            mapped,
            mapped_in_clear: mapped_in_clear || classic,
            origin,
            other,
            software: software.as_deref().filter(|_| !classic),
            fingerprint: fingerprint && !classic,
        };
        prop_assert!(software.as_ref().is_none_or(|software| software.len() <= SOFTWARE_MAX));
        let mut out = [0; RESPONSE_MAX];
        let len = success.encode(&transaction, &mut out);
        let outcome = Outcome::Success(success);
        prop_assert_eq!(Response::decode(&out[..len]), Ok(Response { transaction, outcome }));
    }

    #[test]
    fn stun_errors(transaction in transaction(), unknown in vec(any::<u16>(), 0..20), fingerprint: bool) {
        let unknown: AttributeList = unknown.into_iter().collect();
        for code in [ErrorCode::BadRequest, ErrorCode::UnknownAttribute, ErrorCode::ServerError] {
            let error = ErrorResponse { transaction, code, unknown, fingerprint };
            let mut out = [0; RESPONSE_MAX];
            let len = error.encode(&mut out);
            let outcome = Outcome::Error { code: code.number(), unknown };
            prop_assert_eq!(Response::decode(&out[..len]), Ok(Response { transaction, outcome }));
        }
    }

    #[test]
    fn packets(
        first: u8, protocol: u8, ends in any::<[(u16, u32, u16); 2]>(), sequence: u32, acknowledgement: u32,
        window_segments: u16, payload in data(), damage: u8, at: prop::sample::Index,
    ) {
        let [source, destination] = ends.map(socket);
        let packet = Packet {
            version: first >> 4, flags: Flags::from_bits(first), protocol: Protocol(protocol),
            source, destination, sequence, acknowledgement, window_segments, payload: &payload,
        };
        let mut bytes = written(packet.encoded_len(), |out| packet.encode(out));
        prop_assert_eq!(Packet::decode(&bytes), Ok(packet));
        let at = at.index(bytes.len());
        bytes[at] ^= damage;
        prop_assert_eq!(Packet::decode(&bytes).is_ok(), damage == 0, "a damaged byte is noticed");
    }

    #[test]
    fn tunnel_frames(
        sender in any::<u32>().prop_map(NodeId), prefix: [u8; 4], counter: u64, sealed in vec(any::<u8>(), 16..100),
        x25519: [u8; 32], ed25519: [u8; 32], half_signatures in any::<[[u8; 32]; 2]>(), tail in data(),
    ) {
        let signature: [u8; 64] = half_signatures.concat().try_into().expect("64 bytes");
        let signed = SignedKeyExchange { sender, x25519: &x25519, ed25519: &ed25519, signature: &signature };
        for (frame, tail) in [
            (Frame::Plain { packet: &sealed }, [].as_slice()),
            (Frame::Sealed { sender, nonce: Nonce { prefix, counter }, ciphertext: &sealed }, &[]),
            (Frame::KeyExchange { sender, x25519: &x25519 }, &tail),
            (Frame::SignedKeyExchange(signed), &tail),
            (Frame::Probe, &tail),
        ] {
            let bytes = written(frame.encoded_len(), |out| frame.encode(out));
            prop_assert_eq!(bytes.len(), frame.encoded_len());
            let bytes = [bytes.as_slice(), tail].concat();
            prop_assert_eq!(Frame::decode(&bytes), Ok(frame));
        }
    }

    #[test]
    fn ipc_requests(
        network: u16, port: u16, connection: u32, to in socket_address(), flag: bool, text: String, data in data(),
    ) {
        use ipc::Request::*;
        let (text, node) = (text.as_str(), NodeId(connection));
        for request in [
            Bind { port }, Dial { to }, Send { connection, data: &data }, Close { connection },
            SendTo { to, data: &data }, Info, ResolveHostname(text), SetHostname(text), SetVisibility { public: flag },
            Deregister, SetTags(text), SetWebhook(text), SetTaskExec { enabled: flag }, Health, RotateKey,
            Broadcast { network, port, token: text, data: &data }, Cancel(&data), PreferDirect { node },
            SubmitBadge(text), EnrollRecovery(text), SignEnvelope(text), VerifyEnvelope(text), Extension(text), Unbind { port },
            SendToConfirmed { to, data: &data },
            Handshake(HandshakeRequest::Send { node, justification: text }),
            Handshake(HandshakeRequest::Approve { node }),
            Handshake(HandshakeRequest::Reject { node, reason: text }),
            Handshake(HandshakeRequest::Pending),
            Handshake(HandshakeRequest::Trusted),
            Handshake(HandshakeRequest::Revoke { node }),
            Handshake(HandshakeRequest::WaitForTrust { node, timeout_ms: connection }),
            Network(NetworkRequest::List),
            Network(NetworkRequest::Join { network, token: text }),
            Network(NetworkRequest::Leave { network }),
            Network(NetworkRequest::Members { network }),
            Network(NetworkRequest::Invite { network, node }),
            Network(NetworkRequest::PollInvites),
            Network(NetworkRequest::RespondInvite { network, accept: flag }),
            Managed(ManagedRequest::Status { network }),
            Managed(ManagedRequest::Cycle { network }),
            Managed(ManagedRequest::PolicyGet { network }),
            Managed(ManagedRequest::PolicySet { network, token: text, policy: text }),
            Managed(ManagedRequest::MemberTagsGet { network, node }),
            Managed(ManagedRequest::MemberTagsSet { network, node, tags: text }),
            Managed(ManagedRequest::Reconcile { network }),
        ] {
            let mut bytes = Vec::new();
            request.encode(&mut bytes);
            let mut decoder = ipc::frame_decoder();
            let frame = decoder.decode(&mut bytes.as_slice()).expect("under the limit").expect("complete");
            prop_assert_eq!(ipc::Request::decode(frame), Ok(request));
        }
    }

    #[test]
    fn ipc_replies(
        port: u16, connection: u32, remote in socket_address(), code: u16, text: String, data in data(),
        command in prop::sample::select(vec![0x0E, 0x10, 0x12, 0x14, 0x16, 0x18, 0x1A, 0x1C, 0x1E, 0x20, 0x22, 0x24,
            0x26, 0x2A, 0x2C, 0x2E, 0x30, 0x32, 0x34, 0x36, 0x38, 0x3A_u8]),
    ) {
        for reply in [
            Reply::BindOk { port },
            Reply::DialOk { connection },
            Reply::Accept { listen_port: port, connection, remote },
            Reply::Recv { connection, data: &data },
            Reply::CloseOk { connection },
            Reply::Error { code, text: &text },
            Reply::RecvFrom { source: remote, port, data: &data },
            Reply::Answer { command, json: &text },
        ] {
            let mut bytes = Vec::new();
            reply.encode(&mut bytes);
            let mut decoder = ipc::frame_decoder();
            let frame = decoder.decode(&mut bytes.as_slice()).expect("under the limit").expect("complete");
            prop_assert_eq!(Reply::decode(frame), Ok(reply));
        }
    }

    #[test]
    fn json_shaped_messages(text in "[{}\\[\\]\",:0-9eE.\\-\\\\ tfnrue]{0,200}") {
        invariants::registry(text.as_bytes());
        let length = u32::try_from(text.len()).expect("short").to_be_bytes();
        let framed = [&length, text.as_bytes()].concat();
        prop_assert_eq!(registry::split_message(&framed), Ok(Some((text.as_bytes(), [].as_slice()))));
    }
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..300)
}

fn socket((network, node, port): (u16, u32, u16)) -> SocketAddress {
    SocketAddress { address: Address { network, node: NodeId(node) }, port }
}

fn socket_address() -> impl Strategy<Value = SocketAddress> {
    any::<(u16, u32, u16)>().prop_map(socket)
}

/// IPv4-mapped IPv6 addresses are written as IPv4 and so do not come back as they were.
fn canonical_endpoint() -> impl Strategy<Value = SocketAddr> {
    any::<(IpAddr, u16)>().prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

fn trace_context() -> impl Strategy<Value = TraceContext> {
    let context = any::<([u8; 16], [u8; 8], u8)>().prop_map(|(trace_id, span_id, flags)| TraceContext {
        trace_id,
        span_id,
        flags,
    });
    context.prop_filter("no id is all zero", |context| context.trace_id != [0; 16] && context.span_id != [0; 8])
}

fn transaction() -> impl Strategy<Value = TransactionId> {
    prop_oneof![any::<[u8; 12]>().prop_map(TransactionId::new), any::<[u8; 16]>().prop_map(TransactionId::from_bytes),]
}
