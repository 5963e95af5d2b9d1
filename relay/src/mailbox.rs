//! Messages to a shard: from other shards, the directory and the main thread. Bounded; a full mailbox refuses.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use crossbeam_queue::ArrayQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::doorbell::Doorbell;
use crate::ledger::Record;
use crate::locals::Locals;
use crate::server::Handoff;
use crate::socket::LocalSockets;

/// Messages a mailbox holds.
pub const MAIL_MAX: usize = 4096;

/// What a shard can be told.
#[derive(Debug)]
pub enum Mail {
    /// For the rules.
    Handoff(Handoff),
    /// The host's addresses changed: the new list, and the sockets that came with it.
    Locals(Arc<Locals>, Vec<LocalSockets>),
    /// Sessions of the relay before, with the local addresses they may be at; how many are taken over is answered.
    Inherit(Arc<Locals>, Arc<[Record]>, mpsc::Sender<usize>),
    /// Begin no session any more.
    Drain,
    /// Go round the loop once, to show that it can be done.
    Nudge,
    /// Receive no more, decide on what has been received, say so by dropping this, and return.
    Stop(mpsc::Sender<()>),
}

/// A shard's mailbox.
#[derive(Debug)]
pub struct Mailbox {
    queue: ArrayQueue<Mail>,
    bell: Doorbell,
    wake: EventFd,
    /// Nobody reads it any more.
    closed: AtomicBool,
}

impl Mailbox {
    /// An empty mailbox.
    ///
    /// # Errors
    /// What the kernel says to another eventfd.
    pub fn new() -> std::io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { queue: ArrayQueue::new(MAIL_MAX), bell: Doorbell::default(), wake, closed: AtomicBool::new(false) })
    }

    /// Puts `mail` in and wakes the shard. Where that has ended the mail is given up, and with it whatever would answer.
    ///
    /// # Errors
    /// Gives the mail back when the box is full.
    pub fn post(&self, mail: Mail) -> Result<(), Mail> {
        let posted = self.queue.push(mail);
        // After the push, so that of two at once either this sees the end or the end sees the mail.
        if self.closed.load(Ordering::SeqCst) {
            self.give_up();
            return Ok(());
        }
        posted?;
        if self.bell.ring() {
            // The counter cannot overflow with one write a wake-up, which is the only way this fails.
            let _ = self.wake.write(1);
        }
        Ok(())
    }

    /// Takes the next message; the shard calls it until `None` after each wake-up.
    pub fn take(&self) -> Option<Mail> {
        self.queue.pop()
    }

    /// The shard has ended: nobody may wait for its answer, or for room.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.give_up();
    }

    fn give_up(&self) {
        while self.queue.pop().is_some() {}
    }

    /// The shard has read the eventfd and will now look.
    pub fn acknowledge(&self) {
        self.bell.acknowledge();
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_shard_that_has_ended() {
        let mailbox = Mailbox::new().unwrap();
        let (stopping, stopped) = mpsc::channel();
        mailbox.post(Mail::Stop(stopping.clone())).unwrap();
        assert!((1..MAIL_MAX).all(|_| mailbox.post(Mail::Nudge).is_ok()));
        assert!(mailbox.post(Mail::Nudge).is_err(), "full");
        mailbox.close();
        for _ in 0..2 * MAIL_MAX {
            mailbox.post(Mail::Stop(stopping.clone())).unwrap();
        }
        drop(stopping);
        assert_eq!(stopped.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        assert!(mailbox.take().is_none());
    }
}
