//! When sessions are renewed: a pure function of the number of peers.

use std::ops::Range;
use std::time::Duration;

/// How often every session is renewed by another discover; daemons do it every 25 to 60 s (SPEC 4.6).
pub const RENEWAL_PERIOD: Duration = Duration::from_secs(60);

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

    /// When the next renewal is due, in nanoseconds after the start.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
