//! Whether a record that the directory hands out is what its node has signed. The directory keeps and passes records on;
//! it can hold one back, but it cannot make one, change one, or hand out an older one unnoticed.

use std::collections::{HashMap, VecDeque};

use wire::NodeId;
use wire::registry::PublicKey;
use wire::registry::answer::Hit;
use wire::registry::capability::{RECORD_BYTES_MAX, Record, RecordError, signed_text};

use crate::identity::has_signed;

/// Nodes whose newest serial is remembered; the longest known go first.
const SERIALS_MAX: usize = 1 << 16;

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
    /// It is about another node.
    #[error("the record shown for node {node} is that of node {named} (the directory mixes them up, or lies)")]
    WrongNode {
        /// For whom it was shown.
        node: NodeId,
        /// Whom it names.
        named: NodeId,
    },
    /// This node knows the peer by another key.
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

/// Remembers the newest serial of each node, so that older records are recognised.
#[derive(Debug, Default)]
pub struct Verifier {
    serials: HashMap<NodeId, u64>,
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
        if known.is_some_and(|known| known != hit.public_key) {
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
        self.remember(node, record.serial)?;
        Ok(Some(record).filter(|record| !record.withdrawn))
    }

    fn remember(&mut self, node: NodeId, serial: u64) -> Result<(), Rejection> {
        if let Some(seen) = self.serials.get_mut(&node) {
            if serial < *seen {
                return Err(Rejection::Replayed { node, serial, seen: *seen });
            }
            *seen = serial;
            return Ok(());
        }
        if self.order.len() >= SERIALS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.serials.remove(&oldest);
        }
        self.serials.insert(node, serial);
        self.order.push_back(node);
        Ok(())
    }
}
