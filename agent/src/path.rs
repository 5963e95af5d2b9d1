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
//! A probe is a sealed ping with a number; its answer may come back on any path and proves the way out, since nobody
//! else can open it. That is all that moves traffic: an endpoint somebody names, or from which a key exchange comes,
//! only becomes a candidate. Real daemons answer such pings too (section 8.5), and go direct after three direct packets.
//!
//! A plain value. Its owner sends what [`Path::poll_action`] says, tells what is sent and opened, and keeps time.

mod candidate;
mod history;
mod liveness;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::Time;

pub use candidate::{Candidate, Kind, State};
pub use history::{History, What};

use liveness::{Liveness, Verdict};

/// Candidates per peer; the oldest that never worked yields.
const CANDIDATES_MAX: usize = 16;
/// Probes that may be answered; older ones are forgotten.
const PROBES_MAX: usize = 64;
/// When probes go out in a campaign, from its beginning.
const CAMPAIGN: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(120),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// Steps of a campaign with which a punch request goes. Public brokers take one a second and host.
const PUNCHES: [usize; 3] = [0, 5, 6];
/// Between campaigns without success; doubled each time.
const REST_MIN: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_mins(4);
/// After a direct path has died the cause may be gone soon, as when a router starts anew.
const REST_AFTER_DEATH: Duration = Duration::from_secs(1);
/// A direct path on which nothing was sent for so long is probed, lest a NAT forgets it; unless told otherwise.
const KEEPALIVE: Duration = Duration::from_secs(25);
/// Without traffic for so long nobody looks for a better path.
const WANTED: Duration = Duration::from_mins(1);
/// A candidate seen in between is probed at once, but not more often than this.
const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the relay to let both sides send probes to each other.
    Punch,
    /// Send a sealed ping with this number.
    Probe {
        /// Where to.
        to: SocketAddr,
        /// To be given to [`Path::handle_answer`].
        token: u32,
    },
    /// Traffic takes another path from now on: this endpoint, or the relay.
    Changed(Option<SocketAddr>),
}

#[derive(Clone, Copy, Debug)]
enum Campaign {
    /// Not begun, or nobody cares.
    Idle,
    Running {
        began: Time,
        step: usize,
    },
    Resting {
        until: Time,
    },
}

/// An unanswered probe.
#[derive(Clone, Copy, Debug)]
struct Probe {
    token: u32,
    to: SocketAddr,
    sent_at: Time,
}

/// The path to one peer.
#[derive(Clone, Debug)]
pub struct Path {
    direct_allowed: bool,
    has_session: bool,
    candidates: Vec<Candidate>,
    selected: Option<SocketAddr>,
    selected_at: Time,
    liveness: Liveness,
    campaign: Campaign,
    rest: Duration,
    wanted_at: Option<Time>,
    probes: VecDeque<Probe>,
    next_token: u32,
    keepalive: Duration,
    sent_at: Time,
    relay_heard_at: Option<Time>,
    history: History,
    actions: VecDeque<Action>,
}

impl Path {
    /// A path that knows the relay alone.
    #[must_use]
    pub fn new(now: Time, direct_allowed: bool) -> Self {
        Self {
            direct_allowed,
            has_session: false,
            candidates: Vec::new(),
            selected: None,
            selected_at: now,
            liveness: Liveness::default(),
            campaign: Campaign::Idle,
            rest: REST_MIN,
            wanted_at: None,
            probes: VecDeque::new(),
            next_token: 1,
            keepalive: KEEPALIVE,
            sent_at: now,
            relay_heard_at: None,
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
        self.candidate(self.selected?)?.rtt()
    }

    /// All endpoints that were named, seen or tried.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Whether the peer may be at `endpoint`.
    #[must_use]
    pub fn knows(&self, endpoint: SocketAddr) -> bool {
        self.candidate(endpoint).is_some()
    }

    /// Where to send when there is no relay either: where the peer was heard last.
    #[must_use]
    pub fn last_resort(&self) -> Option<SocketAddr> {
        let heard = self.candidates.iter().filter(|candidate| candidate.heard_at().is_some());
        heard.max_by_key(|candidate| candidate.heard_at()).map(|candidate| candidate.endpoint)
    }

    /// What has happened.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// When a frame last opened that had come through the relay.
    #[must_use]
    pub const fn relay_heard_at(&self) -> Option<Time> {
        self.relay_heard_at
    }

    /// Mappings of the NAT on this side live longer than `keepalive`.
    pub const fn set_keepalive(&mut self, keepalive: Duration) {
        self.keepalive = keepalive;
    }

    /// The peer hides its endpoint: the relay it is.
    pub fn forbid_direct(&mut self, now: Time) {
        if std::mem::take(&mut self.direct_allowed) {
            self.history.push(now, What::RelayOnly);
            self.campaign = Campaign::Idle;
            self.select(now, None);
        }
    }

    /// Somebody wants to reach the peer: looks for a direct path unless that is under way.
    pub fn handle_wish(&mut self, now: Time) {
        self.wanted_at = Some(now);
        if matches!(self.campaign, Campaign::Idle) {
            self.begin(now);
        }
    }

    /// The user wants a direct path: no rest is awaited.
    pub fn handle_preference(&mut self, now: Time) {
        self.wanted_at = Some(now);
        self.rest = REST_MIN;
        if self.selected.is_none() {
            self.campaign = Campaign::Idle;
            self.begin(now);
        }
    }

    /// Keys are there, so that probes can be sealed.
    pub fn handle_session(&mut self, now: Time) {
        if !self.has_session {
            self.history.push(now, What::Session);
        }
        self.has_session = true;
        self.wanted_at = Some(now);
        if self.selected.is_none() {
            self.campaign = Campaign::Idle;
            self.begin(now);
        }
    }

    /// Endpoints at which the peer may be.
    pub fn handle_candidates(&mut self, now: Time, kind: Kind, endpoints: impl IntoIterator<Item = SocketAddr>) {
        if !self.direct_allowed {
            return;
        }
        for endpoint in endpoints {
            if self.add(now, endpoint, kind) && self.has_session && self.selected.is_none() {
                self.probe(now, endpoint);
                if matches!(self.campaign, Campaign::Resting { .. }) && self.is_wanted(now) {
                    self.campaign = Campaign::Running { began: now, step: 1 };
                }
            }
        }
    }

    /// A frame of the peer's has opened. `from` is the endpoint, or none through the relay.
    pub fn handle_opened(&mut self, now: Time, from: Option<SocketAddr>) {
        let Some(from) = from else {
            self.relay_heard_at = Some(now);
            return;
        };
        if !self.direct_allowed {
            return;
        }
        if self.selected == Some(from) {
            self.liveness.handle_heard();
        }
        let is_new = self.add(now, from, Kind::Observed);
        let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.endpoint == from) else { return };
        candidate.handle_heard(now);
        let waits = candidate.probed_at().is_some_and(|at| now.since(at) < PROBE_INTERVAL_MIN);
        // Also while another direct path is in use: the peer may have moved.
        if is_new || (!candidate.is_valid() && !waits) {
            self.probe(now, from);
        }
    }

    /// A probe has been answered, on whatever path.
    pub fn handle_answer(&mut self, now: Time, token: u32) {
        let Some(index) = self.probes.iter().position(|probe| probe.token == token) else { return };
        let Some(probe) = self.probes.remove(index) else { return };
        let rtt = now.since(probe.sent_at);
        let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.endpoint == probe.to) else {
            return;
        };
        candidate.handle_answer(now, rtt);
        if self.selected == Some(probe.to) {
            return self.liveness.handle_heard();
        }
        if self.is_better(probe.to) {
            self.select(now, Some(probe.to));
        }
    }

    /// A datagram has been sent to the peer, on the path in use.
    pub fn handle_sent(&mut self, now: Time) {
        self.wanted_at = Some(now);
        self.sent_at = now;
        if self.selected.is_some() {
            let rtt = self.rtt();
            self.liveness.handle_sent(now, rtt);
        }
    }

    /// The network says that datagrams to `endpoint` do not arrive.
    pub fn handle_unreachable(&mut self, now: Time, endpoint: SocketAddr) {
        if let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.endpoint == endpoint) {
            candidate.handle_refused();
        }
        if self.selected == Some(endpoint) && self.liveness.handle_unreachable(now) {
            self.die(now, What::Unreachable(endpoint));
        }
    }

    /// This host's own addresses have changed: no direct path can be trusted to go on.
    pub fn handle_network_change(&mut self, now: Time) {
        self.history.push(now, What::NetworkChanged);
        for candidate in &mut self.candidates {
            candidate.handle_doubt();
        }
        self.probes.clear();
        self.select(now, None);
        self.rest = REST_MIN;
        if self.is_wanted(now) {
            self.campaign = Campaign::Idle;
            self.begin(now);
        } else {
            self.campaign = Campaign::Idle;
        }
    }

    /// When [`Path::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let campaign = match self.campaign {
            Campaign::Running { began, step } => CAMPAIGN.get(step).map(|after| began + *after),
            Campaign::Resting { until } => Some(until),
            Campaign::Idle => None,
        };
        let keepalive = self.selected.map(|_| self.sent_at + self.keepalive);
        [campaign, self.liveness.deadline(), keepalive].into_iter().flatten().min()
    }

    /// Does what has fallen due.
    pub fn handle_timeout(&mut self, now: Time) {
        if let Some(endpoint) = self.selected {
            let rtt = self.rtt();
            match self.liveness.handle_timeout(now, rtt) {
                Some(Verdict::Probe) => self.probe(now, endpoint),
                Some(Verdict::Dead) => self.die(now, What::Silent(endpoint)),
                None if self.sent_at + self.keepalive <= now => {
                    self.sent_at = now;
                    self.probe(now, endpoint);
                    self.liveness.handle_sent(now, rtt);
                }
                None => {}
            }
        }
        match self.campaign {
            Campaign::Running { began, step } if CAMPAIGN.get(step).is_some_and(|after| began + *after <= now) => {
                self.step(now, began, step);
            }
            Campaign::Resting { until } if until <= now => {
                self.campaign = Campaign::Idle;
                if self.is_wanted(now) {
                    self.begin(now);
                }
            }
            _ => {}
        }
    }

    /// What is to be done next. To be asked until there is nothing, after every other call.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn begin(&mut self, now: Time) {
        if self.direct_allowed && self.selected.is_none() {
            self.step(now, now, 0);
        }
    }

    fn step(&mut self, now: Time, began: Time, step: usize) {
        if PUNCHES.contains(&step) {
            self.history.push(now, What::Punch);
            self.actions.push_back(Action::Punch);
        }
        if self.has_session {
            let endpoints: Vec<_> = self.candidates.iter().map(|candidate| candidate.endpoint).collect();
            for endpoint in endpoints {
                self.probe(now, endpoint);
            }
        }
        self.campaign = Campaign::Running { began, step: step + 1 };
        if step + 1 == CAMPAIGN.len() {
            self.history.push(now, What::Rest(self.rest));
            self.campaign = Campaign::Resting { until: now + self.rest };
            self.rest = (self.rest * 2).min(REST_MAX);
        }
    }

    fn probe(&mut self, now: Time, to: SocketAddr) {
        if !self.has_session {
            return;
        }
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        if self.probes.len() == PROBES_MAX {
            self.probes.pop_front();
        }
        self.probes.push_back(Probe { token, to, sent_at: now });
        if let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.endpoint == to) {
            candidate.handle_probed(now);
        }
        self.actions.push_back(Action::Probe { to, token });
    }

    /// Whether `endpoint` is better than the path in use: any is better than the relay, and the peer knows best where it
    /// is now; but two that work do not take turns.
    fn is_better(&self, endpoint: SocketAddr) -> bool {
        let Some(selected) = self.selected.and_then(|selected| self.candidate(selected)) else { return true };
        let Some(candidate) = self.candidate(endpoint) else { return false };
        let much_nearer = match (candidate.rtt(), selected.rtt()) {
            (Some(this), Some(that)) => this < that.mul_f32(0.7),
            _ => false,
        };
        let moved = candidate.heard_at() > selected.heard_at() && self.liveness.is_doubted();
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
            self.campaign = Campaign::Idle;
            self.rest = REST_MIN;
        }
        self.actions.push_back(Action::Changed(endpoint));
    }

    fn die(&mut self, now: Time, why: What) {
        self.history.push(now, why);
        if let Some(candidate) = self.candidates.iter_mut().find(|candidate| Some(candidate.endpoint) == self.selected)
        {
            candidate.handle_doubt();
        }
        self.select(now, None);
        self.campaign = Campaign::Resting { until: now + REST_AFTER_DEATH };
    }

    /// Whether it is new.
    fn add(&mut self, now: Time, endpoint: SocketAddr, kind: Kind) -> bool {
        if self.candidates.iter().any(|candidate| candidate.endpoint == endpoint) || !is_sendable(endpoint) {
            return false;
        }
        if self.candidates.len() == CANDIDATES_MAX {
            let yields = |candidate: &Candidate| Some(candidate.endpoint) != self.selected;
            let Some(index) = self.candidates.iter().position(yields) else { return false };
            self.candidates.remove(index);
        }
        self.history.push(now, What::Candidate(endpoint, kind));
        self.candidates.push(Candidate::new(endpoint, kind));
        true
    }

    fn candidate(&self, endpoint: SocketAddr) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.endpoint == endpoint)
    }

    fn is_wanted(&self, now: Time) -> bool {
        self.wanted_at.is_some_and(|at| now.since(at) < WANTED)
    }
}

/// Whether a host can be there at all.
fn is_sendable(endpoint: SocketAddr) -> bool {
    let ip = endpoint.ip();
    let is_broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
    endpoint.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}
