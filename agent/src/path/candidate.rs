//! An endpoint at which a peer may be, and what is known of it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::Time;

/// A candidate that is heard is probed at once, but not more often than this; with each such probe that stays without
/// answer half as often. Frames may come from where none arrive.
const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(100);
const DOUBLINGS_MAX: u32 = 8;

/// How an endpoint became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The peer's address in a network that we share.
    Lan,
    /// The directory's word.
    Directory,
    /// The relay's word, when it brokered hole punching.
    Punched,
    /// A frame of the peer's has come from there.
    Observed,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Lan => "lan",
            Self::Directory => "directory",
            Self::Punched => "punched",
            Self::Observed => "observed",
        })
    }
}

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No probe has been sent yet.
    Untried,
    /// No probe has been answered yet.
    Probing,
    /// A probe was answered.
    Valid,
    /// It worked once.
    Doubted,
    /// The network says that nobody is there.
    Refused,
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Untried => "untried",
            Self::Probing => "no answer yet",
            Self::Valid => "works",
            Self::Doubted => "worked before",
            Self::Refused => "unreachable",
        })
    }
}

/// An endpoint at which the peer may be.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Where.
    pub endpoint: SocketAddr,
    /// How we know of it.
    pub kind: Kind,
    state: State,
    probes: u32,
    probed_at: Option<Time>,
    /// Probes since the last answer that were sent because it was heard.
    echoes: u32,
    heard_at: Option<Time>,
    answered_at: Option<Time>,
    rtt: Option<Duration>,
}

impl Candidate {
    pub(super) const fn new(endpoint: SocketAddr, kind: Kind) -> Self {
        Self {
            endpoint,
            kind,
            state: State::Untried,
            probes: 0,
            probed_at: None,
            echoes: 0,
            heard_at: None,
            answered_at: None,
            rtt: None,
        }
    }

    /// What has become of it.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Probes sent there.
    #[must_use]
    pub const fn probes(&self) -> u32 {
        self.probes
    }

    /// Round-trip time of the last answered probe.
    #[must_use]
    pub const fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(super) const fn heard_at(&self) -> Option<Time> {
        self.heard_at
    }

    pub(super) const fn answered_at(&self) -> Option<Time> {
        self.answered_at
    }

    /// Whether it has ever worked.
    pub(super) const fn has_answered(&self) -> bool {
        self.answered_at.is_some()
    }

    /// Whether it works, or did before.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self.state, State::Valid | State::Doubted)
    }

    pub(super) fn is_valid(&self) -> bool {
        self.state == State::Valid
    }

    /// Whether enough time has passed since the last probe for one that is sent because the peer was heard there.
    pub(super) fn may_be_echoed(&self, now: Time) -> bool {
        let interval = PROBE_INTERVAL_MIN * (1 << self.echoes.min(DOUBLINGS_MAX));
        self.probed_at.is_none_or(|at| now.since(at) >= interval)
    }

    pub(super) fn handle_probed(&mut self, now: Time) {
        self.probes = self.probes.saturating_add(1);
        self.probed_at = Some(now);
        if self.state == State::Untried {
            self.state = State::Probing;
        }
    }

    pub(super) const fn handle_echoed(&mut self) {
        self.echoes = self.echoes.saturating_add(1);
    }

    pub(super) const fn handle_heard(&mut self, now: Time) {
        self.heard_at = Some(now);
    }

    pub(super) const fn handle_answer(&mut self, now: Time, rtt: Duration) {
        self.state = State::Valid;
        self.echoes = 0;
        self.heard_at = Some(now);
        self.answered_at = Some(now);
        self.rtt = Some(rtt);
    }

    pub(super) const fn handle_refused(&mut self) {
        self.state = State::Refused;
    }

    /// What was found out about it may not hold any more.
    pub(super) fn handle_doubt(&mut self) {
        self.echoes = 0;
        if self.state == State::Valid {
            self.state = State::Doubted;
        }
    }
}
