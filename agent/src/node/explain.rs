//! Why the path to a peer is what it is.

use serde::Serialize;
use wire::NodeId;

use super::Node;
use super::about::summary;
use crate::Time;

/// What `pilotctl explain` shows. Times are seconds before now.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The peer.
    pub node_id: u32,
    /// Its address.
    pub address: String,
    /// `direct` or `relay`.
    pub path: &'static str,
    /// Why it is that.
    pub why: String,
    /// The direct endpoint in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Since when.
    pub since_secs: f64,
    /// Round-trip time of the direct path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// The relay this node uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// What the NATs on this side do.
    pub own_nat: NatView,
    /// What those on the peer's side do, if it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_nat: Option<NatView>,
    /// Endpoints at which the peer may be.
    pub candidates: Vec<CandidateView>,
    /// What has happened.
    pub events: Vec<EventView>,
    /// The keys.
    pub session: SessionView,
    /// Datagrams sent directly.
    pub sent_direct: u64,
    /// Datagrams sent through the relay.
    pub sent_relayed: u64,
}

/// The NATs on one side.
#[derive(Clone, Debug, Serialize)]
pub struct NatView {
    pub summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapped: Option<String>,
}

/// One candidate.
#[derive(Clone, Debug, Serialize)]
pub struct CandidateView {
    pub endpoint: String,
    pub kind: String,
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    pub tries: u32,
}

/// One event.
#[derive(Clone, Debug, Serialize)]
pub struct EventView {
    pub at_secs_ago: f64,
    pub what: String,
}

/// The session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub established_secs_ago: Option<f64>,
    pub established: bool,
    pub forward_secrecy: bool,
    /// When ephemeral keys were last negotiated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rekeyed_secs_ago: Option<f64>,
    /// How often they were.
    pub rekeyings: u32,
}

impl Node {
    /// Why the path to `peer` is what it is; none for a node this one has nothing to do with.
    #[must_use]
    pub fn explain(&self, now: Time, node: NodeId) -> Option<Explanation> {
        let peer = self.peers.get(node)?;
        let path = &peer.path;
        let ago = |at: Time| now.since(at).as_secs_f64();
        let candidates = path.candidates().iter().map(|candidate| CandidateView {
            endpoint: candidate.endpoint.to_string(),
            kind: candidate.kind.to_string(),
            state: candidate.state().to_string(),
            rtt_ms: candidate.rtt().map(|rtt| rtt.as_secs_f64() * 1000.0),
            tries: candidate.probes(),
        });
        let events =
            path.history().iter().map(|(at, what)| EventView { at_secs_ago: ago(*at), what: what.to_string() });
        let tunnels = self.tunnels.as_ref();
        let rekeyed = tunnels.and_then(|tunnels| tunnels.rekeyed(node));
        let has_session = self.tunnels.as_ref().is_some_and(|tunnels| tunnels.has_session(node));
        Some(Explanation {
            node_id: node.0,
            address: node.address().to_string(),
            path: if path.direct().is_some() { "direct" } else { "relay" },
            why: self.why(node),
            endpoint: path.direct().map(|endpoint| endpoint.to_string()),
            since_secs: ago(path.since()),
            rtt_ms: path.rtt().map(|rtt| rtt.as_secs_f64() * 1000.0),
            relay: self.relay().map(|relay| relay.to_string()),
            own_nat: NatView {
                summary: self.nat().to_string(),
                mapped: self.mapped_endpoint().map(|endpoint| endpoint.to_string()),
            },
            peer_nat: tunnels
                .and_then(|tunnels| tunnels.about(node))
                .map(|about| NatView { summary: summary(about), mapped: None }),
            candidates: candidates.collect(),
            events: events.collect(),
            session: SessionView {
                established_secs_ago: peer.established_at.map(ago),
                established: has_session,
                forward_secrecy: tunnels.is_some_and(|tunnels| tunnels.is_forward_secret(node)),
                rekeyed_secs_ago: rekeyed.map(|(at, _)| ago(at)),
                rekeyings: rekeyed.map_or(0, |(_, count)| count),
            },
            sent_direct: peer.sent.0,
            sent_relayed: peer.sent.1,
        })
    }

    fn why(&self, node: NodeId) -> String {
        let Some(peer) = self.peers.get(node) else { return String::new() };
        if let Some(trouble) = &peer.trouble {
            return trouble.to_string();
        }
        let path = &peer.path;
        if path.direct().is_some() {
            return "a sealed probe sent there was answered".to_owned();
        }
        if self.config.relay_only {
            return "this node was started with --relay-only".to_owned();
        }
        if !path.direct_allowed() {
            return "the peer hides its endpoint (relay-only)".to_owned();
        }
        if path.candidates().is_empty() {
            return "no endpoint of the peer is known yet".to_owned();
        }
        if self.nat().is_symmetric() {
            return "none of its endpoints has answered a probe; the NAT here is symmetric, which lets nobody in unless the \
                    peer's NAT filters by address alone, or not at all"
                .to_owned();
        }
        "none of its endpoints has answered a probe".to_owned()
    }
}
