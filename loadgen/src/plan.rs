//! The load as a pure function: when each datagram is due, and on which flow.
//!
//! Nothing here knows a clock or a socket. The same seed gives the same plan, whatever happens to the datagrams; that
//! is what makes the load open-loop. Sending on time, or recording by how much it was late, is left to
//! [`worker`](crate::worker).

use std::ops::Range;

use crate::ramp::Ramp;

/// One datagram of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// When it has to leave, in nanoseconds after the start of the load.
    pub due_ns: u64,
    /// Number of the flow it belongs to.
    pub flow: u32,
}

/// All departures of a run, spread over its duration as the rate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Datagrams per second, over all workers.
    pub rate_pps: Ramp,
    /// How long the rate takes to get from its start to its end.
    pub duration_ns: u64,
    /// Datagrams that are due at the same moment. Bursts, not single datagrams, are spaced.
    pub burst: u64,
    /// Consecutive datagrams of one flow, among those of one worker.
    pub run: u64,
    /// Chooses the flows.
    pub seed: u64,
}

impl Plan {
    /// Datagrams in all, at least one.
    #[must_use]
    pub fn packets(&self) -> u64 {
        ((self.rate_pps.mean() * self.duration_ns as f64 / 1e9).round() as u64).max(1)
    }

    /// When datagram `number` is due, in nanoseconds after the start.
    #[must_use]
    pub fn due_ns(&self, number: u64) -> u64 {
        self.rate_pps.time_of(number / self.burst * self.burst, self.duration_ns)
    }

    /// The departures of worker `worker` out of `workers`, in order. It takes every `workers`-th burst and sends it on
    /// the flows `flows`, so that all workers together keep the spacing.
    #[must_use]
    pub fn share(&self, worker: u64, workers: u64, flows: Range<u32>) -> Share {
        assert!(worker < workers && !flows.is_empty());
        let (packets, round) = (self.packets(), workers * self.burst);
        let rest = (packets % round).saturating_sub(worker * self.burst).min(self.burst);
        let remaining = packets / round * self.burst + rest;
        let stream = mix(self.seed ^ mix(worker));
        Share { plan: *self, workers, flows, stream, next: worker * self.burst, taken: 0, remaining }
    }
}

/// The part of a [`Plan`] that one worker sends.
#[derive(Clone, Debug)]
pub struct Share {
    plan: Plan,
    workers: u64,
    flows: Range<u32>,
    /// Chooses the flows of this share, unlike those of the others.
    stream: u64,
    /// The next datagram's number in the whole plan.
    next: u64,
    /// Datagrams taken. Runs are counted by these: in the whole plan other shares' bursts lie between.
    taken: u64,
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
        let draw = mix(self.stream ^ mix(self.taken / self.plan.run));
        let flow = self.flows.start + below(draw, u32::try_from(self.flows.len()).expect("a range of u32"));
        self.remaining -= 1;
        self.taken += 1;
        self.next += 1;
        if self.next.is_multiple_of(self.plan.burst) {
            self.next += (self.workers - 1) * self.plan.burst;
        }
        Some(Departure { due_ns, flow })
    }
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
#[must_use]
pub fn below(draw: u64, bound: u32) -> u32 {
    ((u128::from(draw) * u128::from(bound)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A plan of `packets` datagrams at an even rate.
    fn plan(rate_pps: u64, packets: u64, burst: u64) -> Plan {
        let duration_ns = (u128::from(packets) * 1_000_000_000 / u128::from(rate_pps)) as u64;
        Plan { rate_pps: Ramp::constant(rate_pps), duration_ns, burst, run: 1, seed: 7 }
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
    fn flows_are_drawn_evenly() {
        let mut counts = [0_u32; 16];
        for departure in plan(1000, 160_000, 1).share(0, 1, 0..16) {
            counts[departure.flow as usize] += 1;
        }
        // Binomial with mean 10 000 and deviation 97: six deviations never happen by chance.
        assert!(counts.iter().all(|count| (9_400..10_600).contains(count)), "{counts:?}");
    }

    #[test]
    fn workers_draw_their_flows_apart() {
        let plan = plan(1000, 2000, 1);
        let drawn = |worker| plan.share(worker, 2, 0..1000).map(|departure| departure.flow);
        let same = drawn(0).zip(drawn(1)).filter(|(one, other)| one == other).count();
        assert!(same < 20, "one in a thousand by chance: {same}");
    }

    proptest! {
        #[test]
        fn the_same_seed_gives_the_same_plan(seed: u64, rate_pps in 1_u64..1_000_000, burst in 1_u64..64) {
            let plan = Plan { seed, ..plan(rate_pps, 500, burst) };
            prop_assert!(plan.share(0, 1, 0..1000).eq(plan.share(0, 1, 0..1000)));
        }

        #[test]
        fn shares_add_up_to_the_plan(workers in 1_u64..5, packets in 1_u64..2000, burst in 1_u64..64) {
            let plan = plan(10_000, packets, burst);
            let mut due: Vec<u64> = (0..workers)
                .flat_map(|worker| plan.share(worker, workers, 0..10))
                .map(|departure| departure.due_ns)
                .collect();
            due.sort_unstable();
            prop_assert_eq!(due, (0..packets).map(|number| plan.due_ns(number)).collect::<Vec<_>>());
        }

        /// Every worker keeps the runs, also where bursts begin and end within them. The flows are so many that two
        /// runs in a row practically never draw the same one.
        #[test]
        fn a_run_repeats_its_flow(workers in 1_u64..5, burst in 1_u64..64, run in 1_u64..40) {
            let plan = Plan { run, ..plan(10_000, 2000, burst) };
            for worker in 0..workers {
                let flows: Vec<_> = plan.share(worker, workers, 0..u32::MAX).map(|departure| departure.flow).collect();
                let runs: Vec<_> = flows.chunk_by(|one, next| one == next).map(|run| run.len() as u64).collect();
                let (last, whole) = runs.split_last().expect("every worker has something to send");
                prop_assert!(whole.iter().all(|len| *len == run) && *last <= run, "{:?}", runs);
            }
        }

        #[test]
        fn a_share_counts_down_and_stays_in_order(packets in 1_u64..500, burst in 1_u64..64) {
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
            prop_assert_eq!(plan.packets(), rate_pps * seconds);
            let last = plan.due_ns(plan.packets() - 1);
            prop_assert!(last < plan.duration_ns);
            prop_assert!(plan.duration_ns - last <= 1_000_000_000 / rate_pps + 1);
        }

        /// On a ramp the count, the order and the mean rate hold, and each half has its part.
        #[test]
        fn a_ramp_keeps_its_promises(
            from in 1_u64..20_000,
            to in 1_u64..20_000,
            burst in 1_u64..64,
            workers in 1_u64..4,
        ) {
            let plan = Plan {
                rate_pps: Ramp { from, to },
                duration_ns: 1_000_000_000,
                burst,
                run: 1,
                seed: 3,
            };
            let mut due: Vec<u64> = (0..workers)
                .flat_map(|worker| plan.share(worker, workers, 0..10))
                .map(|departure| departure.due_ns)
                .collect();
            due.sort_unstable();
            prop_assert_eq!(due.len() as u64, plan.packets());
            prop_assert_eq!(&due, &(0..plan.packets()).map(|number| plan.due_ns(number)).collect::<Vec<_>>());
            prop_assert!(due.iter().all(|due| *due <= plan.duration_ns));
            let early = due.iter().filter(|due| **due < 500_000_000).count() as f64;
            let expected = (3.0 * from as f64 + to as f64) / 8.0;
            prop_assert!((early - expected).abs() <= burst as f64 + 1.0, "{early} of {expected}");
        }
    }
}
