//! Questions on their way from the shards to the one cold thread that has them judged, and that thread. Bounded; a full
//! queue refuses, and whoever claimed or asked does so again.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_queue::ArrayQueue;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::authority::{Authority, Judge, Question};
use crate::cookie::LIFETIME;
use crate::doorbell::Doorbell;
use crate::mailbox::{Mail, Mailbox};
use crate::server::Handoff;
use crate::sessions::shard_of;
use crate::time::Time;

/// Questions of all shards that wait at most; 136 KiB, and what a thread answers within a tenth of a second.
pub const QUESTIONS_MAX: usize = 1024;

/// A question on its way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The shard that asks.
    shard: usize,
    /// When it was asked.
    at: Time,
    question: Question,
}

impl Asked {
    /// Whether it is too late for an answer: who knows the nodes may take its time, for instance while it starts, and
    /// whoever has signed meanwhile may be elsewhere, or has asked again.
    fn is_stale(&self, now: Time) -> bool {
        now.since(self.at) > LIFETIME
    }
}

/// The queue of all shards.
#[derive(Debug)]
pub struct Questions {
    queue: ArrayQueue<Asked>,
    bell: Doorbell,
    closed: AtomicBool,
    wake: EventFd,
}

impl Questions {
    /// An empty queue.
    ///
    /// # Errors
    /// What the kernel says to another eventfd.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            queue: ArrayQueue::new(QUESTIONS_MAX),
            bell: Doorbell::default(),
            closed: AtomicBool::new(false),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?,
        })
    }

    /// Puts a question of `shard` in, asked at `at`; [`Self::ring`] makes it known. `false` when the queue is full.
    #[must_use]
    pub fn post(&self, shard: usize, at: Time, question: Question) -> bool {
        self.queue.push(Asked { shard, at, question }).is_ok()
    }

    /// Wakes the thread, if it has looked since it was last woken.
    pub fn ring(&self) {
        if self.bell.ring() {
            // The counter cannot overflow with one write a wake-up, which is the only way this fails.
            let _ = self.wake.write(1);
        }
    }

    /// Ends the thread.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = self.wake.write(1);
    }

    /// Waits for questions; `false` once closed. For one thread.
    fn wait(&self) -> bool {
        while self.wake.read() == Err(Errno::EINTR) {}
        self.bell.acknowledge();
        !self.closed.load(Ordering::SeqCst)
    }
}

/// Starts the thread that has questions judged until the queue is closed. What is answered later than a cookie lives is
/// not answered, and answers that find a mailbox full are lost, as any handoff is: the question comes again.
///
/// # Errors
/// No thread can be started.
pub fn answer(
    questions: Arc<Questions>,
    mut judge: Judge,
    authority: Arc<dyn Authority>,
    mailboxes: Arc<[Mailbox]>,
) -> io::Result<thread::JoinHandle<()>> {
    let body = move || {
        while questions.wait() {
            while let Some(asked) = questions.queue.pop() {
                let now = Time::read_clock();
                if asked.is_stale(now) {
                    continue;
                }
                let judged = || judge.judge(now, authority.as_ref(), &asked.question);
                // A panic here must not end the answering for good.
                let Ok(handoff) = panic::catch_unwind(AssertUnwindSafe(judged)) else {
                    tracing::error!("a question of the relay to the directory failed; the next is asked again");
                    continue;
                };
                // The authority may have been waited for.
                if asked.is_stale(Time::read_clock()) {
                    continue;
                }
                let to = match &handoff {
                    Handoff::Claimed(claim, _) => shard_of(claim.node, mailboxes.len()),
                    _ => asked.shard,
                };
                let _ = mailboxes[to].post(Mail::Handoff(handoff));
            }
        }
    };
    thread::Builder::new().name("authority".to_owned()).spawn(body)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use wire::NodeId;

    use super::*;
    use crate::authority::Introduction;
    use crate::endpoint::{Endpoint, LocalId, Path};
    use crate::time::nanos;

    /// Panics when asked by node 13, and lets all others through.
    struct Unlucky;

    impl Authority for Unlucky {
        fn public_key(&self, _node: NodeId) -> Option<[u8; 32]> {
            None
        }

        fn lets_resolve(&self, requester: NodeId, _target: NodeId) -> bool {
            assert_ne!(requester, NodeId(13), "on purpose");
            true
        }
    }

    fn question(requester: u32) -> Question {
        let remote: Endpoint = "198.18.1.1:4000".parse::<std::net::SocketAddr>().unwrap().into();
        let from = Path { remote, local: LocalId(0) };
        Question::Introduction(Introduction { requester: NodeId(requester), from, target: NodeId(2) })
    }

    #[test]
    fn a_full_queue_refuses() {
        let questions = Questions::new().unwrap();
        assert!((0..QUESTIONS_MAX).all(|_| questions.post(0, Time(1), question(1))));
        assert!(!questions.post(0, Time(1), question(1)));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "waits for a thread, with a deadline")]
    fn answers_come_in_time_to_the_shard_that_asks_and_a_panic_ends_nothing() {
        let questions = Arc::new(Questions::new().unwrap());
        let mailboxes: Arc<[Mailbox]> = (0..2).map(|_| Mailbox::new().unwrap()).collect();
        let thread = answer(Arc::clone(&questions), Judge::new([1; 32]), Arc::new(Unlucky), Arc::clone(&mailboxes));
        let now = Time::read_clock();
        let long_ago = Time(now.0 - nanos(LIFETIME) - 1);
        for (at, asked) in [(now, 1), (now, 13), (long_ago, 7), (now, 5)] {
            assert!(questions.post(1, at, question(asked)));
            questions.ring();
        }
        let began = Instant::now();
        let mut answered = Vec::new();
        while answered.len() < 2 {
            assert!(began.elapsed() < Duration::from_secs(20), "answered: {answered:?}");
            match mailboxes[1].take() {
                Some(Mail::Handoff(Handoff::Introduce(asked, true))) => answered.push(asked.requester.0),
                Some(other) => panic!("{other:?}"),
                None => thread::yield_now(),
            }
        }
        assert_eq!(answered, [1, 5], "the third was asked too long ago");
        assert!(mailboxes[0].take().is_none());
        questions.close();
        thread.unwrap().join().unwrap();
    }
}
