//! Carries out what the service decides: has signatures checked on other threads, waits until changes are durable,
//! tells the relay, and only then lets answers go.
//!
//! One batch is what a connection has sent in one go. Its requests are decided in order; their signatures are checked
//! side by side before, and their changes share commits with those of other connections.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::spawn_blocking;
use wire::registry::json::RequestError;
use wire::registry::{Answer, Operation, Request};

use crate::clock::Clock;
use crate::config::Limits;
use crate::journal::Journal;
use crate::limits::{AddressRates, Rate};
use crate::metrics::Metrics;
use crate::relay_link::RelayLink;
use crate::search::Searchers;
use crate::service::{Caller, Checked, ConnectionId, Decision, Effect, Outcome, Service, SignatureCheck};

/// Signatures that one task checks: some milliseconds of work.
const CHECKS_PER_TASK: usize = 64;
/// Checks and searches for one request. The service asks for one check and two searches, unless a key is replaced
/// meanwhile.
const STEPS_PER_REQUEST_MAX: usize = 6;

/// A client's end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its address.
    pub ip: IpAddr,
    /// The address it has reached us at.
    pub local_ip: IpAddr,
    /// No limit applies to it.
    pub exempt: bool,
}

/// The service and all it needs to be of use.
#[derive(Debug)]
pub struct Driver {
    service: Mutex<Service>,
    journal: Arc<Journal>,
    searchers: Searchers,
    relay: Relay,
    rates: Mutex<AddressRates>,
    limits: Limits,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// The relay, told one thing at a time: what is told is read under the same lock, so the last word is the newest.
struct Relay {
    link: Arc<dyn RelayLink>,
    telling: Mutex<()>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

impl Driver {
    /// Drives `service`, and tells `relay` of every stored node before returning.
    #[must_use]
    pub fn new(
        service: Service,
        journal: Arc<Journal>,
        searchers: Searchers,
        relay: Arc<dyn RelayLink>,
        limits: Limits,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let rate = Rate::new(limits.requests_per_ip_per_second, std::time::Duration::from_secs(1));
        let this = Self {
            service: Mutex::new(service),
            journal,
            searchers,
            relay: Relay { link: relay, telling: Mutex::new(()) },
            rates: Mutex::new(AddressRates::new(rate)),
            limits,
            clock,
            metrics,
        };
        let stored: Vec<_> = this.service().registered().map(Effect::Publish).collect();
        this.carry_out(&stored);
        this
    }

    /// The clock all of the directory reads.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The threads that search.
    pub(crate) const fn searchers(&self) -> &Searchers {
        &self.searchers
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The counters as text.
    pub fn metrics_text(&self) -> String {
        let figures = self.service().figures(self.clock.now());
        self.metrics.text(&figures)
    }

    /// Answers `requests` in order. Stops early after an answer that may be large; the answers say how far it got.
    pub async fn serve(self: &Arc<Self>, peer: &Peer, requests: &[Result<Request, RequestError>]) -> Vec<Answer> {
        self.journal.room().await;
        let advertised = self.relay.link.advertised(peer.local_ip);
        let caller = Caller { connection: peer.connection, ip: peer.ip, exempt: peer.exempt, advertised: &advertised };
        let checked = self.check_all(requests).await;
        let mut answers = Vec::with_capacity(requests.len());
        let mut unstored = Vec::new();
        let mut effects = Vec::new();
        let mut position = 0;
        for (request, checked) in requests.iter().zip(checked) {
            let (outcome, appended) = self.decide(&caller, request, checked).await;
            if outcome.durable_first {
                position = appended;
                unstored.push(answers.len());
            }
            effects.extend(outcome.effects);
            answers.push(outcome.answer);
            if request.as_ref().is_ok_and(|request| may_be_large(&request.operation)) {
                break;
            }
        }
        if tokio::time::timeout(self.limits.commit_timeout, self.journal.durable(position)).await.is_err() {
            for answer in unstored {
                answers[answer] = Answer::error(&"cannot store the change at the moment, try again later");
            }
        }
        self.tell_relay(effects).await;
        let errors = answers.iter().filter(|answer| matches!(answer, Answer::Error { .. }));
        errors.for_each(|_| self.metrics.error());
        answers
    }

    /// A connection has ended.
    pub async fn closed(self: &Arc<Self>, connection: ConnectionId) {
        let effects = self.service().handle_close(connection);
        self.tell_relay(effects).await;
    }

    async fn decide(
        &self,
        caller: &Caller<'_>,
        request: &Result<Request, RequestError>,
        mut checked: Option<Checked>,
    ) -> (Outcome, u64) {
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                self.metrics.request_invalid();
                return (refused(&error), 0);
            }
        };
        self.metrics.request(&request.operation);
        let now = self.clock.now();
        if !caller.exempt && !self.rates().take(now.monotonic, caller.ip) {
            return (refused(&"rate limited: too many requests from this address, try again in a second"), 0);
        }
        let mut found = None;
        for _ in 0..STEPS_PER_REQUEST_MAX {
            let decision = {
                let mut service = self.service();
                let decision = match found.take() {
                    Some(found) => service.handle_found(now, request, found),
                    None => service.handle(now, caller, request, checked.as_ref()),
                };
                if let Decision::Done(outcome) = decision {
                    // Under the service's lock, so that changes are stored in the order they were decided in.
                    let appended = self.journal.append(service.take_changes());
                    return (outcome, appended);
                }
                decision
            };
            match decision {
                Decision::Check(check) => checked = spawn_blocking(move || check.run()).await.ok(),
                Decision::Search(search) => match self.searchers.find(*search).await {
                    Ok(result) => found = Some(result),
                    Err(error) => return (refused(&error), 0),
                },
                Decision::Done(_) => unreachable!("returned above"),
            }
        }
        (refused(&"signature cannot be checked while the key changes, try again"), 0)
    }

    /// Checks the signatures of a batch side by side, as far as they can be told before any of it is decided.
    async fn check_all(&self, requests: &[Result<Request, RequestError>]) -> Vec<Option<Checked>> {
        let mut checks: Vec<(usize, SignatureCheck)> = {
            let service = self.service();
            let check = |request: &Result<Request, _>| service.check_for(request.as_ref().ok()?);
            requests.iter().enumerate().filter_map(|(index, request)| Some((index, check(request)?))).collect()
        };
        let mut checked = vec![None; requests.len()];
        let mut tasks = Vec::new();
        while !checks.is_empty() {
            let chunk = checks.split_off(checks.len().saturating_sub(CHECKS_PER_TASK));
            tasks.push(spawn_blocking(move || {
                chunk.into_iter().map(|(index, check)| (index, check.run())).collect::<Vec<_>>()
            }));
        }
        for task in tasks {
            for (index, result) in task.await.unwrap_or_default() {
                checked[index] = Some(result);
            }
        }
        checked
    }

    async fn tell_relay(self: &Arc<Self>, effects: Vec<Effect>) {
        if effects.is_empty() {
            return;
        }
        let this = Arc::clone(self);
        // The relay may take its time until every shard has seen it.
        if let Err(error) = spawn_blocking(move || this.carry_out(&effects)).await {
            tracing::error!(%error, "telling the relay failed");
        }
    }

    fn carry_out(&self, effects: &[Effect]) {
        let _telling = self.relay.telling.lock().unwrap_or_else(PoisonError::into_inner);
        for effect in effects {
            match *effect {
                Effect::Publish(node) => {
                    let known = {
                        let service = self.service();
                        service.proven(node).map(|proven| (proven.to_vec(), service.last_endpoint(node)))
                    };
                    match known {
                        Some((proven, last)) => self.relay.link.publish(node, &proven, last),
                        None => self.relay.link.withdraw(node),
                    }
                }
                Effect::Notify(node) => self.relay.link.notify(node),
            }
        }
    }

    fn service(&self) -> MutexGuard<'_, Service> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rates(&self) -> MutexGuard<'_, AddressRates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(reason: &impl ToString) -> Outcome {
    Outcome { answer: Answer::error(reason), durable_first: false, effects: Vec::new() }
}

/// Lists grow with the directory; two of them are not held in memory at once for one connection.
const fn may_be_large(operation: &Operation) -> bool {
    matches!(operation, Operation::ListNetworks | Operation::ListNodes { .. } | Operation::Query(_))
}
