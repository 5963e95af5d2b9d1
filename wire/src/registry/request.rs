//! Every request of section 6.4: fields by their names on the wire, bounded texts, numbers that may come as floats.

use serde::{Deserialize, Serialize};

use super::capability::RECORD_BYTES_MAX;
use super::json::{Fields, RequestError};
use super::{PublicKey, Signature, bans};
use crate::NodeId;

/// Bytes of any text whose own rule is stricter or that needs none.
pub const TEXT_BYTES_MAX: usize = 320;
/// Bytes of a handshake's justification (section 6.5).
pub const JUSTIFICATION_BYTES_MAX: usize = 1024;
/// Local addresses a node may announce.
pub const LAN_ADDRS_MAX: usize = 16;
/// Tags looked at before the rule for tags refuses them.
const TAGS_READ_MAX: usize = 256;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// What is asked.
    #[serde(flatten)]
    pub operation: Operation,
    /// Signature over [`Operation::signed_text`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// The administrator's secret, where an operation takes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_token: Option<String>,
}

/// What a request asks for. Variants are the types on the wire, fields their fields.
#[expect(missing_docs, reason = "the names are the wire's; section 6.4 is their documentation")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Operation {
    Register(Register),
    Heartbeat {
        node_id: NodeId,
        /// Ours, and not covered by the signature: for figures alone.
        #[serde(skip_serializing_if = "Option::is_none")]
        report: Option<Report>,
        /// Ours, and not signed either: the node wants to be told of bans.
        #[serde(skip_serializing_if = "Option::is_none")]
        bans_since: Option<bans::Cursor>,
    },
    Lookup {
        node_id: NodeId,
    },
    Resolve {
        node_id: NodeId,
        requester_id: NodeId,
    },
    ResolveHostname {
        hostname: String,
    },
    SetHostname {
        node_id: NodeId,
        hostname: String,
    },
    SetTags {
        node_id: NodeId,
        tags: Vec<String>,
    },
    SetVisibility {
        node_id: NodeId,
        public: bool,
    },
    SetTaskExec {
        node_id: NodeId,
        enabled: bool,
    },
    SetKeyExpiry {
        node_id: NodeId,
    },
    ReportTrust {
        node_id: NodeId,
        peer_id: NodeId,
    },
    RevokeTrust {
        node_id: NodeId,
        peer_id: NodeId,
    },
    CheckTrust {
        node_id: NodeId,
        peer_id: NodeId,
    },
    RequestHandshake {
        from_node_id: NodeId,
        to_node_id: NodeId,
        justification: String,
    },
    PollHandshakes {
        node_id: NodeId,
    },
    RespondHandshake {
        node_id: NodeId,
        peer_id: NodeId,
        accept: bool,
    },
    Punch {
        requester_id: NodeId,
        node_a: NodeId,
        node_b: NodeId,
    },
    RotateKey {
        node_id: NodeId,
        new_public_key: PublicKey,
    },
    Deregister {
        node_id: NodeId,
    },
    ListNetworks,
    ListNodes {
        network_id: u16,
        /// Ours: members with a higher number alone, for lists longer than one answer holds.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<NodeId>,
    },
    CreateNetwork {
        node_id: NodeId,
        name: String,
        join_rule: String,
        token: String,
    },
    JoinNetwork {
        node_id: NodeId,
        network_id: u16,
        token: String,
    },
    LeaveNetwork {
        node_id: NodeId,
        network_id: u16,
    },
    InviteToNetwork {
        network_id: u16,
        inviter_id: NodeId,
        target_node_id: NodeId,
    },
    PollInvites {
        node_id: NodeId,
    },
    RespondInvite {
        node_id: NodeId,
        network_id: u16,
        accept: bool,
    },
    GetNetworkPolicy {
        network_id: u16,
    },
    BeaconRegister {
        beacon_id: NodeId,
        addr: String,
    },
    BeaconList,
    /// Ours: puts a capability record in the place of an older one. `record` is the text of a
    /// [`Record`](super::capability::Record), the request's signature is that of the record.
    PublishCapability {
        node_id: NodeId,
        record: String,
    },
    /// Ours.
    Query(Query),
    /// Ours.
    Changes(Changes),
}

/// The fields of `query`: which live nodes can do what is wanted, the best first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Query {
    /// Who asks. Without a requester and its signature only public nodes are found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester_id: Option<NodeId>,
    /// What is wanted, in any words; empty for everybody.
    pub text: String,
    /// Tags that a node must have, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Members of this network alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_id: Option<u16>,
    /// This node alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// Nodes that are not online as well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
    /// Hits wanted; [`QUERY_LIMIT_MAX`] at most, [`QUERY_LIMIT`] when zero.
    pub limit: u16,
    /// When it was signed, in Unix seconds by the directory's clock. Older agents do not say; theirs can be repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

/// The fields of `changes`: what has changed since, or, held back until something does, what changes next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Who asks. Without a requester and its signature only changes of public nodes are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester_id: Option<NodeId>,
    /// Changes of members of this network alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_id: Option<u16>,
    /// The cursor of the last answer; 0 asks for the present one.
    pub after: u64,
    /// How long to wait for a change, [`CHANGES_WAIT_SECONDS_MAX`] at most; 0 answers at once.
    pub wait_seconds: u16,
    /// As in [`Query`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

/// Hits of a query that names no limit.
pub const QUERY_LIMIT: u16 = 10;
/// Hits of one query.
pub const QUERY_LIMIT_MAX: u16 = 50;
/// Bytes of the words of a query.
pub const QUERY_BYTES_MAX: usize = 1024;
/// The longest a question for changes is held back.
pub const CHANGES_WAIT_SECONDS_MAX: u16 = 60;

/// What a node tells of itself with a heartbeat, if it likes. Nobody checks it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Peers reached directly.
    pub direct: u32,
    /// Peers reached through a relay.
    pub relayed: u32,
    /// Bytes sent directly since the node started.
    pub direct_bytes: u64,
    /// Bytes sent through a relay since the node started.
    pub relayed_bytes: u64,
    /// As in [`About::nat_mapping`](crate::extension::About::nat_mapping).
    pub nat_mapping: u8,
    /// As in [`About::nat_filtering`](crate::extension::About::nat_filtering).
    pub nat_filtering: u8,
}

/// The fields of `register`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Register {
    /// Where the node's tunnel socket listens, as it sees itself: `HOST:PORT`.
    pub listen_addr: String,
    /// The node's identity.
    pub public_key: PublicKey,
    /// An email address or another name of whoever runs the node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// The hostname wanted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// The node's release.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// `HOST:PORT` in the node's own networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lan_addrs: Vec<String>,
    /// The node wants to be reached through the relay alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub relay_only: bool,
}

impl Request {
    /// Reads one message. Unknown fields are ignored.
    ///
    /// # Errors
    /// The message exceeds a bound, is no JSON object, has an unknown type, or lacks or misuses a field.
    pub fn decode(message: &[u8]) -> Result<Self, RequestError> {
        let mut fields = Fields::parse(message)?;
        let kind = fields.text("type", TEXT_BYTES_MAX)?;
        let operation = Operation::from_fields(&kind, &mut fields)?;
        let signature = fields.base64("signature", "64 bytes in base64")?;
        let admin_token = Some(fields.text("admin_token", TEXT_BYTES_MAX)?).filter(|token| !token.is_empty());
        Ok(Self { operation, signature, admin_token })
    }
}

impl From<Operation> for Request {
    fn from(operation: Operation) -> Self {
        Self { operation, signature: None, admin_token: None }
    }
}

impl Operation {
    fn from_fields(kind: &str, fields: &mut Fields) -> Result<Self, RequestError> {
        Ok(match kind {
            "register" => Self::Register(Register::from_fields(fields)?),
            "heartbeat" => Self::Heartbeat {
                node_id: fields.node("node_id")?,
                report: fields.plain("report"),
                bans_since: fields.plain("bans_since"),
            },
            "lookup" => Self::Lookup { node_id: fields.node("node_id")? },
            "resolve" => Self::Resolve { node_id: fields.node("node_id")?, requester_id: fields.node("requester_id")? },
            "resolve_hostname" => Self::ResolveHostname { hostname: fields.text("hostname", TEXT_BYTES_MAX)? },
            "set_hostname" => Self::SetHostname {
                node_id: fields.node("node_id")?,
                hostname: fields.text("hostname", TEXT_BYTES_MAX)?,
            },
            "set_tags" => Self::SetTags {
                node_id: fields.node("node_id")?,
                tags: fields.texts("tags", TAGS_READ_MAX, TEXT_BYTES_MAX)?,
            },
            "set_visibility" => {
                Self::SetVisibility { node_id: fields.node("node_id")?, public: fields.flag("public")? }
            }
            "set_task_exec" => Self::SetTaskExec { node_id: fields.node("node_id")?, enabled: fields.flag("enabled")? },
            "set_key_expiry" => Self::SetKeyExpiry { node_id: fields.node("node_id")? },
            "report_trust" => Self::ReportTrust { node_id: fields.node("node_id")?, peer_id: fields.node("peer_id")? },
            "revoke_trust" => Self::RevokeTrust { node_id: fields.node("node_id")?, peer_id: fields.node("peer_id")? },
            "check_trust" => Self::CheckTrust { node_id: fields.node("node_id")?, peer_id: fields.node("peer_id")? },
            "request_handshake" => Self::RequestHandshake {
                from_node_id: fields.node("from_node_id")?,
                to_node_id: fields.node("to_node_id")?,
                justification: fields.text("justification", JUSTIFICATION_BYTES_MAX)?,
            },
            "poll_handshakes" => Self::PollHandshakes { node_id: fields.node("node_id")? },
            "respond_handshake" => Self::RespondHandshake {
                node_id: fields.node("node_id")?,
                peer_id: fields.node("peer_id")?,
                accept: fields.flag("accept")?,
            },
            "punch" => Self::Punch {
                requester_id: fields.node("requester_id")?,
                node_a: fields.node("node_a")?,
                node_b: fields.node("node_b")?,
            },
            "rotate_key" => {
                Self::RotateKey { node_id: fields.node("node_id")?, new_public_key: key(fields, "new_public_key")? }
            }
            "deregister" => Self::Deregister { node_id: fields.node("node_id")? },
            "list_networks" => Self::ListNetworks,
            "list_nodes" => {
                Self::ListNodes { network_id: fields.network("network_id")?, after: fields.optional_node("after")? }
            }
            "create_network" => Self::CreateNetwork {
                node_id: fields.node("node_id")?,
                name: fields.text("name", TEXT_BYTES_MAX)?,
                join_rule: fields.text("join_rule", TEXT_BYTES_MAX)?,
                token: fields.text("token", TEXT_BYTES_MAX)?,
            },
            "join_network" => Self::JoinNetwork {
                node_id: fields.node("node_id")?,
                network_id: fields.network("network_id")?,
                token: fields.text("token", TEXT_BYTES_MAX)?,
            },
            "leave_network" => {
                Self::LeaveNetwork { node_id: fields.node("node_id")?, network_id: fields.network("network_id")? }
            }
            "invite_to_network" => Self::InviteToNetwork {
                network_id: fields.network("network_id")?,
                inviter_id: fields.node("inviter_id")?,
                target_node_id: fields.node("target_node_id")?,
            },
            "poll_invites" => Self::PollInvites { node_id: fields.node("node_id")? },
            "respond_invite" => Self::RespondInvite {
                node_id: fields.node("node_id")?,
                network_id: fields.network("network_id")?,
                accept: fields.flag("accept")?,
            },
            "get_network_policy" => Self::GetNetworkPolicy { network_id: fields.network("network_id")? },
            "beacon_register" => Self::BeaconRegister {
                beacon_id: fields.node("beacon_id")?,
                addr: fields.text("addr", TEXT_BYTES_MAX)?,
            },
            "beacon_list" => Self::BeaconList,
            "publish_capability" => Self::PublishCapability {
                node_id: fields.node("node_id")?,
                record: fields.text("record", RECORD_BYTES_MAX)?,
            },
            "query" => Self::Query(Query {
                requester_id: fields.optional_node("requester_id")?,
                text: fields.text("text", QUERY_BYTES_MAX)?,
                tags: fields.texts("tags", TAGS_READ_MAX, TEXT_BYTES_MAX)?,
                network_id: fields.optional_network("network_id")?,
                node_id: fields.optional_node("node_id")?,
                offline: fields.flag("offline")?,
                limit: fields.count("limit")?,
                at: fields.optional_cursor("at")?,
            }),
            "changes" => Self::Changes(Changes {
                requester_id: fields.optional_node("requester_id")?,
                network_id: fields.optional_network("network_id")?,
                after: fields.cursor("after")?,
                wait_seconds: fields.count("wait_seconds")?,
                at: fields.optional_cursor("at")?,
            }),
            _ => return Err(RequestError::UnknownType(kind.to_owned())),
        })
    }

    /// The types, in the order of [`Operation::index`].
    pub const NAMES: [&'static str; 33] = [
        "register",
        "heartbeat",
        "lookup",
        "resolve",
        "resolve_hostname",
        "set_hostname",
        "set_tags",
        "set_visibility",
        "set_task_exec",
        "set_key_expiry",
        "report_trust",
        "revoke_trust",
        "check_trust",
        "request_handshake",
        "poll_handshakes",
        "respond_handshake",
        "punch",
        "rotate_key",
        "deregister",
        "list_networks",
        "list_nodes",
        "create_network",
        "join_network",
        "leave_network",
        "invite_to_network",
        "poll_invites",
        "respond_invite",
        "get_network_policy",
        "beacon_register",
        "beacon_list",
        "publish_capability",
        "query",
        "changes",
    ];

    /// The position of this type in [`Operation::NAMES`], for counters.
    #[must_use]
    pub const fn index(&self) -> usize {
        match self {
            Self::Register(_) => 0,
            Self::Heartbeat { .. } => 1,
            Self::Lookup { .. } => 2,
            Self::Resolve { .. } => 3,
            Self::ResolveHostname { .. } => 4,
            Self::SetHostname { .. } => 5,
            Self::SetTags { .. } => 6,
            Self::SetVisibility { .. } => 7,
            Self::SetTaskExec { .. } => 8,
            Self::SetKeyExpiry { .. } => 9,
            Self::ReportTrust { .. } => 10,
            Self::RevokeTrust { .. } => 11,
            Self::CheckTrust { .. } => 12,
            Self::RequestHandshake { .. } => 13,
            Self::PollHandshakes { .. } => 14,
            Self::RespondHandshake { .. } => 15,
            Self::Punch { .. } => 16,
            Self::RotateKey { .. } => 17,
            Self::Deregister { .. } => 18,
            Self::ListNetworks => 19,
            Self::ListNodes { .. } => 20,
            Self::CreateNetwork { .. } => 21,
            Self::JoinNetwork { .. } => 22,
            Self::LeaveNetwork { .. } => 23,
            Self::InviteToNetwork { .. } => 24,
            Self::PollInvites { .. } => 25,
            Self::RespondInvite { .. } => 26,
            Self::GetNetworkPolicy { .. } => 27,
            Self::BeaconRegister { .. } => 28,
            Self::BeaconList => 29,
            Self::PublishCapability { .. } => 30,
            Self::Query(_) => 31,
            Self::Changes(_) => 32,
        }
    }

    /// The type on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        Self::NAMES[self.index()]
    }
}

impl Register {
    fn from_fields(fields: &mut Fields) -> Result<Self, RequestError> {
        Ok(Self {
            listen_addr: fields.text("listen_addr", TEXT_BYTES_MAX)?,
            public_key: key(fields, "public_key")?,
            owner: fields.text("owner", TEXT_BYTES_MAX)?,
            hostname: fields.text("hostname", TEXT_BYTES_MAX)?,
            version: fields.text("version", TEXT_BYTES_MAX)?,
            lan_addrs: fields.texts("lan_addrs", LAN_ADDRS_MAX, TEXT_BYTES_MAX)?,
            relay_only: fields.flag("relay_only")?,
        })
    }
}

fn key(fields: &mut Fields, field: &'static str) -> Result<PublicKey, RequestError> {
    fields.base64(field, "32 bytes in base64")?.ok_or(RequestError::Missing(field))
}
