//! The load as a pure function: who is paired with whom, when each datagram is due, and when sessions are renewed.
//!
//! Nothing here knows a clock or a socket. The same seed gives the same plan, whatever happens to the datagrams; that
//! is what makes the load open-loop. Sending on time, or recording by how much it was late, is left to
//! [`worker`](crate::worker).

use std::ops::Range;
use std::time::Duration;

/// Nanoseconds in a second.
const SECOND_NS: u128 = 1_000_000_000;

/// How often every session is renewed by another discover; daemons do it every 25 to 60 s (SPEC 4.6).
pub const RENEWAL_PERIOD: Duration = Duration::from_secs(60);

/// One datagram of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// When it has to leave, in nanoseconds after the start of the load.
    pub due_ns: u64,
    /// Index of the peer that sends it; its partner receives it.
    pub sender: u32,
}

/// All departures of a run, spread evenly over its duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Datagrams per second, over all workers.
    pub rate_pps: u64,
    /// Datagrams in all.
    pub packets: u64,
    /// Datagrams that are due at the same moment. Bursts, not single datagrams, are evenly spaced.
    pub burst: u64,
    /// Consecutive datagrams from one sender.
    pub run: u64,
    /// Chooses the senders.
    pub seed: u64,
}

impl Plan {
    /// When datagram `number` is due, in nanoseconds after the start.
    #[must_use]
    pub fn due_ns(&self, number: u64) -> u64 {
        let first_of_burst = number / self.burst * self.burst;
        let due = u128::from(first_of_burst) * SECOND_NS / u128::from(self.rate_pps);
        u64::try_from(due).expect("config bounds rate and duration")
    }

    /// The departures of worker `worker` out of `workers`, in order. It takes every `workers`-th burst and sends it
    /// from the peers `senders`, so that all workers together keep the even spacing.
    #[must_use]
    pub fn share(&self, worker: u64, workers: u64, senders: Range<u32>) -> Share {
        assert!(worker < workers && !senders.is_empty());
        let round = workers * self.burst;
        let rest = (self.packets % round).saturating_sub(worker * self.burst).min(self.burst);
        let remaining = self.packets / round * self.burst + rest;
        Share { plan: *self, workers, senders, next: worker * self.burst, remaining }
    }
}

/// The part of a [`Plan`] that one worker sends.
#[derive(Clone, Debug)]
pub struct Share {
    plan: Plan,
    workers: u64,
    senders: Range<u32>,
    next: u64,
    remaining: u64,
}

impl Share {
    /// When the next datagram is due, if there is one.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        (self.remaining > 0).then(|| self.plan.due_ns(self.next))
    }

    /// How many datagrams are left.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl Iterator for Share {
    type Item = Departure;

    fn next(&mut self) -> Option<Departure> {
        let due_ns = self.next_due_ns()?;
        let draw = mix(self.plan.seed ^ mix(self.next / self.plan.run));
        let sender = self.senders.start + below(draw, u32::try_from(self.senders.len()).expect("a range of u32"));
        self.remaining -= 1;
        self.next += 1;
        if self.next.is_multiple_of(self.plan.burst) {
            self.next += (self.workers - 1) * self.plan.burst;
        }
        Some(Departure { due_ns, sender })
    }
}

/// When the sessions of one worker's peers are renewed: each once a [`RENEWAL_PERIOD`], evenly spread, the first one
/// a period after the start.
#[derive(Clone, Debug)]
pub struct Renewals {
    peers: Range<u32>,
    next: u64,
}

impl Renewals {
    /// Renewals for `peers`, which must not be empty.
    #[must_use]
    pub fn new(peers: Range<u32>) -> Self {
        assert!(!peers.is_empty());
        Self { peers, next: 0 }
    }

    /// When the next renewal is due, in nanoseconds after the start of the load.
    #[must_use]
    pub fn next_due_ns(&self) -> u64 {
        let offset = u128::from(self.next) * RENEWAL_PERIOD.as_nanos() / self.peers.len() as u128;
        u64::try_from(RENEWAL_PERIOD.as_nanos() + offset).expect("a run lasts days, not centuries")
    }

    /// The peer whose renewal is due at `now_ns`, if any; it then counts as renewed.
    pub fn poll(&mut self, now_ns: u64) -> Option<u32> {
        if self.next_due_ns() > now_ns {
            return None;
        }
        let turn = u32::try_from(self.next % self.peers.len() as u64).expect("less than the number of peers");
        self.next += 1;
        Some(self.peers.start + turn)
    }
}

/// Draws the partner of every peer: peer `i` sends to `partners[i]`, and every peer receives from exactly one other.
///
/// Sattolo's algorithm: one random cycle through all peers, so that nobody is its own partner. `peers` is at least 2.
#[must_use]
pub fn partners(peers: u32, seed: u64) -> Vec<u32> {
    let mut partners: Vec<u32> = (0..peers).collect();
    for last in (1..peers).rev() {
        let chosen = below(mix(seed.wrapping_add(mix(u64::from(last)))), last);
        partners.swap(last as usize, chosen as usize);
    }
    partners
}

/// The finalizer of SplitMix64: every input bit changes every output bit with probability one half.
#[must_use]
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Maps a uniform `draw` onto `0..bound`.
fn below(draw: u64, bound: u32) -> u32 {
    ((u128::from(draw) * u128::from(bound)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(rate_pps: u64, packets: u64, burst: u64) -> Plan {
        Plan { rate_pps, packets, burst, run: 1, seed: 7 }
    }

    #[test]
    fn a_second_of_load_has_rate_datagrams_evenly_spaced() {
        let departures: Vec<_> = plan(1000, 1000, 1).share(0, 1, 0..10).collect();
        assert_eq!(departures.len(), 1000);
        for (number, departure) in departures.iter().enumerate() {
            assert_eq!(departure.due_ns, number as u64 * 1_000_000);
        }
    }

    #[test]
    fn bursts_are_due_together_and_evenly_spaced() {
        let due: Vec<_> = plan(1000, 12, 4).share(0, 1, 0..10).map(|departure| departure.due_ns).collect();
        assert_eq!(
            due,
            [0, 0, 0, 0, 4_000_000, 4_000_000, 4_000_000, 4_000_000, 8_000_000, 8_000_000, 8_000_000, 8_000_000]
        );
    }

    #[test]
    fn senders_are_drawn_evenly() {
        let mut counts = [0_u32; 16];
        for departure in plan(1000, 160_000, 1).share(0, 1, 0..16) {
            counts[departure.sender as usize] += 1;
        }
        // Binomial with mean 10 000 and deviation 97: six deviations never happen by chance.
        assert!(counts.iter().all(|count| (9_400..10_600).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_run_repeats_its_sender() {
        let departures: Vec<_> = Plan { run: 16, ..plan(1000, 1600, 16) }.share(0, 1, 0..100_000).collect();
        for run in departures.chunks(16) {
            assert!(run.iter().all(|departure| departure.sender == run[0].sender));
        }
        assert_ne!(departures[0].sender, departures[16].sender);
    }

    #[test]
    fn renewals_visit_every_peer_once_a_period() {
        let mut renewals = Renewals::new(5..8);
        assert_eq!(renewals.poll(59_999_999_999), None);
        let second = 1_000_000_000;
        let due: Vec<_> = (60..=180).step_by(20).map(|at| (at, renewals.poll(at * second))).collect();
        let expected = [5, 6, 7, 5, 6, 7, 5].map(Some);
        assert_eq!(due.iter().map(|(_, peer)| *peer).collect::<Vec<_>>(), expected);
        assert_eq!(renewals.poll(180 * second), None);
    }

    proptest! {
        #[test]
        fn the_same_seed_gives_the_same_plan(seed: u64, rate_pps in 1_u64..1_000_000, burst in 1_u64..64) {
            let plan = Plan { rate_pps, packets: 500, burst, run: 1, seed };
            prop_assert!(plan.share(0, 1, 0..1000).eq(plan.share(0, 1, 0..1000)));
        }

        #[test]
        fn shares_add_up_to_the_plan(workers in 1_u64..5, packets in 0_u64..2000, burst in 1_u64..64) {
            let plan = plan(10_000, packets, burst);
            let mut due: Vec<u64> = (0..workers)
                .flat_map(|worker| plan.share(worker, workers, 0..10))
                .map(|departure| departure.due_ns)
                .collect();
            due.sort_unstable();
            prop_assert_eq!(due, (0..packets).map(|number| plan.due_ns(number)).collect::<Vec<_>>());
        }

        #[test]
        fn a_share_counts_down_and_stays_in_order(packets in 0_u64..500, burst in 1_u64..64) {
            let mut share = plan(10_000, packets, burst).share(1, 2, 0..10);
            let mut last = 0;
            let mut left = share.remaining();
            while let Some(due_ns) = share.next_due_ns() {
                let departure = share.next().expect("it has a due time");
                prop_assert_eq!(departure.due_ns, due_ns);
                prop_assert!(due_ns >= last);
                last = due_ns;
                left -= 1;
                prop_assert_eq!(share.remaining(), left);
            }
            prop_assert_eq!(left, 0);
        }

        #[test]
        fn the_rate_is_met_over_any_duration(rate_pps in 1_u64..10_000_000, seconds in 1_u64..86_400) {
            let plan = plan(rate_pps, rate_pps * seconds, 1);
            let last = plan.due_ns(plan.packets - 1);
            let end = seconds * 1_000_000_000;
            prop_assert!(last < end);
            prop_assert!(end - last <= 1_000_000_000 / rate_pps + 1);
        }

        #[test]
        fn partners_form_one_cycle(peers in 2_u32..500, seed: u64) {
            let partners = partners(peers, seed);
            let mut at = 0;
            for step in 1..=peers {
                at = partners[at as usize];
                prop_assert_eq!(at == 0, step == peers);
            }
        }
    }
}
