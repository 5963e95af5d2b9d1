//! Control events on their way from the shards to the one cold thread that keeps them. Bounded; a full queue refuses.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::ArrayQueue;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::doorbell::Doorbell;
use crate::events::Event;

/// Events of one shard that wait at most; 256 KiB.
pub const EVENTS_MAX: usize = 4096;

/// One queue a shard, and the wake-up they share.
#[derive(Debug)]
pub struct EventQueues {
    shards: Box<[ArrayQueue<Event>]>,
    bell: Doorbell,
    closed: AtomicBool,
    wake: EventFd,
}

impl EventQueues {
    /// Empty queues for `shards` shards.
    ///
    /// # Errors
    /// What the kernel says to another eventfd.
    pub fn new(shards: usize) -> io::Result<Self> {
        Ok(Self {
            shards: (0..shards).map(|_| ArrayQueue::new(EVENTS_MAX)).collect(),
            bell: Doorbell::default(),
            closed: AtomicBool::new(false),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?,
        })
    }

    /// Puts `event` in; [`Self::ring`] makes it known.
    ///
    /// # Errors
    /// Gives the event back when the shard's queue is full.
    pub fn post(&self, shard: usize, event: Event) -> Result<(), Event> {
        self.shards[shard].push(event)
    }

    /// Wakes the keeper, if it has looked since it was last woken: one system call a look at most. A shard calls it once a
    /// batch that had events.
    pub fn ring(&self) {
        if self.bell.ring() {
            // The counter cannot overflow with one write a wake-up, which is the only way this fails.
            let _ = self.wake.write(1);
        }
    }

    /// Waits for events; `false` once [`Self::close`] has been called. For one thread.
    pub fn wait(&self) -> bool {
        while self.wake.read() == Err(Errno::EINTR) {}
        self.bell.acknowledge();
        !self.closed.load(Ordering::SeqCst)
    }

    /// Takes what is there, each event with its shard. Any thread may; what one takes another does not see.
    pub fn drain(&self, mut keep: impl FnMut(usize, Event)) {
        for (shard, queue) in self.shards.iter().enumerate() {
            // At most a queue's worth a shard, so that none keeps the others waiting.
            for event in std::iter::from_fn(|| queue.pop()).take(EVENTS_MAX) {
                keep(shard, event);
            }
        }
    }

    /// Ends the waiting for good.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = self.wake.write(1);
    }
}
