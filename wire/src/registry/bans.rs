//! Bans in heartbeats: ours. A node that asks is told whom the administrator has kept out lately, so that it can end what
//! stands between the two without a relay. Daemons do not ask, and are answered as ever.
//!
//! ```text
//!  {"type":"heartbeat", "node_id":7, "signature":…, "bans_since":{"at":1800000000,"after":0}}
//!  {"type":"heartbeat_ok", "time":1800000360, "bans":{"node_ids":[5,9],"next":{"at":1800000060,"after":0}}}
//! ```
//!
//! Neither field is signed, like the rest of an answer: whoever sits between a node and a directory without TLS can write
//! a list of his own.

use serde::{Deserialize, Deserializer, Serialize};

use crate::NodeId;

/// Nodes in one answer; the rest follows with the next heartbeat.
pub const LISTED_MAX: usize = 1000;

/// A list that is complete is gone on with from so many seconds before it was made. What it repeats does no harm; clocks
/// that are set back, and answers that overtake each other, do none either.
pub const OVERLAP_SECONDS: u64 = 300;

/// How far a node has been told. To be given back as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cursor {
    /// Bans of this second and later are wanted, in Unix seconds of the directory's clock; 0 is the present, less
    /// [`OVERLAP_SECONDS`].
    pub at: u64,
    /// In that second those of higher numbers alone: a list was cut off here.
    pub after: NodeId,
}

impl Cursor {
    /// Bans of the latest minutes: for whoever has had nothing to do with anybody before.
    pub const PRESENT: Self = Self { at: 0, after: NodeId::UNSET };
    /// All there are.
    pub const ALL: Self = Self { at: 1, after: NodeId::UNSET };
}

/// Whom the administrator keeps out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Nodes whose ban stands, the oldest ban first, [`LISTED_MAX`] at most.
    pub node_ids: Vec<NodeId>,
    /// Where the next list begins.
    pub next: Cursor,
}

/// What somebody else calls so is none of ours, and no reason to refuse the heartbeat.
pub(super) fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Listed>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let listed = serde_json::from_value::<Listed>(value).ok();
    Ok(listed.filter(|listed| listed.node_ids.len() <= LISTED_MAX))
}
