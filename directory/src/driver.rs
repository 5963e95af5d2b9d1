//! Carries out what the service decides: has signatures checked on other threads, waits until changes are durable,
//! tells the relay, and only then lets answers go.
//!
//! [`administration`] is what the administrator does and sees; [`gate`] who is served before anything else is done.
//!
//! One batch is what a connection has sent in one go. Its requests are decided in order; their signatures are checked
//! side by side before, and their changes share commits with those of other connections.

mod administration;
mod gate;
mod held;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use wire::NodeId;
use wire::registry::json::RequestError;
use wire::registry::{Answer, Base64, Operation, Request};

use crate::clock::Clock;
use crate::config::Limits;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::relay_link::{Known, RelayLink};
use crate::search::Searchers;
use crate::service::overview::Overview;
use crate::service::{
    Caller, Checked, ClockJumps, ConnectionId, Decision, Effect, Now, Outcome, Replays, Service, SignatureCheck,
    is_read,
};
use crate::watchers::Watchers;

pub use self::administration::{AdminError, Member};
use self::gate::{Admitted, Gate};
pub use self::held::{Held, may_wait};

/// Signatures that one task checks: some milliseconds of work.
const CHECKS_PER_TASK: usize = 64;
/// Turns at the service for one request. It asks for one check, two searches and six further down, and picks from what
/// each finds in up to five turns, unless a key is replaced meanwhile.
const STEPS_PER_REQUEST_MAX: usize = 64;

/// The disk is full, or too slow.
const CANNOT_STORE: &str = "cannot store the change at the moment, try again later";

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
    gate: Gate,
    limits: Limits,
    clock: Clock,
    metrics: Arc<Metrics>,
    watchers: Watchers,
    /// Of which replays the log has told, and of which jumps of the clock.
    replays_told: AtomicU64,
    jumps_told: AtomicU64,
}

/// What comes of a batch.
#[derive(Debug)]
pub struct Served {
    /// The answers to its first requests, in order.
    pub answers: Vec<Answer>,
    /// The question behind these, if it has to wait for its answer.
    pub held: Option<Held>,
    /// Too much is asked by others: there is one answer, and the connection has to end.
    pub busy: bool,
    /// A node that belongs has signed on this connection, or at its address.
    pub known: bool,
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
        let mut service = service;
        service.begin_changes(clock.unix_ms());
        let this = Self {
            service: Mutex::new(service),
            journal,
            searchers,
            relay: Relay { link: relay, telling: Mutex::new(()) },
            gate: Gate::new(&limits),
            limits,
            clock,
            metrics,
            watchers: Watchers::default(),
            replays_told: AtomicU64::new(0),
            jumps_told: AtomicU64::new(0),
        };
        let stored: Vec<NodeId> = this.service().registered().collect();
        for node in &stored {
            // They come back together, and are no strangers.
            let at = this.service().places(*node);
            at.into_iter().for_each(|ip| this.know(*node, ip));
        }
        let stored: Vec<_> = stored.into_iter().map(Effect::Publish).collect();
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
        let (figures, overview) = {
            let service = self.service();
            (service.figures(), service.overview(self.clock.now()))
        };
        self.metrics.text(&figures, &overview)
    }

    /// The network at a glance.
    pub fn overview(&self) -> Overview {
        self.service().overview(self.clock.now())
    }

    /// The key of `node`, for whoever has to know it by its signature.
    pub fn public_key(&self, node: NodeId) -> Option<[u8; 32]> {
        self.service().public_key(node)
    }

    /// Whether `requester` would be told where `target` is.
    pub fn lets_resolve(&self, requester: NodeId, target: NodeId) -> bool {
        self.service().lets_resolve(requester, target)
    }

    /// Answers `requests` in order. Stops early after an answer that may be large, and before one that has to wait; the
    /// answers say how far it got.
    pub async fn serve(self: &Arc<Self>, peer: &Peer, requests: &[Result<Request, RequestError>]) -> Served {
        // Nothing is done for requests that are not answered this time.
        let ends = |request: &Result<Request, _>| request.as_ref().is_ok_and(|request| ends_batch(&request.operation));
        let requests = requests.iter().position(ends).map_or(requests, |last| &requests[..=last]);
        let (refusals, is_known) = match self.admit(peer, requests).await {
            Admitted::Each { refusals, is_known } => (refusals, is_known),
            Admitted::Nothing(answer) => {
                self.metrics.error();
                return Served { answers: vec![answer], held: None, busy: true, known: false };
            }
        };
        let began = self.clock.now().monotonic;
        let advertised = self.relay.link.advertised(peer.local_ip);
        let extensions = self.relay.link.extensions();
        let caller = Caller {
            connection: peer.connection,
            ip: peer.ip,
            exempt: peer.exempt,
            advertised: &advertised,
            extensions: &extensions,
            relay_key: self.relay.link.relay_key().map(Base64),
        };
        let checked = self.check_all(requests, &refusals).await;
        let mut answers = Vec::with_capacity(requests.len());
        let mut unstored = Vec::new();
        let mut effects = Vec::new();
        let mut position = 0;
        let mut held = None;
        for ((request, checked), refusal) in requests.iter().zip(checked).zip(refusals) {
            let (outcome, appended) = match refusal {
                Some(reason) => (self.turned_away(request, &reason), 0),
                None if self.may_store(request, began).await => self.decide(&caller, request, checked).await,
                None => (refused(&CANNOT_STORE), 0),
            };
            if outcome.durable_first {
                position = appended;
                unstored.push(answers.len());
            }
            effects.extend(outcome.effects);
            held = request.as_ref().ok().and_then(|request| self.hold(began, request, &outcome.answer));
            if held.is_some() {
                break;
            }
            answers.push(outcome.answer);
        }
        if tokio::time::timeout(self.limits.commit_timeout, self.journal.durable(position)).await.is_err() {
            for answer in unstored {
                answers[answer] = Answer::error(&CANNOT_STORE);
            }
        }
        self.tell_relay(effects).await;
        let errors = answers.iter().filter(|answer| matches!(answer, Answer::Error { .. }));
        errors.for_each(|_| self.metrics.error());
        let took = self.clock.now().monotonic.saturating_sub(began);
        let answered = requests.iter().take(answers.len()).flatten();
        answered.for_each(|request| self.metrics.answered(&request.operation, took));
        let has_signed = !peer.exempt && self.note_place(peer);
        Served { answers, held, busy: false, known: has_signed || is_known }
    }

    /// Makes the address of `peer` known where a node that belongs has signed on the connection; whether one has.
    fn note_place(&self, peer: &Peer) -> bool {
        let service = self.service();
        let node = service.signer_on(peer.connection);
        // Under the service's lock, so that none is known that was sent away meanwhile.
        node.into_iter().for_each(|node| self.know(node, peer.ip));
        node.is_some()
    }

    /// Waits until what `request` may change can be stored; false when it cannot in time. Questions do not wait. Those
    /// that are signed may let a node's address follow, so they too end where far too much waits.
    async fn may_store(&self, request: &Result<Request, RequestError>, began: Duration) -> bool {
        let Ok(Request { operation, .. }) = request else { return true };
        if is_read(operation) {
            return operation.signer().is_none() || !self.journal.is_overfull();
        }
        let due = began + self.limits.commit_timeout;
        let left = due.saturating_sub(self.clock.now().monotonic);
        tokio::time::timeout(left, self.journal.room()).await.is_ok()
    }

    /// What has to be done once a second: the silent become absent, what can be forgotten is, and those who follow
    /// changes hear of what was put off.
    pub async fn tick(self: &Arc<Self>) {
        let now = self.clock.now();
        let mut more = true;
        while more {
            let effects;
            (more, effects) = {
                // Many may fall silent at once; others get the service in between.
                let mut service = self.service();
                let more = service.sweep(now);
                self.journal.append(service.take_changes());
                let effects = service.take_effects();
                self.tell_watchers(service, now);
                (more, effects)
            };
            self.tell_relay(effects).await;
        }
        self.watchers.tick(now.monotonic);
        self.tell_of_replays();
        self.tell_of_jumps();
    }

    fn tell_of_jumps(&self) {
        let ClockJumps { count, latest_seconds } = self.service().clock_jumps();
        if count > self.jumps_told.swap(count, Ordering::Relaxed) {
            tracing::warn!(
                seconds = latest_seconds,
                "the clock jumped by more than an hour, as it was set or this host slept: absence of nodes counts anew from \
                 now on, so none is forgotten early"
            );
        }
    }

    /// One line for all of a second: somebody may replay what he has overheard (section 12, weakness 9).
    fn tell_of_replays(&self) {
        let Replays { count, latest } = self.service().replays();
        let told = self.replays_told.swap(count, Ordering::Relaxed);
        if let (true, Some((node, address))) = (count > told, latest) {
            let more = count - told;
            tracing::warn!(%node, %address, count = more, "a signature came from another address than before: replayed?");
        }
    }

    /// Lets go of the service, and wakes those whom its latest decisions concern.
    fn tell_watchers(&self, mut service: MutexGuard<'_, Service>, now: Now) {
        let (news, cursor) = (service.take_news(), service.cursor());
        drop(service);
        self.watchers.notice(&news, cursor, now.monotonic);
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
                    self.tell_watchers(service, now);
                    return (outcome, appended);
                }
                decision
            };
            match decision {
                Decision::Check(check) => checked = spawn_blocking(move || check.run()).await.ok(),
                Decision::Search(search) => match self.searchers.find(*search, caller.ip, caller.exempt).await {
                    Ok(result) => found = Some(result),
                    Err(error) => return (refused(&error), 0),
                },
                Decision::Pick(rest) => found = Some(*rest),
                Decision::Done(_) => unreachable!("returned above"),
            }
        }
        (refused(&"signature cannot be checked while the key changes, try again"), 0)
    }

    /// Checks the signatures of a batch side by side, as far as they can be told before any of it is decided.
    async fn check_all(
        &self,
        requests: &[Result<Request, RequestError>],
        refusals: &[Option<&'static str>],
    ) -> Vec<Option<Checked>> {
        let mut checks: Vec<(usize, SignatureCheck)> = {
            let service = self.service();
            let check = |request: &Result<Request, _>| service.check_for(request.as_ref().ok()?);
            let served = requests.iter().enumerate().filter(|(index, _)| refusals[*index].is_none());
            served.filter_map(|(index, request)| Some((index, check(request)?))).collect()
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
                        let known = service.proven(node).map(|proven| Known {
                            proven: proven.to_vec(),
                            last: service.last_endpoint(node),
                            quota: service.quota(node),
                        });
                        if known.is_none() {
                            self.forget(node);
                        }
                        known
                    };
                    match known {
                        Some(known) => self.relay.link.publish(node, &known),
                        None => self.relay.link.withdraw(node),
                    }
                }
                Effect::Notify(node) => self.relay.link.notify(node),
            }
        }
    }

    /// The answer to what nothing is done for.
    fn turned_away(&self, request: &Result<Request, RequestError>, reason: &impl ToString) -> Outcome {
        match request {
            Ok(request) => {
                self.metrics.request(&request.operation);
                refused(reason)
            }
            Err(error) => {
                self.metrics.request_invalid();
                refused(error)
            }
        }
    }

    fn service(&self) -> MutexGuard<'_, Service> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(reason: &impl ToString) -> Outcome {
    Outcome { answer: Answer::error(reason), durable_first: false, effects: Vec::new() }
}

/// Whether those behind are left to the next batch. Lists grow with the directory; two of them are not held in memory at
/// once for one connection.
const fn ends_batch(operation: &Operation) -> bool {
    matches!(operation, Operation::ListNetworks | Operation::ListNodes { .. } | Operation::Query(_))
        || may_wait(operation).is_some()
}
