//! Protection against replayed frames (section 3.3): a sliding window of 256 counters for each nonce prefix.
//!
//! A peer that installs a session anew begins under a new prefix with its counter at 1, so each prefix has its window:
//! the current one and four older. Older ones still are remembered by name and refused, or their frames could be
//! replayed as those of a new prefix. A counter is recorded only after its frame has opened; a forged one moves nothing.

use std::collections::VecDeque;

use wire::tunnel::Nonce;

/// Counters behind the highest that are still told apart.
pub const WINDOW: u64 = 256;
/// Prefixes with a window.
const WINDOWS_MAX: usize = 5;
/// Prefixes refused by name. When that many are gone the session needs new keys.
const RETIRED_MAX: usize = 256;

const WORD_BITS: u64 = 64;

/// Which counters of one prefix have been seen.
#[derive(Clone, Debug, Default)]
pub struct Window {
    highest: u64,
    /// A ring: the bit of counter `c` is `c % WINDOW`.
    seen: [u64; (WINDOW / WORD_BITS) as usize],
}

impl Window {
    /// Whether a frame with this counter is new.
    #[must_use]
    pub const fn admits(&self, counter: u64) -> bool {
        if counter > self.highest {
            return true;
        }
        let (word, bit) = place(counter);
        self.highest - counter < WINDOW && self.seen[word] & bit == 0
    }

    /// Records the counter of a frame that has opened.
    pub fn record(&mut self, counter: u64) {
        if counter > self.highest {
            if counter - self.highest >= WINDOW {
                self.seen = Default::default();
            } else {
                (self.highest + 1..=counter).for_each(|skipped| self.mark(skipped, false));
            }
            self.highest = counter;
        }
        self.mark(counter, true);
    }

    /// The highest counter seen.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    fn mark(&mut self, counter: u64, seen: bool) {
        let (word, bit) = place(counter);
        if seen {
            self.seen[word] |= bit;
        } else {
            self.seen[word] &= !bit;
        }
    }
}

const fn place(counter: u64) -> (usize, u64) {
    let at = counter % WINDOW;
    ((at / WORD_BITS) as usize, 1 << (at % WORD_BITS))
}

/// The windows of one session.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    /// Newest first.
    open: VecDeque<([u8; 4], Window)>,
    retired: Vec<[u8; 4]>,
}

impl Windows {
    /// Whether a frame with this nonce is new.
    #[must_use]
    pub fn admits(&self, nonce: Nonce) -> bool {
        match self.open.iter().find(|(prefix, _)| *prefix == nonce.prefix) {
            Some((_, window)) => window.admits(nonce.counter),
            None => !self.are_worn() && !self.retired.contains(&nonce.prefix),
        }
    }

    /// Records the nonce of a frame that has opened, and that was admitted.
    pub fn record(&mut self, nonce: Nonce) {
        if let Some((_, window)) = self.open.iter_mut().find(|(prefix, _)| *prefix == nonce.prefix) {
            return window.record(nonce.counter);
        }
        let mut window = Window::default();
        window.record(nonce.counter);
        self.open.push_front((nonce.prefix, window));
        if self.open.len() > WINDOWS_MAX {
            self.retired.extend(self.open.pop_back().map(|(prefix, _)| prefix));
        }
    }

    /// Whether so many prefixes have come and gone that no new one is admitted.
    #[must_use]
    pub const fn are_worn(&self) -> bool {
        self.retired.len() >= RETIRED_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn nonce(prefix: u32, counter: u64) -> Nonce {
        Nonce { prefix: prefix.to_be_bytes(), counter }
    }

    #[test]
    fn each_of_the_last_five_prefixes_has_its_window_and_older_ones_none() {
        let mut windows = Windows::default();
        (0..6).for_each(|prefix| windows.record(nonce(prefix, 1)));
        assert!((0..6).all(|prefix| !windows.admits(nonce(prefix, 1))));
        assert!((1..6).all(|prefix| windows.admits(nonce(prefix, 2))));
        assert!(!windows.admits(nonce(0, 2)), "its window is gone, so nothing of it can be told from a replay");
    }

    #[test]
    fn when_too_many_prefixes_are_gone_no_new_one_is_admitted() {
        let mut windows = Windows::default();
        let last = (0..).find(|prefix| {
            windows.record(nonce(*prefix, 1));
            windows.are_worn()
        });
        assert_eq!(last, Some((WINDOWS_MAX + RETIRED_MAX - 1) as u32));
        assert!(!windows.admits(nonce(u32::MAX, 1)));
        assert!(windows.admits(nonce(last.unwrap(), 2)), "what is in use goes on");
    }

    #[test]
    fn the_last_counters_there_are_are_counted_like_others() {
        let mut window = Window::default();
        for counter in [u64::MAX - 1, u64::MAX, u64::MAX - 255] {
            assert!(window.admits(counter));
            window.record(counter);
            assert!(!window.admits(counter));
        }
        assert!(!window.admits(u64::MAX - 256));
    }

    proptest! {
        #[test]
        fn the_window_is_a_set_of_what_was_seen(counters in vec(prop_oneof![0u64..600, 5_000u64..5_600], 0..400)) {
            let (mut window, mut seen) = (Window::default(), BTreeSet::new());
            for counter in counters {
                let highest = seen.last().copied().unwrap_or(0);
                let new = !seen.contains(&counter) && (counter > highest || highest - counter < WINDOW);
                prop_assert_eq!(window.admits(counter), new);
                if new {
                    window.record(counter);
                    seen.insert(counter);
                }
            }
        }
    }
}
