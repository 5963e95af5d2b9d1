//! The driver of [`crate::fairness`]: one shard's sockets, the filter on them, and what it costs whom.
//!
//! A socket counts what its filter drops together with what its full buffer loses (`SO_RXQ_OVFL`). While a filter is
//! attached the growth of that count is looked at with every review, and split: as much of it as the host has lost for
//! full buffers in that time ([`Overflows`], of all sockets) counts as kernel drops, the rest as filtered. So a loss is
//! never hidden among what was filtered; where other sockets of the host overflow meanwhile, or the kernel does not tell,
//! too much counts as lost.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use wire::cidr::Cidr;

use crate::endpoint::{Endpoint, LocalId};
use crate::fairness::filter::{Family, program};
use crate::fairness::{Fairness, Pressure};
use crate::locals::LOCALS_MAX;
use crate::metrics::{Counter, Counters, DropReason, Gauge};
use crate::overflows::Overflows;
use crate::socket::{attach_filter, detach_filter, receive_queue};
use crate::time::Time;

/// A queue stands when it takes more than one part in so many of its room: it has not been empty since so much came.
const STANDING_PART: u32 = 8;

/// Holds heavy senders back from one shard's sockets.
#[derive(Debug)]
pub struct Guard {
    fairness: Fairness,
    sockets: Vec<Option<Guarded>>,
    overflows: Overflows,
    /// What the host had lost at the last review.
    overflowed: Option<u64>,
    /// Kernel drops seen with datagrams since the last review.
    lost: u64,
    /// It has been said that the kernel takes no filter.
    has_complained: bool,
}

/// A socket that receives.
#[derive(Debug)]
struct Guarded {
    socket: OwnedFd,
    family: Family,
    is_filtered: bool,
    /// Drops of the kernel's that have been counted.
    lost: u32,
}

impl Guard {
    /// For sockets to come; `exempt` sources are never held back.
    #[must_use]
    pub fn new(exempt: Vec<Cidr>) -> Self {
        Self {
            fairness: Fairness::new(exempt),
            sockets: (0..LOCALS_MAX).map(|_| None).collect(),
            overflows: Overflows::open(),
            overflowed: None,
            lost: 0,
            has_complained: false,
        }
    }

    /// Takes a socket in, of which the kernel had dropped `lost` datagrams when it came. One that comes from a predecessor
    /// may bring a filter of its, which goes.
    pub fn install(&mut self, LocalId(local): LocalId, family: Family, socket: OwnedFd, lost: u32) {
        let _ = detach_filter(socket.as_fd());
        let mut guarded = Guarded { socket, family, is_filtered: false, lost };
        if self.fairness.is_active() {
            // What is refused is refused again with the next review, and said then.
            let _ = guarded.filter(&self.fairness);
        }
        self.sockets[usize::from(local)] = Some(guarded);
    }

    /// Closes a socket whose address has gone.
    pub fn uninstall(&mut self, LocalId(local): LocalId) {
        self.sockets[usize::from(local)] = None;
    }

    /// A receive brought so many datagrams from `from`; `lost` is what the kernel said of the socket when it came.
    pub fn note_receive(
        &mut self,
        LocalId(local): LocalId,
        from: &Endpoint,
        datagrams: usize,
        lost: Option<u32>,
        counters: &mut Counters,
    ) {
        self.fairness.note_arrivals(from, datagrams as u64);
        let Some(lost) = lost else { return };
        if let Some(guarded) = &mut self.sockets[usize::from(local)]
            && !guarded.is_filtered
        {
            let more = guarded.growth(lost);
            self.lost += more;
            counters.add(Counter::KernelDrops, more);
        }
    }

    /// The rules dropped a datagram of `from`. A whole prefix answers only for packets that came from where their senders
    /// are. What anybody may have forged holds back one port at most; control messages, which need no port that is known,
    /// hold nobody back, since the filter does not tell them from the packets of nodes.
    pub fn note_drop(&mut self, from: Endpoint, reason: DropReason) {
        match reason {
            DropReason::SenderBudget | DropReason::RefusedBudget => self.fairness.note_over_budget(from, false),
            DropReason::PrefixBudget => self.fairness.note_over_budget(from, true),
            _ => {}
        }
    }

    /// Whether [`Self::review`] has something to do. Cheap, for every batch.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.fairness.is_due(now)
    }

    /// When the next review is due whatever comes.
    #[must_use]
    pub fn next_review(&self) -> Option<Time> {
        self.fairness.next_review()
    }

    /// Splits what the kernel has dropped, and has it hold back who is far over its budget now.
    pub fn review(&mut self, now: Time, shard: usize, counters: &mut Counters) {
        let pressure = self.settle(counters);
        let was_active = self.fairness.is_active();
        let has_changed = self.fairness.review(now, pressure);
        if !was_active && self.fairness.is_active() {
            self.overflowed = self.overflows.read();
        }
        if has_changed {
            for guarded in self.sockets.iter_mut().flatten() {
                if let Err(error) = guarded.filter(&self.fairness)
                    && !std::mem::replace(&mut self.has_complained, true)
                {
                    tracing::warn!(shard, %error, "the kernel takes no socket filter; heavy senders are not held back");
                }
            }
        }
        counters.set(Gauge::Penalties, self.fairness.penalties().len() as u64);
        match (was_active, self.fairness.penalties().first()) {
            (false, Some(penalty)) => {
                tracing::warn!(shard, source = %penalty.source, "far over its budget, or the cause of an overload; held back in the kernel");
            }
            (true, None) => tracing::info!(shard, "nobody is held back any more"),
            _ => {}
        }
    }

    /// Accounts for what the kernel has dropped since the last time, and says how full the sockets are.
    fn settle(&mut self, counters: &mut Counters) -> Pressure {
        let mut pressure = Pressure::default();
        let (mut dropped, mut filtered) = (0, 0);
        for guarded in self.sockets.iter_mut().flatten() {
            let Ok(queue) = receive_queue(guarded.socket.as_fd()) else { continue };
            pressure.stands |= queue.bytes > queue.room / STANDING_PART;
            *(if guarded.is_filtered { &mut filtered } else { &mut dropped }) += guarded.growth(queue.drops);
        }
        let lost = std::mem::take(&mut self.lost);
        let mut overflowed = 0;
        if self.fairness.is_active() {
            let before = std::mem::replace(&mut self.overflowed, self.overflows.read());
            let more = self.overflowed.zip(before).map(|(now, before)| now.saturating_sub(before));
            overflowed = more.map_or(filtered, |more| more.saturating_sub(dropped + lost).min(filtered));
        }
        counters.add(Counter::KernelDrops, dropped + overflowed);
        counters.add(Counter::FilterDrops, filtered - overflowed);
        // Other sockets' losses must not be taken for ours: a full buffer is seen to be one.
        pressure.lost = lost + dropped + if pressure.stands { overflowed } else { 0 };
        pressure
    }
}

impl Guarded {
    /// The drops that have not been counted yet, when `lost` is their number in all. A count read with a datagram may be
    /// older than one read from the socket.
    fn growth(&mut self, lost: u32) -> u64 {
        let more = lost.wrapping_sub(self.lost);
        if more > u32::MAX / 2 {
            return 0;
        }
        self.lost = lost;
        u64::from(more)
    }

    fn filter(&mut self, fairness: &Fairness) -> io::Result<()> {
        let program = program(fairness.penalties(), self.family);
        if !program.is_empty() {
            attach_filter(self.socket.as_fd(), &program)?;
        } else if self.is_filtered {
            detach_filter(self.socket.as_fd())?;
        }
        self.is_filtered = !program.is_empty();
        Ok(())
    }
}
