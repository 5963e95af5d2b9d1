//! Beacon messages, and the one tunnel frame that a beacon sees.

use wire::beacon::{self, Message};
use wire::tunnel::Frame;
use wire::{DecodeError, Format, NodeId};

use crate::fixtures::{Vector, hex, number};
use crate::invariants::written;

pub fn check(vector: &Vector) -> Option<()> {
    let bytes = vector.bytes();
    match vector.name.as_str() {
        "dropped_short_discover" | "dropped_short_relay" => {
            assert!(matches!(Message::decode(bytes), Err(DecodeError::Truncated { .. })));
            return Some(());
        }
        "punch_frame_PILP" => {
            assert_eq!((Frame::decode(bytes), Format::of(bytes)), (Ok(Frame::Probe), Format::Tunnel));
            return Some(());
        }
        _ => {}
    }
    let carried = vector.inputs["inner_hex"].as_str().map(hex).unwrap_or_else(|| b"x".to_vec());
    let nodes: Vec<u8> = node_bytes(vector);
    let (message, ignored_len) = expected(vector, &carried, &nodes)?;
    assert_eq!(Message::decode(bytes), Ok(message));
    assert_eq!(Format::of(bytes), Format::Beacon);
    assert_eq!(written(bytes.len(), |out| message.encode(out)), bytes[..bytes.len() - ignored_len]);
    rewrite(message, bytes);
    Some(())
}

/// The message, and how many bytes after it a receiver ignores.
fn expected<'a>(vector: &Vector, inner: &'a [u8], nodes: &'a [u8]) -> Option<(Message<'a>, usize)> {
    let node = |key: &str| NodeId(vector.number(key));
    let endpoint = |key: &str| vector.text(key).parse().expect("an endpoint");
    let discover = |extended| Message::Discover { node: node("node_id"), extended };
    let punch = || Message::PunchRequest { requester: node("requester"), target: node("target") };
    Some(match vector.name.trim_end_matches(" (synthetic)") {
        "discover" | "discover_node_zero" => (discover(false), 0),
        "discover_with_public_key" => (discover(false), 32),
        "discover_ex" => (discover(true), 0),
        "discover_reply_v4" | "discover_reply_v6" => (Message::DiscoverReply(endpoint("observed")), 0),
        "punch_request" => (punch(), 0),
        "punch_request_with_grant" => (punch(), 8 + 64),
        "punch_command_to_requester_v4"
        | "punch_command_to_target_v4"
        | "punch_command_to_requester_v6"
        | "punch_command_to_target_v6" => (Message::PunchCommand(endpoint("endpoint")), 0),
        "relay" | "relay_empty_inner" | "relay_forward_to_peer_beacon" => {
            (Message::Relay { sender: node("sender"), dest: node("dest"), inner }, 0)
        }
        "relay_deliver" | "relay_deliver_empty_inner" => (Message::Deliver { sender: node("sender"), inner }, 0),
        "relay_deliver_dest" => (Message::DeliverTo { sender: node("sender"), dest: node("dest"), inner }, 0),
        "sync" | "sync_two_nodes" => (Message::Sync { beacon: vector.number("beacon_id"), nodes }, 0),
        "notify_handshake" => (Message::Notify { kind: vector.number("kind") }, 0),
        _ => return None,
    })
}

fn node_bytes(vector: &Vector) -> Vec<u8> {
    let nodes = vector.inputs["nodes"].as_array().into_iter().flatten();
    nodes.flat_map(|node| number::<u32>(node).to_be_bytes()).collect()
}

/// A relay message becomes a delivery in place.
fn rewrite(message: Message<'_>, bytes: &[u8]) {
    let Message::Relay { sender, dest, inner } = message else { return };
    let mut buffer = bytes.to_vec();
    let part = beacon::relay_into_deliver(&mut buffer);
    assert_eq!(Message::decode(&buffer[part]), Ok(Message::Deliver { sender, inner }));
    let mut buffer = bytes.to_vec();
    let part = beacon::relay_into_deliver_to(&mut buffer);
    assert_eq!(Message::decode(&buffer[part]), Ok(Message::DeliverTo { sender, dest, inner }));
}
