//! What has happened to nodes, for those who follow it.

use wire::registry::Answer;
use wire::registry::request::Changes;

use super::{Refusal, Service};

impl Service {
    pub(super) fn changes_since(&self, changes: &Changes) -> Result<Answer, Refusal> {
        Ok(Answer::Changes { cursor: changes.after, reset: false, changes: Vec::new() })
    }
}
