//! Fairness: whoever is far over its budget is held back before the shard, so that others find room in the socket.
//!
//! Budgets are kept once a datagram has been received. A sender far above its own fills the socket's buffer before that,
//! and the kernel drops everybody's datagrams alike. So a shard that keeps dropping the same source's datagrams for its
//! budget has the kernel drop them: a socket filter ([`filter`]) lets a random share of a few penalised sources pass,
//! about as much as their budgets grant, and everyone else entirely. Nobody is shut out, and nobody who keeps to his
//! budget is ever held back.
//!
//! ```text
//! over budget, by source ─► Sketch (who is it mostly?) ─► far over: a penalty, a first share of 1/4
//!                                                       review, at most four times a second:
//!   datagrams over the budget came: share × granted / arrived × 1.1     none came: share × 2, lifted at 1
//! ```
//!
//! A plain value; the shard tells it what it dropped and what came, and attaches what [`filter`] makes of the penalties.

pub mod filter;
mod sketch;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use wire::cidr::Cidr;

use self::sketch::Sketch;
use crate::admission::{PREFIX_BITS_V6, prefix_of};
use crate::endpoint::Endpoint;
use crate::time::Time;

/// Sources held back at once, by one shard.
pub const PENALTIES_MAX: usize = 16;
/// Datagrams over its budget within one [`REVIEW_INTERVAL`] from which on a source is held back: receiving so many in
/// vain takes the shard about a hundredth of its time.
pub const FAR_OVER: u64 = 2_500;
/// The filter is attached anew at most this often.
pub const REVIEW_INTERVAL: Duration = Duration::from_millis(250);
/// What a source is let through until its rate is known.
const SHARE_FIRST: f64 = 0.25;
/// What it is let through at least, so that its end is noticed.
const SHARE_MIN: f64 = 1.0 / 4096.0;
/// A source is let through a little more than its budget grants. What exceeds it is dropped by the budget, and shows that
/// the penalty is still needed.
const HEADROOM: f64 = 1.1;
/// A share that changes by less is left as it is.
const SHARE_STEP: f64 = 0.05;

/// Who is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// One sender: an address and its port. Neighbours behind the same address are not touched.
    Sender(Endpoint),
    /// All that comes from a source prefix: an IPv4 address, or the first [`PREFIX_BITS_V6`] bits of an IPv6 address.
    Prefix(Ipv6Addr),
}

impl Source {
    /// The whole prefix `ip` lies in.
    #[must_use]
    pub fn prefix(ip: Ipv6Addr) -> Self {
        match ip.to_ipv4_mapped() {
            Some(_) => Self::Prefix(ip),
            None => Self::Prefix(Ipv6Addr::from(u128::from(ip) & (u128::MAX << (128 - PREFIX_BITS_V6)))),
        }
    }

    /// Its address, or that of its prefix.
    #[must_use]
    pub const fn ip(&self) -> Ipv6Addr {
        match self {
            Self::Sender(endpoint) => endpoint.ip,
            Self::Prefix(ip) => *ip,
        }
    }

    fn holds(&self, from: &Endpoint) -> bool {
        match self {
            Self::Sender(endpoint) => endpoint == from,
            Self::Prefix(ip) => prefix_of(*ip) == prefix_of(from.ip),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sender(endpoint) => endpoint.fmt(f),
            Self::Prefix(ip) => match IpAddr::V6(*ip).to_canonical() {
                IpAddr::V4(ip) => ip.fmt(f),
                IpAddr::V6(ip) => write!(f, "{ip}/{PREFIX_BITS_V6}"),
            },
        }
    }
}

/// A source that is held back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalty {
    /// Who.
    pub source: Source,
    /// What is let through, from 0 to 1.
    pub share: f64,
    /// The share the kernel was last told.
    told: f64,
    /// Its datagrams since the last review.
    arrived: u64,
    /// Those of them that were over the budget.
    over: u64,
}

/// The penalties of one shard.
#[derive(Debug)]
pub struct Fairness {
    exempt: Vec<Cidr>,
    sketch: Sketch,
    penalties: Vec<Penalty>,
    /// Datagrams over a budget since the last review.
    over: u64,
    reviewed: Time,
}

impl Fairness {
    /// Nobody is held back; sources in `exempt` never will be.
    #[must_use]
    pub fn new(exempt: Vec<Cidr>) -> Self {
        Self {
            exempt,
            sketch: Sketch::default(),
            penalties: Vec::with_capacity(PENALTIES_MAX),
            over: 0,
            reviewed: Time::default(),
        }
    }

    /// Who is held back now.
    #[must_use]
    pub fn penalties(&self) -> &[Penalty] {
        &self.penalties
    }

    /// Whether anybody is, so that arrivals matter.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        !self.penalties.is_empty()
    }

    /// So many datagrams came from `from`.
    pub fn note_arrivals(&mut self, from: &Endpoint, datagrams: u64) {
        for penalty in self.penalties.iter_mut().filter(|penalty| penalty.source.holds(from)) {
            penalty.arrived += datagrams;
        }
    }

    /// A datagram of `from` was over its sender's budget, or that of its whole prefix.
    pub fn note_over_budget(&mut self, from: Endpoint, whole_prefix: bool) {
        self.over += 1;
        let mut is_known = false;
        for penalty in self.penalties.iter_mut().filter(|penalty| penalty.source.holds(&from)) {
            // A penalty for one sender does not answer for its neighbours.
            if !whole_prefix || matches!(penalty.source, Source::Prefix(_)) {
                penalty.over += 1;
                is_known = true;
            }
        }
        if !is_known {
            self.sketch.note(if whole_prefix { Source::prefix(from.ip) } else { Source::Sender(from) });
        }
    }

    /// Whether [`Self::review`] has something to do. Cheap, for every batch.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        (self.over >= FAR_OVER || self.is_active()) && now.since(self.reviewed) >= REVIEW_INTERVAL
    }

    /// When the next review is due whatever comes; none where nobody is held back.
    #[must_use]
    pub fn next_review(&self) -> Option<Time> {
        self.is_active().then(|| self.reviewed + REVIEW_INTERVAL)
    }

    /// Looks at what has come since the last time: adapts shares, lifts penalties, imposes new ones. Says whether the
    /// filter has to be attached anew.
    pub fn review(&mut self, now: Time) -> bool {
        self.reviewed = now;
        self.over = 0;
        let before = self.penalties.len();
        self.penalties.iter_mut().for_each(Penalty::adapt);
        self.penalties.retain(|penalty| penalty.share < 1.0);
        let mut changed = self.penalties.len() != before;
        for (source, over) in self.sketch.drain() {
            let spared = over < FAR_OVER
                || self.penalties.len() == PENALTIES_MAX
                || self.exempt.iter().any(|exempt| exempt.contains(IpAddr::V6(source.ip())));
            if !spared {
                self.penalties.push(Penalty { source, share: SHARE_FIRST, told: SHARE_FIRST, arrived: 0, over: 0 });
                changed = true;
            }
        }
        for penalty in &mut self.penalties {
            if (penalty.share - penalty.told).abs() > penalty.told * SHARE_STEP {
                penalty.told = penalty.share;
                changed = true;
            }
        }
        changed
    }
}

impl Penalty {
    fn adapt(&mut self) {
        let (arrived, over) = (std::mem::take(&mut self.arrived) as f64, std::mem::take(&mut self.over) as f64);
        let factor = if over > 0.0 && arrived > 0.0 { (arrived - over).max(0.0) / arrived * HEADROOM } else { 2.0 };
        self.share = (self.share * factor).clamp(SHARE_MIN, 1.0);
    }
}

#[cfg(test)]
mod tests;
