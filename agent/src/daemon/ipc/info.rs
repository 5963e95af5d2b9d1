//! What the daemon tells of itself, in the shapes that the 1.18 line answers (section 10).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wire::NodeId;

use super::Context;
use crate::daemon::core::Core;
use crate::node::{Node, PeerInfo, StreamInfo};
use crate::stream::{SEGMENT_BYTES, State};

/// What clients may count on, by the names of the 1.18 line.
const FEATURES: [&str; 4] = ["reply_window", "dial_awaits_key", "key_request", "dgram_confirm"];

/// Streams and peers listed, of each; the numbers beside the lists count all. With more the answer would not fit a frame.
const LISTED_MAX: usize = 500;

/// The answer to 0D.
pub(super) fn info(context: &Context) -> Value {
    context.core.look(|node| {
        let id = node.id();
        let counters = node.counters();
        let streams: Vec<StreamInfo> = node.streams().collect();
        let peers: Vec<PeerInfo> = node.peers().collect();
        let sessions = peers.iter().filter(|peer| peer.has_session).count();
        let endpoint = node.mapped_endpoint().unwrap_or(context.local);
        let networks = context.networks.borrow();
        let mut info = json!({
            "accept_queue_drops": 0,
            "address": id.map(|id| id.address().to_string()).unwrap_or_default(),
            "authenticated_peers": sessions,
            "beacon_addr": node.relay().map(|relay| relay.to_string()).unwrap_or_default(),
            "bytes_recv": counters.bytes_received,
            "bytes_sent": counters.bytes_sent,
            "conn_list": listed(&streams, stream),
            "connections": established(&streams),
            "email": context.owner,
            "encrypt": true,
            "encrypted_peers": sessions,
            "endpoint": endpoint.to_string(),
            "features": FEATURES,
            "handshake_pending_count": node.trust().pending().len(),
            "hostname": *context.hostname.borrow(),
            "identity": true,
            "motd": "",
            "networks": if networks.is_empty() { Value::Null } else { json!(*networks) },
            "node_id": id.unwrap_or(NodeId::UNSET),
            "peer_list": listed(&peers, peer),
            "peers": peers.len(),
            "pkts_recv": counters.datagrams_received,
            "pkts_sent": counters.datagrams_sent,
            "ports": node.ports().count(),
            "public_key": STANDARD.encode(context.identity.public_key()),
            "relay_peer_count": relayed(&peers),
            "transport": "udp",
            "tunnel_encryption_failure": counters.not_opened,
            "tunnel_encryption_success": counters.opened,
            "uptime_secs": uptime_seconds(context),
            "version": context.version,
            "webhook_circuit_skips": 0,
            "webhook_queue_dropped": 0,
        });
        // Ours; other clients pass over it.
        info["registration"] = node.registration().to_string().into();
        info["nat"] = node.nat().to_string().into();
        info["pid"] = std::process::id().into();
        info
    })
}

/// The answer to 21.
pub(super) fn health(context: &Context) -> Value {
    context.core.look(|node| {
        let counters = node.counters();
        let streams: Vec<StreamInfo> = node.streams().collect();
        let peers: Vec<PeerInfo> = node.peers().collect();
        let sessions = peers.iter().filter(|peer| peer.has_session).count();
        json!({
            "accept_queue_drops": 0,
            "authenticated_peers": sessions,
            "beacon_addr": node.relay().map(|relay| relay.to_string()).unwrap_or_default(),
            "bytes_recv": counters.bytes_received,
            "bytes_sent": counters.bytes_sent,
            "connections": established(&streams),
            "encrypted_peers": sessions,
            "handshake_pending_count": node.trust().pending().len(),
            "peers": peers.len(),
            "relay_peer_count": relayed(&peers),
            "status": status(node),
            "uptime_seconds": uptime_seconds(context),
            "webhook_circuit_skips": 0,
            "webhook_queue_dropped": 0,
        })
    })
}

/// The answer to 2D; the attempt is under way.
pub(super) fn prefer_direct(core: &Core, node: NodeId) -> Value {
    let before = core.look(|own| own.peer(node));
    core.act(|own, now| own.prefer_direct(now, node));
    json!({
        "had_tunnel": before.is_some_and(|peer| peer.has_session),
        "node_id": node,
        "pila_pushed": before.is_some(),
        "resolve_error": if before.is_some() { "" } else { "nothing has been sent to this node yet" },
        "was_relay_active": before.is_some_and(|peer| peer.has_session && peer.direct.is_none()),
        "was_relay_pinned": false,
    })
}

/// Why the path to `node` is what it is.
pub(super) fn explain(context: &Context, node: NodeId) -> Option<Value> {
    let now = context.core.clock().now();
    let explanation = context.core.look(|own| own.explain(now, node))?;
    serde_json::to_value(explanation).ok()
}

/// `ok` when the directory knows the node and a relay answers; otherwise what is missing.
fn status(node: &Node) -> &'static str {
    match (node.id(), node.relay()) {
        (Some(_), Some(_)) => "ok",
        (None, _) => "not registered",
        (_, None) => "no relay answers",
    }
}

fn established(streams: &[StreamInfo]) -> usize {
    streams.iter().filter(|stream| stream.state == State::Established).count()
}

fn relayed(peers: &[PeerInfo]) -> usize {
    peers.iter().filter(|peer| peer.has_session && peer.direct.is_none()).count()
}

fn uptime_seconds(context: &Context) -> u64 {
    context.core.clock().now().since(context.started).as_secs()
}

fn listed<T>(entries: &[T], entry: impl Fn(&T) -> Value) -> Vec<Value> {
    entries.iter().take(LISTED_MAX).map(entry).collect()
}

fn peer(peer: &PeerInfo) -> Value {
    let mut entry = json!({
        "node_id": peer.node,
        "encrypted": peer.has_session,
        "authenticated": peer.has_session,
        "relay": peer.direct.is_none(),
    });
    if let Some(direct) = peer.direct {
        entry["endpoint"] = direct.to_string().into();
    }
    if let Some(rtt) = peer.rtt {
        entry["rtt_ms"] = milliseconds(rtt).into();
    }
    entry
}

fn stream(stream: &StreamInfo) -> Value {
    let metrics = &stream.metrics;
    let segments = |bytes: u64| bytes.div_ceil(u64::from(SEGMENT_BYTES));
    json!({
        "bytes_recv": stream.bytes_received,
        "bytes_sent": stream.bytes_sent,
        "cong_win": metrics.congestion_window_bytes,
        "dup_acks": 0,
        "fast_retx": metrics.retransmissions.saturating_sub(metrics.timeouts),
        "id": stream.id.0,
        "in_flight": metrics.in_flight_bytes,
        "in_recovery": false,
        "local_port": stream.local_port,
        "ooo_buf": 0,
        "peer_recv_win": 0,
        "recv_win": 0,
        "remote_addr": stream.remote.address.to_string(),
        "remote_port": stream.remote.port,
        "retransmits": metrics.retransmissions,
        "rttvar_ms": 0,
        "sack_recv": 0,
        "sack_sent": 0,
        "segs_recv": segments(stream.bytes_received),
        "segs_sent": segments(stream.bytes_sent),
        "srtt_ms": metrics.smoothed_rtt.map_or(0.0, milliseconds),
        "ssthresh": 0,
        "state": state(stream.state),
        "unacked": segments(metrics.in_flight_bytes),
        "bytes_per_second": metrics.bytes_per_second,
    })
}

const fn state(state: State) -> &'static str {
    match state {
        State::SynSent => "SYN_SENT",
        State::Established => "ESTABLISHED",
        State::FinWait => "FIN_WAIT",
        State::TimeWait => "TIME_WAIT",
        State::Closed => "CLOSED",
    }
}

fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::address::{Address, SocketAddress};
    use wire::ipc::FRAME_MAX;

    use super::*;
    use crate::node::StreamId;
    use crate::stream::Metrics;

    #[test]
    fn lists_of_thousands_with_the_longest_entries_fit_a_frame() {
        let long = Some(Duration::from_nanos(u64::MAX));
        let metrics = Metrics {
            smoothed_rtt: long,
            minimum_rtt: long,
            congestion_window_bytes: u64::MAX,
            bytes_per_second: u64::MAX,
            in_flight_bytes: u64::MAX,
            retransmissions: u64::MAX,
            spurious_retransmissions: u64::MAX,
            timeouts: 0,
        };
        let address = Address { network: u16::MAX, node: NodeId(u32::MAX) };
        let one = StreamInfo {
            id: StreamId(u32::MAX),
            local_port: u16::MAX,
            remote: SocketAddress { address, port: u16::MAX },
            state: State::Established,
            metrics,
            bytes_sent: u64::MAX,
            bytes_received: u64::MAX,
        };
        let direct = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().ok();
        let other = PeerInfo { node: NodeId(u32::MAX), direct, has_session: false, rtt: long };
        let (streams, peers) = (listed(&vec![one; 5000], stream), listed(&vec![other; 5000], peer));
        assert_eq!((streams.len(), peers.len()), (LISTED_MAX, LISTED_MAX));
        // The rest is an order of magnitude shorter.
        let bytes = json!([streams, peers]).to_string().len();
        assert!(bytes < FRAME_MAX / 2, "{bytes}");
    }
}
