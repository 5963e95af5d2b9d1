//! Answers of the directory (section 6.4) and its errors (section 6.2).

use serde::{Deserialize, Serialize};

use super::json::{ANSWER_VALUES_MAX, RequestError};
use super::{PublicKey, Signature, bans};
use crate::NodeId;
use crate::address::Address;

/// One answer. Every one has a `type`; that of an error is `error`.
#[expect(missing_docs, reason = "the names are the wire's; section 6.4 is their documentation")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Answer {
    #[serde(rename = "error")]
    Error { error: String },
    #[serde(rename = "register_ok")]
    Register(Registered),
    #[serde(rename = "heartbeat_ok")]
    Heartbeat {
        time: u64,
        /// Ours, for nodes that ask.
        #[serde(default, deserialize_with = "bans::lenient", skip_serializing_if = "Option::is_none")]
        bans: Option<bans::Listed>,
    },
    #[serde(rename = "lookup_ok")]
    Lookup(Found),
    #[serde(rename = "resolve_ok")]
    Resolve(Resolved),
    #[serde(rename = "resolve_hostname_ok")]
    ResolveHostname {
        node_id: NodeId,
        #[serde(with = "text")]
        address: Address,
        public: bool,
        hostname: String,
    },
    #[serde(rename = "set_hostname_ok")]
    SetHostname { node_id: NodeId, hostname: String },
    #[serde(rename = "set_tags_ok")]
    SetTags { node_id: NodeId, tags: Vec<String> },
    #[serde(rename = "set_visibility_ok")]
    SetVisibility { node_id: NodeId, visibility: Visibility },
    #[serde(rename = "set_task_exec_ok")]
    SetTaskExec { node_id: NodeId, task_exec: bool },
    #[serde(rename = "set_key_expiry_ok")]
    SetKeyExpiry { node_id: NodeId },
    #[serde(rename = "report_trust_ok")]
    ReportTrust,
    #[serde(rename = "revoke_trust_ok")]
    RevokeTrust,
    #[serde(rename = "check_trust_ok")]
    CheckTrust { trusted: bool },
    #[serde(rename = "request_handshake_ok")]
    RequestHandshake { status: Delivered },
    #[serde(rename = "poll_handshakes_ok")]
    PollHandshakes { requests: Vec<HandshakeRequest>, responses: Vec<HandshakeResponse> },
    #[serde(rename = "respond_handshake_ok")]
    RespondHandshake { peer_id: NodeId, accept: bool },
    #[serde(rename = "punch_ok")]
    Punch { node_a: NodeId, node_a_addr: String, node_b: NodeId, node_b_addr: String },
    #[serde(rename = "rotate_key_ok")]
    RotateKey {
        node_id: NodeId,
        #[serde(with = "text")]
        address: Address,
        public_key: PublicKey,
    },
    #[serde(rename = "deregister_ok")]
    Deregister,
    #[serde(rename = "list_networks_ok")]
    ListNetworks { networks: Vec<NetworkSummary> },
    #[serde(rename = "list_nodes_ok")]
    ListNodes {
        nodes: Vec<Member>,
        /// Ours: there are more; ask again after the last.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        more: bool,
    },
    #[serde(rename = "create_network_ok")]
    CreateNetwork { network_id: u16, name: String },
    #[serde(rename = "join_network_ok")]
    JoinNetwork {
        network_id: u16,
        #[serde(with = "text")]
        address: Address,
    },
    #[serde(rename = "leave_network_ok")]
    LeaveNetwork { network_id: u16 },
    #[serde(rename = "invite_to_network_ok")]
    InviteToNetwork {
        network_id: u16,
        target_node_id: NodeId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<String>,
    },
    #[serde(rename = "poll_invites_ok")]
    PollInvites { invites: Vec<Invite> },
    #[serde(rename = "respond_invite_ok")]
    RespondInvite { accepted: bool, network_id: u16 },
    #[serde(rename = "get_network_policy_ok")]
    GetNetworkPolicy { network_id: u16, max_members: u32, allowed_ports: Vec<u16>, description: String },
    #[serde(rename = "beacon_register_ok")]
    BeaconRegister { beacon_id: NodeId },
    #[serde(rename = "beacon_list_ok")]
    BeaconList { beacons: Vec<Beacon> },
    #[serde(rename = "publish_capability_ok")]
    PublishCapability { node_id: NodeId, serial: u64 },
    #[serde(rename = "query_ok")]
    Query { hits: Vec<Hit> },
    #[serde(rename = "changes_ok")]
    Changes {
        /// To be given back with the next question.
        cursor: u64,
        /// What lies between is no longer known: ask for all there is, then go on from here.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        reset: bool,
        changes: Vec<Change>,
    },
}

impl Answer {
    /// The error answer for `reason`, its text filtered as [`shown`] says.
    #[must_use]
    pub fn error(reason: &impl ToString) -> Self {
        let text = reason.to_string();
        if shown(&text) { Self::Error { error: text } } else { Self::Error { error: REQUEST_FAILED.to_owned() } }
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// The message exceeds a bound, or is no answer of a known type.
    pub fn decode(message: &[u8]) -> Result<Self, AnswerError> {
        super::json::check_bounds(message, ANSWER_VALUES_MAX).map_err(AnswerError::Unbounded)?;
        serde_json::from_slice(message).map_err(|error| AnswerError::Malformed(error.to_string()))
    }
}

/// Why a message is not an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It exceeds a bound that holds for all messages.
    #[error(transparent)]
    Unbounded(RequestError),
    /// It is no JSON object, has an unknown type, or a field is amiss.
    #[error("not an answer of a directory: {0}")]
    Malformed(String),
}

/// What is said instead of a text that must not be shown.
pub const REQUEST_FAILED: &str = "request failed";

/// A heartbeat answered with this, or with [`node_not_found`], makes a daemon register again at once.
pub const SIGNATURE_FAILED: &str = "signature verification failed";

/// "node 7: node not found".
#[must_use]
pub fn node_not_found(node: NodeId) -> String {
    format!("node {node}: node not found")
}

/// How far the clock of a node may be off the directory's for its signed questions to count, in seconds.
pub const CLOCKS_APART_MAX_SECONDS: u64 = 600;

/// What stands before the directory's time in an error text.
const CLOCK_SAYS: &str = "the directory's clock says ";

/// The error of a question that was signed at another time than now, in Unix seconds. Our agents ask again by the clock it
/// names.
#[must_use]
pub fn signed_at_another_time(signed_at: u64, now: u64) -> String {
    format!(
        "signature expired, or not valid yet: signed at {signed_at}, and {CLOCK_SAYS}{now}; set the clock of this host"
    )
}

/// The error of a question that has been asked on another connection, or may have been: whoever signs it anew, later than
/// before, is answered.
#[must_use]
pub fn asked_elsewhere(now: u64) -> String {
    format!("signature already used for this question on another connection; {CLOCK_SAYS}{now}; sign it anew")
}

/// The directory's time in an error that [`signed_at_another_time`] or [`asked_elsewhere`] has made.
#[must_use]
pub fn directory_time(error: &str) -> Option<u64> {
    let (_, behind) = error.split_once(CLOCK_SAYS)?;
    behind.split(|byte: char| !byte.is_ascii_digit()).next()?.parse().ok()
}

/// Whether clients may see an error text: it must contain one of the phrases that the registries of the 1.9 line and
/// later let through.
#[must_use]
pub fn shown(text: &str) -> bool {
    const SHOWN: [&str; 12] = [
        "rate limited",
        "expired",
        "already",
        "not a member",
        "cannot",
        "too many",
        "too long",
        "not found",
        "invalid",
        "require",
        "signature",
        "enterprise feature",
    ];
    SHOWN.iter().any(|phrase| text.contains(phrase))
}

/// Answer to `register`.
#[expect(missing_docs, reason = "section 6.4")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub node_id: NodeId,
    pub network_id: u16,
    #[serde(with = "text")]
    pub address: Address,
    pub public_key: PublicKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname_error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_addr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<u32>,
}

/// Answer to `lookup`.
#[expect(missing_docs, reason = "section 6.4")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub node_id: NodeId,
    #[serde(with = "text")]
    pub address: Address,
    pub networks: Vec<u16>,
    pub public_key: PublicKey,
    pub public: bool,
    pub polo_score: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub task_exec: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_addr: Option<String>,
}

/// Answer to `resolve`.
#[expect(missing_docs, reason = "section 6.4")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    pub node_id: NodeId,
    pub real_addr: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lan_addrs: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_age_days: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relay_only: bool,
}

/// Whether strangers may resolve a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Anyone may.
    Public,
    /// Only those it trusts or shares a network with.
    Private,
}

/// The one status of a handshake request that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivered {
    /// It waits in the other node's inbox.
    Delivered,
}

/// A handshake request in an inbox.
#[expect(missing_docs, reason = "section 6.4")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeRequest {
    pub from_node_id: NodeId,
    pub justification: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    pub timestamp: u64,
}

/// A response to a handshake request.
#[expect(missing_docs, reason = "section 6.4")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeResponse {
    pub from_node_id: NodeId,
    pub accept: bool,
    pub timestamp: u64,
}

/// An entry of `query`: a node, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// The node.
    pub node_id: NodeId,
    /// Its address in the network that was asked for, or in the backbone.
    #[serde(with = "text")]
    pub address: Address,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// How well it fits, from 1000 for the best downwards; 0 when no words were given. Only comparable within one answer.
    pub score: u32,
    /// Whether it is there.
    pub online: bool,
    /// Unix seconds of its last sign of life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<u64>,
    /// The tags it has set; those of the record are in the record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its key, as the directory has it.
    pub public_key: PublicKey,
    /// Its [`Record`](super::capability::Record), as it was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// The node's signature of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// An entry of `changes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What has happened.
    pub what: Happened,
    /// To whom.
    pub node_id: NodeId,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The network joined or left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_id: Option<u16>,
    /// When, Unix seconds.
    pub at: u64,
}

/// What can happen to a node that others may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Happened {
    /// It has a new capability record.
    Published,
    /// Its record is gone.
    Withdrawn,
    /// It is there.
    Online,
    /// It is silent, or has left.
    Offline,
    /// It is in a network.
    Joined,
    /// It is not any more.
    Left,
    /// It has another hostname, or other tags.
    Described,
}

/// An entry of `list_networks`.
#[expect(missing_docs, reason = "section 6.4")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSummary {
    pub id: u16,
    pub name: String,
    pub join_rule: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<usize>,
    /// Ours: members that are there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enterprise: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
}

/// An entry of `list_nodes`.
#[expect(missing_docs, reason = "section 6.4")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub node_id: NodeId,
    #[serde(with = "text")]
    pub address: Address,
    pub public: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Unix seconds; absent when the node has not been seen since the directory started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<u64>,
    /// Ours: whether it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_addr: Option<String>,
}

/// An entry of `poll_invites`.
#[expect(missing_docs, reason = "section 6.4")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    pub network_id: u16,
    pub inviter_id: NodeId,
    pub timestamp: u64,
}

/// An entry of `beacon_list`: a relay.
#[expect(missing_docs, reason = "section 6.4")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    pub id: NodeId,
    pub addr: String,
    /// Ours: what else the relay understands. `trace` is [`kind::TRACE`](crate::beacon::kind::TRACE).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
    /// Ours: by which the relay is known to nodes that sign claims for it ([`EXTENSION_CLAIM`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_key: Option<PublicKey>,
}

/// In [`Beacon::extensions`]: the relay takes signed claims ([`kind::CLAIM`](crate::beacon::kind::CLAIM)), for which it
/// has a [`Beacon::relay_key`].
pub const EXTENSION_CLAIM: &str = "claim";
/// In [`Beacon::extensions`]: the relay takes trace messages.
pub const EXTENSION_TRACE: &str = "trace";

/// Values that travel as what they print.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
