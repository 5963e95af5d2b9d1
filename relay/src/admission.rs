//! Budgets: how much a sender and a source prefix may send, and who is not answered. Who may hold an id is decided in
//! [`crate::server`] with the grades of [`crate::sessions`].
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

    /// The same rate, with no more than `units` at once, and one in any case.
    #[must_use]
    pub fn at_once(self, units: u64) -> Self {
        let burst = Duration::from_nanos((self.cost_nanos * units.max(1) as f64) as u64);
        if self.is_unlimited() { self } else { Self { burst: self.burst.min(burst), ..self } }
    }

    /// No limit.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { cost_nanos: 0.0, burst: Duration::MAX }
    }

    /// Whether there is no limit.
    #[must_use]
    pub const fn is_unlimited(&self) -> bool {
        self.cost_nanos == 0.0
    }

    /// One of `parts` equal shares of this rate, with the same units at once: a share must let a packet pass too.
    #[must_use]
    pub fn share_of(self, parts: usize) -> Self {
        Self { cost_nanos: self.cost_nanos * parts as f64, burst: self.burst.saturating_mul(parts as u32) }
    }

    /// Whether it gives fewer units a second than `other`.
    #[must_use]
    pub fn is_slower_than(&self, other: &Self) -> bool {
        self.cost_nanos > other.cost_nanos
    }

    /// Takes `units` that others of `parts` have granted by their [`Self::share_of`] it, also where there are not so many.
    /// What is owed is at most what they may grant at once.
    pub fn take(&self, account: &mut Time, now: Time, units: u64, parts: usize) {
        if self.is_unlimited() {
            return;
        }
        let cost = Duration::from_nanos((self.cost_nanos * units as f64) as u64);
        let owed_max = self.burst.saturating_mul(u32::try_from(parts).unwrap_or(u32::MAX).saturating_add(1));
        *account = ((*account).max(now) + cost).min(now + owed_max);
    }

    /// Takes `units` also where there are not so many: they have to be made up for before anything is granted again. No
    /// more than this is ever owed, however often it is fined: who stops is granted the next `units` later.
    pub fn fine(&self, account: &mut Time, now: Time, units: u64) {
        if self.is_unlimited() {
            return;
        }
        let fine = Duration::from_nanos((self.cost_nanos * units as f64) as u64);
        let most = (now + self.burst + fine).max(*account);
        *account = ((*account).max(now) + fine).min(most);
    }

    /// Whether something is owed at `now`: more has been taken than there was.
    #[must_use]
    pub fn is_owed(&self, account: Time, now: Time) -> bool {
        account.since(now) > self.burst
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

/// Bits of an IPv6 address that stand for one source: what one customer is given.
pub const PREFIX_BITS_V6: u32 = 56;

/// An address prefix that stands for one source: /32 for IPv4, /56 for IPv6.
#[must_use]
pub fn prefix_of(ip: Ipv6Addr) -> u64 {
    match ip.to_ipv4_mapped() {
        Some(ip) => 0xFFFF_0000_0000_0000 | u64::from(u32::from(ip)),
        None => (u128::from(ip) >> (128 - PREFIX_BITS_V6)) as u64,
    }
}

/// Whether `port` belongs to a service that answers whatever it is sent, or sends far more than it was: what the relay
/// says to such a source was asked for in its name by somebody else. No client has such a port: translators map to ports
/// above 1023 unless the inner port is below, and only two of these are above.
#[must_use]
pub const fn is_service_port(port: u16) -> bool {
    matches!(
        port,
        // None, echo, daytime, quote, chargen, DNS, TFTP, portmapper, NTP, NetBIOS, SNMP, CLDAP, RIP, SSDP, memcached
        0 | 7 | 13 | 17 | 19 | 53 | 69 | 111 | 123 | 137 | 138 | 161 | 389 | 520 | 1900 | 11211
    )
}

/// Accounts by source prefix, in a table of fixed size; each may be charged by two budgets. A prefix without an account of
/// its own takes over the one of its two candidates that owes least, so that an attacker with many prefixes gains at most
/// what forgetting gives.
#[derive(Debug)]
pub struct PrefixBudgets {
    accounts: Box<[Account]>,
    exempt: Vec<Cidr>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    prefix: u64,
    arrivals: [Time; 2],
}

impl Account {
    fn owes(&self) -> Time {
        self.arrivals[0].max(self.arrivals[1])
    }
}

/// Accounts kept, a power of two.
const ACCOUNTS: usize = 1 << 14;

impl PrefixBudgets {
    /// An empty table; `exempt` prefixes are never charged.
    #[must_use]
    pub fn new(exempt: Vec<Cidr>) -> Self {
        Self { accounts: vec![Account::default(); ACCOUNTS].into_boxed_slice(), exempt }
    }

    /// Takes units from the account of `ip`'s prefix: from all `budgets` or, where one has not enough, from none.
    #[must_use]
    pub fn charge<const N: usize>(&mut self, budgets: &[(Budget, u64); N], ip: Ipv6Addr, now: Time) -> bool {
        const { assert!(N <= 2, "an account has two arrival times") };
        if self.exempt.iter().any(|exempt| exempt.contains(IpAddr::V6(ip))) {
            return true;
        }
        let account = self.account(prefix_of(ip));
        let mut arrivals = account.arrivals;
        let allowed = budgets.iter().zip(&mut arrivals).all(|((budget, units), time)| budget.charge(time, now, *units));
        if allowed {
            account.arrivals = arrivals;
        }
        allowed
    }

    /// Takes units from the first account of `ip`'s prefix also where there are not so many, as [`Budget::fine`] does;
    /// whether it owes any now.
    pub fn fine(&mut self, budget: Budget, units: u64, ip: Ipv6Addr, now: Time) -> bool {
        if self.exempt.iter().any(|exempt| exempt.contains(IpAddr::V6(ip))) {
            return false;
        }
        let arrival = &mut self.account(prefix_of(ip)).arrivals[0];
        budget.fine(arrival, now, units);
        budget.is_owed(*arrival, now)
    }

    fn account(&mut self, prefix: u64) -> &mut Account {
        let digest = mix(prefix) as usize;
        let (first, second) = (digest % ACCOUNTS, (digest >> 32) % ACCOUNTS);
        let slot = if self.accounts[first].prefix == prefix {
            first
        } else if self.accounts[second].prefix == prefix {
            second
        } else {
            let emptier = if self.accounts[first].owes() <= self.accounts[second].owes() { first } else { second };
            // The newcomer starts with what the account owes, or eviction would be a way to forget one's debt.
            self.accounts[emptier].prefix = prefix;
            emptier
        };
        &mut self.accounts[slot]
    }
}

/// What source prefixes relay, all their nodes together.
///
/// The look at an account would cost every packet a few per cent of its decision. So packets are charged in lots: one in
/// sixteen, of which nobody can foresee which, pays for sixteen. A prefix that has been refused, or owes a fine, is watched
/// for a second, in which each of its packets pays for itself.
#[derive(Debug)]
pub struct RelayBudgets {
    packets: Budget,
    bytes: Budget,
    is_unlimited: bool,
    accounts: PrefixBudgets,
    watched: Vec<(u64, Time)>,
    /// Packets until the next that pays for a lot.
    until_lot: u32,
    chance: u32,
}

/// Packets one pays for, on average.
const LOT: u64 = 16;
/// How long each packet of a prefix pays for itself after a refusal or a fine that it owes.
const WATCHED_FOR: Duration = Duration::from_secs(1);
/// Prefixes watched at once.
const WATCHED_MAX: usize = 16;

impl RelayBudgets {
    /// Full accounts for everyone; `exempt` prefixes are never charged.
    #[must_use]
    pub fn new(packets: Budget, bytes: Budget, exempt: Vec<Cidr>) -> Self {
        Self {
            packets,
            bytes,
            is_unlimited: packets.is_unlimited() && bytes.is_unlimited(),
            accounts: PrefixBudgets::new(exempt),
            watched: Vec::with_capacity(WATCHED_MAX),
            until_lot: 1,
            chance: 0x9E37_79B9,
        }
    }

    /// Charges for a packet of `len` bytes; `false` where its prefix has used up its budget.
    #[must_use]
    pub fn charge(&mut self, ip: Ipv6Addr, now: Time, len: u64) -> bool {
        if self.is_unlimited {
            return true;
        }
        self.until_lot -= 1;
        if self.until_lot > 0 && self.watched.is_empty() {
            return true;
        }
        self.charge_seldom(ip, now, len)
    }

    #[cold]
    #[inline(never)]
    fn charge_seldom(&mut self, ip: Ipv6Addr, now: Time, len: u64) -> bool {
        let pays_for_lot = self.until_lot == 0;
        if pays_for_lot {
            self.chance ^= self.chance << 13;
            self.chance ^= self.chance >> 17;
            self.chance ^= self.chance << 5;
            self.until_lot = 1 + self.chance % (2 * LOT as u32 - 1);
            self.watched.retain(|(_, until)| *until > now);
        }
        let prefix = prefix_of(ip);
        if self.watched.iter().any(|(watched, until)| *watched == prefix && *until > now) {
            return self.charge_exactly(ip, now, 1, len);
        }
        // Where there is not enough for a lot there may be for the packet.
        !pays_for_lot || self.charge_exactly(ip, now, LOT, LOT * len) || self.charge_exactly(ip, now, 1, len)
    }

    /// Takes so many packets more from the prefix, also where it has not so many. While it owes any it is watched: a packet
    /// that did not pay because it was in no lot would pass before they are made up for.
    pub fn fine(&mut self, ip: Ipv6Addr, now: Time, packets: u64) {
        if !self.packets.is_unlimited() && self.accounts.fine(self.packets, packets, ip, now) {
            self.watch(prefix_of(ip), now + WATCHED_FOR);
        }
    }

    fn charge_exactly(&mut self, ip: Ipv6Addr, now: Time, packets: u64, bytes: u64) -> bool {
        let within = self.accounts.charge(&[(self.packets, packets), (self.bytes, bytes)], ip, now);
        if !within {
            self.watch(prefix_of(ip), now + WATCHED_FOR);
        }
        within
    }

    fn watch(&mut self, prefix: u64, until: Time) {
        if let Some(watched) = self.watched.iter_mut().find(|(watched, _)| *watched == prefix) {
            watched.1 = until;
            return;
        }
        if self.watched.len() == WATCHED_MAX {
            let oldest = self.watched.iter().enumerate().min_by_key(|(_, (_, until))| *until).map(|(index, _)| index);
            oldest.map(|index| self.watched.swap_remove(index));
        }
        self.watched.push((prefix, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::mapped;

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
        let mut charge = |ip: &str| budgets.charge(&[(budget, 1)], mapped(ip.parse().unwrap()), now);
        assert_eq!([charge("198.18.0.1"), charge("198.18.0.1"), charge("198.18.0.1")], [true, true, false]);
        assert!(charge("198.18.0.2"));
        assert!((0..10).all(|_| charge("198.18.5.77")));
        assert_eq!([charge("2001:db8::1"), charge("2001:db8::2"), charge("2001:db8::3")], [true, true, false]);
        assert!(charge("2001:db8:0:100::1"));
    }

    #[test]
    fn two_budgets_of_an_account_are_charged_both_or_not_at_all() {
        let mut budgets = PrefixBudgets::new(Vec::new());
        let ip = mapped("198.18.0.1".parse().unwrap());
        let (packets, bytes) = (Budget::new(10, 10), Budget::new(1000, 1000));
        let mut charge = |bytes_now| budgets.charge(&[(packets, 1), (bytes, bytes_now)], ip, Time(5_000_000_000));
        assert!(charge(900));
        assert!(!(0..20).any(|_| charge(200)), "too many bytes");
        assert_eq!((0..20).filter(|_| charge(1)).count(), 9, "what was refused has not been taken");
    }

    #[test]
    fn a_fine_is_owed_beyond_the_budget_but_once() {
        let mut budgets = PrefixBudgets::new(vec!["198.18.5.0/24".parse().unwrap()]);
        let budget = Budget::new(10, 1_000).at_once(5);
        let [ip, exempt] = ["198.18.0.1", "198.18.5.1"].map(|ip| mapped(ip.parse().unwrap()));
        let now = Time(5_000_000_000);
        (0..100).for_each(|_| assert!(budgets.fine(budget, 20, ip, now) && !budgets.fine(budget, 20, exempt, now)));
        assert!(budgets.charge(&[(budget, 1)], exempt, now));
        assert!(!budgets.charge(&[(budget, 1)], ip, now + Duration::from_secs(2)), "twenty at ten a second");
        let later = now + Duration::from_millis(2_150);
        assert!(budgets.charge(&[(budget, 1)], ip, later), "and no more");
        let much_later = now + Duration::from_secs(60);
        let granted = (0..20).filter(|_| budgets.charge(&[(budget, 1)], ip, much_later)).count();
        assert_eq!(granted, 5, "at once");
        assert!(!budgets.fine(Budget::unlimited(), 20, ip, much_later));
        assert!(budgets.charge(&[(Budget::unlimited(), 1)], ip, much_later));
    }

    /// What 1000 nodes behind one address relay in a second, at `pps` in all.
    fn granted(budgets: &mut RelayBudgets, ip: &str, start: Time, pps: u64, len: u64) -> u64 {
        let ip = mapped(ip.parse().unwrap());
        let step = 1_000_000_000 / pps;
        (0..pps).map(|number| u64::from(budgets.charge(ip, Time(start.0 + number * step), len))).sum()
    }

    #[test]
    fn a_prefix_relays_its_budget_of_packets_and_bytes_and_no_more() {
        let start = Time(5_000_000_000);
        let mut budgets = RelayBudgets::new(Budget::new(20_000, 4_000), Budget::unlimited(), Vec::new());
        assert_eq!(granted(&mut budgets, "198.18.0.1", start, 19_000, 100), 19_000, "within its budget");
        let mut later = start + Duration::from_secs(2);
        for _ in 0..3 {
            let granted = granted(&mut budgets, "198.18.0.1", later, 400_000, 100);
            assert!((19_000..=25_500).contains(&granted), "{granted}");
            later = later + Duration::from_secs(1);
        }
        let others = granted(&mut budgets, "198.18.0.2", later, 19_000, 100);
        assert_eq!(others, 19_000, "while the first is watched");

        let mut budgets = RelayBudgets::new(Budget::unlimited(), Budget::new(1_000_000, 100_000), Vec::new());
        let granted = granted(&mut budgets, "198.18.0.1", start, 40_000, 1000);
        assert!((1_000..=1_200).contains(&granted), "{granted} packets of 1000 bytes");
    }

    #[test]
    fn the_smallest_budget_lets_single_packets_pass() {
        let mut budgets = RelayBudgets::new(Budget::new(1, 1), Budget::new(1000, 1500), Vec::new());
        let ip = mapped("198.18.0.1".parse().unwrap());
        let granted = (0..20).filter(|second| {
            let now = Time(5_000_000_000) + Duration::from_secs(2 * second);
            budgets.charge(ip, now, 1400)
        });
        assert_eq!(granted.count(), 20);
    }

    #[test]
    fn whoever_is_exempt_or_unlimited_relays_what_it_wants() {
        let start = Time(5_000_000_000);
        let exempt = vec!["198.18.0.0/24".parse().unwrap()];
        let mut budgets = RelayBudgets::new(Budget::new(10, 10), Budget::new(10, 10), exempt);
        assert_eq!(granted(&mut budgets, "198.18.0.1", start, 50_000, 100), 50_000);
        let mut budgets = RelayBudgets::new(Budget::unlimited(), Budget::unlimited(), Vec::new());
        assert_eq!(granted(&mut budgets, "198.18.0.1", start, 50_000, 100), 50_000);
    }

    #[test]
    fn a_fined_prefix_is_watched_while_it_owes_and_others_are_not() {
        let mut budgets = RelayBudgets::new(Budget::new(1_000, 200), Budget::unlimited(), Vec::new());
        let [ip, other] = ["198.18.0.1", "198.18.0.2"].map(|ip| mapped(ip.parse().unwrap()));
        let start = Time(5_000_000_000);
        (0..50).for_each(|_| budgets.fine(ip, start, 4));
        assert!(budgets.watched.is_empty(), "two hundred are there");
        budgets.fine(ip, start, 4);
        assert_eq!(budgets.watched.len(), 1);
        assert!(!(0..1_000).any(|_| budgets.charge(ip, start, 1)), "none passes for being in no lot");
        assert!((0..100).all(|_| budgets.charge(other, start, 1)));
        (0..1_000).for_each(|_| budgets.fine(ip, start, 4));
        assert!(!budgets.charge(ip, start + Duration::from_millis(4), 1));
        assert!(budgets.charge(ip, start + Duration::from_millis(6), 1), "one fine is owed");
    }

    #[test]
    fn a_fine_lowers_no_debt_and_what_is_not_limited_has_none() {
        let (budget, now) = (Budget::new(10, 5), Time(5_000_000_000));
        let mut account = Time::default();
        budget.take(&mut account, now, 100, 2);
        let taken = account;
        budget.fine(&mut account, now, 1);
        assert_eq!(account, taken);
        assert!(budget.is_owed(account, now));
        let mut account = now;
        Budget::unlimited().fine(&mut account, now, u64::MAX);
        assert!(account == now && !Budget::unlimited().is_owed(account, now));
    }

    #[test]
    fn many_refused_prefixes_are_no_more_than_are_watched() {
        let mut budgets = RelayBudgets::new(Budget::new(1, 1), Budget::unlimited(), Vec::new());
        for host in 0..200_u8 {
            let ip = mapped(IpAddr::from([198, 18, 0, host]));
            let _ = budgets.charge_exactly(ip, Time(5_000_000_000), 100, 0);
        }
        assert_eq!(budgets.watched.len(), WATCHED_MAX);
    }
}
