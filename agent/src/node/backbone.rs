//! What the directory is asked for peers, and what its answers mean.

use std::net::{IpAddr, SocketAddr};

use wire::NodeId;
use wire::registry::answer::{Answer, Beacon, EXTENSION_CLAIM, EXTENSION_TRACE, Resolved};
use wire::registry::request::Operation;

use super::bucket::Rate;
use super::control::Question;
use super::questions::Purpose;
use super::{Event, Node, Trouble, Unanswered};
use crate::Time;
use crate::path::Kind;

/// Lookups of nodes that only strangers speak of. Directories bear a hundred requests a second of one host (section 6.2);
/// whoever is not looked up now sends its key again.
const STRANGERS_LOOKED_UP: Rate = Rate { per_second: 80, burst: 160 };

impl Node {
    pub(super) fn ask_identity(&mut self, now: Time, node: NodeId) {
        // A forged key exchange must not make a flood of questions; whom the application wants is asked for at once.
        let is_stranger = self.peers.get(node).is_none();
        if is_stranger && !self.lookups.take(now, STRANGERS_LOOKED_UP) {
            if let Some(tunnels) = &mut self.tunnels {
                tunnels.handle_identity(now, node, None);
            }
            return;
        }
        self.follow_question(now, node, Question::Lookup);
        self.questions.ask(&self.identity, Purpose::Identity(node), Operation::Lookup { node_id: node });
    }

    pub(super) fn ask_endpoints(&mut self, now: Time, node: NodeId) {
        let Some(own) = self.id() else { return };
        self.follow_question(now, node, Question::Resolve);
        let operation = Operation::Resolve { node_id: node, requester_id: own };
        self.questions.ask(&self.identity, Purpose::Endpoints(node), operation);
    }

    pub(super) fn ask_admission(&mut self, now: Time, node: NodeId) {
        let Some(own) = self.id() else { return };
        self.follow_question(now, node, Question::CheckTrust);
        let operation = Operation::CheckTrust { node_id: own, peer_id: node };
        self.questions.ask(&self.identity, Purpose::Admission(node), operation);
    }

    /// Gives an answer to the engine that waits for it.
    pub(super) fn take_answer(&mut self, now: Time, purpose: Purpose, answer: Result<Answer, Unanswered>) {
        let about = match purpose {
            Purpose::Identity(node) => Some((node, Question::Lookup)),
            Purpose::Endpoints(node) => Some((node, Question::Resolve)),
            Purpose::Admission(node) => Some((node, Question::CheckTrust)),
            Purpose::Registration | Purpose::Publication | Purpose::Relays | Purpose::Trust(_) => None,
        };
        if let Some((node, question)) = about {
            let refusal = match &answer {
                Ok(Answer::Error { error }) => Some(error.clone()),
                Ok(_) => None,
                Err(unanswered) => Some(unanswered.to_string()),
            };
            self.follow_answer(now, node, question, refusal);
        }
        match purpose {
            Purpose::Registration => self.registration.handle_answer(now, answer.as_ref()),
            Purpose::Publication => self.publication.handle_answer(now, answer.as_ref()),
            Purpose::Identity(node) => self.take_identity(now, node, answer),
            Purpose::Endpoints(node) => {
                // A refusal leaves the relay, and what punching brings.
                if let Ok(Answer::Resolve(resolved)) = answer {
                    self.take_endpoints(now, node, &resolved);
                }
            }
            Purpose::Admission(node) => {
                let trusted = match answer {
                    Ok(Answer::CheckTrust { trusted }) => Some(trusted),
                    _ => None,
                };
                for packet in self.admission.handle_word(now, node, trusted) {
                    self.admit_packet(now, packet);
                }
            }
            Purpose::Relays => {
                if let Ok(Answer::BeaconList { beacons }) = answer {
                    let traces = |beacon: &&Beacon| beacon.extensions.iter().any(|name| name == EXTENSION_TRACE);
                    self.trace_relay_names = beacons.iter().filter(traces).map(|beacon| beacon.addr.clone()).collect();
                    let claims = |beacon: &Beacon| {
                        let takes = beacon.extensions.iter().any(|name| name == EXTENSION_CLAIM);
                        beacon.relay_key.filter(|_| takes).map(|key| (beacon.addr.clone(), key.0))
                    };
                    self.claim_relay_names = beacons.iter().filter_map(claims).collect();
                    let addresses: Vec<_> = beacons.into_iter().map(|beacon| beacon.addr).collect();
                    if !addresses.is_empty() {
                        self.tell(Event::RelaysListed(addresses));
                    }
                }
            }
            Purpose::Trust(operation) => self.trust.handle_answer(now, operation, answer.as_ref().ok()),
        }
    }

    fn take_identity(&mut self, now: Time, node: NodeId, answer: Result<Answer, Unanswered>) {
        let (key, trouble) = match answer {
            Ok(Answer::Lookup(found)) => match self.trust.pinned_key(node) {
                Some(pinned) if pinned != found.public_key.0 => (None, Some(Trouble::ForeignKey)),
                _ => (Some(found.public_key.0), None),
            },
            Ok(Answer::Error { error }) if error.contains("not found") => (None, Some(Trouble::Unknown(error))),
            Ok(Answer::Error { error }) => (None, Some(Trouble::DirectoryAway(Unanswered::Refused(error)))),
            Ok(_) => (None, None),
            Err(unanswered) => (None, Some(Trouble::DirectoryAway(unanswered))),
        };
        // A tunnel that works needs no word of the directory's.
        let works = self.tunnels.as_ref().is_some_and(|tunnels| tunnels.has_session(node));
        match trouble.filter(|_| !works) {
            Some(trouble @ Trouble::DirectoryAway(_)) => {
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.trouble = Some(trouble);
                }
            }
            Some(trouble) => {
                if let Some(tunnels) = &mut self.tunnels {
                    tunnels.forget(node);
                }
                self.give_up(now, node, trouble);
            }
            None => {}
        }
        if let Some(key) = key {
            self.trust.handle_key(node, key);
            if let Some(peer) = self.peers.get_mut(node) {
                peer.trouble.take_if(|trouble| *trouble == Trouble::Banned);
            }
        }
        if let Some(tunnels) = &mut self.tunnels {
            tunnels.handle_identity(now, node, key);
        }
    }

    fn take_endpoints(&mut self, now: Time, node: NodeId, resolved: &Resolved) {
        // An address may have been the peer's before it was ours.
        let is_own = |endpoint: &SocketAddr| self.local_endpoints().contains(endpoint);
        let public: Option<SocketAddr> = resolved.real_addr.parse().ok();
        let own_public = self.relays.mapped().map(|mapped| mapped.ip());
        let is_neighbour = public.is_some_and(|public| Some(public.ip()) == own_public);
        let local: Vec<_> = self.local_endpoints().iter().map(|endpoint| endpoint.ip()).collect();
        let shared = |endpoint: &SocketAddr| is_neighbour || local.iter().any(|ip| is_same_link(*ip, endpoint.ip()));
        let lan: Vec<SocketAddr> = resolved.lan_addrs.iter().filter_map(|text| text.parse().ok()).collect();
        let lan: Vec<_> = lan.into_iter().filter(shared).filter(|endpoint| !is_own(endpoint)).collect();
        let public = public.filter(|endpoint| !is_own(endpoint));
        let direct_allowed = !resolved.relay_only && !self.config.relay_only;
        self.with_path(now, node, |path| {
            path.set_direct_allowed(now, direct_allowed);
            path.handle_candidates(now, Kind::Lan, lan);
            path.handle_candidates(now, Kind::Directory, public);
        });
    }
}

/// Whether two hosts are likely on one link: the same /24, the same /64.
fn is_same_link(this: IpAddr, that: IpAddr) -> bool {
    match (this, that) {
        (IpAddr::V4(this), IpAddr::V4(that)) => this.octets()[..3] == that.octets()[..3],
        (IpAddr::V6(this), IpAddr::V6(that)) => this.octets()[..8] == that.octets()[..8],
        _ => false,
    }
}
