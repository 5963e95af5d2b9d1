//! A small record that one thread writes and others read as one consistent set, without locks and without unsafe code.
//!
//! ```text
//! head:  sequence (32 bits, odd while being written) | tag (32 bits)      words: N × 64 bits
//! ```
//!
//! The reader takes the head, the words, and the head again; an equal, even head means that the words belong together.
//! All parts are atomics, so a torn read is a retry, never undefined behaviour. The tag is what the reader looks for
//! (a node id), readable without the words.

use std::ops::Deref;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};

use crate::mapping::Pages;
#[cfg(not(loom))]
use crate::mapping::Zeroed;

/// Retries before a reader gives up; a writer holds the record for a few nanoseconds unless it is descheduled.
const READ_ATTEMPTS_MAX: usize = 64;
const TAG_MASK: u64 = 0xFFFF_FFFF;
const SEQUENCE_STEP: u64 = 1 << 32;
const WRITING: u64 = SEQUENCE_STEP;

/// `N` words and a tag, published together.
#[derive(Debug)]
#[cfg_attr(not(loom), derive(zerocopy::FromZeros))]
#[repr(C)]
pub struct SeqCell<const N: usize> {
    head: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> Default for SeqCell<N> {
    fn default() -> Self {
        Self { head: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl<const N: usize> SeqCell<N> {
    /// The tag as it stands now, for probing; says nothing about the words.
    #[must_use]
    pub fn tag(&self) -> u32 {
        (self.head.load(Ordering::Acquire) & TAG_MASK) as u32
    }

    /// The words, if the record carries `tag` and they are one consistent set.
    ///
    /// `None` for another tag, and for a record whose writer was interrupted half-way for the whole of the attempts.
    #[must_use]
    pub fn read(&self, tag: u32) -> Option<[u64; N]> {
        for _ in 0..READ_ATTEMPTS_MAX {
            let before = self.head.load(Ordering::Acquire);
            if before & TAG_MASK != u64::from(tag) {
                return None;
            }
            if before & WRITING == 0 {
                let words = std::array::from_fn(|index| self.words[index].load(Ordering::Relaxed));
                fence(Ordering::Acquire);
                if self.head.load(Ordering::Relaxed) == before {
                    return Some(words);
                }
            }
            #[cfg(loom)]
            loom::thread::yield_now();
            #[cfg(not(loom))]
            std::hint::spin_loop();
        }
        None
    }

    /// Replaces tag and words. Only one thread may write a record; two would interleave (never unsafely).
    pub fn write(&self, tag: u32, words: [u64; N]) {
        let before = self.head.load(Ordering::Relaxed);
        let writing = (before & !TAG_MASK).wrapping_add(SEQUENCE_STEP);
        // While the words change, the record carries neither the old tag nor, until it is done, the new one as even.
        self.head.store(writing | u64::from(tag), Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.head.store(writing.wrapping_add(SEQUENCE_STEP) | u64::from(tag), Ordering::Release);
    }
}

/// A table of records, which takes memory as they are written.
#[derive(Debug)]
pub struct SeqCells<const N: usize>(#[cfg(not(loom))] Zeroed<SeqCell<N>>, #[cfg(loom)] Box<[SeqCell<N>]>);

impl<const N: usize> SeqCells<N> {
    /// `len` records without a tag; at least one.
    #[must_use]
    #[cfg(not(loom))]
    pub fn new(len: usize, pages: Pages) -> Self {
        Self(Zeroed::new(len, pages))
    }

    /// The same where every access is tried out.
    #[must_use]
    #[cfg(loom)]
    pub fn new(len: usize, _: Pages) -> Self {
        Self((0..len).map(|_| SeqCell::default()).collect())
    }
}

impl<const N: usize> Deref for SeqCells<N> {
    type Target = [SeqCell<N>];

    fn deref(&self) -> &[SeqCell<N>] {
        &self.0
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::SeqCell;

    /// A record passes from one tag to another and back while it is read: whatever the reader gets under a tag was
    /// written under that tag, as one set.
    #[test]
    fn a_reader_never_sees_words_of_another_tag_or_mixed_sets() {
        loom::model(|| {
            let cell = Arc::new(SeqCell::<2>::default());
            cell.write(1, [10, 11]);
            let writer = {
                let cell = Arc::clone(&cell);
                thread::spawn(move || {
                    cell.write(2, [20, 21]);
                    cell.write(1, [12, 13]);
                })
            };
            if let Some(words) = cell.read(1) {
                assert!(words == [10, 11] || words == [12, 13], "{words:?} was never published under tag 1");
            }
            if let Some(words) = cell.read(2) {
                assert_eq!(words, [20, 21]);
            }
            writer.join().unwrap();
            assert_eq!(cell.read(1), Some([12, 13]));
        });
    }
}
