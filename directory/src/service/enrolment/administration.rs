//! What the administrator does, and what is shown of those who belong or wait.

use serde::Serialize;
use wire::NodeId;
use wire::address::Address;
use wire::registry::PublicKey;
use wire::registry::answer::Happened;

use super::KEY_RULES_MAX;
use crate::enrolment::{Approval, Ban, KeyRule, QUOTA_MAX, Quota, REASON_BYTES_MAX, Standing, parse_key};
use crate::facts::{Change, NodeFact};
use crate::service::overview::NodeView;
use crate::service::{Now, Service, is_identity};

/// Whom the administrator means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A node that has or had a number.
    Node(NodeId),
    /// A key that has none.
    Key(PublicKey),
}

/// What the administrator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Let it in.
    Approve,
    /// Keep it out.
    Ban {
        /// Why; may be empty.
        reason: String,
    },
    /// End the ban. It is then as before.
    Unban,
    /// End its registration, its names, trust and memberships. The number stays with the key.
    Remove,
    /// Change what it may send through the relay; `None` leaves as it is, `Some(None)` is what everyone is granted.
    SetQuota {
        /// Packets per second.
        packets_per_second: Option<Option<u64>>,
        /// Bytes per second.
        bytes_per_second: Option<Option<u64>>,
    },
}

/// Why the administrator's wish is not fulfilled.
#[expect(missing_docs, reason = "the texts say it")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    #[error("no node {0:?}: name it by number, address, hostname or public key; `nodes list` shows all")]
    Unknown(String),
    #[error("node {0} is banned; unban it first")]
    Banned(NodeId),
    #[error("this key has not registered yet; it can be approved, banned or unbanned")]
    NotRegistered,
    #[error("node {0} is not registered")]
    Gone(NodeId),
    #[error("a reason takes at most {REASON_BYTES_MAX} bytes")]
    ReasonTooLong,
    #[error("a quota is at most {QUOTA_MAX}; 0 is no limit")]
    QuotaTooLarge,
    #[error("something was said of {KEY_RULES_MAX} keys that have not registered; use a list of keys")]
    TooManyKeys,
    #[error("not a usable Ed25519 public key")]
    KeyInvalid,
}

/// A node, for the administrator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemberView {
    /// What is known of any node.
    #[serde(flatten)]
    pub node: NodeView,
    /// Its identity.
    pub public_key: PublicKey,
    /// Since when the key is its identity, Unix seconds; of most the time of their registration.
    pub key_set_at: u64,
    /// Whether it is registered.
    pub registered: bool,
    /// The ban.
    pub ban: Option<Ban>,
    /// What it may send through the relay.
    pub quota: Quota,
    /// The name it will have once it is let in, if that is free.
    pub wished_hostname: Option<String>,
    /// The day of its last valid signature, in days since 1970.
    pub last_seen_day: Option<u32>,
}

/// A key that has not registered, for the administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyView {
    /// The key.
    pub public_key: PublicKey,
    /// What becomes of it when it registers.
    pub standing: Standing,
    /// Why it is banned.
    pub reason: Option<String>,
    /// Since when, Unix seconds.
    pub at: u64,
}

impl Service {
    /// Whom `text` names: a number, an address, a hostname or a public key, in this order.
    ///
    /// # Errors
    /// It names nobody.
    pub fn subject(&self, text: &str) -> Result<Subject, ActError> {
        let text = text.trim();
        let number = text.parse().ok().map(NodeId);
        let number = number.or_else(|| text.parse().ok().map(|address: Address| address.node));
        if let Some(id) = number.filter(|id| self.nodes.ever(*id).is_some()) {
            return Ok(Subject::Node(id));
        }
        if let Some(id) = self.nodes.holder_of(text) {
            return Ok(Subject::Node(id));
        }
        match parse_key(text) {
            Some(key) if !is_identity(&key) => Err(ActError::KeyInvalid),
            Some(key) => {
                let node = self.nodes.of_key(&key).or_else(|| self.nodes.of_retired_key(&key));
                Ok(node.map_or(Subject::Key(key), Subject::Node))
            }
            None => Err(ActError::Unknown(text.to_owned())),
        }
    }

    /// Does what the administrator wants; false when it was so already.
    ///
    /// # Errors
    /// It cannot be done to this one, or a bound is exceeded. Nothing has changed.
    pub fn administer(&mut self, now: Now, subject: Subject, act: &Act) -> Result<bool, ActError> {
        if let Act::Ban { reason } = act
            && reason.len() > REASON_BYTES_MAX
        {
            return Err(ActError::ReasonTooLong);
        }
        match subject {
            Subject::Node(id) => self.administer_node(now, id, act),
            Subject::Key(key) => self.administer_key(now, key, act),
        }
    }

    fn administer_key(&mut self, now: Now, key: PublicKey, act: &Act) -> Result<bool, ActError> {
        let before = self.enrolled.rules.get(&key).map(|rule| rule.ban.clone());
        let ban = match act {
            Act::Approve => None,
            Act::Ban { reason } => Some(reason.clone()),
            Act::Unban => {
                let banned = matches!(before, Some(Some(_)));
                if banned {
                    self.end_key_rule(&key);
                }
                return Ok(banned);
            }
            Act::Remove => {
                self.end_key_rule(&key);
                return Ok(before.is_some());
            }
            Act::SetQuota { .. } => return Err(ActError::NotRegistered),
        };
        if before.as_ref() == Some(&ban) {
            return Ok(false);
        }
        if before.is_none() && self.enrolled.rules.len() >= KEY_RULES_MAX {
            return Err(ActError::TooManyKeys);
        }
        let rule = KeyRule { key, ban, at: now.unix_seconds };
        self.enrolled.rules.insert(key, rule.clone());
        self.changes.push(Change::KeyRule(Box::new(rule)));
        Ok(true)
    }

    fn administer_node(&mut self, now: Now, id: NodeId, act: &Act) -> Result<bool, ActError> {
        let fact = &self.nodes.ever(id).ok_or(ActError::Gone(id))?.fact;
        match act {
            Act::Approve if fact.ban.is_some() => Err(ActError::Banned(id)),
            Act::Approve if fact.approval == Approval::Admitted => Ok(false),
            Act::Approve => {
                self.let_in(now, id, Approval::Admitted);
                Ok(true)
            }
            Act::Ban { reason } if fact.ban.as_ref().is_some_and(|ban| ban.reason == *reason) => Ok(false),
            Act::Ban { reason } => {
                let at = fact.ban.as_ref().map_or(now.unix_seconds, |ban| ban.at);
                let ban = Box::new(Ban { reason: reason.clone(), at });
                self.departed(now, id);
                self.enrolled.waits_no_more(id);
                self.update(id, |fact| fact.ban = Some(ban));
                self.publish(id);
                Ok(true)
            }
            Act::Unban if fact.ban.is_none() => Ok(false),
            Act::Unban => {
                self.update(id, |fact| fact.ban = None);
                if self.nodes.waits(id) {
                    self.enrolled.waiting.insert(id);
                }
                self.publish(id);
                self.wake(now, id);
                if self.nodes.find(id).is_ok() {
                    self.changed(now, id, Happened::Described);
                }
                Ok(true)
            }
            Act::Remove => {
                let registered = fact.registered;
                if registered {
                    self.deregister(now, id);
                }
                // Whoever was let in one by one has to be let in again.
                let taken_back = self.update(id, |fact| fact.approval = fact.approval.taken_back());
                Ok(registered || taken_back)
            }
            Act::SetQuota { packets_per_second, bytes_per_second } => {
                let too_large = |wanted: &Option<Option<u64>>| wanted.flatten().is_some_and(|rate| rate > QUOTA_MAX);
                if too_large(packets_per_second) || too_large(bytes_per_second) {
                    return Err(ActError::QuotaTooLarge);
                }
                let quota = Quota {
                    packets_per_second: packets_per_second.unwrap_or(fact.quota.packets_per_second),
                    bytes_per_second: bytes_per_second.unwrap_or(fact.quota.bytes_per_second),
                };
                let changed = self.update(id, |fact| fact.quota = quota);
                if changed {
                    self.publish(id);
                }
                Ok(changed)
            }
        }
    }

    /// A node as the administrator sees it.
    #[must_use]
    pub fn member(&self, now: Now, id: NodeId) -> Option<MemberView> {
        let node = self.nodes.ever(id)?;
        let fact = &node.fact;
        Some(MemberView {
            node: self.view(now, node),
            public_key: fact.key,
            key_set_at: fact.key_set_at,
            registered: fact.registered,
            ban: fact.ban.as_deref().cloned(),
            quota: fact.quota,
            wished_hostname: fact.wished_hostname.clone(),
            last_seen_day: fact.last_seen_day,
        })
    }

    /// Registered nodes after `after` whose standing is `wanted`, if any, in order: at most `limit`, out of the next
    /// `examined` numbers. Among the banned are those that are not registered any more: a ban outlasts that. The number up to
    /// which was looked, and whether there are more.
    #[must_use]
    pub fn members(
        &self,
        now: Now,
        wanted: Option<Standing>,
        after: NodeId,
        limit: usize,
        examined: u32,
    ) -> (Vec<MemberView>, NodeId, bool) {
        let last = self.nodes.last_number();
        let end = NodeId(after.0.saturating_add(examined).min(last.0));
        let fits = |fact: &NodeFact| match wanted {
            None => fact.registered,
            Some(Standing::Banned) => fact.ban.is_some(),
            Some(wanted) => fact.standing() == Some(wanted),
        };
        let nodes = self.nodes.ever_after(after).take_while(|node| node.fact.id <= end);
        let ids = nodes.filter(|node| fits(&node.fact)).map(|node| node.fact.id).take(limit);
        let found: Vec<MemberView> = ids.filter_map(|id| self.member(now, id)).collect();
        let full = found.len() >= limit;
        let reached = found.last().filter(|_| full).map_or(end, |member| member.node.node_id);
        (found, reached, reached < last)
    }

    /// Keys that have not registered and of which something was said, the oldest first.
    #[must_use]
    pub fn key_rules(&self) -> Vec<KeyView> {
        let view = |rule: &KeyRule| KeyView {
            public_key: rule.key,
            standing: if rule.ban.is_some() { Standing::Banned } else { Standing::Approved },
            reason: rule.ban.clone(),
            at: rule.at,
        };
        let mut views: Vec<KeyView> = self.enrolled.rules.values().map(view).collect();
        views.sort_by_key(|view| (view.at, view.public_key));
        views
    }
}
