//! Waking those who wait for changes: at once when their topic was quiet, otherwise once with each tick of a second.
//!
//! An event costs one look-up per topic, however many wait; a tick wakes every waiter of a topic at most once. So fifteen
//! thousand waiters of one busy topic cost fifteen thousand answers a second, and no more the busier it gets.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::service::changes::Topic;

/// Between two signals of one topic.
const SIGNAL_INTERVAL: Duration = Duration::from_secs(1);
/// A topic that nobody has waited for since so long is forgotten. Longer than a client takes to ask again.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(120);

/// The topics that somebody waits for, or did so recently.
#[derive(Debug, Default)]
pub struct Watchers {
    topics: Mutex<HashMap<Topic, Signal>>,
}

#[derive(Debug)]
struct Signal {
    /// The cursor up to which waiters have been told to look.
    cursor: watch::Sender<u64>,
    sent_at: Duration,
    /// The cursor of the latest event noticed; beyond what was sent while a signal is put off.
    noticed: u64,
    wanted_at: Duration,
}

impl Watchers {
    /// The signal of `topic`: a cursor that moves when there is something to look at. `cursor` is the present one.
    pub fn subscribe(&self, topic: Topic, cursor: u64, now: Duration) -> watch::Receiver<u64> {
        let mut topics = self.lock();
        let signal = topics.entry(topic).or_insert_with(|| Signal {
            cursor: watch::Sender::new(cursor),
            // So long ago that the first event is signalled at once.
            sent_at: now.saturating_sub(SIGNAL_INTERVAL),
            noticed: cursor,
            wanted_at: now,
        });
        signal.wanted_at = now;
        signal.cursor.subscribe()
    }

    /// Something has happened in `topics`; `cursor` is that of the latest event.
    pub fn notice(&self, topics: &BTreeSet<Topic>, cursor: u64, now: Duration) {
        if topics.is_empty() {
            return;
        }
        let mut signals = self.lock();
        for topic in topics {
            let Some(signal) = signals.get_mut(topic) else { continue };
            // Two threads may come in either order.
            signal.noticed = signal.noticed.max(cursor);
            if now.saturating_sub(signal.sent_at) >= SIGNAL_INTERVAL {
                signal.send(now);
            }
        }
    }

    /// Called once a second: signals what has been put off, and forgets topics that nobody waits for.
    pub fn tick(&self, now: Duration) {
        self.lock().retain(|_, signal| {
            if signal.noticed > *signal.cursor.borrow() {
                signal.send(now);
            }
            signal.cursor.receiver_count() > 0 || now.saturating_sub(signal.wanted_at) < TOPIC_TIMEOUT
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, Signal>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signal {
    /// Has all look that has been noticed. A waiter that was told of it already is not woken again.
    fn send(&mut self, now: Duration) {
        let noticed = self.noticed;
        self.cursor.send_if_modified(|sent| noticed > std::mem::replace(sent, noticed));
        self.sent_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Topic = Topic::Network(1);

    /// The cursor of a signal that has moved since the last look.
    fn news(receiver: &mut watch::Receiver<u64>) -> Option<u64> {
        receiver.has_changed().unwrap().then(|| *receiver.borrow_and_update())
    }

    #[test]
    fn the_first_event_is_told_at_once_and_the_rest_with_the_next_tick() {
        let watchers = Watchers::default();
        let at = Duration::from_millis;
        let mut waiter = watchers.subscribe(TOPIC, 5, at(10_000));
        let mut other = watchers.subscribe(Topic::Public, 5, at(10_000));
        let topics = BTreeSet::from([TOPIC]);
        watchers.notice(&topics, 6, at(10_100));
        assert_eq!(news(&mut waiter), Some(6));
        watchers.notice(&topics, 7, at(10_200));
        watchers.notice(&topics, 8, at(10_300));
        assert_eq!(news(&mut waiter), None, "within the second");
        watchers.tick(at(10_500));
        assert_eq!(news(&mut waiter), Some(8));
        watchers.tick(at(11_500));
        assert_eq!(news(&mut waiter), None, "nothing new");
        watchers.notice(&topics, 9, at(11_600));
        assert_eq!(news(&mut waiter), Some(9), "quiet for a second");
        assert_eq!(news(&mut other), None, "another topic");
    }

    #[test]
    fn an_event_noticed_late_is_told_with_the_next_tick() {
        let watchers = Watchers::default();
        let at = Duration::from_millis;
        let mut waiter = watchers.subscribe(TOPIC, 5, at(10_000));
        let topics = BTreeSet::from([TOPIC]);
        watchers.notice(&topics, 6, at(10_100));
        assert_eq!(news(&mut waiter), Some(6));
        // Of two threads that come in the wrong order, the later event is what counts.
        watchers.notice(&topics, 8, at(10_200));
        watchers.notice(&topics, 7, at(10_300));
        watchers.tick(at(10_500));
        assert_eq!(news(&mut waiter), Some(8));
        // One that was decided when the tick began, and is noticed after it.
        watchers.notice(&topics, 9, at(10_501));
        assert_eq!(news(&mut waiter), None, "within the second");
        watchers.tick(at(11_500));
        assert_eq!(news(&mut waiter), Some(9));
    }

    #[test]
    fn under_constant_churn_each_second_brings_one_signal() {
        let watchers = Watchers::default();
        let mut waiter = watchers.subscribe(TOPIC, 0, Duration::from_secs(9));
        let topics = BTreeSet::from([TOPIC]);
        let mut signals = 0;
        for step in 0..10_000_u64 {
            let now = Duration::from_millis(10_000 + step);
            watchers.notice(&topics, step + 1, now);
            if step % 1000 == 500 {
                watchers.tick(now);
            }
            signals += usize::from(news(&mut waiter).is_some());
        }
        assert_eq!(signals, 11);
    }

    #[test]
    fn topics_are_forgotten_once_nobody_asks() {
        let watchers = Watchers::default();
        let waiter = watchers.subscribe(TOPIC, 0, Duration::ZERO);
        watchers.tick(TOPIC_TIMEOUT * 2);
        assert_eq!(watchers.lock().len(), 1, "somebody waits");
        drop(waiter);
        watchers.tick(TOPIC_TIMEOUT * 2);
        assert_eq!(watchers.lock().len(), 0);
    }
}
