//! The texts that get signed (section 6.3): ASCII, node numbers in decimal. None of the protocol's own holds a time or a
//! nonce, and most do not cover the value that is set; the directory has to live with replays. Those of our questions,
//! `query` and `changes`, hold the time they are asked at in their second version, which questions with `at` are signed by.

use super::capability;
use super::request::{Changes, Operation, Query, Register};
use crate::NodeId;

impl Operation {
    /// The text whose signature must or may come with this request; `None` where none is foreseen.
    #[must_use]
    pub fn signed_text(&self) -> Option<String> {
        let kind = self.name();
        Some(match self {
            Self::Register(Register { listen_addr, public_key, .. }) => format!("register:{listen_addr}:{public_key}"),
            Self::Heartbeat { node_id, .. }
            | Self::SetHostname { node_id, .. }
            | Self::SetTags { node_id, .. }
            | Self::SetVisibility { node_id, .. }
            | Self::SetTaskExec { node_id, .. }
            | Self::SetKeyExpiry { node_id }
            | Self::PollHandshakes { node_id }
            | Self::PollInvites { node_id }
            | Self::Deregister { node_id } => format!("{kind}:{node_id}"),
            Self::Resolve { node_id, requester_id } => format!("resolve:{requester_id}:{node_id}"),
            Self::ReportTrust { node_id, peer_id }
            | Self::RevokeTrust { node_id, peer_id }
            | Self::CheckTrust { node_id, peer_id } => format!("{kind}:{node_id}:{peer_id}"),
            Self::RequestHandshake { from_node_id, to_node_id, .. } => format!("handshake:{from_node_id}:{to_node_id}"),
            Self::RespondHandshake { node_id, peer_id, .. } => format!("respond:{node_id}:{peer_id}"),
            Self::Punch { node_a, node_b, .. } => format!("punch:{node_a}:{node_b}"),
            Self::RotateKey { node_id, new_public_key } => format!("rotate:{node_id}:{new_public_key}"),
            Self::JoinNetwork { node_id, network_id, .. }
            | Self::LeaveNetwork { node_id, network_id }
            | Self::RespondInvite { node_id, network_id, .. } => format!("{kind}:{node_id}:{network_id}"),
            Self::InviteToNetwork { network_id, inviter_id, target_node_id } => {
                format!("invite:{inviter_id}:{network_id}:{target_node_id}")
            }
            Self::PublishCapability { node_id, record } => capability::signed_text(*node_id, record),
            Self::Query(query) => {
                let Query { requester_id, text, tags, network_id, node_id, offline, limit, at } = query;
                let (requester, tags) = ((*requester_id)?, tags.join(","));
                let network = network_id.map(|network| network.to_string()).unwrap_or_default();
                let node = node_id.map(|node| node.to_string()).unwrap_or_default();
                let kind = asked("query", *at);
                format!("{kind}:{requester}:{network}:{node}:{offline}:{limit}:{tags}:{text}")
            }
            Self::Changes(Changes { requester_id, network_id, at, .. }) => {
                let network = network_id.map(|network| network.to_string()).unwrap_or_default();
                format!("{}:{}:{network}", asked("changes", *at), (*requester_id)?)
            }
            Self::Lookup { .. }
            | Self::ResolveHostname { .. }
            | Self::ListNetworks
            | Self::ListNodes { .. }
            | Self::CreateNetwork { .. }
            | Self::GetNetworkPolicy { .. }
            | Self::BeaconRegister { .. }
            | Self::BeaconList => return None,
        })
    }

    /// A second text that older releases sign for the same request: before 1.18.0 `rotate_key` did not cover the key.
    #[must_use]
    pub fn older_signed_text(&self) -> Option<String> {
        match self {
            Self::RotateKey { node_id, .. } => Some(format!("rotate:{node_id}")),
            _ => None,
        }
    }

    /// Whether this is a question of somebody known that can say when it was signed.
    #[must_use]
    pub const fn may_bind_time(&self) -> bool {
        matches!(
            self,
            Self::Query(Query { requester_id: Some(_), .. }) | Self::Changes(Changes { requester_id: Some(_), .. })
        )
    }

    /// When it was signed, in Unix seconds by the directory's clock, where it says so.
    #[must_use]
    pub const fn signed_at(&self) -> Option<u64> {
        match self {
            Self::Query(Query { at, .. }) | Self::Changes(Changes { at, .. }) => *at,
            _ => None,
        }
    }

    /// The same request, to be signed at `unix_seconds`; one that cannot say so as it is.
    #[must_use]
    pub fn to_be_signed_at(mut self, unix_seconds: Option<u64>) -> Self {
        if self.may_bind_time()
            && let Self::Query(Query { at, .. }) | Self::Changes(Changes { at, .. }) = &mut self
        {
            *at = unix_seconds;
        }
        self
    }

    /// The node whose key signs this request. `None` where nobody signs, and for `register`, which brings its key.
    #[must_use]
    pub const fn signer(&self) -> Option<NodeId> {
        match self {
            Self::Heartbeat { node_id, .. }
            | Self::SetHostname { node_id, .. }
            | Self::SetTags { node_id, .. }
            | Self::SetVisibility { node_id, .. }
            | Self::SetTaskExec { node_id, .. }
            | Self::SetKeyExpiry { node_id }
            | Self::ReportTrust { node_id, .. }
            | Self::RevokeTrust { node_id, .. }
            | Self::PollHandshakes { node_id }
            | Self::RespondHandshake { node_id, .. }
            | Self::RotateKey { node_id, .. }
            | Self::Deregister { node_id }
            | Self::JoinNetwork { node_id, .. }
            | Self::LeaveNetwork { node_id, .. }
            | Self::PollInvites { node_id }
            | Self::RespondInvite { node_id, .. } => Some(*node_id),
            Self::Resolve { requester_id, .. } | Self::Punch { requester_id, .. } => Some(*requester_id),
            Self::RequestHandshake { from_node_id, .. } => Some(*from_node_id),
            Self::InviteToNetwork { inviter_id, .. } => Some(*inviter_id),
            Self::PublishCapability { node_id, .. } => Some(*node_id),
            Self::Query(Query { requester_id, .. }) | Self::Changes(Changes { requester_id, .. }) => *requester_id,
            Self::Register(_)
            | Self::CheckTrust { .. }
            | Self::Lookup { .. }
            | Self::ResolveHostname { .. }
            | Self::ListNetworks
            | Self::ListNodes { .. }
            | Self::CreateNetwork { .. }
            | Self::GetNetworkPolicy { .. }
            | Self::BeaconRegister { .. }
            | Self::BeaconList => None,
        }
    }
}

/// How the text of a question begins.
fn asked(kind: &str, at: Option<u64>) -> String {
    match at {
        None => kind.to_owned(),
        Some(at) => format!("{kind}2:{at}"),
    }
}
