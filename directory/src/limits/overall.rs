//! What all addresses together may ask for, so that nobody's requests keep the directory from those of its nodes, from however
//! many addresses they come. A plain value.
//!
//! An address is *known* for an hour after a node that belongs has signed there, and where a stored registration names it for
//! the first hour. Each known address
//! has a few requests a second that nobody else can use up; beyond these the known share one rate, and all others together
//! have another, smaller one. What is above a shared rate waits for its turn, and is refused where that is too far off.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{AddressRates, Rate, address_unit};

/// Requests a second of each known address that no other can use up: heartbeats and look-ups of a few nodes.
pub const OWN_PER_SECOND: u32 = 20;
/// The longest that a request waits for its turn.
pub const WAIT_MAX: Duration = Duration::from_secs(2);
/// What a TLS handshake counts: some 200 µs of work, about as much as that many requests.
pub const HANDSHAKE_REQUESTS: u32 = 5;
/// How long an address is known without a sign of its nodes, which give one a minute.
pub const KNOWN_FOR: Duration = Duration::from_secs(3600);
/// Known addresses remembered, some 12 MB.
pub const KNOWN_MAX: usize = 1 << 18;

/// What is to be done with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To be served after so long; zero is now.
    Serve(Duration),
    /// Too many others wait.
    Refuse,
}

/// The rates of all addresses together.
#[derive(Debug)]
pub struct Overall {
    /// Known addresses, by their unit, and when a node was last heard there.
    known: HashMap<IpAddr, Duration>,
    own: AddressRates,
    shared: Shared,
    strangers: Shared,
}

impl Overall {
    /// So many requests a second of strangers, and of known addresses beyond their own.
    #[must_use]
    pub fn new(strangers_per_second: u32, known_per_second: u32) -> Self {
        Self {
            known: HashMap::new(),
            own: AddressRates::new(Rate::new(OWN_PER_SECOND, Duration::from_secs(1))),
            shared: Shared::new(known_per_second),
            strangers: Shared::new(strangers_per_second),
        }
    }

    /// A node that belongs is at `ip`.
    pub fn know(&mut self, now: Duration, ip: IpAddr) {
        let unit = address_unit(ip);
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&unit) {
            self.forget();
        }
        self.known.insert(unit, now);
    }

    /// Whether a node that belongs was heard at `ip` lately.
    #[must_use]
    pub fn knows(&self, now: Duration, ip: IpAddr) -> bool {
        self.known.get(&address_unit(ip)).is_some_and(|heard| now.saturating_sub(*heard) < KNOWN_FOR)
    }

    /// Takes `count` requests of `ip` from the rates they count against. What is refused counts for nothing.
    pub fn admit(&mut self, now: Duration, ip: IpAddr, count: u32) -> Verdict {
        if !self.knows(now, ip) {
            return self.strangers.take(now, count);
        }
        let own = (0..count).take_while(|_| self.own.take(now, ip)).count();
        match count - u32::try_from(own).unwrap_or(count) {
            0 => Verdict::Serve(Duration::ZERO),
            rest => self.shared.take(now, rest),
        }
    }

    /// Those heard longest ago, an eighth, so that this is not done again for each newcomer.
    fn forget(&mut self) {
        let mut heard: Vec<Duration> = self.known.values().copied().collect();
        let (_, bound, _) = heard.select_nth_unstable(KNOWN_MAX / 8);
        let bound = *bound;
        let mut left = KNOWN_MAX / 8;
        self.known.retain(|_, heard| {
            let goes = *heard <= bound && left > 0;
            left -= usize::from(goes);
            !goes
        });
    }
}

/// One rate for many.
#[derive(Debug)]
struct Shared {
    rate: Rate,
    used_until: Duration,
}

impl Shared {
    fn new(per_second: u32) -> Self {
        Self { rate: Rate::new(per_second, Duration::from_secs(1)), used_until: Duration::ZERO }
    }

    fn take(&mut self, now: Duration, count: u32) -> Verdict {
        let next = self.rate.advance(self.used_until, now, count);
        let delay = next.saturating_sub(now).saturating_sub(self.rate.burst);
        if delay > WAIT_MAX {
            return Verdict::Refuse;
        }
        self.used_until = next;
        Verdict::Serve(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Verdict = Verdict::Serve(Duration::ZERO);

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn strangers_of_any_number_have_one_rate_and_take_nothing_from_the_known() {
        let mut overall = Overall::new(100, 1000);
        let home = address(1);
        overall.know(SECOND, home);
        let served = (0..10_000).filter(|index| overall.admit(SECOND, address(1000 + index), 1) != Verdict::Refuse);
        assert_eq!(served.count(), 300, "one second's at once, two seconds' later");
        assert!((0..OWN_PER_SECOND).all(|_| overall.admit(SECOND, home, 1) == NOW));
        assert_eq!(overall.admit(SECOND, home, 1000), NOW, "what the known share");
        assert_eq!(overall.admit(SECOND, address(5), 1), Verdict::Refuse);
        assert_ne!(overall.admit(SECOND * 2, address(5), 1), Verdict::Refuse, "later there is room again");
    }

    #[test]
    fn one_that_is_known_cannot_use_up_what_another_has_of_its_own() {
        let mut overall = Overall::new(10, 100);
        let (greedy, calm) = (address(1), address(2));
        [greedy, calm].into_iter().for_each(|ip| overall.know(SECOND, ip));
        while overall.admit(SECOND, greedy, 1) != Verdict::Refuse {}
        assert!((0..OWN_PER_SECOND).all(|_| overall.admit(SECOND, calm, 1) == NOW));
        assert_eq!(overall.admit(SECOND, calm, 1), Verdict::Refuse);
    }

    #[test]
    fn hosts_are_known_by_their_64_and_the_memory_of_them_is_bounded() {
        let mut overall = Overall::new(1, 1);
        overall.know(SECOND, "2001:db8::1".parse().unwrap());
        let knows = |overall: &Overall, now, ip: &str| overall.knows(now, ip.parse().unwrap());
        assert!(knows(&overall, SECOND, "2001:db8::2") && !knows(&overall, SECOND, "2001:db8:0:1::1"));
        assert!(!knows(&overall, SECOND + KNOWN_FOR, "2001:db8::1"), "its node has gone, or was banned");
        for index in 0..u32::try_from(KNOWN_MAX * 2).unwrap() {
            overall.know(SECOND + Duration::from_nanos(index.into()), address(index));
            assert!(overall.known.len() <= KNOWN_MAX);
        }
        assert!(overall.knows(SECOND, address(u32::try_from(KNOWN_MAX * 2 - 1).unwrap())), "the latest stay");
    }
}
