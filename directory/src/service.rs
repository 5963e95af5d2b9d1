//! The decisions of the directory: who is who, who may see whom, who trusts whom, who is in which network.
//!
//! A plain value: a request, its caller and `now` go in; an answer, changes to make durable and effects on the relay
//! come out. No I/O, no clock, no randomness. Even signatures are checked outside, since that takes longer than all
//! the rest: [`Service::handle`] says which check it needs and is called again with the result.
//!
//! | part | decides |
//! |---|---|
//! | [`nodes`] | registration, lookup, keys |
//! | [`enrolment`] | who belongs: approval, bans, quotas |
//! | [`collection`] | which registrations are forgotten |
//! | [`effects`] | nothing: what the relay is told |
//! | [`presence`] | who is there, and what it reports of itself |
//! | [`names`] | hostnames, tags, visibility |
//! | [`reach`] | who may resolve whom, and at which address |
//! | [`proofs`] | which addresses are proven to be a node's own |
//! | [`questions`] | which signed questions are recordings |
//! | [`trust`] | trust, which has a direction |
//! | [`handshakes`] | inboxes of requests and responses |
//! | [`networks`] | groups, their members and invitations |
//! | [`beacons`] | the relays that clients are told of |
//! | [`capabilities`] | signed records of what nodes can do, and who finds them |
//! | [`changes`] | what has happened, for those who follow it |
//! | [`overview`] | figures for people |

mod beacons;
mod capabilities;
pub mod changes;
mod collection;
mod effects;
pub mod enrolment;
mod handshakes;
mod kinds;
mod names;
mod networks;
mod nodes;
pub mod overview;
mod presence;
mod proofs;
pub mod questions;
mod reach;
mod refusal;
mod signature;
mod trust;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::NodeId;
use wire::registry::{Answer, Operation, PublicKey, Request};

pub use collection::ClockJumps;
pub use effects::Effect;
pub use proofs::{ConnectionId, Replays};
pub use refusal::Refusal;
pub(crate) use signature::is_identity;
pub use signature::{Checked, SignatureCheck};

use crate::config::{AdminToken, Limits};
use crate::enrolment::{Quota, Standing};
use crate::facts::{Change, Facts};
use crate::limits::{AddressRates, Rate};
use crate::search::{Found, Search};
use beacons::Beacons;
use capabilities::{Capabilities, Planned};
use changes::Feed;
use collection::Collection;
use effects::Effects;
use enrolment::{Enrolled, Policy};
use handshakes::Handshakes;
pub(crate) use kinds::is_read;
use kinds::{is_said_to_all, sets_value};
use networks::Networks;
use nodes::Nodes;
use presence::Presence;
use proofs::Proofs;
use questions::Questions;
use trust::Trust;

/// A node counts as present for so long after a sign of life (section 6.5).
pub const PRESENCE_TIMEOUT: Duration = Duration::from_secs(300);

/// Wrong admin tokens that one address may present a minute.
const WRONG_ADMIN_TOKENS_PER_MINUTE: u32 = 5;

/// The instant of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since an arbitrary start; never goes back.
    pub monotonic: Duration,
    /// Wall clock, for what people and clients read.
    pub unix_seconds: u64,
}

/// Who sends a request.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its address.
    pub ip: IpAddr,
    /// No rate applies to it.
    pub exempt: bool,
    /// Relays to name to it, `HOST:PORT`.
    pub advertised: &'a [String],
    /// What those relays understand beyond the protocol.
    pub extensions: &'a [String],
    /// By which those relays are known to nodes that sign claims for them.
    pub relay_key: Option<PublicKey>,
}

/// What comes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Ask again with the result of this check.
    Check(SignatureCheck),
    /// Go on with what this finds: [`Service::handle_found`].
    Search(Box<Search>),
    /// Let others have the service, then go on with this: [`Service::handle_found`].
    Pick(Box<Found>),
    /// Decided.
    Done(Outcome),
}

/// A decision, and what has to happen before the answer may be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// Whether all changes decided so far have to be durable first. Also true for a request that found its wish
    /// already fulfilled: what fulfilled it may not be on disk yet.
    pub durable_first: bool,
    /// Then these, in order.
    pub effects: Vec<Effect>,
}

/// The directory's state and rules.
#[derive(Debug)]
pub struct Service {
    nodes: Nodes,
    enrolled: Enrolled,
    collection: Collection,
    presence: Presence,
    feed: Feed,
    proofs: Proofs,
    replays: Replays,
    questions: Questions,
    trust: Trust,
    handshakes: Handshakes,
    networks: Networks,
    beacons: Beacons,
    capabilities: Capabilities,
    registrations: AddressRates,
    creations: AddressRates,
    admin_token: Option<AdminToken>,
    wrong_admin_tokens: AddressRates,
    created_at: u64,
    changes: Vec<Change>,
    effects: Effects,
}

impl Service {
    /// A directory that knows `facts`.
    #[must_use]
    pub fn new(facts: Facts, limits: &Limits, admin_token: Option<AdminToken>) -> Self {
        let registrations = Rate::new(limits.registrations_per_ip_per_minute, Duration::from_secs(60));
        let proofs = Proofs::new(&facts.nodes);
        let enrolled = Enrolled::new(facts.key_rules, &facts.nodes);
        let nodes = Nodes::new(facts.nodes, facts.retired_keys, limits.nodes_max);
        let is_public = |node| nodes.find(node).is_ok_and(|node| node.fact.public);
        Self {
            capabilities: Capabilities::new(facts.capabilities, limits.capability_bytes_max, is_public),
            proofs,
            replays: Replays::default(),
            questions: Questions::default(),
            nodes,
            enrolled,
            collection: Collection::default(),
            presence: Presence::default(),
            feed: Feed::default(),
            trust: Trust::new(facts.trust),
            handshakes: Handshakes::new(facts.requests, facts.responses),
            networks: Networks::new(facts.networks, facts.members, facts.invites),
            beacons: Beacons::default(),
            registrations: AddressRates::new(registrations),
            creations: AddressRates::new(networks::CREATIONS),
            admin_token,
            wrong_admin_tokens: AddressRates::new(Rate::new(WRONG_ADMIN_TOKENS_PER_MINUTE, Duration::from_secs(60))),
            created_at: facts.created_at,
            changes: Vec::new(),
            effects: Effects::default(),
        }
    }

    /// The same under other rules than that everyone belongs. Whoever waits when the directory is opened to all is in, and
    /// whom the list names no more is out; both become durable with the next change.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        // Nobody has been heard yet, and nobody follows what happens.
        self.set_policy(Now::default(), policy);
        self
    }

    /// The signature check that [`Service::handle`] is going to ask for, as far as can be told now. Lets many requests
    /// be checked at once.
    #[must_use]
    pub fn check_for(&self, request: &Request) -> Option<SignatureCheck> {
        SignatureCheck::new(self.signing_key(&request.operation)?, request)
    }

    /// Decides `request`. `checked` is the result of a check that was asked for.
    pub fn handle(&mut self, now: Now, caller: &Caller<'_>, request: &Request, checked: Option<&Checked>) -> Decision {
        let signed = match (self.signing_key(&request.operation), request.signature) {
            (Some(key), Some(_)) => match checked {
                Some(checked) if checked.key == key => Some(checked.valid),
                _ => match SignatureCheck::new(key, request) {
                    Some(check) => return Decision::Check(check),
                    None => None,
                },
            },
            _ => None,
        };
        let planned = match (signed, &request.operation) {
            _ if self.has_guessed_too_often(now, caller, request) => Err(Refusal::AdminTokensLimited),
            (Some(false), _) => Err(Refusal::SignatureFailed),
            (valid, Operation::Query(query)) => self.plan_query(now, caller, request, query, valid.is_some()),
            (valid, _) => self.decide(now, caller, request, valid.is_some()).map(Planned::Answer),
        };
        if matches!(planned, Err(Refusal::AdminTokenWrong)) && !caller.exempt {
            self.wrong_admin_tokens.take(now.monotonic, caller.ip);
        }
        self.decision(&request.operation, planned)
    }

    /// Goes on with a query for which [`Service::handle`] had something looked for.
    pub fn handle_found(&mut self, now: Now, request: &Request, found: Found) -> Decision {
        let planned = match &request.operation {
            Operation::Query(query) => self.pick(now, query, found),
            _ => unreachable!("nothing else is searched for"),
        };
        self.decision(&request.operation, planned)
    }

    fn decision(&mut self, operation: &Operation, planned: Result<Planned, Refusal>) -> Decision {
        let answer = match planned {
            Ok(Planned::Search(search)) => return Decision::Search(Box::new(search)),
            Ok(Planned::Pick(found)) => return Decision::Pick(Box::new(found)),
            Ok(Planned::Answer(answer)) => answer,
            Err(refusal) => Answer::error(&refusal),
        };
        let effects = self.effects.take();
        Decision::Done(Outcome { answer, durable_first: !is_read(operation), effects })
    }

    /// A connection has ended, and what it proved with it.
    pub fn handle_close(&mut self, connection: ConnectionId) -> Vec<Effect> {
        self.presence.unplugged(self.proofs.on(connection));
        self.proofs.close(connection).into_iter().map(Effect::Publish).collect()
    }

    /// The changes decided since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The addresses proven to be those of `node`; `None` when there is no such node, or it does not belong.
    #[must_use]
    pub fn proven(&self, node: NodeId) -> Option<&[IpAddr]> {
        self.nodes.find(node).ok().map(|_| self.proofs.proven(node))
    }

    /// A node that belongs and has signed on `connection`.
    #[must_use]
    pub fn signer_on(&self, connection: ConnectionId) -> Option<NodeId> {
        self.proofs.on(connection).find(|node| self.nodes.find(*node).is_ok())
    }

    /// Where `node`, if it belongs, is or was last: its endpoint follows the address it signs from.
    #[must_use]
    pub fn places(&self, node: NodeId) -> Vec<IpAddr> {
        let Ok(enrolled) = self.nodes.find(node) else { return Vec::new() };
        let endpoint = enrolled.fact.endpoint.parse::<SocketAddr>().ok().map(|endpoint| endpoint.ip());
        self.proofs.proven(node).iter().copied().filter(|ip| Some(*ip) != endpoint).chain(endpoint).collect()
    }

    /// Where the latest signed registration of `node` says it is.
    #[must_use]
    pub fn last_endpoint(&self, node: NodeId) -> Option<SocketAddr> {
        let fact = &self.nodes.find(node).ok()?.fact;
        let endpoint: SocketAddr = fact.endpoint.parse().ok()?;
        (fact.signed_host == Some(endpoint.ip())).then_some(endpoint)
    }

    /// What `node` may send through the relay.
    #[must_use]
    pub fn quota(&self, node: NodeId) -> Quota {
        self.nodes.find(node).map_or(Quota::DEFAULT, |node| node.fact.quota)
    }

    /// Every node that belongs.
    pub fn registered(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().map(|node| node.fact.id)
    }

    /// Figures for the metrics; those of presence are as of the latest [`Service::sweep`].
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            nodes: self.nodes.count(Standing::Approved),
            nodes_pending: self.nodes.count(Standing::Pending),
            nodes_banned: self.nodes.count(Standing::Banned),
            nodes_online: self.presence.count(),
            networks: self.networks.count(),
            trust_pairs: self.trust.count(),
            signatures_replayed: self.replays.count,
            clock_jumps: self.collection.jumps().count,
        }
    }

    /// What was noticed of the clock since the start.
    #[must_use]
    pub const fn clock_jumps(&self) -> ClockJumps {
        self.collection.jumps()
    }

    /// Has the relay told about a node, once per decision.
    fn publish(&mut self, node: NodeId) {
        self.effects.publish(node);
    }

    fn decide(&mut self, now: Now, caller: &Caller<'_>, request: &Request, signed: bool) -> Result<Answer, Refusal> {
        let operation = &request.operation;
        if let Operation::Register(register) = operation {
            return self.register(now, caller, register, request.signature.filter(|_| signed));
        }
        if let Some(node) = operation.signer() {
            if let Operation::Deregister { node_id } = operation
                && self.nodes.enrolled(*node_id).is_err()
            {
                return Ok(Answer::Deregister);
            }
            self.authenticate(now, caller, request, node, signed)?;
        }
        match operation {
            Operation::Register(_) => unreachable!("decided above"),
            Operation::Heartbeat { node_id, report, bans_since } => {
                self.report(*node_id, *report);
                Ok(Answer::Heartbeat { time: now.unix_seconds, bans: self.bans_for(now, *node_id, *bans_since) })
            }
            // Keys do not expire here; the request is honoured by doing nothing.
            Operation::SetKeyExpiry { node_id } => Ok(Answer::SetKeyExpiry { node_id: *node_id }),
            Operation::Lookup { node_id } => self.lookup(caller, *node_id),
            Operation::RotateKey { node_id, new_public_key } => self.rotate_key(now, *node_id, *new_public_key),
            Operation::Deregister { node_id } => Ok(self.sign_off(now, *node_id)),
            Operation::Resolve { node_id, requester_id } => self.resolve(now, caller, *node_id, *requester_id),
            Operation::Punch { requester_id, node_a, node_b } => self.punch(caller, *requester_id, *node_a, *node_b),
            Operation::ResolveHostname { hostname } => self.resolve_hostname(hostname),
            Operation::SetHostname { node_id, hostname } => self.set_hostname(now, *node_id, hostname),
            Operation::SetTags { node_id, tags } => self.set_tags(now, *node_id, tags),
            Operation::SetVisibility { node_id, public } => self.set_visibility(now, *node_id, *public),
            Operation::SetTaskExec { node_id, enabled } => self.set_task_exec(*node_id, *enabled),
            Operation::ReportTrust { node_id, peer_id } => self.report_trust(*node_id, *peer_id),
            Operation::RevokeTrust { node_id, peer_id } => self.revoke_trust(*node_id, *peer_id),
            Operation::CheckTrust { node_id, peer_id } => Ok(self.check_trust(*node_id, *peer_id)),
            Operation::RequestHandshake { from_node_id, to_node_id, justification } => {
                self.request_handshake(now, *from_node_id, *to_node_id, justification)
            }
            Operation::PollHandshakes { node_id } => Ok(self.poll_handshakes(*node_id)),
            Operation::RespondHandshake { node_id, peer_id, accept } => {
                self.respond_handshake(now, *node_id, *peer_id, *accept)
            }
            Operation::ListNetworks => Ok(self.list_networks()),
            Operation::ListNodes { network_id, after } => self.list_nodes(now, caller, request, *network_id, *after),
            Operation::CreateNetwork { node_id, name, join_rule, token } => {
                self.create_network(now, caller, request, *node_id, (name, join_rule, token))
            }
            Operation::JoinNetwork { node_id, network_id, token } => {
                self.join_network(now, request, *node_id, *network_id, token)
            }
            Operation::LeaveNetwork { node_id, network_id } => self.leave_network(now, *node_id, *network_id),
            Operation::InviteToNetwork { network_id, inviter_id, target_node_id } => {
                self.invite_to_network(now, request, *network_id, *inviter_id, *target_node_id)
            }
            Operation::PollInvites { node_id } => Ok(self.poll_invites(*node_id)),
            Operation::RespondInvite { node_id, network_id, accept } => {
                self.respond_invite(now, *node_id, *network_id, *accept)
            }
            Operation::GetNetworkPolicy { network_id } => self.network_policy(*network_id),
            Operation::BeaconRegister { beacon_id, addr } => self.beacon_register(now, request, *beacon_id, addr),
            Operation::BeaconList => Ok(self.beacon_list(now, caller)),
            Operation::PublishCapability { node_id, record } => {
                let signature = request.signature.ok_or(Refusal::SignatureRequired(operation.name()))?;
                self.publish_capability(now, *node_id, record, signature)
            }
            Operation::Query(_) => unreachable!("planned before"),
            Operation::Changes(changes) => self.changes_since(request, changes),
        }
    }

    /// The key that a signature of `operation` has to fit.
    fn signing_key(&self, operation: &Operation) -> Option<PublicKey> {
        match operation {
            Operation::Register(register) => Some(register.public_key),
            operation => self.nodes.enrolled(operation.signer()?).ok().map(|node| node.fact.key),
        }
    }

    /// Lets a request pass that its node has signed, or an administrator where that is foreseen. A valid signature is
    /// a sign of life, but for requests that [`is_said_to_all`], and may prove the caller's address.
    fn authenticate(
        &mut self,
        now: Now,
        caller: &Caller<'_>,
        request: &Request,
        node: NodeId,
        signed: bool,
    ) -> Result<(), Refusal> {
        let waits = match self.nodes.enrolled(node)?.fact.standing() {
            Some(Standing::Banned) => return Err(Refusal::Banned(node)),
            standing => standing != Some(Standing::Approved) && !enrolment::is_open_to_waiting(&request.operation),
        };
        let Some(signature) = request.signature.filter(|_| signed) else {
            let administered = matches!(
                request.operation,
                Operation::JoinNetwork { .. } | Operation::LeaveNetwork { .. } | Operation::InviteToNetwork { .. }
            );
            let admitted = administered && self.is_admin(request)?;
            return if admitted && waits {
                Err(Refusal::ApprovalPending(node))
            } else if admitted {
                Ok(())
            } else {
                Err(Refusal::SignatureRequired(request.operation.name()))
            };
        };
        self.hear(now, caller, node, &request.operation, &signature)?;
        let first_use = self.prove(caller, node, &request.operation, signature);
        if !first_use && (sets_value(&request.operation) || proofs::is_act(&request.operation)) {
            return Err(Refusal::SignatureReplayed);
        }
        if !is_said_to_all(&request.operation) {
            self.saw(node, now);
            if first_use {
                self.note_day(node, now);
            }
        }
        if waits { Err(Refusal::ApprovalPending(node)) } else { Ok(()) }
    }

    /// Whether an admin token is presented from an address that has presented too many wrong ones: then a right one is
    /// not told from them either.
    fn has_guessed_too_often(&self, now: Now, caller: &Caller<'_>, request: &Request) -> bool {
        request.admin_token.is_some() && !caller.exempt && !self.wrong_admin_tokens.has_room(now.monotonic, caller.ip)
    }

    /// Whether the request comes from an administrator; a wrong token is refused rather than ignored.
    fn is_admin(&self, request: &Request) -> Result<bool, Refusal> {
        match (&request.admin_token, &self.admin_token) {
            (None, _) => Ok(false),
            (Some(_), None) => Err(Refusal::AdminTokenUnset),
            (Some(presented), Some(token)) if token.matches(presented) => Ok(true),
            (Some(_), Some(_)) => Err(Refusal::AdminTokenWrong),
        }
    }
}

/// Figures of a [`Service`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Registered nodes that belong.
    pub nodes: usize,
    /// Nodes that wait for the administrator.
    pub nodes_pending: usize,
    /// Nodes that are kept out.
    pub nodes_banned: usize,
    /// Nodes seen within [`PRESENCE_TIMEOUT`].
    pub nodes_online: usize,
    /// Networks besides the backbone.
    pub networks: usize,
    /// Directed trust relations.
    pub trust_pairs: usize,
    /// Signatures that came from another address while a connection from the first lived.
    pub signatures_replayed: u64,
    /// How often the clock was found set by more than an hour.
    pub clock_jumps: u64,
}

/// Groups pairs by their first half.
fn grouped<K: Eq + std::hash::Hash, V>(pairs: impl IntoIterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    pairs.into_iter().fold(HashMap::new(), |mut groups, (key, value)| {
        groups.entry(key).or_default().push(value);
        groups
    })
}
