//! Who belongs: approval, bans and quotas, and the list of keys. Whoever waits or is banned keeps its number and its
//! facts, and does not exist for anybody else: [`Nodes::find`](super::nodes::Nodes::find) does not find it.
//!
//! Who waits is answered as if it were in where nothing comes of it: registration, heartbeats, its own names. Daemons
//! end or give up where these are refused, and so they are in the moment they are approved. Whoever is banned is
//! refused everything.

mod administration;
mod bans;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use wire::NodeId;
use wire::registry::{Operation, PublicKey};

pub use self::administration::{Act, ActError, KeyView, MemberView, Subject};
use self::bans::Bans;
use super::{Caller, Now, PRESENCE_TIMEOUT, Refusal, Service};
use crate::enrolment::{Approval, Enrolment, KeyRule, Standing};
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

/// What other rules have changed for nodes that are registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Nodes that belong now.
    pub let_in: usize,
    /// Nodes that do not belong any more: they wait.
    pub put_out: usize,
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
    pub(super) bans: Bans,
}

impl Enrolled {
    pub(super) fn new(rules: Vec<KeyRule>, nodes: &[NodeFact]) -> Self {
        Self {
            policy: Policy::default(),
            rules: rules.into_iter().map(|rule| (rule.key, rule)).collect(),
            waiting: BTreeSet::new(),
            from: HashMap::new(),
            by_address: HashMap::new(),
            by_site: HashMap::new(),
            bans: Bans::new(nodes),
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
    /// How many registered nodes the list of keys alone has let in.
    #[must_use]
    pub fn count_listed(&self) -> usize {
        let listed = |node: &&super::nodes::Node| node.fact.approval == Approval::Listed && node.fact.ban.is_none();
        self.nodes.enrolled_after(NodeId(0)).filter(listed).count()
    }

    /// Changes the rules. Whoever waits when the directory is opened to all is in; whom the list names no more waits
    /// again, and whom it names now is in.
    pub fn set_policy(&mut self, now: Now, policy: Policy) -> Moved {
        let mut moved = Moved::default();
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
                Ok(approval) if approval.is_in() => {
                    self.let_in(now, id, approval);
                    moved.let_in += 1;
                }
                _ => {}
            }
        }
        for id in dropped {
            self.departed(now, id);
            self.update(id, |fact| fact.approval = fact.approval.taken_back());
            // Not whoever is banned besides.
            if self.nodes.waits(id) {
                self.enrolled.waiting.insert(id);
                moved.put_out += 1;
            }
            self.publish(id);
        }
        moved
    }

    /// The effects of what was decided outside a request, such as [`Service::set_policy`] or [`Service::sweep`].
    pub fn take_effects(&mut self) -> Vec<super::Effect> {
        self.effects.take()
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

    /// Whether a node belongs; of one that is not registered, whether it would if it registered now.
    pub(super) fn standing_of(&self, fact: &NodeFact) -> Standing {
        match (fact.standing(), &fact.ban, fact.approval) {
            (Some(standing), ..) => standing,
            (None, Some(_), _) => Standing::Banned,
            (None, None, Approval::Admitted) => Standing::Approved,
            (None, None, _) => match self.approval_of(&fact.key) {
                Ok(approval) if approval.is_in() => Standing::Approved,
                Err(Refusal::KeyBanned) => Standing::Banned,
                _ => Standing::Pending,
            },
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
}
