//! The path to one peer: through the relay from the first moment, directly as soon as a direct path has proven itself.
//!
//! ```text
//!                     candidates: LAN, directory, punched, observed
//!                          │ punch, sealed probe to each
//!            ┌─────────────▼──────────────┐  a probe is answered   ┌────────────────────────┐
//!   start ──►│ Relayed: campaigns, rests  ├───────────────────────►│ Direct: is it alive?   │
//!            └─────────────▲──────────────┘                        └───────────┬────────────┘
//!                          └── silence despite probes, ICMP, the network changed ┘
//! ```
//!
//! A probe is a sealed ping with a token; its answer may come back on any path and proves the way out, since nobody who
//! is not there can know the token. That is all that moves traffic: an endpoint somebody names, or from which a key exchange comes,
//! only becomes a candidate. Real daemons answer such pings too (section 8.5), and go direct after three direct packets.
//!
//! A plain value. Its owner sends what [`Path::poll_action`] says, tells what is sent and opened, and keeps time.

mod campaign;
mod candidate;
mod candidates;
mod history;
mod liveness;
mod token;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::Time;

pub use candidate::{Candidate, Kind, State};
pub use history::{History, What};
pub use token::Token;

use campaign::{Campaign, Due};
use candidates::{Candidates, canonical};
use liveness::{Liveness, Verdict};
use token::Tokens;

/// Probes that may be answered; older ones are forgotten.
const PROBES_MAX: usize = 64;
/// What is answered later was of no use on the way, or somebody has kept it back.
const PROBE_LIFETIME: Duration = Duration::from_secs(3);
/// A direct path on which nothing was sent for so long is probed, lest a NAT forgets it; unless told otherwise.
const KEEPALIVE: Duration = Duration::from_secs(25);
/// Without traffic for so long nobody looks for a better path.
const WANTED: Duration = Duration::from_mins(1);
/// While the direct path in use gives no cause for doubt, other endpoints from which the peer is heard get so many probes
/// a minute. Between some NATs every probe comes from an endpoint of its own, and begs for another.
const CALM_PROBES_PER_MINUTE: u32 = 4;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the relay to let both sides send probes to each other.
    Punch,
    /// Send a sealed ping with this token.
    Probe {
        /// Where to.
        to: SocketAddr,
        /// What the ping carries; the answer's is to be given to [`Path::handle_answer`].
        token: Token,
    },
    /// Traffic takes another path from now on: this endpoint, or the relay.
    Changed(Option<SocketAddr>),
}

/// An unanswered probe.
#[derive(Clone, Copy, Debug)]
struct Probe {
    token: Token,
    to: SocketAddr,
    sent_at: Time,
}

/// The path to one peer.
#[derive(Clone, Debug)]
pub struct Path {
    direct_allowed: bool,
    has_session: bool,
    candidates: Candidates,
    selected: Option<SocketAddr>,
    selected_at: Time,
    liveness: Liveness,
    campaign: Campaign,
    /// The direct path that died last, and until when nothing but a change of the network brings it back.
    dead: Option<(SocketAddr, Time)>,
    wanted_at: Option<Time>,
    probes: VecDeque<Probe>,
    tokens: Tokens,
    /// Since when calm probes are counted, and how many there were.
    calm_probes: (Time, u32),
    keepalive: Duration,
    sent_at: Time,
    history: History,
    actions: VecDeque<Action>,
}

impl Path {
    /// A path that knows the relay alone. `seed` is a secret of this node's.
    #[must_use]
    pub fn new(now: Time, direct_allowed: bool, seed: &[u8; 32]) -> Self {
        Self {
            direct_allowed,
            has_session: false,
            candidates: Candidates::default(),
            selected: None,
            selected_at: now,
            liveness: Liveness::default(),
            campaign: Campaign::default(),
            dead: None,
            wanted_at: None,
            probes: VecDeque::new(),
            tokens: Tokens::new(now, seed),
            calm_probes: (now, 0),
            keepalive: KEEPALIVE,
            sent_at: now,
            history: History::new(now),
            actions: VecDeque::new(),
        }
    }

    /// The direct endpoint in use; none through the relay.
    #[must_use]
    pub const fn direct(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// Since when the path is what it is.
    #[must_use]
    pub const fn since(&self) -> Time {
        self.selected_at
    }

    /// Whether a direct path may be used at all.
    #[must_use]
    pub const fn direct_allowed(&self) -> bool {
        self.direct_allowed
    }

    /// Round-trip time of the direct path in use.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.candidates.get(self.selected?)?.rtt()
    }

    /// All endpoints that were named, seen or tried.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        self.candidates.as_slice()
    }

    /// Whether the peer may be at `endpoint`.
    #[must_use]
    pub fn knows(&self, endpoint: SocketAddr) -> bool {
        self.candidates.get(canonical(endpoint)).is_some()
    }

    /// Where to send when there is no relay either: where the peer was heard last, of where a probe has found it.
    #[must_use]
    pub fn last_resort(&self) -> Option<SocketAddr> {
        let proven = self.candidates().iter().filter(|candidate| candidate.is_proven());
        proven.max_by_key(|candidate| candidate.heard_at()).map(|candidate| candidate.endpoint)
    }

    /// Whether a direct path is being searched for, neither found nor given up for a while.
    #[must_use]
    pub const fn is_searching(&self) -> bool {
        self.campaign.is_running()
    }

    /// What has happened.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Mappings of the NAT on this side live longer than `keepalive`.
    pub const fn set_keepalive(&mut self, keepalive: Duration) {
        self.keepalive = keepalive;
    }

    /// Whether both sides want a direct path. Where one does not, it is the relay, and endpoints are forgotten.
    pub fn set_direct_allowed(&mut self, now: Time, allowed: bool) {
        if self.direct_allowed == allowed {
            return;
        }
        self.direct_allowed = allowed;
        if allowed {
            self.history.push(now, What::DirectAllowed);
            if self.is_wanted(now) {
                self.begin(now);
            }
        } else {
            self.history.push(now, What::RelayOnly);
            self.forget_deaths();
            self.candidates.clear();
            self.probes.clear();
            self.select(now, None);
        }
    }

    /// Somebody wants to reach the peer: looks for a direct path unless that is under way, or has just been of no use.
    pub fn handle_wish(&mut self, now: Time) {
        self.wanted_at = Some(now);
        if self.campaign.is_idle() {
            self.begin(now);
        }
    }

    /// The user wants a direct path: no rest is awaited.
    pub fn handle_preference(&mut self, now: Time) {
        self.wanted_at = Some(now);
        self.forget_deaths();
        self.begin(now);
    }

    /// Keys are there, so that probes can be sealed. A peer may bring keys unasked: that alone begins nothing.
    pub fn handle_session(&mut self, now: Time) {
        if !self.has_session {
            self.history.push(now, What::Session);
        }
        self.has_session = true;
        if self.campaign.is_running() {
            self.probe_all(now, |candidate| candidate.may_be_echoed(now));
        } else if self.campaign.is_idle() && self.is_wanted(now) {
            self.begin(now);
        }
    }

    /// Endpoints at which the peer may be.
    pub fn handle_candidates(&mut self, now: Time, kind: Kind, endpoints: impl IntoIterator<Item = SocketAddr>) {
        if !self.direct_allowed {
            return;
        }
        for endpoint in endpoints {
            let endpoint = canonical(endpoint);
            let is_new = self.add(now, endpoint, kind);
            if is_new && self.has_session && self.selected.is_none() && self.is_wanted(now) {
                self.probe(now, endpoint);
                if self.campaign.is_resting() {
                    self.campaign.go_on(now);
                }
            }
        }
    }

    /// A frame of the peer's has opened. `from` is the endpoint, or none through the relay.
    pub fn handle_opened(&mut self, now: Time, from: Option<SocketAddr>) {
        let Some(from) = from.map(canonical).filter(|_| self.direct_allowed) else { return };
        let is_selected = self.selected == Some(from);
        if is_selected {
            self.liveness.handle_heard();
        }
        self.add(now, from, Kind::Observed);
        // Also while another direct path is in use: the peer may have moved.
        let is_calm = self.selected.is_some() && !self.liveness.is_doubted();
        let is_dead = self.is_dead(now, from);
        let Some(candidate) = self.candidates.get_mut(from) else { return };
        candidate.handle_heard(now);
        let is_settled = (is_calm && candidate.is_valid()) || is_dead;
        if is_settled || !self.has_session || !candidate.may_be_echoed(now) {
            return;
        }
        if is_selected || !is_calm || self.takes_calm_probe(now) {
            self.probe(now, from);
            if let Some(candidate) = self.candidates.get_mut(from) {
                candidate.handle_echoed();
            }
        }
    }

    /// A probe has been answered, on whatever path. The endpoint and its round-trip time, if that is news.
    pub fn handle_answer(&mut self, now: Time, token: Token) -> Option<(SocketAddr, Duration)> {
        let index = self.probes.iter().position(|probe| probe.token == token)?;
        let probe = self.probes.remove(index)?;
        let rtt = now.since(probe.sent_at);
        if rtt > PROBE_LIFETIME {
            return None;
        }
        let candidate = self.candidates.get_mut(probe.to)?;
        let is_news = !candidate.is_valid();
        candidate.handle_answer(now, rtt);
        if self.selected == Some(probe.to) {
            self.liveness.handle_heard();
        } else if self.is_better(now, probe.to) {
            self.select(now, Some(probe.to));
        }
        is_news.then_some((probe.to, rtt))
    }

    /// A datagram has been sent to the peer, on the path in use. That may have been a keepalive: what the application
    /// sends is a wish as well.
    pub fn handle_sent(&mut self, now: Time) {
        self.sent_at = now;
        if self.selected.is_some() {
            let rtt = self.rtt();
            self.liveness.handle_sent(now, rtt);
        }
    }

    /// The network says that datagrams to `endpoint` do not arrive.
    pub fn handle_unreachable(&mut self, now: Time, endpoint: SocketAddr) {
        let endpoint = canonical(endpoint);
        if let Some(candidate) = self.candidates.get_mut(endpoint) {
            candidate.handle_refused();
        }
        if self.selected == Some(endpoint) && self.liveness.handle_unreachable(now) {
            self.die(now, What::Unreachable(endpoint));
        }
    }

    /// This host's own addresses have changed: no direct path can be trusted to go on.
    pub fn handle_network_change(&mut self, now: Time) {
        self.history.push(now, What::NetworkChanged);
        self.candidates.iter_mut().for_each(Candidate::handle_doubt);
        self.probes.clear();
        self.select(now, None);
        self.forget_deaths();
        if self.is_wanted(now) {
            self.begin(now);
        }
    }

    /// When [`Path::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let keepalive = self.selected.map(|_| self.sent_at + self.keepalive);
        [self.campaign.deadline(), self.liveness.deadline(), keepalive].into_iter().flatten().min()
    }

    /// Does what has fallen due.
    pub fn handle_timeout(&mut self, now: Time) {
        if let Some(endpoint) = self.selected {
            let rtt = self.rtt();
            match self.liveness.handle_timeout(now, rtt) {
                Some(Verdict::Probe) => self.seek(now, endpoint),
                Some(Verdict::Dead) => self.die(now, What::Silent(endpoint)),
                None if self.sent_at + self.keepalive <= now => {
                    self.sent_at = now;
                    self.probe(now, endpoint);
                    self.liveness.handle_sent(now, rtt);
                }
                None => {}
            }
        }
        self.attend_campaign(now);
    }

    /// What is to be done next. To be asked until there is nothing, after every other call.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn begin(&mut self, now: Time) {
        if self.direct_allowed && self.selected.is_none() {
            self.campaign.begin(now);
            self.attend_campaign(now);
        }
    }

    fn attend_campaign(&mut self, now: Time) {
        match self.campaign.handle_timeout(now) {
            Some(Due::Step { punches, rest }) => {
                if punches {
                    self.history.push(now, What::Punch);
                    self.actions.push_back(Action::Punch);
                }
                self.probe_all(now, |_| true);
                if let Some(rest) = rest {
                    self.history.push(now, What::Rest(rest));
                }
            }
            Some(Due::Rested) if self.is_wanted(now) => self.begin(now),
            Some(Due::Rested) | None => {}
        }
    }

    /// The path in use owes a sign of life: another is taken that gave one meanwhile, or both are asked.
    fn seek(&mut self, now: Time, selected: SocketAddr) {
        let doubted_at = self.liveness.probed_at();
        let answered = |candidate: &&Candidate| candidate.is_valid() && candidate.answered_at() >= doubted_at;
        let others = self.candidates().iter().filter(|candidate| candidate.endpoint != selected);
        let heir = others.filter(answered).max_by_key(|candidate| candidate.heard_at());
        if let Some(heir) = heir.map(|heir| heir.endpoint).filter(|heir| self.is_better(now, *heir)) {
            return self.select(now, Some(heir));
        }
        self.probe(now, selected);
        let heard_at = self.candidates.get(selected).and_then(Candidate::heard_at);
        let is_later = |candidate: &Candidate| candidate.heard_at() > heard_at;
        let is_sure = self.liveness.is_overdue(now, self.rtt());
        // The first doubt may be groundless, as where no frame ever comes from the endpoint that is sent to.
        if self.candidates().iter().any(is_later) && (is_sure || self.takes_calm_probe(now)) {
            self.probe_all(now, is_later);
        }
    }

    fn probe_all(&mut self, now: Time, chosen: impl Fn(&Candidate) -> bool) {
        let chosen = self.candidates().iter().filter(|candidate| chosen(candidate));
        let endpoints: Vec<_> = chosen.map(|candidate| candidate.endpoint).collect();
        for endpoint in endpoints {
            if !self.is_dead(now, endpoint) {
                self.probe(now, endpoint);
            }
        }
    }

    fn probe(&mut self, now: Time, to: SocketAddr) {
        if !self.has_session {
            return;
        }
        let token = self.tokens.draw();
        if self.probes.len() == PROBES_MAX {
            self.probes.pop_front();
        }
        self.probes.push_back(Probe { token, to, sent_at: now });
        if let Some(candidate) = self.candidates.get_mut(to) {
            candidate.handle_probed(now);
        }
        self.actions.push_back(Action::Probe { to, token });
    }

    /// Whether another probe may go to an endpoint from which the peer was heard beside the one in use.
    fn takes_calm_probe(&mut self, now: Time) -> bool {
        let (since, count) = &mut self.calm_probes;
        if now.since(*since) >= Duration::from_mins(1) {
            (*since, *count) = (now, 0);
        }
        let takes = *count < CALM_PROBES_PER_MINUTE;
        *count += u32::from(takes);
        takes
    }

    /// Whether `endpoint` is better than the path in use: any is better than the relay, and the peer knows best where it
    /// is now; but two that work do not take turns.
    fn is_better(&self, now: Time, endpoint: SocketAddr) -> bool {
        let Some(selected) = self.selected.and_then(|selected| self.candidates.get(selected)) else { return true };
        let Some(candidate) = self.candidates.get(endpoint) else { return false };
        let much_nearer = match (candidate.rtt(), selected.rtt()) {
            (Some(this), Some(that)) => this < that.mul_f32(0.7),
            _ => false,
        };
        let moved = candidate.heard_at() > selected.heard_at() && self.liveness.is_overdue(now, selected.rtt());
        much_nearer || moved
    }

    fn select(&mut self, now: Time, endpoint: Option<SocketAddr>) {
        if self.selected == endpoint {
            return;
        }
        self.selected = endpoint;
        self.selected_at = now;
        self.liveness = Liveness::default();
        if let Some(endpoint) = endpoint {
            let rtt = self.rtt().unwrap_or_default();
            self.history.push(now, What::Direct(endpoint, rtt));
            self.campaign.handle_success();
        }
        self.actions.push_back(Action::Changed(endpoint));
    }

    fn die(&mut self, now: Time, why: What) {
        self.history.push(now, why);
        let until = self.campaign.handle_death(now, now.since(self.selected_at));
        if let Some(endpoint) = self.selected {
            // Late answers do not bring it back either.
            self.probes.retain(|probe| probe.to != endpoint);
            self.dead = Some((endpoint, until));
            if let Some(candidate) = self.candidates.get_mut(endpoint) {
                candidate.handle_doubt();
            }
        }
        self.select(now, None);
    }

    fn is_dead(&self, now: Time, endpoint: SocketAddr) -> bool {
        self.dead.is_some_and(|(dead, until)| dead == endpoint && now < until)
    }

    fn forget_deaths(&mut self) {
        self.campaign.reset();
        self.dead = None;
    }

    /// Whether it is new.
    fn add(&mut self, now: Time, endpoint: SocketAddr, kind: Kind) -> bool {
        let is_new = self.candidates.add(endpoint, kind, self.selected);
        if is_new {
            self.history.push(now, What::Candidate(endpoint, kind));
        }
        is_new
    }

    fn is_wanted(&self, now: Time) -> bool {
        self.wanted_at.is_some_and(|at| now.since(at) < WANTED)
    }
}
