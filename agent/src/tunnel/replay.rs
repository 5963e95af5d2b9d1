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
