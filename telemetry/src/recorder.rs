//! A flight recorder: the last events of each of many subjects, in bounded memory. A plain value without a clock; times are
//! whatever its owner counts in.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The last events of each subject. When there are too many subjects, the one that has been quiet the longest is forgotten.
#[derive(Clone, Debug)]
pub struct Recorder<K, E> {
    subjects_max: usize,
    events_max: usize,
    of: HashMap<K, Subject<E>>,
    /// Subjects by their turns, the quietest first. Turns that are not a subject's latest are stale.
    quiet: VecDeque<(u64, K)>,
    turn: u64,
}

#[derive(Clone, Debug)]
struct Subject<E> {
    events: VecDeque<E>,
    turn: u64,
}

impl<K: Copy + Eq + Hash, E> Recorder<K, E> {
    /// A recorder of the last `events_max` events of each of `subjects_max` subjects; both at least 1.
    #[must_use]
    pub fn new(subjects_max: usize, events_max: usize) -> Self {
        let (subjects_max, events_max) = (subjects_max.max(1), events_max.max(1));
        Self { subjects_max, events_max, of: HashMap::new(), quiet: VecDeque::new(), turn: 0 }
    }

    /// Notes an event.
    pub fn record(&mut self, subject: K, event: E) {
        if !self.of.contains_key(&subject) && self.of.len() >= self.subjects_max {
            self.forget_quietest();
        }
        self.turn += 1;
        let turn = self.turn;
        let known = self.of.entry(subject).or_insert_with(|| Subject { events: VecDeque::new(), turn });
        known.turn = turn;
        if known.events.len() >= self.events_max {
            known.events.pop_front();
        }
        known.events.push_back(event);
        self.quiet.push_back((turn, subject));
        if self.quiet.len() > self.subjects_max * 2 {
            let of = &self.of;
            self.quiet.retain(|(turn, subject)| of.get(subject).is_some_and(|known| known.turn == *turn));
        }
    }

    /// The events of a subject, the oldest first.
    pub fn events(&self, subject: K) -> impl Iterator<Item = &E> {
        self.of.get(&subject).into_iter().flat_map(|known| &known.events)
    }

    /// The subjects that anything is known of, in no order.
    pub fn subjects(&self) -> impl Iterator<Item = K> + '_ {
        self.of.keys().copied()
    }

    fn forget_quietest(&mut self) {
        while let Some((turn, subject)) = self.quiet.pop_front() {
            if self.of.get(&subject).is_some_and(|known| known.turn == turn) {
                self.of.remove(&subject);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_of_each_are_kept() {
        let mut recorder = Recorder::new(2, 3);
        (0..5).for_each(|number| recorder.record('a', number));
        recorder.record('b', 9);
        assert_eq!(recorder.events('a').copied().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(recorder.events('b').copied().collect::<Vec<_>>(), [9]);
        assert_eq!(recorder.events('c').count(), 0);
    }

    #[test]
    fn the_quietest_goes_first_and_memory_stays_bounded() {
        let mut recorder = Recorder::new(3, 2);
        for subject in [1, 2, 3, 1] {
            recorder.record(subject, ());
        }
        recorder.record(4, ());
        let mut left: Vec<_> = recorder.subjects().collect();
        left.sort_unstable();
        assert_eq!(left, [1, 3, 4]);
        (0..1000).for_each(|number| recorder.record(number, ()));
        assert!(recorder.of.len() <= 3 && recorder.quiet.len() <= 7, "{} {}", recorder.of.len(), recorder.quiet.len());
    }
}
