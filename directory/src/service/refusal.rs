//! Why a request is refused. Each text tells the client what is wrong, and contains one of the phrases that may be
//! shown (section 6.2); daemons act on "node not found" and "signature verification failed".

use wire::NodeId;
use wire::registry::PublicKey;
use wire::registry::answer;
use wire::registry::capability::RecordError;
use wire::registry::names::NameError;

/// A refusal; it becomes the error answer.
#[expect(missing_docs, reason = "the texts say it")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{}", answer::node_not_found(*.0))]
    NodeNotFound(NodeId),
    #[error("{}", answer::SIGNATURE_FAILED)]
    SignatureFailed,
    #[error("signature required for {0}")]
    SignatureRequired(&'static str),
    #[error("signature already in use from another address; try again once that connection has ended")]
    SignatureReplayed,
    #[error("{}", answer::signed_at_another_time(*signed_at, *now))]
    QuestionOfAnotherTime { signed_at: u64, now: u64 },
    #[error("{}", answer::asked_elsewhere(*now))]
    QuestionRepeated { now: u64 },
    #[error(
        "signature without a time: required to come from where node {0} is connected; upgrade pilot-agent on that node"
    )]
    QuestionUnbound(NodeId),
    #[error("rate limited: too many registrations of new nodes from this address, try again in a minute")]
    RegistrationsLimited,
    #[error("too many nodes: the directory is full")]
    DirectoryFull,
    #[error("too many nodes wait for approval; try again later, or ask the administrator")]
    TooManyWaiting,
    #[error("approval required: node {0} waits for the administrator")]
    ApprovalPending(NodeId),
    #[error("approval required: only listed keys may register; ask the administrator to list {0}")]
    NotListed(PublicKey),
    #[error("node {0} is banned: pardon of the administrator required")]
    Banned(NodeId),
    #[error("cannot register: this key is banned; ask the administrator")]
    KeyBanned,
    #[error("invalid public_key: not an Ed25519 key")]
    KeyInvalid,
    #[error("invalid public_key: already replaced by another key of node {0}")]
    KeyRetired(NodeId),
    #[error("invalid new_public_key: already in use")]
    KeyInUse,
    #[error("invalid {0}: expected HOST:PORT, IPv6 in brackets")]
    EndpointInvalid(&'static str),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("hostname {0:?} already in use")]
    HostnameTaken(String),
    #[error("hostname {0:?} not found")]
    HostnameNotFound(String),
    #[error("trust required: node {target} is private and does not trust node {requester}; send it a handshake")]
    NotTrusted { target: NodeId, requester: NodeId },
    #[error("relay for node {0} not found: it wants to be reached through a relay, and the directory knows none")]
    NoRelay(NodeId),
    #[error("invalid punch: the requester must be one of the two nodes")]
    PunchNotOwn,
    #[error("invalid peer: a node cannot name itself")]
    OwnPeer,
    #[error("trust with node {0} not found")]
    TrustNotFound(NodeId),
    #[error("too many trusted nodes, at most {0}")]
    TooManyTrusted(usize),
    #[error("handshake request from node {from} already pending at node {to}")]
    HandshakePending { from: NodeId, to: NodeId },
    #[error("too many handshake requests pending at node {0}")]
    InboxFull(NodeId),
    #[error("cannot respond: no pending handshake request from node {0}")]
    NoHandshakePending(NodeId),
    #[error("network {0}: network not found")]
    NetworkNotFound(u16),
    #[error("network name {0:?} already in use")]
    NetworkNameTaken(String),
    #[error("invalid join_rule: expected open, token or invite")]
    JoinRuleInvalid,
    #[error("token required: a network with join rule token needs one")]
    TokenMissing,
    #[error("invalid token for network {0}")]
    TokenWrong(u16),
    #[error("invitation required to join network {0}")]
    InvitationRequired(u16),
    #[error("invitation to network {0} not found")]
    InvitationNotFound(u16),
    #[error("cannot join, leave or invite to network 0: every node is in it")]
    Backbone,
    #[error("node {node} is not a member of network {network}")]
    NotMember { node: NodeId, network: u16 },
    #[error("node {node} is already a member of network {network}")]
    AlreadyMember { node: NodeId, network: u16 },
    #[error("too many {0}")]
    TooMany(&'static str),
    #[error("rate limited: too many new networks from this address, try again tomorrow")]
    CreationsLimited,
    #[error("admin token required for {0}")]
    AdminRequired(&'static str),
    #[error("invalid admin token")]
    AdminTokenWrong,
    #[error("rate limited: too many wrong admin tokens from this address, try again in a minute")]
    AdminTokensLimited,
    #[error("admin token required, and this directory has none: start it with --admin-token-file")]
    AdminTokenUnset,
    #[error("create_network requires the admin token, or a connection on which node {0} has signed a request")]
    CreatorUnproven(NodeId),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("invalid capability record: it is that of node {record}, and node {node} cannot publish it")]
    RecordOfAnother { record: NodeId, node: NodeId },
    #[error("invalid capability record: public_key is not that of node {0}; sign a new record with its present key")]
    RecordKey(NodeId),
    #[error("capability record replayed or older: serial {serial}, already have {stored}; publish a higher serial")]
    RecordReplayed { serial: u64, stored: u64 },
    #[error(
        "invalid capability record: serial {serial} is too far ahead, at most {newest}; expected Unix milliseconds, \
         check the clock"
    )]
    RecordAhead { serial: u64, newest: u64 },
    #[error(
        "too many capability records: the directory has no memory for more; publish a shorter one, or try again later"
    )]
    RecordsFull,
    #[error("invalid tags: a tag of hyphens alone cannot be searched for; add a word, another tag, or a network")]
    TagsWithoutLetters,
    #[error("network {0} is not open: a signed query of a member, or the admin token, required to search it")]
    MembersAlone(u16),
}

#[cfg(test)]
mod tests {
    use wire::registry::Base64;

    use super::*;

    #[test]
    fn no_text_would_be_hidden() {
        let node = NodeId(7);
        let (network, name) = (3, || "alpha".to_owned());
        let all = [
            Refusal::NodeNotFound(node),
            Refusal::SignatureFailed,
            Refusal::SignatureRequired("set_tags"),
            Refusal::SignatureReplayed,
            Refusal::QuestionOfAnotherTime { signed_at: 1, now: 2 },
            Refusal::QuestionRepeated { now: 2 },
            Refusal::QuestionUnbound(node),
            Refusal::RegistrationsLimited,
            Refusal::DirectoryFull,
            Refusal::TooManyWaiting,
            Refusal::ApprovalPending(node),
            Refusal::NotListed(Base64([7; 32])),
            Refusal::Banned(node),
            Refusal::KeyBanned,
            Refusal::KeyInvalid,
            Refusal::KeyRetired(node),
            Refusal::KeyInUse,
            Refusal::EndpointInvalid("listen_addr"),
            Refusal::Name(NameError::Hostname),
            Refusal::Name(NameError::Reserved),
            Refusal::Name(NameError::Group),
            Refusal::Name(NameError::GroupReserved),
            Refusal::Name(NameError::Tag),
            Refusal::Name(NameError::TooManyTags),
            Refusal::HostnameTaken(name()),
            Refusal::HostnameNotFound(name()),
            Refusal::NotTrusted { target: node, requester: node },
            Refusal::NoRelay(node),
            Refusal::PunchNotOwn,
            Refusal::OwnPeer,
            Refusal::TrustNotFound(node),
            Refusal::TooManyTrusted(1),
            Refusal::HandshakePending { from: node, to: node },
            Refusal::InboxFull(node),
            Refusal::NoHandshakePending(node),
            Refusal::NetworkNotFound(network),
            Refusal::NetworkNameTaken(name()),
            Refusal::JoinRuleInvalid,
            Refusal::TokenMissing,
            Refusal::TokenWrong(network),
            Refusal::InvitationRequired(network),
            Refusal::InvitationNotFound(network),
            Refusal::Backbone,
            Refusal::NotMember { node, network },
            Refusal::AlreadyMember { node, network },
            Refusal::TooMany("networks"),
            Refusal::CreationsLimited,
            Refusal::AdminRequired("beacon_register"),
            Refusal::AdminTokenWrong,
            Refusal::AdminTokensLimited,
            Refusal::AdminTokenUnset,
            Refusal::CreatorUnproven(node),
            Refusal::Record(RecordError::TooLong(9000)),
            Refusal::Record(RecordError::Malformed("?".to_owned())),
            Refusal::Record(RecordError::Format(2)),
            Refusal::Record(RecordError::FieldTooLong { field: "title", limit: 160 }),
            Refusal::Record(RecordError::HintTooLarge("input")),
            Refusal::Record(RecordError::Empty),
            Refusal::Record(RecordError::WithdrawnWithContent),
            Refusal::RecordOfAnother { record: node, node },
            Refusal::RecordKey(node),
            Refusal::RecordReplayed { serial: 3, stored: 5 },
            Refusal::RecordAhead { serial: 3, newest: 2 },
            Refusal::TagsWithoutLetters,
            Refusal::RecordsFull,
            Refusal::MembersAlone(network),
        ];
        for refusal in all {
            assert!(answer::shown(&refusal.to_string()), "{refusal}");
        }
    }
}
