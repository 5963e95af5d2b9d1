//! Who belongs: approval, bans and quotas, and the list of keys. Whoever waits or is banned keeps its number and its
//! facts, and does not exist for anybody else: [`Nodes::find`](super::nodes::Nodes::find) does not find it.
//!
//! Who waits is answered as if it were in where nothing comes of it: registration, heartbeats, its own names. Daemons
//! end or give up where these are refused, and so they are in the moment they are approved. Whoever is banned is
//! refused everything.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use serde::Serialize;
use wire::NodeId;
use wire::address::Address;
use wire::registry::answer::Happened;
use wire::registry::{Operation, PublicKey};

use super::overview::NodeView;
use super::{Caller, Now, PRESENCE_TIMEOUT, Refusal, Service};
use crate::enrolment::{Approval, Ban, Enrolment, KeyRule, QUOTA_MAX, Quota, REASON_BYTES_MAX, Standing, parse_key};
use crate::facts::{Change, NodeFact};
use crate::limits::address_unit;

/// Nodes that wait, in all, from one address (one /64 in IPv6), and from one /48 of IPv6, since the start: whoever has the
/// latter has 65 536 of the former.
const WAITING_MAX: usize = 65_536;
const WAITING_PER_ADDRESS_MAX: usize = 256;
const WAITING_PER_SITE_MAX: usize = 2048;
/// Keys of which something was said before they registered.
const KEY_RULES_MAX: usize = 65_536;

/// The rules of a directory.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Who may register.
    pub enrolment: Enrolment,
    /// The keys on the list.
    pub listed: HashSet<PublicKey>,
    /// Nodes that were not there for so many days are forgotten; 0 keeps them.
    pub forget_after_days: u32,
}

/// What is known of those who do not belong, or not yet.
#[derive(Debug)]
pub(super) struct Enrolled {
    pub(super) policy: Policy,
    rules: HashMap<PublicKey, KeyRule>,
    /// Who waits, in the order of numbers.
    waiting: BTreeSet<NodeId>,
    /// Where those who wait have come from since the start.
    from: HashMap<NodeId, IpAddr>,
    by_address: HashMap<IpAddr, usize>,
    by_site: HashMap<Ipv6Addr, usize>,
}

impl Enrolled {
    pub(super) fn new(rules: Vec<KeyRule>) -> Self {
        Self {
            policy: Policy::default(),
            rules: rules.into_iter().map(|rule| (rule.key, rule)).collect(),
            waiting: BTreeSet::new(),
            from: HashMap::new(),
            by_address: HashMap::new(),
            by_site: HashMap::new(),
        }
    }

    /// Whether one more may wait there.
    fn has_room_at(&self, unit: IpAddr) -> bool {
        let of_site = site(unit).and_then(|site| self.by_site.get(&site)).copied().unwrap_or_default();
        let of_address = self.by_address.get(&unit).copied().unwrap_or_default();
        of_address < WAITING_PER_ADDRESS_MAX && of_site < WAITING_PER_SITE_MAX
    }

    fn waits_from(&mut self, node: NodeId, unit: IpAddr) {
        self.from.insert(node, unit);
        *self.by_address.entry(unit).or_default() += 1;
        if let Some(site) = site(unit) {
            *self.by_site.entry(site).or_default() += 1;
        }
    }

    /// `node` waits no more.
    pub(super) fn waits_no_more(&mut self, node: NodeId) {
        self.waiting.remove(&node);
        let Some(unit) = self.from.remove(&node) else { return };
        count_down(&mut self.by_address, unit);
        if let Some(site) = site(unit) {
            count_down(&mut self.by_site, site);
        }
    }
}

fn count_down<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// The /48 of an IPv6 address.
fn site(unit: IpAddr) -> Option<Ipv6Addr> {
    match unit {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(Ipv6Addr::from(u128::from(ip) >> 80 << 80)),
    }
}

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

/// Requests of a node that waits which are answered as if it were in: they tell it nothing of others, and nothing of it.
pub(super) const fn is_open_to_waiting(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Heartbeat { .. }
            | Operation::SetKeyExpiry { .. }
            | Operation::SetHostname { .. }
            | Operation::SetTags { .. }
            | Operation::SetVisibility { .. }
            | Operation::SetTaskExec { .. }
            | Operation::PollHandshakes { .. }
            | Operation::PollInvites { .. }
            | Operation::Deregister { .. }
    )
}

impl Service {
    /// Changes the rules. Whoever waits when the directory is opened to all is in; whom the list names no more waits
    /// again, and whom it names now is in.
    pub fn set_policy(&mut self, now: Now, policy: Policy) {
        self.enrolled.policy = policy;
        let waiting = self.nodes.enrolled_after(NodeId(0)).filter(|node| self.nodes.waits(node.fact.id));
        let waiting: BTreeSet<NodeId> = waiting.map(|node| node.fact.id).collect();
        self.enrolled.waiting.clone_from(&waiting);
        let Policy { enrolment, listed, .. } = &self.enrolled.policy;
        let dropped = |node: &&super::nodes::Node| {
            let fact = &node.fact;
            fact.approval == Approval::Listed && !listed.contains(&fact.key) && *enrolment != Enrolment::Open
        };
        let dropped: Vec<NodeId> =
            self.nodes.enrolled_after(NodeId(0)).filter(dropped).map(|node| node.fact.id).collect();
        for id in waiting {
            let key = self.nodes.entry(id).fact.key;
            match self.approval_of(&key) {
                Ok(approval) if approval.is_in() => self.let_in(now, id, approval),
                _ => {}
            }
        }
        for id in dropped {
            self.departed(now, id);
            self.update(id, |fact| fact.approval = fact.approval.taken_back());
            // Not whoever is banned besides.
            if self.nodes.waits(id) {
                self.enrolled.waiting.insert(id);
            }
            self.publish(id);
        }
    }

    /// The effects of what was decided outside a request, such as [`Service::set_policy`] or [`Service::sweep`].
    pub fn take_effects(&mut self) -> Vec<super::Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The rules.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.enrolled.policy
    }

    /// Who lets `key` in, if anybody does.
    pub(super) fn approval_of(&self, key: &PublicKey) -> Result<Approval, Refusal> {
        match self.enrolled.rules.get(key) {
            Some(KeyRule { ban: Some(_), .. }) => return Err(Refusal::KeyBanned),
            Some(KeyRule { ban: None, .. }) => return Ok(Approval::Admitted),
            None => {}
        }
        match self.enrolled.policy.enrolment {
            Enrolment::Open => Ok(Approval::Admitted),
            _ if self.enrolled.policy.listed.contains(key) => Ok(Approval::Listed),
            Enrolment::Approve => Ok(Approval::None),
            Enrolment::Allowlist => Err(Refusal::NotListed(*key)),
        }
    }

    /// Who lets `id` in once it has changed its key to `key`. The administrator's word for a node outlasts its keys, a ban of
    /// the next one forbids it, and a list names keys.
    pub(super) fn approval_of_next_key(&mut self, id: NodeId, key: &PublicKey) -> Result<Approval, Refusal> {
        let is_listed = self.nodes.entry(id).fact.approval == Approval::Listed;
        match self.approval_of(key) {
            Err(Refusal::KeyBanned) => Err(Refusal::KeyBanned),
            Err(refusal) if is_listed => Err(refusal),
            Ok(Approval::Admitted) => Ok(Approval::Admitted),
            Ok(_) | Err(_) => Ok(self.nodes.entry(id).fact.approval),
        }
    }

    /// Whether one more may wait. Where all places are taken, one who never proved to hold its key gives way.
    pub(super) fn has_room_to_wait(&mut self, now: Now, caller: &Caller<'_>) -> Result<(), Refusal> {
        if !caller.exempt && !self.enrolled.has_room_at(address_unit(caller.ip)) {
            return Err(Refusal::TooManyWaiting);
        }
        if self.enrolled.waiting.len() < WAITING_MAX {
            return Ok(());
        }
        let unproven = |id: &&NodeId| self.nodes.ever(**id).is_some_and(|node| node.fact.last_seen_day.is_none());
        let oldest = self.enrolled.waiting.iter().find(unproven).copied().ok_or(Refusal::TooManyWaiting)?;
        self.vacate(now, oldest);
        Ok(())
    }

    /// A node that has been here before waits again.
    pub(super) fn admit_to_wait(&mut self, now: Now, caller: &Caller<'_>, id: NodeId) -> Result<(), Refusal> {
        self.has_room_to_wait(now, caller)?;
        self.enrolled_from(caller, id, Approval::None);
        Ok(())
    }

    /// Files a newcomer under those who wait, if it has to.
    pub(super) fn enrolled_from(&mut self, caller: &Caller<'_>, id: NodeId, approval: Approval) {
        if approval != Approval::None || !self.enrolled.waiting.insert(id) || caller.exempt {
            return;
        }
        self.enrolled.waits_from(id, address_unit(caller.ip));
    }

    /// Lets a node in, gives it the name it wished for if that is free, and has it there if it is.
    pub(super) fn let_in(&mut self, now: Now, id: NodeId, approval: Approval) {
        self.enrolled.waits_no_more(id);
        self.update(id, |fact| fact.approval = approval);
        let fact = &self.nodes.entry(id).fact;
        if let (true, Some(hostname)) = (fact.standing() == Some(Standing::Approved), fact.wished_hostname.clone())
            && self.set_hostname(now, id, &hostname).is_ok()
        {
            self.update(id, |fact| fact.wished_hostname = None);
        }
        self.key_rule_of(id);
        self.publish(id);
        self.wake(now, id);
    }

    /// A node that has been heard lately is there, now that it belongs.
    fn wake(&mut self, now: Now, id: NodeId) {
        let recently = now.monotonic.saturating_sub(PRESENCE_TIMEOUT);
        if self.nodes.find(id).is_ok_and(|node| node.life.was_heard_since(recently)) && self.proofs.is_connected(id) {
            self.saw(id, now);
        }
    }

    /// What was said of a key holds for its node from now on.
    fn key_rule_of(&mut self, id: NodeId) {
        let key = self.nodes.entry(id).fact.key;
        self.end_key_rule(&key);
    }

    pub(super) fn end_key_rule(&mut self, key: &PublicKey) {
        if self.enrolled.rules.remove(key).is_some() {
            self.changes.push(Change::KeyRuleEnded(*key));
        }
    }

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
            Some(key) if !super::signature::is_identity(&key) => Err(ActError::KeyInvalid),
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
                self.update(id, |fact| fact.approval = fact.approval.taken_back());
                Ok(registered)
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
