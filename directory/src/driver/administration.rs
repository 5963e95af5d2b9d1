//! What the administrator does and sees. Others are served in between.

use std::sync::Arc;
use std::time::Duration;

use wire::NodeId;

use super::Driver;
use crate::enrolment::Standing;
use crate::service::enrolment::{Act, ActError, KeyView, MemberView, Moved, Policy, Subject};
use crate::service::overview::{Lookup, NodeView};

/// Nodes that an operator's search looks at before it lets others at the service, and for how long it does. A debug build
/// takes 1 to 2 ms for so many, and 4 to 9 ms where it has to write their addresses out.
const LOOKUP_NODES: usize = 2048;
const LOOKUP_PAUSE: Duration = Duration::from_micros(100);

/// Whom the administrator asked about.
#[derive(Clone, Debug, PartialEq)]
pub enum Member {
    /// A node.
    Node(Box<MemberView>),
    /// A key that has not registered.
    Key(KeyView),
}

/// Why the administrator's wish is not fulfilled, or not for good.
#[expect(missing_docs, reason = "the texts say it")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    #[error(transparent)]
    Refused(#[from] ActError),
    #[error(
        "done, but the disk does not take it at the moment: it is tried further, and lost if the directory ends before"
    )]
    NotStored,
}

impl Driver {
    /// Nodes whose number, address, hostname, tag or capability has `text` in it, at most `limit`. Blocks for
    /// milliseconds with many nodes; others are served meanwhile.
    pub fn find_nodes(&self, text: &str, limit: usize) -> Vec<NodeView> {
        let mut lookup = Lookup::new(text, limit);
        while self.service().look_further(self.clock.now(), &mut lookup, LOOKUP_NODES) {
            // Whoever waits for the service would not get it before us if we took it again at once.
            std::thread::park_timeout(LOOKUP_PAUSE);
        }
        lookup.found
    }

    /// Does what the administrator wants of whom `subject` names. Relays know at once, and it is durable on return: true
    /// when anything has changed.
    ///
    /// # Errors
    /// It cannot be done, or the disk does not take it: then it holds until the process ends, and is tried further.
    pub async fn administer(self: &Arc<Self>, subject: &str, act: &Act) -> Result<(Subject, bool), AdminError> {
        let now = self.clock.now();
        let (subject, changed, position, effects) = {
            let mut service = self.service();
            let subject = service.subject(subject)?;
            let changed = service.administer(now, subject, act)?;
            let effects = service.take_effects();
            let position = self.journal.append(service.take_changes());
            self.tell_watchers(service, now);
            (subject, changed, position, effects)
        };
        self.tell_relay(effects).await;
        let durable = tokio::time::timeout(self.limits.commit_timeout, self.journal.durable(position));
        durable.await.map_err(|_| AdminError::NotStored)?;
        Ok((subject, changed))
    }

    /// Other rules from now on.
    pub fn set_policy(&self, policy: Policy) -> Moved {
        let (moved, effects) = {
            let mut service = self.service();
            let moved = service.set_policy(self.clock.now(), policy);
            self.journal.append(service.take_changes());
            let effects = service.take_effects();
            self.tell_watchers(service, self.clock.now());
            (moved, effects)
        };
        self.carry_out(&effects);
        moved
    }

    /// The rules.
    pub fn policy(&self) -> Policy {
        self.service().policy().clone()
    }

    /// Whom `subject` names, as the administrator sees it.
    ///
    /// # Errors
    /// It names nobody.
    pub fn member(&self, subject: &str) -> Result<Member, ActError> {
        let service = self.service();
        match service.subject(subject)? {
            Subject::Node(node) => {
                let member = service.member(self.clock.now(), node).ok_or(ActError::Gone(node))?;
                Ok(Member::Node(Box::new(member)))
            }
            Subject::Key(key) => {
                let said = service.key_rules().into_iter().find(|view| view.public_key == key);
                said.map(Member::Key).ok_or_else(|| ActError::Unknown(subject.to_owned()))
            }
        }
    }

    /// Registered nodes after `after` whose standing is `wanted`, if any, at most `limit`; and the number after which to go
    /// on, if there are more. Blocks for milliseconds with many nodes; others are served meanwhile.
    pub fn members(&self, wanted: Option<Standing>, after: NodeId, limit: usize) -> (Vec<MemberView>, Option<NodeId>) {
        let mut found = Vec::new();
        let mut after = after;
        loop {
            let left = limit - found.len();
            let (some, reached, more) =
                self.service().members(self.clock.now(), wanted, after, left, LOOKUP_NODES as u32);
            found.extend(some);
            after = reached;
            if !more {
                return (found, None);
            }
            if found.len() >= limit {
                return (found, Some(after));
            }
            std::thread::park_timeout(LOOKUP_PAUSE);
        }
    }

    /// Keys that have not registered and of which the administrator has said something.
    pub fn key_rules(&self) -> Vec<KeyView> {
        self.service().key_rules()
    }
}
