//! Memory that is reserved at once and becomes resident page by page, as it is used. What an allocator gives is written
//! to by whoever fills it with its first value: for a table of a hundred thousand sessions that takes longer than all
//! else at a start, and where a hypervisor has to find the pages first, longer than the sockets can hold what arrives.
#![allow(unsafe_code)]

use std::alloc::{Layout, handle_alloc_error};
use std::io;
use std::marker::PhantomData;
use std::mem::needs_drop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use zerocopy::FromZeros;

/// What memory is cleared and translated by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// The kernel's smallest, unless it gives all memory in huge ones.
    Small,
    /// Huge ones where there are any: fewer translations to miss, two mebibytes cleared for the first byte used.
    Huge,
}

/// Anonymous memory, all zero at first, unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes; at least one.
    ///
    /// # Errors
    /// The kernel's: no address space, or no memory where it is strict about what is promised.
    pub fn new(len: usize, pages: Pages) -> io::Result<Self> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| io::Error::other("mmap gave address zero"))?;
        if pages == Pages::Huge {
            // SAFETY: the range is the mapping just made. The call is advice; its failure changes nothing.
            unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        }
        Ok(Self { start, len })
    }

    /// Where it begins: at a page's beginning.
    #[must_use]
    pub const fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`. Whoever has given its address away keeps the mapping for as long.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A slice of values that are all zero at first.
#[derive(Debug)]
pub struct Zeroed<T> {
    mapping: Mapping,
    len: usize,
    values: PhantomData<T>,
}

// SAFETY: it owns its values as a boxed slice would; the mapping belongs to no thread.
unsafe impl<T: Send> Send for Zeroed<T> {}
// SAFETY: as above: `&Zeroed<T>` gives out `&[T]` and nothing else.
unsafe impl<T: Sync> Sync for Zeroed<T> {}

impl<T: FromZeros> Zeroed<T> {
    /// `len` values; at least one. As for a box, want of memory ends the process.
    #[must_use]
    pub fn new(len: usize, pages: Pages) -> Self {
        const { assert!(!needs_drop::<T>(), "values are not dropped") };
        const { assert!(align_of::<T>() <= 4096, "a mapping begins at a page") };
        assert!(len > 0 && size_of::<T>() > 0, "an empty mapping is none");
        let layout = Layout::array::<T>(len).expect("a table is smaller than the address space");
        let Ok(mapping) = Mapping::new(layout.size(), pages) else { handle_alloc_error(layout) };
        Self { mapping, len, values: PhantomData }
    }
}

impl<T> Deref for Zeroed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `new` has mapped room for `len` values at a page's beginning, and all zero is a valid `T` (`FromZeros`).
        // It is mapped for as long as `self` lives, and `&mut [T]` is given out for `&mut self` only.
        unsafe { std::slice::from_raw_parts(self.mapping.start.as_ptr().cast(), self.len) }
    }
}

impl<T> DerefMut for Zeroed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.start.as_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;
    const HUGE_PAGE: usize = 2 << 20;

    fn resident_pages(bytes: &[u8]) -> usize {
        let mut map = vec![0_u8; bytes.len().div_ceil(PAGE)];
        // SAFETY: the range is mapped, begins at a page, and `map` has a byte for each of its pages.
        let status = unsafe { libc::mincore(bytes.as_ptr().cast_mut().cast(), bytes.len(), map.as_mut_ptr()) };
        assert_eq!(status, 0, "{}", io::Error::last_os_error());
        map.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    fn what_is_not_used_takes_no_memory_and_is_zero() {
        for pages in [Pages::Small, Pages::Huge] {
            let mut values: Zeroed<u8> = Zeroed::new(32 * HUGE_PAGE, pages);
            assert_eq!(resident_pages(&values), 0);
            values[17 * PAGE] = 1;
            values[20 * HUGE_PAGE + 5] = 2;
            // Some hosts give huge pages for all memory.
            assert!((2..=2 * HUGE_PAGE / PAGE).contains(&resident_pages(&values)), "{}", resident_pages(&values));
            assert_eq!(values.iter().map(|value| usize::from(*value)).sum::<usize>(), 3);
        }
    }

    #[test]
    fn values_stand_where_their_alignment_and_their_number_say() {
        #[derive(FromZeros, Clone, Copy)]
        #[repr(C, align(64))]
        struct Line([u64; 8]);
        let mut lines: Zeroed<Line> = Zeroed::new(3, Pages::Small);
        assert_eq!((lines.len(), lines.as_ptr() as usize % 64), (3, 0));
        lines.iter_mut().zip(1..).for_each(|(line, number)| line.0 = [number; 8]);
        assert_eq!(lines.iter().map(|line| line.0[7]).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
