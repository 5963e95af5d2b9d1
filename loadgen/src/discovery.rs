//! Which peer says discover next: a window of unconfirmed peers, each repeated with growing patience until the relay
//! has delivered a probe to it.
//!
//! A plain value: sending, receiving and the clock are left to [`worker`](crate::worker).

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Unconfirmed peers at a time. Twice as many small datagrams fit into a socket's default receive buffer.
pub const WINDOW_MAX: usize = 128;
/// How long to wait for the first, second, … attempt; the last one repeats.
pub const PATIENCE: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// Without any peer confirmed for this long, the rest is given up.
pub const STALL_MAX: Duration = Duration::from_secs(6);

/// The roll-call of one worker's peers. Times are nanoseconds of the worker's clock.
#[derive(Clone, Debug)]
pub struct Discovery {
    peers: Range<u32>,
    /// First peer that has not been asked yet.
    fresh: u32,
    confirmed: Vec<bool>,
    confirmed_count: usize,
    waiting: usize,
    /// Peers asked, by attempt; each queue is in order of its deadlines.
    asked: [VecDeque<(u64, u32)>; PATIENCE.len()],
    give_up_ns: u64,
}

impl Discovery {
    /// A roll-call of `peers` that begins now.
    #[must_use]
    pub fn new(peers: Range<u32>, now_ns: u64) -> Self {
        Self {
            fresh: peers.start,
            confirmed: vec![false; peers.len()],
            peers,
            confirmed_count: 0,
            waiting: 0,
            asked: Default::default(),
            give_up_ns: now_ns + nanos(STALL_MAX),
        }
    }

    /// The next peer that has to say discover, if one does at this time.
    pub fn poll_send(&mut self, now_ns: u64) -> Option<u32> {
        let (peer, attempt) = self.poll_repeat(now_ns).or_else(|| self.poll_fresh())?;
        self.asked[attempt].push_back((now_ns + nanos(PATIENCE[attempt]), peer));
        Some(peer)
    }

    /// The relay has delivered the probe of `peer`. Returns whether that is news.
    pub fn handle_confirmed(&mut self, peer: u32, now_ns: u64) -> bool {
        let local = (peer - self.peers.start) as usize;
        if peer >= self.fresh || self.confirmed[local] {
            return false;
        }
        self.confirmed[local] = true;
        self.confirmed_count += 1;
        self.waiting -= 1;
        self.give_up_ns = now_ns + nanos(STALL_MAX);
        true
    }

    /// When [`Self::poll_send`] or [`Self::is_over`] may change without another confirmation.
    #[must_use]
    pub fn poll_timeout(&self) -> u64 {
        let deadlines = self.asked.iter().filter_map(|queue| queue.front()).map(|(deadline, _)| *deadline);
        deadlines.min().unwrap_or(self.give_up_ns).min(self.give_up_ns)
    }

    /// Whether all peers are confirmed, or the rest is given up.
    #[must_use]
    pub fn is_over(&self, now_ns: u64) -> bool {
        self.confirmed_count == self.peers.len() || now_ns >= self.give_up_ns
    }

    /// Peers confirmed so far.
    #[must_use]
    pub const fn confirmed(&self) -> usize {
        self.confirmed_count
    }

    fn poll_repeat(&mut self, now_ns: u64) -> Option<(u32, usize)> {
        for attempt in 0..self.asked.len() {
            while let Some((deadline, peer)) = self.asked[attempt].front().copied() {
                let confirmed = self.confirmed[(peer - self.peers.start) as usize];
                if !confirmed && deadline > now_ns {
                    break;
                }
                self.asked[attempt].pop_front();
                if !confirmed {
                    return Some((peer, (attempt + 1).min(PATIENCE.len() - 1)));
                }
            }
        }
        None
    }

    fn poll_fresh(&mut self) -> Option<(u32, usize)> {
        if self.waiting == WINDOW_MAX || self.fresh == self.peers.end {
            return None;
        }
        let peer = self.fresh;
        self.fresh += 1;
        self.waiting += 1;
        Some((peer, 0))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("seconds, not centuries")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sends(discovery: &mut Discovery, now_ns: u64) -> Vec<u32> {
        std::iter::from_fn(|| discovery.poll_send(now_ns)).collect()
    }

    #[test]
    fn a_full_window_waits_for_confirmations() {
        let mut discovery = Discovery::new(0..1000, 0);
        assert_eq!(sends(&mut discovery, 0).len(), WINDOW_MAX);
        assert!(discovery.handle_confirmed(3, 1));
        assert!(!discovery.handle_confirmed(3, 1), "a second answer is no news");
        assert_eq!(sends(&mut discovery, 1), [WINDOW_MAX as u32]);
    }

    #[test]
    fn a_silent_peer_is_repeated_with_growing_patience_then_given_up() {
        let mut discovery = Discovery::new(10..11, 0);
        assert_eq!(sends(&mut discovery, 0), [10]);
        let mut times = Vec::new();
        loop {
            let now_ns = discovery.poll_timeout();
            if discovery.is_over(now_ns) {
                assert_eq!(now_ns, nanos(STALL_MAX));
                break;
            }
            assert_eq!(sends(&mut discovery, now_ns), [10]);
            times.push(now_ns / 1_000_000);
        }
        assert_eq!(times, [250, 750, 1750, 3750, 5750]);
        assert_eq!(discovery.confirmed(), 0);
    }

    #[test]
    fn an_answer_for_a_peer_never_asked_is_ignored() {
        let mut discovery = Discovery::new(0..1000, 0);
        assert!(!discovery.handle_confirmed(999, 0));
    }

    proptest! {
        /// Whoever loses up to four attempts is confirmed by the fifth, and the window is never exceeded.
        #[test]
        fn losses_are_made_good(losses in prop::collection::vec(0_u8..5, 1..600)) {
            let peers = losses.len() as u32;
            let (mut discovery, mut losses, mut now_ns) = (Discovery::new(5..5 + peers, 0), losses, 0);
            while !discovery.is_over(now_ns) {
                let asked = sends(&mut discovery, now_ns);
                prop_assert!(asked.len() <= WINDOW_MAX);
                let mut progress = false;
                for peer in asked {
                    match &mut losses[peer as usize - 5] {
                        0 => progress |= discovery.handle_confirmed(peer, now_ns),
                        left => *left -= 1,
                    }
                }
                if !progress {
                    now_ns = discovery.poll_timeout();
                }
            }
            prop_assert_eq!(discovery.confirmed(), peers as usize);
        }
    }
}
