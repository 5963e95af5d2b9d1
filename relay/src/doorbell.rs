//! The flag before an eventfd: whoever leaves something for a thread wakes it, with one system call for each time the
//! thread looks, not for each thing left.
//!
//! ```text
//! leaves:  put it in the queue; ring() says whether to write the eventfd      looks:  read the eventfd; acknowledge(); empty the queue
//! ```
//!
//! Nothing stays behind unseen: of two that ring at once only the first writes, and what the second has left is either
//! found by the look that follows `acknowledge`, or that `ring` comes after it and writes again. Both are exchanges of
//! one flag, so the later of them sees all that happened before the earlier.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the thread has been woken since it last looked.
#[derive(Debug)]
pub struct Doorbell(AtomicBool);

impl Default for Doorbell {
    fn default() -> Self {
        Self(AtomicBool::new(false))
    }
}

impl Doorbell {
    /// Something has been left; `true` if the thread must be woken for it.
    #[must_use]
    pub fn ring(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }

    /// The thread has been woken and will now look.
    pub fn acknowledge(&self) {
        self.0.swap(false, Ordering::SeqCst);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    use super::Doorbell;

    /// Switches from one thread to the other in the middle of its work; each more multiplies the time by ten.
    const PREEMPTIONS_MAX: usize = 2;

    /// Two leave something, each once; the thread sleeps whenever its eventfd is empty. If a wake-up were lost it would
    /// sleep for ever, which loom reports. What was left is read without any order of its own: it is the bell's.
    #[test]
    fn nothing_left_stays_behind_unseen() {
        const LEAVING: usize = 2;
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(PREEMPTIONS_MAX);
        model.check(|| {
            let bell = Arc::new(Doorbell::default());
            let queue = Arc::new(AtomicUsize::new(0));
            let eventfd = Arc::new((Mutex::new(0_u32), Condvar::new()));
            for _ in 0..LEAVING {
                let (bell, queue, eventfd) = (Arc::clone(&bell), Arc::clone(&queue), Arc::clone(&eventfd));
                thread::spawn(move || {
                    queue.fetch_add(1, Relaxed);
                    if bell.ring() {
                        *eventfd.0.lock().unwrap() += 1;
                        eventfd.1.notify_one();
                    }
                });
            }
            while queue.load(Relaxed) < LEAVING {
                let mut count = eventfd.0.lock().unwrap();
                while *count == 0 {
                    count = eventfd.1.wait(count).unwrap();
                }
                *count = 0;
                drop(count);
                bell.acknowledge();
            }
        });
    }
}
