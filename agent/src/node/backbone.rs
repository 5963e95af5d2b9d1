//! What the directory is asked for peers, and what its answers mean.

use std::net::{IpAddr, SocketAddr};

use wire::NodeId;
use wire::registry::answer::{Answer, Resolved};
use wire::registry::request::Operation;

use super::questions::Purpose;
use super::{Event, Node, Trouble, Unanswered};
use crate::Time;
use crate::path::Kind;

impl Node {
    pub(super) fn ask_identity(&mut self, node: NodeId) {
        self.questions.ask(&self.identity, Purpose::Identity(node), Operation::Lookup { node_id: node });
    }

    pub(super) fn ask_endpoints(&mut self, node: NodeId) {
        let Some(own) = self.id() else { return };
        let operation = Operation::Resolve { node_id: node, requester_id: own };
        self.questions.ask(&self.identity, Purpose::Endpoints(node), operation);
    }

    pub(super) fn ask_admission(&mut self, node: NodeId) {
        let Some(own) = self.id() else { return };
        let operation = Operation::CheckTrust { node_id: own, peer_id: node };
        self.questions.ask(&self.identity, Purpose::Admission(node), operation);
    }

    /// Gives an answer to the engine that waits for it.
    pub(super) fn take_answer(&mut self, now: Time, purpose: Purpose, answer: Result<Answer, Unanswered>) {
        match purpose {
            Purpose::Registration => self.registration.handle_answer(now, answer.as_ref()),
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
            Ok(Answer::Lookup(found)) => (Some(found.public_key.0), None),
            Ok(Answer::Error { error }) => (None, Some(Trouble::Unknown(error))),
            Ok(_) => (None, None),
            Err(unanswered) => (None, Some(Trouble::DirectoryAway(unanswered))),
        };
        match trouble {
            Some(Trouble::Unknown(error)) => {
                if let Some(tunnels) = &mut self.tunnels {
                    tunnels.forget(node);
                }
                self.give_up(now, node, Trouble::Unknown(error));
            }
            Some(trouble) => {
                self.admit_peer(now, node).trouble = Some(trouble);
            }
            None => {}
        }
        if let Some(key) = key {
            self.trust.handle_key(node, key);
        }
        if let Some(tunnels) = &mut self.tunnels {
            tunnels.handle_identity(now, node, key);
        }
    }

    fn take_endpoints(&mut self, now: Time, node: NodeId, resolved: &Resolved) {
        // An address may have been the peer's before it was ours.
        let is_own = |endpoint: &SocketAddr| self.local_endpoints.contains(endpoint);
        let public: Option<SocketAddr> = resolved.real_addr.parse().ok();
        let own_public = self.relays.mapped().map(|mapped| mapped.ip());
        let is_neighbour = public.is_some_and(|public| Some(public.ip()) == own_public);
        let local: Vec<_> = self.local_endpoints.iter().map(|endpoint| endpoint.ip()).collect();
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
