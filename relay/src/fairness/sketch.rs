//! Whose datagrams are most of many: Misra-Gries over a fixed number of counters. A source that is more than one in
//! [`COUNTERS`] is found; no count is ever too high, so nobody is blamed for what others did.

use super::Source;

/// Sources counted at once.
const COUNTERS: usize = 32;

/// Counts sources in a space of fixed size.
#[derive(Debug)]
pub struct Sketch {
    counters: Vec<(Source, u64)>,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { counters: Vec::with_capacity(COUNTERS) }
    }
}

impl Sketch {
    /// Counts datagrams of a source.
    pub fn note(&mut self, source: Source, datagrams: u64) {
        if let Some((_, count)) = self.counters.iter_mut().find(|(counted, _)| *counted == source) {
            *count += datagrams;
            return;
        }
        let mut left = datagrams;
        if self.counters.len() == COUNTERS {
            // As much of everybody's pays for as much of the newcomer's.
            let least = self.counters.iter().map(|(_, count)| *count).min().unwrap_or_default().min(left);
            left -= least;
            self.counters.retain_mut(|(_, count)| {
                *count -= least;
                *count > 0
            });
        }
        if left > 0 && self.counters.len() < COUNTERS {
            self.counters.push((source, left));
        }
    }

    /// Takes all counts out, the highest first.
    pub fn drain(&mut self) -> impl Iterator<Item = (Source, u64)> {
        self.counters.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
        self.counters.drain(..)
    }
}
