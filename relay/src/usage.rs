//! How much each node has sent through the relay since it started.
//!
//! A shard counts beside the session, in the cache line that a packet touches anyway. At its sweep, and when it is asked, it
//! adds what has come together to this board, from which anybody reads: a paged array indexed by node id, since the
//! directory hands ids out densely.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use wire::NodeId;
use zerocopy::FromZeros;

const PAGE_LEN: usize = 1 << 10;
const PAGES_PER_CHAPTER: usize = 1 << 11;
const CHAPTERS: usize = 1 << 11;
/// Pages made at most, of 24 KiB: four million nodes with neighbouring ids. What is sent beyond is not counted.
const PAGES_MAX: usize = 1 << 12;

/// What one node has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Packets relayed.
    pub packets: u64,
    /// Bytes relayed.
    pub bytes: u64,
    /// Packets dropped because they were beyond its budget.
    pub dropped: u64,
}

/// What has come together since it was added to the board last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
pub struct Tally {
    bytes: u64,
    packets: u32,
    dropped: u32,
}

impl Tally {
    /// A packet of `len` bytes was relayed.
    pub const fn relayed(&mut self, len: usize) {
        self.packets = self.packets.saturating_add(1);
        self.bytes += len as u64;
    }

    /// What another shard has counted.
    pub const fn merge(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes += other.bytes;
        self.dropped = self.dropped.saturating_add(other.dropped);
    }

    /// Packets relayed.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets as u64
    }

    /// Bytes relayed.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A packet was beyond the budget.
    pub const fn refused(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }
}

#[derive(Debug, Default)]
struct Account {
    packets: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
}

type Page = OnceLock<Box<[Account]>>;

/// The board. Each account is written by the shard that owns the node, and seldom by others.
#[derive(Debug)]
pub struct Board {
    chapters: Box<[OnceLock<Box<[Page]>>]>,
    pages: AtomicUsize,
}

impl Default for Board {
    fn default() -> Self {
        Self { chapters: lazy(CHAPTERS), pages: AtomicUsize::new(0) }
    }
}

impl Board {
    /// Adds `tally` to what `node` has sent.
    pub fn add(&self, node: NodeId, tally: Tally) {
        if tally == Tally::default() {
            return;
        }
        let (chapter, page, account) = position(node);
        let page = &self.chapters[chapter].get_or_init(|| lazy(PAGES_PER_CHAPTER))[page];
        // Shards at once may make one page each beyond the bound.
        if page.get().is_none() && self.pages.load(Relaxed) >= PAGES_MAX {
            return;
        }
        let make = || {
            // Here, so that a page two shards want at once counts once.
            self.pages.fetch_add(1, Relaxed);
            (0..PAGE_LEN).map(|_| Account::default()).collect()
        };
        let account = &page.get_or_init(make)[account];
        account.packets.fetch_add(tally.packets.into(), Relaxed);
        account.bytes.fetch_add(tally.bytes, Relaxed);
        account.dropped.fetch_add(tally.dropped.into(), Relaxed);
    }

    /// What `node` has sent, as far as its shard has added it.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Usage {
        let (chapter, page, account) = position(node);
        let page = self.chapters[chapter].get().and_then(|pages| pages[page].get());
        page.map_or_else(Usage::default, |page| Usage {
            packets: page[account].packets.load(Relaxed),
            bytes: page[account].bytes.load(Relaxed),
            dropped: page[account].dropped.load(Relaxed),
        })
    }
}

fn lazy<T>(count: usize) -> Box<[OnceLock<T>]> {
    (0..count).map(|_| OnceLock::new()).collect()
}

const fn position(NodeId(node): NodeId) -> (usize, usize, usize) {
    let node = node as usize;
    (node / (PAGE_LEN * PAGES_PER_CHAPTER), node / PAGE_LEN % PAGES_PER_CHAPTER, node % PAGE_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_read_and_nothing_else() {
        let board = Board::default();
        let mut tally = Tally::default();
        tally.relayed(100);
        tally.relayed(50);
        tally.refused();
        for node in [NodeId(1), NodeId(1024), NodeId(u32::MAX - 1)] {
            assert_eq!(board.of(node), Usage::default());
            board.add(node, tally);
            board.add(node, tally);
            assert_eq!(board.of(node), Usage { packets: 4, bytes: 300, dropped: 2 });
        }
        assert_eq!(board.of(NodeId(2)), Usage::default());
    }

    #[test]
    fn a_page_that_several_shards_want_at_once_counts_once() {
        const SHARDS: u32 = 4;
        const PAGES: u32 = 256;
        let board = Board::default();
        let mut tally = Tally::default();
        tally.relayed(1);
        let together = std::sync::Barrier::new(SHARDS as usize);
        std::thread::scope(|scope| {
            for shard in 0..SHARDS {
                let (board, together) = (&board, &together);
                scope.spawn(move || {
                    for page in 0..PAGES {
                        together.wait();
                        board.add(NodeId(page * PAGE_LEN as u32 + 1 + shard), tally);
                    }
                });
            }
        });
        assert_eq!(board.pages.load(Relaxed), PAGES as usize);
    }

    #[test]
    fn ids_out_of_the_blue_do_not_use_up_the_memory() {
        let board = Board::default();
        let mut tally = Tally::default();
        tally.relayed(1);
        for page in 0..PAGES_MAX as u32 * 2 {
            board.add(NodeId(page * PAGE_LEN as u32 + 5), tally);
        }
        assert_eq!(board.pages.load(Relaxed), PAGES_MAX);
        board.add(NodeId(7), tally);
        assert_eq!(board.of(NodeId(7)).packets, 1, "pages that are there go on");
    }
}
