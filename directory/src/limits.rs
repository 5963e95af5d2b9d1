//! Rates: how much one address or one connection may ask for, and all addresses together. Plain values; `now` is an
//! argument. Which rate applies to what is left to the service, the driver and the connections.

pub mod overall;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Addresses remembered by one [`AddressRates`].
pub const ADDRESSES_MAX: usize = 65_536;

/// The unit that limits count as one address: an IPv4 address, or the /64 that one IPv6 host is given.
#[must_use]
pub fn address_unit(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) >> 64 << 64)),
        ip => ip,
    }
}

/// A rate with room for bursts: so many per period, all of them at once if need be.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    interval: Duration,
    burst: Duration,
}

impl Rate {
    /// `count` per `period`; none when `count` is 0.
    #[must_use]
    pub fn new(count: u32, period: Duration) -> Self {
        let interval = if count == 0 { Duration::MAX } else { period / count };
        Self { interval, burst: period }
    }

    /// `count` a day, which is not 0.
    #[must_use]
    pub const fn per_day(count: u32) -> Self {
        let day = Duration::from_secs(86_400);
        Self { interval: Duration::from_nanos(day.as_nanos() as u64 / count as u64), burst: day }
    }

    /// How far in time `theoretical` arrival, the instant up to which a source has used its rate, moves with `count`
    /// more. (The generic cell rate algorithm.)
    fn advance(&self, theoretical: Duration, now: Duration, count: u32) -> Duration {
        theoretical.max(now).saturating_add(self.interval.saturating_mul(count))
    }

    /// How many more fit now, up to `count`.
    fn left(&self, theoretical: Duration, now: Duration, count: u32) -> u32 {
        let room = self.burst.saturating_sub(theoretical.saturating_sub(now));
        let fit = room.as_nanos() / self.interval.as_nanos().max(1);
        u32::try_from(fit).map_or(count, |fit| fit.min(count))
    }
}

/// One rate applied to many addresses. Bounded: when full, addresses at rest are forgotten, then arbitrary ones.
#[derive(Debug)]
pub struct AddressRates {
    rate: Rate,
    used_until: HashMap<IpAddr, Duration>,
}

impl AddressRates {
    /// `rate` for each address.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, used_until: HashMap::new() }
    }

    /// Takes one from the rate of `ip`; false when nothing is left.
    pub fn take(&mut self, now: Duration, ip: IpAddr) -> bool {
        let allowed = self.has_room(now, ip);
        if allowed {
            self.take_all(now, ip, 1);
        }
        allowed
    }

    /// Takes `count` from the rate of `ip`, which are left.
    fn take_all(&mut self, now: Duration, ip: IpAddr, count: u32) {
        let unit = address_unit(ip);
        if self.used_until.len() >= ADDRESSES_MAX && !self.used_until.contains_key(&unit) {
            self.forget(now);
        }
        let used_until = self.used_until.entry(unit).or_default();
        *used_until = self.rate.advance(*used_until, now, count);
    }

    /// Whether one is left of the rate of `ip`, without taking it.
    #[must_use]
    pub fn has_room(&self, now: Duration, ip: IpAddr) -> bool {
        self.left(now, ip, 1) == 1
    }

    /// How many are left of the rate of `ip`, up to `count`, without taking them.
    fn left(&self, now: Duration, ip: IpAddr, count: u32) -> u32 {
        let used_until = self.used_until.get(&address_unit(ip)).copied().unwrap_or_default();
        self.rate.left(used_until, now, count)
    }

    fn forget(&mut self, now: Duration) {
        self.used_until.retain(|_, used_until| *used_until > now);
        // Every address is active: forget an eighth, so that this is not done again for each newcomer.
        if self.used_until.len() >= ADDRESSES_MAX {
            let mut position = 0_usize;
            self.used_until.retain(|_, _| {
                position += 1;
                !position.is_multiple_of(8)
            });
        }
    }
}

/// The rate of one connection: above it the connection is slowed, far above it closed.
#[derive(Debug)]
pub struct ConnectionRate {
    rate: Rate,
    used_until: Duration,
    arrivals_max: u32,
    arrivals: u32,
    second: u64,
}

impl ConnectionRate {
    /// `per_second` requests are served a second, and `arrivals_max` may arrive in one.
    #[must_use]
    pub fn new(per_second: u32, arrivals_max: u32) -> Self {
        let rate = Rate::new(per_second, Duration::from_secs(1));
        Self { rate, used_until: Duration::ZERO, arrivals_max, arrivals: 0, second: 0 }
    }

    /// Counts `count` requests that have arrived; false when they are too many for this second.
    pub fn arrive(&mut self, now: Duration, count: u32) -> bool {
        if now.as_secs() != self.second {
            (self.second, self.arrivals) = (now.as_secs(), 0);
        }
        self.arrivals = self.arrivals.saturating_add(count);
        self.arrivals <= self.arrivals_max
    }

    /// Takes `count` requests that are to be served now, and says how long they have to wait.
    pub fn take(&mut self, now: Duration, count: u32) -> Duration {
        self.used_until = self.rate.advance(self.used_until, now, count);
        self.used_until.saturating_sub(now).saturating_sub(self.rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_address_has_its_rate_and_no_more() {
        let mut rates = AddressRates::new(Rate::new(10, Duration::from_secs(60)));
        let (ip, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let taken = (0..20).filter(|_| rates.take(SECOND, ip)).count();
        assert_eq!(taken, 10);
        assert!(rates.take(SECOND, other));
        assert!(!rates.take(SECOND * 6, ip));
        assert!(rates.take(SECOND * 7, ip), "one more every six seconds");
    }

    #[test]
    fn addresses_of_one_ipv6_host_count_as_one() {
        let mut rates = AddressRates::new(Rate::new(1, SECOND));
        assert!(rates.take(SECOND, "2001:db8::1".parse().unwrap()));
        assert!(!rates.take(SECOND, "2001:db8::2".parse().unwrap()));
        assert!(rates.take(SECOND, "2001:db8:0:1::1".parse().unwrap()));
    }

    #[test]
    fn the_table_stays_bounded() {
        let mut rates = AddressRates::new(Rate::new(1, SECOND));
        for index in 0..u32::try_from(ADDRESSES_MAX * 2).unwrap() {
            assert!(rates.take(SECOND, IpAddr::V4(index.into())));
            assert!(rates.used_until.len() <= ADDRESSES_MAX);
        }
    }

    #[test]
    fn a_connection_above_its_rate_waits() {
        let mut rate = ConnectionRate::new(100, 500);
        assert_eq!(rate.take(SECOND, 100), Duration::ZERO);
        assert_eq!(rate.take(SECOND, 50), SECOND / 2);
        assert_eq!(rate.take(SECOND, 350), SECOND * 4);

        let mut calm = ConnectionRate::new(100, 500);
        assert!((0..100).all(|second| calm.take(SECOND * second, 100) == Duration::ZERO));
    }

    #[test]
    fn a_flood_is_told_from_a_backlog() {
        let mut rate = ConnectionRate::new(100, 500);
        assert!((0..100).all(|second| rate.arrive(SECOND * second, 500)));
        assert!(!rate.arrive(SECOND * 99, 1));
    }
}
