//! Which datagrams of each flow have arrived: tells first arrivals from duplicates and late ones from those in order.
//!
//! Memory is fixed at the start: one bitmap window per flow, behind the highest sequence number seen, as replay
//! windows do it (RFC 6479). What a result means for the run's accounts is left to [`worker`](crate::worker).

/// Memory all windows share, as long as every flow has at least [`WINDOW_WORDS_MIN`] words.
const WINDOWS_BYTES_MAX: usize = 16 << 20;
/// The smallest window: 64 to 128 datagrams.
const WINDOW_WORDS_MIN: usize = 2;
/// The largest window; reordering by more than 65 536 datagrams of one flow is not reordering any more.
const WINDOW_WORDS_MAX: usize = 1024;

/// What one arrival is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first of its number, and no higher one came before.
    InOrder,
    /// The first of its number, after a higher one (RFC 4737, section 3.3).
    Reordered,
    /// Its number came before.
    Duplicate,
    /// So far behind the highest number that the window cannot tell.
    Stale,
}

/// The windows of all flows whose receivers belong to one worker.
#[derive(Clone, Debug)]
pub struct Arrivals {
    /// One more than the highest number seen, per flow.
    next: Vec<u64>,
    /// Per flow, a ring of words; bit `n % 64` of word `n / 64` is set when number `n` has arrived.
    words: Vec<u64>,
    words_per_flow: usize,
}

impl Arrivals {
    /// Windows for `flows` flows.
    #[must_use]
    pub fn new(flows: usize) -> Self {
        let fair_share = WINDOWS_BYTES_MAX / size_of::<u64>() / flows.max(1);
        let words_per_flow = fair_share.clamp(WINDOW_WORDS_MIN, WINDOW_WORDS_MAX);
        Self { next: vec![0; flows], words: vec![0; flows * words_per_flow], words_per_flow }
    }

    /// Records the arrival of number `sequence` of flow `flow`.
    pub fn record(&mut self, flow: usize, sequence: u64) -> Arrival {
        let span = self.words_per_flow as u64;
        let words = &mut self.words[flow * self.words_per_flow..][..self.words_per_flow];
        let (word, bit) = (sequence / 64, 1 << (sequence % 64));
        let next = &mut self.next[flow];

        if sequence >= *next {
            // The word that holds `next - 1` is in use; all later ones up to `word` are about to be.
            let first_unused = next.div_ceil(64);
            for entered in first_unused.max((word + 1).saturating_sub(span))..=word {
                words[(entered % span) as usize] = 0;
            }
            words[(word % span) as usize] |= bit;
            *next = sequence.saturating_add(1);
            return Arrival::InOrder;
        }
        if (*next - 1) / 64 - word >= span {
            return Arrival::Stale;
        }
        let slot = &mut words[(word % span) as usize];
        if *slot & bit != 0 {
            return Arrival::Duplicate;
        }
        *slot |= bit;
        Arrival::Reordered
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn in_order_then_duplicate_then_reordered() {
        let mut arrivals = Arrivals::new(2);
        assert_eq!(arrivals.record(0, 0), Arrival::InOrder);
        assert_eq!(arrivals.record(0, 0), Arrival::Duplicate);
        assert_eq!(arrivals.record(0, 3), Arrival::InOrder);
        assert_eq!(arrivals.record(0, 1), Arrival::Reordered);
        assert_eq!(arrivals.record(0, 1), Arrival::Duplicate);
        assert_eq!(arrivals.record(1, 1), Arrival::InOrder, "flows are independent");
        assert_eq!(arrivals.record(0, 2), Arrival::Reordered);
    }

    #[test]
    fn far_behind_is_stale() {
        let mut arrivals = Arrivals::new(2_000_000);
        assert_eq!(arrivals.words_per_flow, WINDOW_WORDS_MIN);
        assert_eq!(arrivals.record(0, 1000), Arrival::InOrder);
        assert_eq!(arrivals.record(0, 10), Arrival::Stale);
        assert_eq!(arrivals.record(0, 1000 - 64), Arrival::Reordered);
    }

    #[test]
    fn the_highest_number_is_no_overflow() {
        let mut arrivals = Arrivals::new(1);
        assert_eq!(arrivals.record(0, u64::MAX - 1), Arrival::InOrder);
        assert_eq!(arrivals.record(0, u64::MAX - 1), Arrival::Duplicate);
    }

    proptest! {
        /// Against a set of everything seen: as long as numbers stay within the window, nothing is ever misjudged.
        #[test]
        fn agrees_with_a_set(jumps in prop::collection::vec((-60_i64..200, 0_u8..3), 1..400)) {
            let mut arrivals = Arrivals::new(2_000_000);
            let (mut seen, mut highest) = (HashSet::new(), None);
            for (jump, repeat) in jumps {
                let at = (highest.unwrap_or(0) + jump).max(0);
                for _ in 0..=repeat {
                    let expected = if !seen.insert(at) {
                        Arrival::Duplicate
                    } else if highest.is_some_and(|highest| at < highest) {
                        Arrival::Reordered
                    } else {
                        Arrival::InOrder
                    };
                    highest = highest.max(Some(at));
                    prop_assert_eq!(arrivals.record(7, at as u64), expected, "number {}", at);
                }
            }
        }
    }
}
