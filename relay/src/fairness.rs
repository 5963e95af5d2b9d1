//! Fairness: whoever is far over its budget, or the cause of an overload, is held back before the shard, so that others
//! find room in the socket.
//!
//! Budgets are kept once a datagram has been received. A sender far above its own fills the socket's buffer before that,
//! and the kernel drops everybody's datagrams alike; so does one within its budget where the shard can do less than that.
//! So the kernel is told: a socket filter ([`filter`]) lets a random share of a few penalised sources pass, and everyone
//! else entirely. Nobody is shut out.
//!
//! ```text
//! over budget, by source ─► Sketch (who is it mostly?) ─► far over: a penalty, a first share of 1/4
//! a standing queue, and by source what came ─► Sketch ─► an eighth of all or more: a penalty, a first share of 1/2
//!                                     review, four times a second:
//!   far over:   datagrams over the budget came: share × granted / arrived × 1.1     none came: share × 2
//!   overload:   the queue stands still: share × 0.7, or less where datagrams are lost      it has gone: × 1.05
//!                                     lifted at 1
//! ```
//!
//! A plain value; the shard tells it what it dropped, what came and how full its sockets are, and attaches what [`filter`]
//! makes of the penalties.

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
/// Of what came to an overloaded shard, the part from which on its sender is held back: one in so many.
const HEAVY_PART: u64 = 8;
/// What such a sender is let through at first, what that is multiplied with while the queue stands, and when it has gone.
const SHARE_HEAVY: f64 = 0.5;
const CUT: f64 = 0.7;
const GROWTH: f64 = 1.05;
/// Of what a shard could do while it lost datagrams, the part that is given out again, so that its queue empties; and the
/// least that a share is cut to at once.
const ROOM: f64 = 0.8;
const CUT_MIN: f64 = 0.05;
/// One in so many receives is looked at for its sender, on average; nobody can foresee which.
const SAMPLE: u32 = 16;
/// Datagrams over its budget between two reviews from which on a source is held back: receiving so many in
/// vain takes the shard about a hundredth of its time.
pub const FAR_OVER: u64 = 1_000;
/// Between two reviews while somebody is held back: the filter is attached anew at most this often.
pub const REVIEW_INTERVAL: Duration = Duration::from_millis(250);
/// Between two reviews while nobody is.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// What a source is let through until its rate is known.
const SHARE_FIRST: f64 = 0.25;
/// What it is let through at least, so that its end is noticed.
const SHARE_MIN: f64 = 1.0 / 4096.0;
/// A source is let through a little more than its budget grants. What exceeds it is dropped by the budget, and shows that
/// the penalty is still needed.
const HEADROOM: f64 = 1.1;
/// A share that changes by less is left as it is.
const SHARE_STEP: f64 = 0.04;

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
    /// It is held back for an overload, not for its budget.
    is_heavy: bool,
    /// Its datagrams since the last review.
    arrived: u64,
    /// Those of them that were over the budget.
    over: u64,
}

/// The penalties of one shard.
#[derive(Debug)]
pub struct Fairness {
    exempt: Vec<Cidr>,
    over_budget: Sketch,
    arrivals: Sketch,
    penalties: Vec<Penalty>,
    /// Datagrams since the last review.
    arrived: u64,
    /// The queue stood at the last review.
    was_standing: bool,
    /// Receives until the next that is looked at.
    until_sample: u32,
    chance: u32,
    reviewed: Time,
}

/// How full the sockets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// A socket has not been empty for long: its queue stands.
    pub stands: bool,
    /// Datagrams the kernel has dropped for a full buffer since the last review.
    pub lost: u64,
}

impl Fairness {
    /// Nobody is held back; sources in `exempt` never will be.
    #[must_use]
    pub fn new(exempt: Vec<Cidr>) -> Self {
        Self {
            exempt,
            over_budget: Sketch::default(),
            arrivals: Sketch::default(),
            penalties: Vec::with_capacity(PENALTIES_MAX),
            arrived: 0,
            was_standing: false,
            until_sample: 1,
            chance: 0x9E37_79B9,
            reviewed: Time::default(),
        }
    }

    /// Who is held back now.
    #[must_use]
    pub fn penalties(&self) -> &[Penalty] {
        &self.penalties
    }

    /// Whether anybody is.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        !self.penalties.is_empty()
    }

    /// So many datagrams came from `from` at once.
    pub fn note_arrivals(&mut self, from: &Endpoint, datagrams: u64) {
        self.arrived += datagrams;
        self.until_sample -= 1;
        if self.until_sample == 0 {
            self.chance ^= self.chance << 13;
            self.chance ^= self.chance >> 17;
            self.chance ^= self.chance << 5;
            self.until_sample = 1 + self.chance % (2 * SAMPLE - 1);
            self.arrivals.note(Source::Sender(*from), datagrams * u64::from(SAMPLE));
        }
        for penalty in self.penalties.iter_mut().filter(|penalty| penalty.source.holds(from)) {
            penalty.arrived += datagrams;
        }
    }

    /// A datagram of `from` was over its sender's budget, or that of its whole prefix.
    pub fn note_over_budget(&mut self, from: Endpoint, whole_prefix: bool) {
        let mut is_known = false;
        for penalty in self.penalties.iter_mut().filter(|penalty| penalty.source.holds(&from)) {
            // A penalty for one sender does not answer for its neighbours.
            if !whole_prefix || matches!(penalty.source, Source::Prefix(_)) {
                penalty.over += 1;
                is_known = true;
            }
        }
        if !is_known {
            self.over_budget.note(if whole_prefix { Source::prefix(from.ip) } else { Source::Sender(from) }, 1);
        }
    }

    /// Whether it is time for [`Self::review`]. Cheap, for every batch.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        let interval = if self.is_active() { REVIEW_INTERVAL } else { LOOK_INTERVAL };
        (self.arrived > 0 || self.is_active()) && now.since(self.reviewed) >= interval
    }

    /// When the next review is due whatever comes; none where nobody is held back.
    #[must_use]
    pub fn next_review(&self) -> Option<Time> {
        self.is_active().then(|| self.reviewed + REVIEW_INTERVAL)
    }

    /// Looks at what has come since the last time: adapts shares, lifts penalties, imposes new ones. Says whether the
    /// filter has to be attached anew.
    pub fn review(&mut self, now: Time, pressure: Pressure) -> bool {
        self.reviewed = now;
        let arrived = std::mem::take(&mut self.arrived);
        let heavy = arrived / HEAVY_PART;
        let is_pressed = pressure.stands || pressure.lost > 0;
        // A shard that was not scheduled for a moment finds a queue, too; it has gone by the next look.
        let is_overloaded = pressure.lost > 0 || (pressure.stands && self.was_standing);
        let cut = |of_source: u64| if pressure.lost > 0 { cut(of_source, arrived, pressure.lost) } else { CUT };
        self.was_standing = pressure.stands;
        let before = self.penalties.len();
        self.penalties.iter_mut().for_each(|penalty| penalty.adapt(heavy, is_pressed.then_some(&cut)));
        self.penalties.retain(|penalty| penalty.share < 1.0);
        let mut changed = self.penalties.len() != before;
        let far_over = self.over_budget.drain().filter(|(_, over)| *over >= FAR_OVER);
        let far_over = far_over.map(|(source, _)| Penalty::new(source, SHARE_FIRST));
        let heavy = self.arrivals.drain().filter(|(_, arrived)| is_overloaded && *arrived >= heavy.max(FAR_OVER));
        let heavy = heavy
            .map(|(source, arrived)| Penalty { is_heavy: true, ..Penalty::new(source, cut(arrived).min(SHARE_HEAVY)) });
        for penalty in far_over.chain(heavy) {
            let source = penalty.source;
            let spared = self.penalties.len() == PENALTIES_MAX
                || self.penalties.iter().any(|penalty| penalty.source == source)
                || self.exempt.iter().any(|exempt| exempt.contains(IpAddr::V6(source.ip())));
            if !spared {
                self.penalties.push(penalty);
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

/// The part of its datagrams that a source of an overload may keep, when `arrived` in all were received and `lost` were not:
/// what there is room for beside the others, who lost as large a part.
fn cut(of_source: u64, arrived: u64, lost: u64) -> f64 {
    let offered = (arrived + lost) as f64;
    let part = (of_source as f64 / arrived.max(1) as f64).min(1.0);
    let room = ROOM * arrived as f64 - (1.0 - part) * offered;
    (room / (part * offered).max(1.0)).clamp(CUT_MIN, CUT)
}

impl Penalty {
    /// Holds `source` back to `share` of what it sends.
    #[must_use]
    pub const fn new(source: Source, share: f64) -> Self {
        Self { source, share, told: share, is_heavy: false, arrived: 0, over: 0 }
    }

    /// `cut` says what is left to a source of an overload, where there is one.
    fn adapt(&mut self, heavy: u64, cut: Option<&impl Fn(u64) -> f64>) {
        let (arrived, over) = (std::mem::take(&mut self.arrived), std::mem::take(&mut self.over));
        if let Some(cut) = cut.filter(|_| arrived >= heavy.max(1)) {
            self.is_heavy = true;
            self.share = (self.share * cut(arrived)).max(SHARE_MIN);
            return;
        }
        let granted = arrived.saturating_sub(over) as f64 / arrived.max(1) as f64 * HEADROOM;
        let factor = match (self.is_heavy, over) {
            (_, 1..) if arrived > 0 => granted,
            // Who has nearly stopped need not be waited for.
            (true, _) if arrived >= FAR_OVER / 8 => GROWTH,
            _ => 2.0,
        };
        let factor = if self.is_heavy && arrived >= FAR_OVER / 8 { factor.min(GROWTH) } else { factor };
        self.share = (self.share * factor).clamp(SHARE_MIN, 1.0);
    }
}

#[cfg(test)]
mod tests;
