//! The endpoints at which a peer may be: which are kept when there are too many.

use std::net::{IpAddr, SocketAddr};

use super::candidate::{Candidate, Kind};

/// Candidates per peer.
const CANDIDATES_MAX: usize = 16;
/// Candidates that a relay has named and that have not answered. A relay may name whom it likes.
const PUNCHED_MAX: usize = 4;

/// The candidates of one peer, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Candidates(Vec<Candidate>);

impl Candidates {
    /// All of them.
    pub fn as_slice(&self) -> &[Candidate] {
        &self.0
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Candidate> {
        self.0.iter_mut()
    }

    /// The candidate with this endpoint.
    pub fn get(&self, endpoint: SocketAddr) -> Option<&Candidate> {
        self.0.iter().find(|candidate| candidate.endpoint == endpoint)
    }

    /// The candidate with this endpoint.
    pub fn get_mut(&mut self, endpoint: SocketAddr) -> Option<&mut Candidate> {
        self.0.iter_mut().find(|candidate| candidate.endpoint == endpoint)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether it is new, and there was room for it beside the one in use.
    pub fn add(&mut self, endpoint: SocketAddr, kind: Kind, selected: Option<SocketAddr>) -> bool {
        if self.get(endpoint).is_some() || !is_sendable(endpoint) {
            return false;
        }
        let is_claim = |candidate: &Candidate| candidate.kind == Kind::Punched && !candidate.has_answered();
        if kind == Kind::Punched && self.0.iter().filter(|candidate| is_claim(candidate)).count() == PUNCHED_MAX {
            let Some(oldest) = self.0.iter().position(is_claim) else { return false };
            self.0.remove(oldest);
        }
        if self.0.len() == CANDIDATES_MAX {
            let Some(index) = self.least(selected) else { return false };
            self.0.remove(index);
        }
        self.0.push(Candidate::new(endpoint, kind));
        true
    }

    /// The one that yields: the oldest of those that never answered, what the directory says after all others. Where all
    /// have answered it is the one heard longest ago, lest a peer that has been in many places is never found in another;
    /// what comes instead yields first, so that made-up endpoints drive out no more than that one.
    fn least(&self, selected: Option<SocketAddr>) -> Option<usize> {
        let is_named = |candidate: &Candidate| matches!(candidate.kind, Kind::Lan | Kind::Directory);
        let others = self.0.iter().enumerate().filter(|(_, candidate)| Some(candidate.endpoint) != selected);
        let rank = |candidate: &Candidate| match candidate.has_answered() {
            false => (false, is_named(candidate), None),
            true => (true, false, candidate.heard_at()),
        };
        others.min_by_key(|(_, candidate)| rank(candidate)).map(|(index, _)| index)
    }
}

/// The same endpoint in the one form in which it is compared: IPv4 in IPv6 is IPv4.
pub fn canonical(endpoint: SocketAddr) -> SocketAddr {
    match endpoint.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), endpoint.port()),
        IpAddr::V6(_) => endpoint,
    }
}

/// Whether a host can be there at all.
fn is_sendable(endpoint: SocketAddr) -> bool {
    let ip = endpoint.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    endpoint.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}
