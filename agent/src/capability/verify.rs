//! Whether a record that the directory hands out is what its node has signed. The directory keeps and passes records on;
//! it can hold one back, but of a node whose key this one has met it cannot make one, change one, or hand out an older one
//! unnoticed.
//!
//! Who has never met a node takes the directory's word for its key, and the first record as the newest: the directory can
//! make up such a node, and bring back an old record. So it is again after a restart of this node, and for whom
//! 65 536 others have been met since; trust and an open tunnel hold a key beyond that.

use std::collections::{HashMap, VecDeque};

use wire::NodeId;
use wire::registry::PublicKey;
use wire::registry::answer::Hit;
use wire::registry::capability::{RECORD_BYTES_MAX, Record, RecordError, signed_text};

use crate::identity::has_signed;

/// Nodes whose key and newest serial are remembered; the longest known go first.
const NODES_MAX: usize = 1 << 16;

/// Why a record is not believed. The text ends in what may be behind it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The record names another key than the directory has for the node, or has no signature: whoever made it is not the
    /// node.
    #[error("node {0}'s record is not signed by its key (the directory or somebody else has made it)")]
    Forged(NodeId),
    /// The key is the node's, and its signature does not fit the text.
    #[error("node {0}'s record is not what its key has signed (it was changed on the way, or in the directory)")]
    Altered(NodeId),
    /// A newer one has been seen.
    #[error("node {node}'s record has serial {serial}, and {seen} has been seen (an old record was brought back)")]
    Replayed {
        /// Whose.
        node: NodeId,
        /// The record's serial.
        serial: u64,
        /// The highest seen.
        seen: u64,
    },
    /// Longer than any record.
    #[error("node {node}'s record is oversized: {bytes} bytes, at most {RECORD_BYTES_MAX}")]
    Oversized {
        /// Whose.
        node: NodeId,
        /// Of its text.
        bytes: usize,
    },
    /// It breaks the format.
    #[error("node {0}'s record cannot be read: {1}")]
    Malformed(NodeId, RecordError),
    /// It, or the address beside it, is another node's.
    #[error(
        "the record or address shown for node {node} is that of node {named} (the directory mixes them up, or lies)"
    )]
    WrongNode {
        /// For whom it was shown.
        node: NodeId,
        /// Whom it names.
        named: NodeId,
    },
    /// This node knows the peer by another key: of trust, of the tunnel, or of a record it has seen.
    #[error("node {0}'s record and directory entry have another key than the one this node knows it by")]
    ForeignKey(NodeId),
}

impl Rejection {
    /// One word for scripts.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Forged(_) => "forged",
            Self::Altered(_) => "altered",
            Self::Replayed { .. } => "replayed",
            Self::Oversized { .. } => "oversized",
            Self::Malformed(..) => "malformed",
            Self::WrongNode { .. } => "wrong_node",
            Self::ForeignKey(_) => "foreign_key",
        }
    }
}

/// Remembers each node's key and newest serial, so that records of others and older ones are recognised.
#[derive(Debug, Default)]
pub struct Verifier {
    seen: HashMap<NodeId, (PublicKey, u64)>,
    order: VecDeque<NodeId>,
}

impl Verifier {
    /// Checks an entry of an answer. `known` is the key by which this node knows the peer already: of its tunnel, or of
    /// trust. The record, where there is one that says something.
    ///
    /// # Errors
    /// [`Rejection`]; the entry must then not be used.
    pub fn check(&mut self, hit: &Hit, known: Option<PublicKey>) -> Result<Option<Record>, Rejection> {
        let node = hit.node_id;
        if hit.address.node != node {
            return Err(Rejection::WrongNode { node, named: hit.address.node });
        }
        let seen = self.seen.get(&node).map(|(key, _)| *key);
        if [known, seen].into_iter().flatten().any(|known| known != hit.public_key) {
            return Err(Rejection::ForeignKey(node));
        }
        let Some(text) = &hit.record else { return Ok(None) };
        let record = Record::decode(text).map_err(|error| match error {
            RecordError::TooLong(bytes) => Rejection::Oversized { node, bytes },
            error => Rejection::Malformed(node, error),
        })?;
        if record.node != node {
            return Err(Rejection::WrongNode { node, named: record.node });
        }
        let signature = hit.signature.filter(|_| record.public_key == hit.public_key);
        let signature = signature.ok_or(Rejection::Forged(node))?;
        if !has_signed(&record.public_key.0, signed_text(node, text).as_bytes(), &signature.0) {
            return Err(Rejection::Altered(node));
        }
        self.remember(node, record.public_key, record.serial)?;
        Ok(Some(record).filter(|record| !record.withdrawn))
    }

    fn remember(&mut self, node: NodeId, key: PublicKey, serial: u64) -> Result<(), Rejection> {
        if let Some((_, seen)) = self.seen.get_mut(&node) {
            if serial < *seen {
                return Err(Rejection::Replayed { node, serial, seen: *seen });
            }
            *seen = serial;
            return Ok(());
        }
        if self.order.len() >= NODES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.seen.insert(node, (key, serial));
        self.order.push_back(node);
        Ok(())
    }
}
