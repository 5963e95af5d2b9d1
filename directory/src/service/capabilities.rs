//! Capability records: signed by their node, kept as they came, found by what they say.

use wire::NodeId;
use wire::registry::Answer;
use wire::registry::request::Query;

use super::{Refusal, Service};

impl Service {
    pub(super) fn publish_capability(&mut self, node: NodeId, _record: &str) -> Result<Answer, Refusal> {
        Err(Refusal::NodeNotFound(node))
    }

    pub(super) fn query(&self, _query: &Query) -> Result<Answer, Refusal> {
        Ok(Answer::Query { hits: Vec::new() })
    }
}
