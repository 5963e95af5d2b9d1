//! Durable facts and the changes to them: what the service decides and the store keeps. Presence, proofs of address
//! and rates are no facts; they live and die with the process.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use wire::NodeId;
use wire::registry::capability::Record;
use wire::registry::{PublicKey, Signature};

use crate::enrolment::{Approval, Ban, KeyRule, Quota, Standing};

/// Everything the store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// When the database was made, Unix seconds.
    pub created_at: u64,
    /// Every node ever registered, by number; numbers are 1, 2, 3 … without a gap.
    pub nodes: Vec<NodeFact>,
    /// Keys that were replaced, and whose they were.
    pub retired_keys: Vec<(PublicKey, NodeId)>,
    /// Who lets whom reach it.
    pub trust: Vec<TrustFact>,
    /// Handshake requests that have no answer yet.
    pub requests: Vec<RequestFact>,
    /// Responses that their addressee has not read yet.
    pub responses: Vec<ResponseFact>,
    /// Networks by number, without a gap; network 0, the backbone, is not among them.
    pub networks: Vec<NetworkFact>,
    /// Who is in which network.
    pub members: Vec<(u16, NodeId)>,
    /// Invitations without an answer.
    pub invites: Vec<InviteFact>,
    /// What nodes have said they can do, one record each.
    pub capabilities: Vec<CapabilityFact>,
    /// What the administrator has said of keys that have not registered.
    pub key_rules: Vec<KeyRule>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFact {
    /// Its number, given once and never again.
    pub id: NodeId,
    /// Its identity.
    pub key: PublicKey,
    /// Since when the key is its identity, Unix seconds.
    pub key_set_at: u64,
    /// False after `deregister`; the number stays with the key.
    pub registered: bool,
    /// Whoever runs it, in its own words.
    pub owner: String,
    /// Its hostname.
    pub hostname: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether anyone may resolve it.
    pub public: bool,
    /// Whether it takes tasks (only old releases ask).
    pub task_exec: bool,
    /// Its release.
    pub version: String,
    /// Addresses in its own networks.
    pub lan_addrs: Vec<String>,
    /// Whether it is to be reached through the relay alone.
    pub relay_only: bool,
    /// Where peers dial it: `HOST:PORT`.
    pub endpoint: String,
    /// The endpoint's host is that of a connection to us, not one the node named, so it follows the node.
    pub endpoint_follows: bool,
    /// It has registered with a signature; from then on only signed registrations change it.
    pub signs: bool,
    /// The address in its latest signed registration.
    pub signed_host: Option<IpAddr>,
    /// Who has let it in.
    pub approval: Approval,
    /// It is kept out.
    pub ban: Option<Box<Ban>>,
    /// What it may send through the relay.
    pub quota: Quota,
    /// The name it is given once it is let in, if it is free then.
    pub wished_hostname: Option<String>,
    /// The day of its last valid signature, in days since 1970; `None` while it has never proven to hold its key.
    pub last_seen_day: Option<u32>,
    /// It never proved itself and is forgotten: the number goes to the next newcomer.
    pub vacant: bool,
}

impl NodeFact {
    /// A node that nothing but its number and key is known of.
    #[must_use]
    pub const fn new(id: NodeId, key: PublicKey, now_unix_seconds: u64) -> Self {
        Self {
            id,
            key,
            key_set_at: now_unix_seconds,
            registered: true,
            owner: String::new(),
            hostname: None,
            tags: Vec::new(),
            public: false,
            task_exec: false,
            version: String::new(),
            lan_addrs: Vec::new(),
            relay_only: false,
            endpoint: String::new(),
            endpoint_follows: false,
            signs: false,
            signed_host: None,
            approval: Approval::Admitted,
            ban: None,
            quota: Quota::DEFAULT,
            wished_hostname: None,
            last_seen_day: None,
            vacant: false,
        }
    }

    /// Whether it belongs to the network; `None` for one that is not registered.
    #[must_use]
    pub const fn standing(&self) -> Option<Standing> {
        match (self.registered, &self.ban, self.approval) {
            (false, ..) => None,
            (true, Some(_), _) => Some(Standing::Banned),
            (true, None, Approval::None | Approval::Former) => Some(Standing::Pending),
            (true, None, Approval::Admitted | Approval::Listed) => Some(Standing::Approved),
        }
    }
}

/// `truster` lets `trusted` reach it. Says nothing about the other direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrustFact {
    /// Who signed.
    pub truster: NodeId,
    /// Who gains.
    pub trusted: NodeId,
}

/// A handshake request on file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFact {
    /// Who asks, and thereby lets `to` reach it once `to` accepts.
    pub from: NodeId,
    /// Who is asked.
    pub to: NodeId,
    /// Why.
    pub justification: String,
    /// When, Unix seconds.
    pub at: u64,
}

/// A response to a handshake request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFact {
    /// Who was asked.
    pub from: NodeId,
    /// Who had asked.
    pub to: NodeId,
    /// The answer.
    pub accept: bool,
    /// When, Unix seconds.
    pub at: u64,
}

/// A network, also called group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFact {
    /// Its number, 1 to 65535.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Who may join.
    pub join_rule: JoinRule,
    /// SHA-256 of the token, for [`JoinRule::Token`].
    pub token_digest: Option<[u8; 32]>,
    /// Who made it.
    pub creator: NodeId,
    /// When, Unix seconds.
    pub created_at: u64,
}

/// Who may join a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinRule {
    /// Anyone.
    Open,
    /// Who knows the token.
    Token,
    /// Who has been invited by a member.
    Invite,
}

impl fmt::Display for JoinRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Token => "token",
            Self::Invite => "invite",
        })
    }
}

impl FromStr for JoinRule {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "open" => Ok(Self::Open),
            "token" => Ok(Self::Token),
            "invite" => Ok(Self::Invite),
            _ => Err(()),
        }
    }
}

/// An invitation to a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InviteFact {
    /// Where to.
    pub network: u16,
    /// Who is invited.
    pub target: NodeId,
    /// By which member.
    pub inviter: NodeId,
    /// When, Unix seconds.
    pub at: u64,
}

/// The last capability record of a node, as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapabilityFact {
    /// Whose.
    pub node: NodeId,
    /// Its serial; another record must have a higher one.
    pub serial: u64,
    /// It offers nothing: it says so itself, or the node's key or registration has ended since.
    pub withdrawn: bool,
    /// Its text; empty once key or registration have ended.
    pub record: Arc<str>,
    /// The tags in it.
    pub tags: Vec<String>,
    /// The node's signature of it.
    pub signature: Signature,
}

/// The words by which a node is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Searchable {
    /// Which node.
    pub node: NodeId,
    /// Of its record.
    pub title: String,
    /// Its own and those of its record, separated by blanks.
    pub tags: String,
    /// Its hostname.
    pub hostname: String,
    /// Of its record.
    pub text: String,
}

impl Searchable {
    /// By what a registered node and what it offers at present are found.
    #[must_use]
    pub fn of(node: NodeId, fact: Option<&NodeFact>, offered: Option<&CapabilityFact>) -> Self {
        // One that somebody has meddled with in the database may be anything.
        let record = offered.and_then(|offered| Record::decode(&offered.record).ok());
        let (title, text) = record.map_or_else(Default::default, |record| (record.title, record.text));
        let own = fact.map_or(&[][..], |fact| &fact.tags);
        let tags: Vec<&str> =
            own.iter().chain(offered.iter().flat_map(|offered| &offered.tags)).map(String::as_str).collect();
        let hostname = fact.and_then(|fact| fact.hostname.clone()).unwrap_or_default();
        Self { node, title, tags: tags.join(" "), hostname, text }
    }

    /// Whether no word leads to the node.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.title.is_empty() && self.tags.is_empty() && self.hostname.is_empty() && self.text.is_empty()
    }
}

/// A step from one set of facts to the next. Steps are durable in the order in which they were decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node is new or different.
    Node(Box<NodeFact>),
    /// A key was replaced; it must never name its node again.
    KeyRetired(PublicKey, NodeId),
    /// Trust was given.
    Trusted(TrustFact),
    /// Trust has ended.
    Distrusted(TrustFact),
    /// A handshake was requested, or requested again.
    Requested(RequestFact),
    /// A handshake request was answered or has lost its point.
    RequestClosed {
        /// Who asked.
        from: NodeId,
        /// Who was asked.
        to: NodeId,
    },
    /// A response waits to be read.
    Responded(ResponseFact),
    /// A response was read or has lost its point.
    ResponseClosed {
        /// Who was asked.
        from: NodeId,
        /// Who had asked.
        to: NodeId,
    },
    /// A network was made.
    NetworkCreated(NetworkFact),
    /// A node has joined a network.
    Joined(u16, NodeId),
    /// A node has left a network.
    Left(u16, NodeId),
    /// A node was invited.
    Invited(InviteFact),
    /// An invitation was answered or has lost its point.
    InviteClosed {
        /// Where to.
        network: u16,
        /// Who was invited.
        target: NodeId,
    },
    /// A capability record has taken the place of the one before.
    Capability(Box<CapabilityFact>),
    /// A node is found by other words than before.
    Searchable(Box<Searchable>),
    /// The administrator has said something of a key that has not registered.
    KeyRule(Box<KeyRule>),
    /// That no longer holds.
    KeyRuleEnded(PublicKey),
    /// These nodes have signed something on this day; days since 1970.
    Seen(u32, Vec<NodeId>),
}

impl Change {
    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = |texts: &[String]| texts.iter().map(|text| text.len() + size_of::<String>()).sum::<usize>();
        let boxed = match self {
            Self::Node(fact) => {
                let name = |name: &Option<String>| name.as_ref().map_or(0, String::len);
                let ban = fact.ban.as_ref().map_or(0, |ban| size_of::<Ban>() + ban.reason.len());
                let words =
                    name(&fact.hostname) + name(&fact.wished_hostname) + fact.owner.len() + fact.version.len() + ban;
                size_of::<NodeFact>() + words + fact.endpoint.len() + texts(&fact.tags) + texts(&fact.lan_addrs)
            }
            Self::Requested(fact) => fact.justification.len(),
            Self::NetworkCreated(fact) => fact.name.len(),
            Self::Capability(fact) => fact.bytes(),
            Self::Searchable(words) => {
                let text = words.title.len() + words.tags.len() + words.hostname.len() + words.text.len();
                size_of::<Searchable>() + text
            }
            Self::KeyRule(rule) => size_of::<KeyRule>() + rule.ban.as_ref().map_or(0, String::len),
            Self::Seen(_, nodes) => nodes.len() * size_of::<NodeId>(),
            _ => 0,
        };
        size_of::<Self>() + boxed
    }
}

impl CapabilityFact {
    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let tags = self.tags.iter().map(|tag| tag.len() + size_of::<String>()).sum::<usize>();
        size_of::<Self>() + self.record.len() + tags
    }
}
