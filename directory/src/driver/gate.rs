//! Who is served at once, who waits, and who is refused before anything is done for him: even his signatures cost time.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wire::NodeId;
use wire::registry::json::RequestError;
use wire::registry::{Answer, Request};

use super::{Driver, Peer};
use crate::config::Limits;
use crate::limits::overall::{HANDSHAKE_REQUESTS, Overall, Verdict, WAIT_MAX};
use crate::limits::{AddressRates, Rate};

pub(super) const ADDRESS_LIMITED: &str = "rate limited: too many requests from this address, try again in a second";
pub(super) const BUSY: &str = "rate limited: too many ask the directory at once, try again in a few seconds";

/// The rates of requests.
#[derive(Debug)]
pub(super) struct Gate(Mutex<Rates>);

#[derive(Debug)]
struct Rates {
    by_address: AddressRates,
    overall: Overall,
}

impl Gate {
    pub(super) fn new(limits: &Limits) -> Self {
        let by_address = AddressRates::new(Rate::new(limits.requests_per_ip_per_second, Duration::from_secs(1)));
        let overall = Overall::new(limits.requests_of_strangers_per_second, limits.requests_of_known_per_second);
        Self(Mutex::new(Rates { by_address, overall }))
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be done for a batch.
pub(super) enum Admitted {
    /// Each is served, or refused for a reason.
    Each {
        refusals: Vec<Option<&'static str>>,
        /// A node was heard where they come from.
        is_known: bool,
    },
    /// Nothing: one answer, and the end of the connection.
    Nothing(Answer),
}

impl Driver {
    /// Whether a node that belongs was heard at `ip`.
    pub fn knows(&self, ip: IpAddr) -> bool {
        self.gate.rates().overall.knows(self.clock.now().monotonic, ip)
    }

    /// `node`, which belongs, has signed at `ip`.
    pub(super) fn know(&self, node: NodeId, ip: IpAddr) {
        self.gate.rates().overall.know(self.clock.now().monotonic, node, ip);
    }

    /// `node` does not belong any more, and makes no address known.
    pub(super) fn forget(&self, node: NodeId) {
        self.gate.rates().overall.forget(node);
    }

    /// Whether there is time for a TLS handshake; returns when it is its turn.
    pub async fn may_shake_hands(&self, peer: &Peer) -> bool {
        if peer.exempt {
            return true;
        }
        let verdict = self.gate.rates().overall.admit(self.clock.now().monotonic, peer.ip, HANDSHAKE_REQUESTS);
        let (turn, comes) = match verdict {
            Verdict::Serve(turn) => (turn, true),
            Verdict::Refuse => (WAIT_MAX, false),
        };
        tokio::time::sleep(turn).await;
        comes
    }

    /// Takes a batch from the rates, and returns when it is its turn.
    pub(super) async fn admit(&self, peer: &Peer, requests: &[Result<Request, RequestError>]) -> Admitted {
        if peer.exempt {
            return Admitted::Each { refusals: vec![None; requests.len()], is_known: true };
        }
        let now = self.clock.now().monotonic;
        let mut turn = Duration::ZERO;
        let (refusals, is_known) = {
            let mut rates = self.gate.rates();
            let mut refusal = || {
                if !rates.by_address.has_room(now, peer.ip) {
                    return Some(ADDRESS_LIMITED);
                }
                let Verdict::Serve(later) = rates.overall.admit(now, peer.ip, 1) else { return Some(BUSY) };
                rates.by_address.take(now, peer.ip);
                turn = turn.max(later);
                None
            };
            let refusals: Vec<_> = requests.iter().map(|_| refusal()).collect();
            (refusals, rates.overall.knows(now, peer.ip))
        };
        if !is_known && refusals.iter().all(Option::is_some) {
            // Held for a while, so that each connection of a flood costs no more than one batch of refusals in that time,
            // whatever it is refused for.
            tokio::time::sleep(WAIT_MAX).await;
            if refusals.contains(&Some(BUSY)) {
                return Admitted::Nothing(Answer::error(&BUSY));
            }
        }
        if !turn.is_zero() {
            tokio::time::sleep(turn).await;
        }
        Admitted::Each { refusals, is_known }
    }
}
