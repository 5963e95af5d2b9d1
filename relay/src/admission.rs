//! Budgets: how much a sender and a source prefix may send. Who may hold an id is decided in [`crate::server`] with the
//! grades of [`crate::sessions`].
//!
//! All budgets are the generic cell rate algorithm: one time stamp, the theoretical arrival time, moves ahead by the
//! cost of each packet; one that lies further ahead of now than the burst is refused.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use wire::cidr::Cidr;

use crate::endpoint::mix;
use crate::time::Time;

/// A rate and how far it may be overdrawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    cost_nanos: f64,
    burst: Duration,
}

impl Budget {
    /// `per_second` units a second, with `burst` units at once. A rate of zero means no limit.
    #[must_use]
    pub fn new(per_second: u64, burst: u64) -> Self {
        if per_second == 0 {
            return Self::unlimited();
        }
        let cost_nanos = 1e9 / per_second as f64;
        Self { cost_nanos, burst: Duration::from_nanos((cost_nanos * burst as f64) as u64) }
    }

    /// Units that cost so many nanoseconds each, and how far the budget may be overdrawn.
    #[must_use]
    pub const fn costing(cost_nanos: f64, burst: Duration) -> Self {
        Self { cost_nanos, burst }
    }

    /// No limit.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { cost_nanos: 0.0, burst: Duration::MAX }
    }

    /// Takes `units` at `now` from the account whose arrival time is `account`; `false`, and nothing taken, when that
    /// would overdraw it.
    #[must_use]
    pub fn charge(&self, account: &mut Time, now: Time, units: u64) -> bool {
        let after = (*account).max(now) + Duration::from_nanos((self.cost_nanos * units as f64) as u64);
        let allowed = after.since(now) <= self.burst;
        if allowed {
            *account = after;
        }
        allowed
    }
}

/// An address prefix that stands for one source: /32 for IPv4, /56 for IPv6 (what one customer is given).
fn prefix_of(ip: Ipv6Addr) -> u64 {
    match ip.to_ipv4_mapped() {
        Some(ip) => 0xFFFF_0000_0000_0000 | u64::from(u32::from(ip)),
        None => (u128::from(ip) >> 72) as u64,
    }
}

/// Accounts by source prefix, in a table of fixed size. A prefix without an account of its own takes over the one of
/// its two candidates that owes least, so that an attacker with many prefixes gains at most what forgetting gives.
#[derive(Debug)]
pub struct PrefixBudgets {
    accounts: Box<[Account]>,
    exempt: Vec<Cidr>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    prefix: u64,
    arrival: Time,
}

/// Accounts kept, a power of two.
const ACCOUNTS: usize = 1 << 14;

impl PrefixBudgets {
    /// An empty table; `exempt` prefixes are never charged.
    #[must_use]
    pub fn new(exempt: Vec<Cidr>) -> Self {
        Self { accounts: vec![Account::default(); ACCOUNTS].into_boxed_slice(), exempt }
    }

    /// Takes `units` from the account of `ip`'s prefix.
    #[must_use]
    pub fn charge(&mut self, budget: &Budget, ip: Ipv6Addr, now: Time, units: u64) -> bool {
        if self.exempt.iter().any(|exempt| exempt.contains(IpAddr::V6(ip))) {
            return true;
        }
        let prefix = prefix_of(ip);
        let digest = mix(prefix) as usize;
        let (first, second) = (digest % ACCOUNTS, (digest >> 32) % ACCOUNTS);
        let slot = if self.accounts[first].prefix == prefix {
            first
        } else if self.accounts[second].prefix == prefix {
            second
        } else {
            let emptier = if self.accounts[first].arrival <= self.accounts[second].arrival { first } else { second };
            // The newcomer starts with what the account owes, or eviction would be a way to forget one's debt.
            self.accounts[emptier].prefix = prefix;
            emptier
        };
        budget.charge(&mut self.accounts[slot].arrival, now, units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_gives_its_burst_then_its_rate() {
        let budget = Budget::new(10, 5);
        let mut account = Time::default();
        let start = Time(1_000_000_000_000);
        assert_eq!((0..20).filter(|_| budget.charge(&mut account, start, 1)).count(), 5);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..20).filter(|_| budget.charge(&mut account, later, 1)).count(), 5);
        let mut granted = 0;
        for step in 0..1000 {
            let now = later + Duration::from_millis(100 + step * 10);
            granted += u32::from(budget.charge(&mut account, now, 1));
        }
        assert!((99..=102).contains(&granted), "{granted} in ten seconds at ten a second");
    }

    #[test]
    fn no_limit_means_none() {
        let budget = Budget::new(0, 0);
        let mut account = Time::default();
        assert!((0..100_000).all(|_| budget.charge(&mut account, Time(1), 1_000_000)));
    }

    #[test]
    fn one_prefix_pays_for_itself_alone_and_the_exempt_not_at_all() {
        let budget = Budget::new(1, 2);
        let mut budgets = PrefixBudgets::new(vec!["198.18.5.0/24".parse().unwrap()]);
        let now = Time(5_000_000_000);
        let mut charge = |ip: &str| budgets.charge(&budget, crate::endpoint::mapped(ip.parse().unwrap()), now, 1);
        assert_eq!([charge("198.18.0.1"), charge("198.18.0.1"), charge("198.18.0.1")], [true, true, false]);
        assert!(charge("198.18.0.2"));
        assert!((0..10).all(|_| charge("198.18.5.77")));
        assert_eq!([charge("2001:db8::1"), charge("2001:db8::2"), charge("2001:db8::3")], [true, true, false]);
        assert!(charge("2001:db8:0:100::1"));
    }
}
