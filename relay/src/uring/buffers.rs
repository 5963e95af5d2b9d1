//! The buffers datagrams are received into: mapped once, lent to the kernel through a provided-buffer ring, lent out
//! as [`Lease`]s, and given back.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::mapping::{Mapping, Pages};

/// The group number in receive operations; a ring has one group.
pub const GROUP: u16 = 0;

/// A received buffer on loan. It is neither `Copy` nor `Clone`: the one who gives it back has it no more.
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    pub(super) id: u16,
}

/// The pool of one ring.
#[derive(Debug)]
pub(super) struct Buffers {
    entries: Mapping,
    memory: Mapping,
    stride: usize,
    count: u16,
    tail: u16,
}

impl Buffers {
    /// Maps `count` buffers (a power of two) of `stride` bytes and registers them.
    pub(super) fn register(submitter: &Submitter<'_>, count: u16, stride: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel masks the tail");
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>(), Pages::Small)?;
        let memory = Mapping::new(usize::from(count) * stride, Pages::Small)?;
        // SAFETY: the entries are page-aligned, zeroed memory for exactly `count` entries, and `Buffers` keeps them
        // mapped until the ring is gone (`Ring` drops its buffers last).
        unsafe { submitter.register_buf_ring_with_flags(entries.start().as_ptr() as u64, count, GROUP, 0)? };
        let mut buffers = Self { entries, memory, stride, count, tail: 0 };
        (0..count).for_each(|id| buffers.give_back(Lease { id }));
        buffers.publish();
        Ok(buffers)
    }

    /// Puts a buffer at the kernel's disposal, from [`Self::publish`] on.
    pub(super) fn give_back(&mut self, lease: Lease) {
        let index = usize::from(self.tail & (self.count - 1));
        let address = self.address(lease.id) as u64;
        let first = self.entries.start().as_ptr().cast::<BufRingEntry>();
        // SAFETY: `index` is below `count`, so the entry lies in the mapping. The kernel does not look at entries
        // beyond the published tail, so nothing else accesses it.
        let entry = unsafe { &mut *first.add(index) };
        entry.set_addr(address);
        entry.set_len(self.stride as u32);
        entry.set_bid(lease.id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes the buffers given back visible to the kernel.
    pub(super) fn publish(&mut self) {
        let first = self.entries.start().as_ptr().cast::<BufRingEntry>();
        // SAFETY: the tail is a field of the first entry, shared with the kernel, which reads it atomically.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(first).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// A lent buffer.
    pub(super) fn bytes(&self, lease: &Lease) -> &[u8] {
        // SAFETY: the buffer lies in the mapping. While it is on loan the kernel does not write to it, and whoever
        // borrows the lease mutably borrows `Buffers` mutably too.
        unsafe { std::slice::from_raw_parts(self.address(lease.id), self.stride) }
    }

    /// A lent buffer, to rewrite headers in.
    pub(super) fn bytes_mut(&mut self, lease: &mut Lease) -> &mut [u8] {
        // SAFETY: as `bytes`, and `&mut self` with `&mut Lease` make the access exclusive. Sends only read the buffer,
        // and they are complete when the submission returns.
        unsafe { std::slice::from_raw_parts_mut(self.address(lease.id).cast_mut(), self.stride) }
    }

    /// Where buffer `id` begins.
    pub(super) fn address(&self, id: u16) -> *const u8 {
        assert!(id < self.count, "the kernel returns the buffer ids it was given");
        // SAFETY: below `count` strides, so within the mapping.
        unsafe { self.memory.start().as_ptr().add(usize::from(id) * self.stride) }
    }

    pub(super) const fn stride(&self) -> usize {
        self.stride
    }
}
