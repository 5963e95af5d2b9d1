//! What a node says of itself: hostname, tags, visibility. First come, first served; silence frees no name.

use wire::NodeId;
use wire::registry::Answer;
use wire::registry::answer::{Happened, Visibility};
use wire::registry::names::{check_hostname, normalise_tags};

use super::{Now, Refusal, Service};

impl Service {
    /// Open to everyone, also for private nodes: clients ask without saying who they are, and the number behind a
    /// name grants nothing (section 11.2).
    pub(super) fn resolve_hostname(&self, hostname: &str) -> Result<Answer, Refusal> {
        let node = self.nodes.named(hostname).ok_or_else(|| Refusal::HostnameNotFound(hostname.to_owned()))?;
        Ok(Answer::ResolveHostname {
            node_id: node.fact.id,
            address: node.fact.id.address(),
            public: node.fact.public,
            hostname: hostname.to_owned(),
        })
    }

    pub(super) fn set_hostname(&mut self, now: Now, id: NodeId, hostname: &str) -> Result<Answer, Refusal> {
        let wanted = if hostname.is_empty() {
            None
        } else {
            check_hostname(hostname)?;
            if self.nodes.holder_of(hostname).is_some_and(|holder| holder != id) && !self.nodes.waits(id) {
                return Err(Refusal::HostnameTaken(hostname.to_owned()));
            }
            Some(hostname.to_owned())
        };
        // Names are for those who belong: whoever only waits could keep all of them.
        if self.nodes.waits(id) {
            self.update(id, |fact| fact.wished_hostname = wanted);
        } else if self.update(id, |fact| fact.hostname = wanted) {
            self.changed(now, id, Happened::Described);
        }
        Ok(Answer::SetHostname { node_id: id, hostname: hostname.to_owned() })
    }

    pub(super) fn set_tags(&mut self, now: Now, id: NodeId, tags: &[String]) -> Result<Answer, Refusal> {
        let tags = normalise_tags(tags)?;
        if self.update(id, |fact| fact.tags.clone_from(&tags)) && self.nodes.find(id).is_ok() {
            self.changed(now, id, Happened::Described);
        }
        Ok(Answer::SetTags { node_id: id, tags })
    }

    pub(super) fn set_visibility(&mut self, now: Now, id: NodeId, public: bool) -> Result<Answer, Refusal> {
        // The change concerns strangers on the side on which the node is public.
        if !public && self.nodes.find(id).is_ok_and(|node| node.fact.public) {
            self.changed(now, id, Happened::Described);
        }
        if self.update(id, |fact| fact.public = public) && public && self.nodes.find(id).is_ok() {
            self.changed(now, id, Happened::Described);
        }
        let visibility = if public { Visibility::Public } else { Visibility::Private };
        Ok(Answer::SetVisibility { node_id: id, visibility })
    }

    pub(super) fn set_task_exec(&mut self, id: NodeId, enabled: bool) -> Result<Answer, Refusal> {
        self.update(id, |fact| fact.task_exec = enabled);
        Ok(Answer::SetTaskExec { node_id: id, task_exec: enabled })
    }
}
