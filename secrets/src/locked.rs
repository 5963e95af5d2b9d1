//! Slabs of locked pages, and the values in them. The crate's unsafe code: mapping, and memory that is handed out by hand.
#![expect(unsafe_code, reason = "see above")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use zeroize::Zeroize as _;

use crate::scrub::scrubbed;
use crate::slots::Slots;

/// Slots are a multiple of this: a cache line, so that no two values share one.
const SLOT_UNIT: usize = 64;
/// Slabs of one kind grow up to this. Fewer are fewer mappings, of which a process may have some 65 000.
const SLAB_BYTES_MAX: usize = 64 << 10;
/// What no value's alignment exceeds: the smallest page there is.
const ALIGN_MAX: usize = 4096;

static ARENA: Mutex<Arena> = Mutex::new(Arena { kinds: BTreeMap::new() });
static LOCKED_BYTES: AtomicUsize = AtomicUsize::new(0);
static UNLOCKED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Whom to tell that a value could not be locked, and whether that has happened.
static TELL: OnceLock<fn()> = OnceLock::new();
static IS_SHORT: AtomicBool = AtomicBool::new(false);
static IS_TOLD: AtomicBool = AtomicBool::new(false);

/// How much memory the values there are now take, room between them included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in locked pages.
    pub locked_bytes: usize,
    /// Bytes in pages that could not be locked.
    pub unlocked_bytes: usize,
}

/// How much there is now.
#[must_use]
pub fn usage() -> Usage {
    Usage { locked_bytes: LOCKED_BYTES.load(Ordering::Relaxed), unlocked_bytes: UNLOCKED_BYTES.load(Ordering::Relaxed) }
}

/// Calls `tell` once in this process: with the first value that cannot be locked, or now if there was one. The first who
/// asks is told.
pub fn when_unlocked(tell: fn()) {
    let _ = TELL.set(tell);
    tell_once();
}

fn tell_once() {
    if let Some(tell) = TELL.get()
        && IS_SHORT.load(Ordering::SeqCst)
        && !IS_TOLD.swap(true, Ordering::SeqCst)
    {
        tell();
    }
}

/// A value in locked memory. It stays at one address, is dropped there, and then its bytes are wiped.
///
/// A process that is forked without running another program finds nothing but zeros in its place, and must not use it.
pub struct Locked<T> {
    slot: Slot<T>,
    /// It owns a `T`.
    value: PhantomData<T>,
}

impl<T> Locked<T> {
    /// Moves `value` there. What it leaves behind on the stack is for the caller to wipe, see [`scrubbed`](crate::scrubbed).
    #[must_use]
    pub fn new(value: T) -> Self {
        let slot = Slot::take();
        // SAFETY: a slot is aligned for `T`, has room for it, and is nobody else's until it is given back.
        unsafe { slot.at.write(value) };
        Self { slot, value: PhantomData }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: `new` has put a value there, and nobody sees it after this. The slot wipes it and gives its place back
        // afterwards, as it is dropped in turn, also if this panics.
        unsafe { self.slot.at.drop_in_place() };
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` has put a value there, it goes with `self`, and who has `&self` may share it.
        unsafe { self.slot.at.as_ref() }
    }
}

impl<T> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` is the only way to it.
        unsafe { self.slot.at.as_mut() }
    }
}

impl<T: Clone> Clone for Locked<T> {
    fn clone(&self) -> Self {
        scrubbed(|| Self::new(T::clone(self)))
    }
}

// SAFETY: it owns its `T` as a `Box` does; the arena behind it is under a lock.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: `&Locked<T>` gives `&T` and nothing else.
unsafe impl<T: Sync> Sync for Locked<T> {}

/// Without the value.
impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(…)")
    }
}

/// Room for a `T`, wiped and given back when it goes.
struct Slot<T> {
    at: NonNull<T>,
}

impl<T> Slot<T> {
    /// Bytes of a slot for a `T`.
    const BYTES: usize = {
        let unit = if align_of::<T>() > SLOT_UNIT { align_of::<T>() } else { SLOT_UNIT };
        assert!(unit <= ALIGN_MAX, "pages are aligned to 4096 bytes");
        if size_of::<T>() == 0 { unit } else { size_of::<T>().next_multiple_of(unit) }
    };

    fn take() -> Self {
        let (at, is_locked) = arena().take(Self::BYTES);
        // Nobody who is told may find the arena locked.
        if !is_locked {
            IS_SHORT.store(true, Ordering::SeqCst);
            tell_once();
        }
        Self { at: at.cast() }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        let at = self.at.cast::<MaybeUninit<u8>>();
        // SAFETY: the slot is ours, and its value is gone. Bytes that need not be initialized make no other demand.
        unsafe { NonNull::slice_from_raw_parts(at, Self::BYTES).as_mut() }.zeroize();
        arena().give(Self::BYTES, at);
    }
}

/// All slabs, by the size of their slots.
struct Arena {
    kinds: BTreeMap<usize, Kind>,
}

/// The slabs with slots of one size.
#[derive(Default)]
struct Kind {
    /// By where they begin.
    slabs: BTreeMap<usize, Slab>,
    /// Those with room, locked ones first.
    with_room: BTreeSet<(Rank, usize)>,
    /// Nothing more could be locked, and nothing has been unlocked since.
    is_at_limit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Locked,
    Unlocked,
}

struct Slab {
    pages: Pages,
    slots: Slots,
}

fn arena() -> MutexGuard<'static, Arena> {
    // Nothing in it panics half-way but for want of memory.
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    /// A slot of `bytes`, and whether it is locked.
    fn take(&mut self, bytes: usize) -> (NonNull<MaybeUninit<u8>>, bool) {
        let kind = self.kinds.entry(bytes).or_default();
        if kind.with_room.first().is_none_or(|(rank, _)| *rank != Rank::Locked) {
            kind.grow(bytes);
        }
        let (rank, start) = *kind.with_room.first().expect("it has grown, or has room without locks");
        let slab = kind.slabs.get_mut(&start).expect("what has room is there");
        let slot = slab.slots.take().expect("it has room");
        if slab.slots.is_full() {
            kind.with_room.remove(&(rank, start));
        }
        counter(rank).fetch_add(bytes, Ordering::Relaxed);
        // SAFETY: slots lie one after the other within the slab's pages.
        (unsafe { slab.pages.start.add(slot * bytes) }, rank == Rank::Locked)
    }

    /// Takes a slot of `bytes` back, at `at`, wiped.
    fn give(&mut self, bytes: usize, at: NonNull<MaybeUninit<u8>>) {
        let kind = self.kinds.get_mut(&bytes).expect("it was taken from there");
        let address = at.addr().get();
        let (&start, slab) = kind.slabs.range_mut(..=address).next_back().expect("it was taken from one");
        let was_taken = slab.slots.give((address - start) / bytes);
        assert!(was_taken, "a slot is given back once");
        let (rank, is_empty) = (slab.pages.rank, slab.slots.is_empty());
        counter(rank).fetch_sub(bytes, Ordering::Relaxed);
        kind.with_room.insert((rank, start));
        // One with room stays, so that a value that comes and goes is not a mapping that comes and goes.
        if is_empty && (rank == Rank::Unlocked || kind.with_room.len() > 1) {
            kind.with_room.remove(&(rank, start));
            kind.slabs.remove(&start);
            if rank == Rank::Locked {
                self.kinds.values_mut().for_each(|kind| kind.is_at_limit = false);
            }
        }
    }
}

impl Kind {
    /// Adds a slab, as large as all there are, within bounds; a smaller one where only that can be locked; one that is not
    /// locked where nothing can be and there is no room in such a one.
    fn grow(&mut self, slot_bytes: usize) {
        if self.is_at_limit && !self.with_room.is_empty() {
            return;
        }
        let page = page_bytes();
        let least = slot_bytes.next_multiple_of(page);
        let there = self.slabs.values().map(|slab| slab.pages.bytes).sum::<usize>();
        let wanted = there.min(SLAB_BYTES_MAX).next_multiple_of(page).max(least);
        let locked = if self.is_at_limit {
            None
        } else {
            Pages::locked(wanted).or_else(|| (least < wanted).then(|| Pages::locked(least)).flatten())
        };
        self.is_at_limit = locked.is_none();
        let pages = match locked {
            Some(pages) => pages,
            None if self.with_room.is_empty() => Pages::unlocked(wanted),
            None => return,
        };
        let start = pages.start.addr().get();
        self.with_room.insert((pages.rank, start));
        let slots = Slots::new(pages.bytes / slot_bytes);
        self.slabs.insert(start, Slab { pages, slots });
    }
}

fn counter(rank: Rank) -> &'static AtomicUsize {
    match rank {
        Rank::Locked => &LOCKED_BYTES,
        Rank::Unlocked => &UNLOCKED_BYTES,
    }
}

/// Pages of zeros, unmapped when they go.
struct Pages {
    start: NonNull<MaybeUninit<u8>>,
    bytes: usize,
    rank: Rank,
}

// SAFETY: nothing but this value has the address, and any thread may use and unmap it.
unsafe impl Send for Pages {}

impl Pages {
    fn locked(bytes: usize) -> Option<Self> {
        let mut pages = Self::unlocked(bytes);
        system::lock(pages.start, bytes).then(|| {
            pages.rank = Rank::Locked;
            pages
        })
    }

    fn unlocked(bytes: usize) -> Self {
        let start = system::map(bytes).unwrap_or_else(|error| {
            panic!("the kernel has no memory for keys: {error}");
        });
        Self { start, bytes, rank: Rank::Unlocked }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: they were mapped with so many bytes, and with the last slot nobody has an address in them any more.
        unsafe { system::unmap(self.start, self.bytes) };
    }
}

fn page_bytes() -> usize {
    static PAGE_BYTES: OnceLock<usize> = OnceLock::new();
    *PAGE_BYTES.get_or_init(|| system::page_bytes().max(ALIGN_MAX))
}

/// The kernel.
#[cfg(not(miri))]
mod system {
    use super::{ALIGN_MAX, MaybeUninit, NonNull, io};

    pub fn page_bytes() -> usize {
        // SAFETY: asks for a number.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(bytes).unwrap_or(ALIGN_MAX)
    }

    pub fn map(bytes: usize) -> io::Result<NonNull<MaybeUninit<u8>>> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory, at an address that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // An old kernel may not know one of them. Core dumps and forks are forbidden elsewhere too.
        for advice in [libc::MADV_DONTDUMP, libc::MADV_WIPEONFORK] {
            // SAFETY: the pages just mapped, which nobody has written to; neither advice changes what is in them here.
            unsafe { libc::madvise(start, bytes, advice) };
        }
        NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at zero"))
    }

    /// Whether it could be.
    pub fn lock(start: NonNull<MaybeUninit<u8>>, bytes: usize) -> bool {
        // SAFETY: changes nothing in memory.
        unsafe { libc::mlock(start.as_ptr().cast(), bytes) == 0 }
    }

    /// # Safety
    /// The pages are from [`map`], all of them, and nobody uses them any more.
    pub unsafe fn unmap(start: NonNull<MaybeUninit<u8>>, bytes: usize) {
        // SAFETY: the caller's word. Locks go with the pages.
        unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
    }
}

/// What Miri knows of memory: that of the allocator, and no locks.
#[cfg(miri)]
mod system {
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    use super::{ALIGN_MAX, MaybeUninit, NonNull, io};

    pub fn page_bytes() -> usize {
        ALIGN_MAX
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, ALIGN_MAX).expect("some pages")
    }

    pub fn map(bytes: usize) -> io::Result<NonNull<MaybeUninit<u8>>> {
        // SAFETY: not of no size.
        NonNull::new(unsafe { alloc_zeroed(layout(bytes)) }.cast()).ok_or_else(|| io::Error::other("none"))
    }

    /// The largest slabs are not: so both kinds are met.
    pub fn lock(_: NonNull<MaybeUninit<u8>>, bytes: usize) -> bool {
        bytes < super::SLAB_BYTES_MAX
    }

    /// # Safety
    /// As above.
    pub unsafe fn unmap(start: NonNull<MaybeUninit<u8>>, bytes: usize) {
        // SAFETY: the caller's word.
        unsafe { dealloc(start.as_ptr().cast(), layout(bytes)) };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// Of a size that few other tests have.
    struct Odd<const N: usize>([u8; N]);

    fn address<T>(value: &Locked<T>) -> usize {
        std::ptr::from_ref::<T>(value).addr()
    }

    #[test]
    fn a_slot_is_zero_when_the_next_has_it() {
        let first = Locked::new(Odd([0xA5; 700]));
        let at = address(&first);
        assert!(first.0.iter().all(|byte| *byte == 0xA5));
        drop(first);
        let again = Slot::<Odd<700>>::take();
        assert_eq!(again.at.addr().get(), at, "the slot is used again");
        let bytes = NonNull::slice_from_raw_parts(again.at.cast::<u8>(), Slot::<Odd<700>>::BYTES);
        // SAFETY: the slot is ours, and its bytes were set to zero.
        assert!(unsafe { bytes.as_ref() }.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn values_share_a_page_and_keep_apart() {
        let many: Vec<_> = (0..200_u8).map(|byte| Locked::new(Odd([byte; 90]))).collect();
        let mut addresses: Vec<_> = many.iter().map(address).collect();
        addresses.sort_unstable();
        assert!(addresses.windows(2).all(|pair| pair[1] - pair[0] >= 128 && pair[0] % SLOT_UNIT == 0));
        let mut pages: Vec<_> = addresses.iter().map(|at| at / ALIGN_MAX).collect();
        pages.dedup();
        assert!(pages.len() <= 200_usize.div_ceil(32) + 1, "{} pages for 200 slots of 128 bytes", pages.len());
        assert!(many.iter().zip(0..).all(|(value, byte)| value.0 == [byte; 90]));
    }

    #[test]
    fn what_it_holds_is_dropped_once_and_in_place() {
        struct Counts(Rc<Cell<u32>>, [u64; 40]);
        impl Drop for Counts {
            fn drop(&mut self) {
                assert_eq!(self.1, [7; 40]);
                self.0.set(self.0.get() + 1);
            }
        }
        let drops = Rc::new(Cell::new(0));
        let mut value = Locked::new(Counts(Rc::clone(&drops), [0; 40]));
        value.1 = [7; 40];
        assert_eq!(drops.get(), 0);
        drop(value);
        assert_eq!((drops.get(), Rc::strong_count(&drops)), (1, 1));
    }

    #[test]
    fn a_slab_without_values_goes_back_and_one_stays() {
        let slabs = || arena().kinds.get(&Slot::<Odd<5000>>::BYTES).map_or(0, |kind| kind.slabs.len());
        let values: Vec<_> = (0..40).map(|_| Locked::new(Odd([1; 5000]))).collect();
        assert!(slabs() > 2, "{}", slabs());
        drop(values);
        assert!(slabs() <= 1, "one stays where it could be locked");
    }

    #[test]
    fn any_size_and_alignment_has_its_place() {
        #[repr(align(1024))]
        struct Wide(u8);
        let (wide, other, nothing) = (Locked::new(Wide(3)), Locked::new(Wide(4)), Locked::new(()));
        assert!(address(&wide).is_multiple_of(1024) && address(&other).is_multiple_of(1024));
        assert_eq!((wide.0, other.0, *nothing), (3, 4, ()));
        let large = Locked::new(Odd([9; 3 * SLAB_BYTES_MAX / 2]));
        assert!(large.0.iter().all(|byte| *byte == 9));
    }

    #[test]
    fn threads_share_it() {
        let rounds = if cfg!(miri) { 40 } else { 4000 };
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                scope.spawn(move || {
                    let mut held: Vec<Locked<Odd<333>>> = Vec::new();
                    for round in 0..rounds {
                        held.push(Locked::new(Odd([thread; 333])));
                        if round % 3 == 2 {
                            held.swap_remove(usize::from(thread) % held.len());
                        }
                        assert!(held.iter().step_by(64).all(|value| value.0 == [thread; 333]));
                    }
                });
            }
        });
    }

    #[test]
    fn nothing_of_it_is_printed() {
        assert_eq!(format!("{:?}", Locked::new([0xA5_u8; 32])), "Locked(…)");
    }
}
