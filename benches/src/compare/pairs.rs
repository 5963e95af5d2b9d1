//! Who sends to whom: chance that repeats, destinations shaped by the load's pattern.

use benches::Random;

use crate::load::{Load, Pattern};

/// Draws senders and destinations.
#[derive(Clone, Debug)]
pub struct Pairs {
    random: Random,
    sessions: u32,
    pattern: Pattern,
    current: u32,
    left: u32,
}

impl Pairs {
    /// For `load`, the same order for every contender of round `round`.
    #[must_use]
    pub const fn new(load: &Load, round: u64) -> Self {
        Self { random: Random::new(round), sessions: load.sessions, pattern: load.pattern, current: 0, left: 0 }
    }

    /// The session that sends next: any.
    pub const fn sender(&mut self) -> u32 {
        self.random.below(self.sessions)
    }

    /// The session that gets the next datagram. With `sharing` only sessions whose number leaves `lane` when divided by the number of lanes:
    /// a TURN channel belongs to one client socket.
    pub const fn destination(&mut self, sharing: Option<Lane>) -> u32 {
        match self.pattern {
            Pattern::Random => self.draw(self.sessions, sharing),
            Pattern::Runs(run) => {
                if self.left == 0 {
                    self.left = run;
                    self.current = self.draw(self.sessions, sharing);
                }
                self.left -= 1;
                self.current
            }
            // Neighbours in the table would share cache lines, so they are spread over it.
            Pattern::Active(active) => {
                let drawn = self.draw(active, sharing);
                let lanes = match sharing {
                    Some(lane) => lane.of,
                    None => 1,
                };
                drawn / lanes * (self.sessions / active) * lanes + drawn % lanes
            }
        }
    }

    const fn draw(&mut self, below: u32, sharing: Option<Lane>) -> u32 {
        match sharing {
            None => self.random.below(below),
            Some(Lane { lane, of }) => self.random.below(below / of) * of + lane,
        }
    }
}

/// One of several client sockets between which sessions are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Its number.
    pub lane: u32,
    /// How many there are.
    pub of: u32,
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::load::{Arrivals, Place};

    fn drawn(pattern: Pattern, sharing: Option<Lane>) -> Vec<u32> {
        let load = Load {
            place: Place::Loopback,
            payload_bytes: 64,
            sessions: 1000,
            pattern,
            arrivals: Arrivals::Bursts,
            sink_merges: false,
        };
        let mut pairs = Pairs::new(&load, 7);
        (0..16_000).map(|_| pairs.destination(sharing)).collect()
    }

    #[test]
    fn patterns_are_what_they_say() {
        let distinct = |drawn: &[u32]| drawn.iter().copied().collect::<HashSet<_>>().len();
        assert_eq!(distinct(&drawn(Pattern::Random, None)), 1000);
        let runs = drawn(Pattern::Runs(4), None);
        assert!(runs.chunks(4).all(|run| run.iter().all(|one| *one == run[0])) && distinct(&runs) > 900);
        for sharing in [None, Some(Lane { lane: 3, of: 8 })] {
            let active = drawn(Pattern::Active(16), sharing);
            assert_eq!(distinct(&active), if sharing.is_some() { 2 } else { 16 });
            assert!(active.iter().all(|one| *one < 1000));
        }
    }

    #[test]
    fn a_lane_keeps_to_its_sessions_and_uses_them_all() {
        let mut counts: HashMap<u32, u32> = HashMap::new();
        drawn(Pattern::Random, Some(Lane { lane: 5, of: 8 }))
            .iter()
            .for_each(|one| *counts.entry(*one).or_default() += 1);
        assert!(counts.keys().all(|one| one % 8 == 5));
        assert_eq!(counts.len(), 125);
    }
}
