//! Whose datagrams are most of those over a budget: Misra-Gries over a fixed number of counters. A source that is more
//! than one in [`COUNTERS`] is found; no count is ever too high, so nobody is blamed for what others did.

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
    /// Counts one datagram.
    pub fn note(&mut self, source: Source) {
        if let Some((_, count)) = self.counters.iter_mut().find(|(counted, _)| *counted == source) {
            *count += 1;
        } else if self.counters.len() < COUNTERS {
            self.counters.push((source, 1));
        } else {
            // One of everybody's pays for one of the newcomer's.
            self.counters.retain_mut(|(_, count)| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// Takes all counts out, the highest first.
    pub fn drain(&mut self) -> impl Iterator<Item = (Source, u64)> {
        self.counters.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
        self.counters.drain(..)
    }
}
