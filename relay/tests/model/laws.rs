//! What must hold whatever arrives, found out from what goes in and comes out, and from where sessions stand; without the
//! reference, and so also where budgets bind.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv6Addr;

use relay::Time;
use relay::endpoint::{Endpoint, Path};
use relay::metrics::DropReason;
use relay::server::{Action, Admission};
use relay::sessions::Session;
use wire::NodeId;

/// Datagrams the relay sends for one that it gets.
const SENDS_MAX: usize = 2;
/// The longest message of the relay's own that follows from a short one: an IPv6 endpoint.
const OWN_MESSAGE_MAX: usize = 20;
/// A relayed datagram loses its header, or keeps its length.
const RELAY_HEADER_LEN: usize = 9;

/// A rate that binds, in the units of the world's rules.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    pub per_second: u64,
    pub burst: u64,
}

/// What a bound account has been granted, and when.
#[derive(Debug, Default)]
struct Granted(Vec<Time>);

impl Granted {
    /// No window of time may hold more than its rate gives, and one burst.
    fn grant(&mut self, now: Time, allowance: Allowance, whom: &dyn std::fmt::Debug) {
        self.0.push(now);
        for (earlier, since) in self.0.iter().enumerate() {
            let granted = (self.0.len() - earlier) as f64;
            let allowed = allowance.burst as f64 + now.since(*since).as_secs_f64() * allowance.per_second as f64;
            assert!(granted <= allowed + 1.0, "{whom:?} was granted {granted} where {allowed} are allowed");
        }
    }
}

/// A datagram and what came of it.
#[derive(Debug)]
pub struct Seen<'a> {
    pub now: Time,
    pub shard: usize,
    pub is_owner: bool,
    pub from: Path,
    pub datagram: &'a [u8],
    pub action: &'a Action,
    /// What leaves: the answer, and messages of the relay's own.
    pub out: &'a [(Path, Vec<u8>)],
}

/// Where sessions stand.
pub type Places = BTreeMap<NodeId, Session>;

fn refused(action: &Action) -> bool {
    matches!(action, Action::Drop(DropReason::ControlBudget | DropReason::ServicePort))
}

/// What has to be remembered to judge what comes next.
#[derive(Debug, Default)]
pub struct Laws {
    /// Endpoints that have sent anything.
    heard: HashSet<Endpoint>,
    /// When an endpoint was last asked for a sign of life.
    asked: HashMap<Endpoint, Time>,
    /// Since when a session stands where it stands.
    since: HashMap<NodeId, Time>,
    by_sender: HashMap<NodeId, Granted>,
    relayed_by_prefix: HashMap<(usize, u64), Granted>,
    controlled_by_prefix: HashMap<(usize, u64), Granted>,
}

impl Laws {
    /// A datagram has been decided on. `before` and `after` are the places around it; `named` are the endpoints at which the
    /// directory or an earlier process says that nodes are.
    pub fn datagram(
        &mut self,
        seen: &Seen<'_>,
        (before, after): (&Places, &Places),
        named: &HashSet<Endpoint>,
        admission: Admission,
        allowance: Option<Allowance>,
    ) {
        self.heard.insert(seen.from.remote);
        let Seen { action, datagram, out, from, .. } = seen;
        assert!(out.len() <= SENDS_MAX, "{} datagrams for one: {out:?}", out.len());
        let is_forward = matches!(action, Action::Forward { .. });
        if is_forward {
            self.forwarded(seen, after, admission);
        } else if datagram.starts_with(b"PILP") || matches!(datagram.first(), Some(0x01..=0x0D)) {
            let bytes: usize = out.iter().map(|(_, bytes)| bytes.len()).sum();
            assert!(
                bytes <= datagram.len().max(SENDS_MAX * OWN_MESSAGE_MAX) || from.local.0 % 2 == 1,
                "{bytes} bytes for {datagram:?}"
            );
        }
        if matches!(action, Action::Drop(_)) {
            assert!(out.len() <= 1, "who is dropped is not answered: at most a node is asked for a sign of life");
        }
        for (to, _) in out.iter() {
            assert!(
                to.remote == from.remote || self.may_be_sent_to(&to.remote, (before, after), named),
                "a datagram to {to:?}, where nobody is"
            );
        }
        if let Some(allowance) = allowance.filter(|_| admission != Admission::Open) {
            self.charge(seen, allowance);
        }
    }

    /// Whoever is sent to has a session, is where the directory says, or has spoken.
    pub fn may_be_sent_to(&self, to: &Endpoint, around: (&Places, &Places), named: &HashSet<Endpoint>) -> bool {
        let stands = |places: &Places| places.values().any(|session| session.path.remote == *to);
        stands(around.0) || stands(around.1) || named.contains(to) || self.heard.contains(to)
    }

    /// Only the destination's session is forwarded to, only by the sender's, and only what was sent.
    fn forwarded(&self, Seen { from, datagram, out, .. }: &Seen<'_>, after: &Places, admission: Admission) {
        let [(to, bytes)] = *out else { panic!("forwarded, and {} datagrams leave", out.len()) };
        let (sender, dest) = relayed(datagram).expect("only 05 is forwarded");
        let held = after.get(&dest).unwrap_or_else(|| panic!("forwarded to {dest}, who has no session"));
        assert_eq!(*to, held.path, "forwarded to another place than {dest}'s");
        if admission != Admission::Open {
            let own = after.get(&sender).map(|session| session.path.remote);
            assert_eq!(own, Some(from.remote), "forwarded for {sender}, who is elsewhere");
        }
        let header = if held.extended { &[&[9], &datagram[1..9]].concat() } else { &[&[6], &datagram[1..5]].concat() };
        assert!(bytes.starts_with(header) && bytes[header.len()..] == datagram[RELAY_HEADER_LEN..], "{bytes:?}");
        assert!(bytes.len() <= datagram.len());
    }

    fn charge(&mut self, seen: &Seen<'_>, allowance: Allowance) {
        let prefix = (seen.shard, prefix(seen.from.remote.ip));
        // What is looked for in vain costs at least as much as what is found.
        let is_granted = matches!(seen.action, Action::Forward { .. } | Action::Drop(DropReason::UnknownDestination));
        match (relayed(seen.datagram), seen.action) {
            (Some((sender, _)), _) if is_granted && seen.is_owner => {
                self.by_sender.entry(sender).or_default().grant(seen.now, allowance, &sender);
            }
            (Some(_), _) if is_granted => {
                let granted = self.relayed_by_prefix.entry(prefix).or_default();
                granted.grant(seen.now, allowance, &seen.from.remote);
            }
            // A relayed packet that is none is charged among what is refused.
            (None, action) if !refused(action) && seen.datagram.first() != Some(&0x05) => {
                let granted = self.controlled_by_prefix.entry(prefix).or_default();
                granted.grant(seen.now, allowance, &seen.from.remote);
            }
            _ => {}
        }
    }

    /// The relay has sent a message of its own.
    pub fn sent(&mut self, now: Time, to: &Path, bytes: &[u8], ours: &[Endpoint]) {
        let asks = |ours: &Endpoint| bytes.ends_with(&ours.port.to_be_bytes()) && bytes.len() > 4;
        if bytes.first() == Some(&0x04) && ours.iter().any(asks) {
            self.asked.insert(to.remote, now);
        }
    }

    /// Something has happened. No session begins for an id that does not exist; none moves to an address with less proof
    /// without its holder having been asked.
    pub fn moved(
        &mut self,
        now: Time,
        (before, after): (&Places, &Places),
        may_exist: impl Fn(NodeId) -> bool,
        proves: impl Fn(NodeId, Endpoint) -> bool,
        admission: Admission,
    ) {
        for (node, session) in after {
            let place = session.path.remote;
            match before.get(node).map(|session| session.path.remote) {
                None => {
                    assert!(may_exist(*node), "a session began for {node}, who does not exist");
                    self.since.insert(*node, now);
                }
                Some(earlier) if earlier != place => {
                    let loses = proves(*node, earlier) && !proves(*node, place) && !session.claimed;
                    let since = self.since.insert(*node, now);
                    let was_asked = self.asked.get(&earlier).is_some_and(|asked| Some(*asked) >= since);
                    assert!(
                        !loses || was_asked || admission == Admission::Open,
                        "{node} lost its proven place {earlier} to {place} without having been asked"
                    );
                }
                Some(_) => {}
            }
        }
        for node in before.keys().filter(|node| !after.contains_key(*node)) {
            // A new session begins with a new account.
            self.by_sender.remove(node);
        }
    }
}

/// Sender and destination of a relayed datagram.
pub fn relayed(datagram: &[u8]) -> Option<(NodeId, NodeId)> {
    let id = |at: usize| Some(NodeId(u32::from_be_bytes(*datagram.get(at..)?.first_chunk()?)));
    (datagram.first() == Some(&0x05)).then_some((id(1)?, id(5)?))
}

/// What counts as one source: an IPv4 address, or 56 bits of IPv6.
fn prefix(ip: Ipv6Addr) -> u64 {
    match ip.to_ipv4_mapped() {
        Some(ip) => u64::from(u32::from(ip)),
        None => (u128::from(ip) >> 72) as u64,
    }
}
