//! What has happened on the way to a peer, for whoever asks why.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::candidate::Kind;
use crate::Time;

/// Entries kept; the oldest go first.
const ENTRIES_MAX: usize = 32;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The peer was heard of.
    Begin,
    /// Keys were exchanged.
    Session,
    /// An endpoint became known.
    Candidate(SocketAddr, Kind),
    /// The relay was asked to broker hole punching.
    Punch,
    /// A direct path proved itself, in this round-trip time.
    Direct(SocketAddr, Duration),
    /// Nothing came back on the direct path.
    Silent(SocketAddr),
    /// The network reported that the direct path is closed.
    Unreachable(SocketAddr),
    /// This host's addresses changed.
    NetworkChanged,
    /// One side does not want to be reached directly.
    RelayOnly,
    /// Neither side objects to a direct path any more.
    DirectAllowed,
    /// No direct path was found; the next attempt after this time, if there is traffic.
    Rest(Duration),
}

impl fmt::Display for What {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => write!(out, "first contact, through the relay"),
            Self::Session => write!(out, "keys exchanged"),
            Self::Candidate(endpoint, kind) => write!(out, "candidate {endpoint} ({kind})"),
            Self::Punch => write!(out, "hole punching asked for"),
            Self::Direct(endpoint, rtt) => write!(out, "direct to {endpoint}, {:.1} ms", rtt.as_secs_f64() * 1000.0),
            Self::Silent(endpoint) => write!(out, "{endpoint} fell silent: back on the relay"),
            Self::Unreachable(endpoint) => write!(out, "{endpoint} unreachable: back on the relay"),
            Self::NetworkChanged => write!(out, "own addresses changed: back on the relay"),
            Self::RelayOnly => write!(out, "the relay alone is wanted"),
            Self::DirectAllowed => write!(out, "a direct path is allowed again"),
            Self::Rest(rest) => {
                write!(out, "no direct path; next attempt in {} s, if there is traffic", rest.as_secs())
            }
        }
    }
}

/// The last things that happened.
#[derive(Clone, Debug)]
pub struct History(VecDeque<(Time, What)>);

impl History {
    pub(super) fn new(now: Time) -> Self {
        Self(VecDeque::from([(now, What::Begin)]))
    }

    pub(super) fn push(&mut self, now: Time, what: What) {
        if self.0.len() == ENTRIES_MAX {
            // The beginning stays.
            self.0.remove(1);
        }
        self.0.push_back((now, what));
    }

    /// From the oldest to the newest.
    pub fn iter(&self) -> impl Iterator<Item = &(Time, What)> {
        self.0.iter()
    }
}
