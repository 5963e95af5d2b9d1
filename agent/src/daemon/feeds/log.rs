//! The last changes of a feed, numbered, for readers that each go on from where they were.

use std::collections::VecDeque;

use wire::registry::answer::Change;

/// Changes that are remembered; who is farther behind asks for everything anew.
const ENTRIES_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Change(Change),
    /// The directory is away from here on.
    Away,
    /// What lies before says nothing about what is now.
    Break,
}

/// What a reader has not seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// To be given back with the next question.
    pub cursor: u64,
    /// Ask for all there is: changes may be missing.
    pub reset: bool,
    /// Why the directory does not tell, while it does not.
    pub away: Option<String>,
    /// What has changed, the oldest first.
    pub changes: Vec<Change>,
}

/// The log of one feed.
#[derive(Debug)]
pub struct Log {
    /// The number before that of the oldest entry.
    before: u64,
    entries: VecDeque<Entry>,
    has_heard: bool,
    away: Option<String>,
}

impl Log {
    /// An empty log whose numbers begin after `base`, which is above all that other logs have given out.
    #[must_use]
    pub const fn new(base: u64) -> Self {
        Self { before: base, entries: VecDeque::new(), has_heard: false, away: None }
    }

    /// The directory has answered. Whatever was missed before, or while it was away, has to be asked for anew.
    pub fn handle_answer(&mut self, reset: bool, changes: Vec<Change>) {
        let is_back = self.away.take().is_some();
        if reset || (is_back && self.has_heard) {
            self.push(Entry::Break);
        }
        self.has_heard = true;
        changes.into_iter().for_each(|change| self.push(Entry::Change(change)));
    }

    /// The directory does not answer, or refuses.
    pub fn handle_silence(&mut self, reason: String) {
        if self.away.replace(reason).is_none() {
            self.push(Entry::Away);
        }
    }

    /// What a reader at `cursor` has not seen; `None` while that is nothing. A reader at 0 begins at what is now.
    #[must_use]
    pub fn since(&self, cursor: u64) -> Option<News> {
        let last = self.before + self.entries.len() as u64;
        let away = self.away.clone();
        if cursor == 0 {
            return (self.has_heard || away.is_some()).then(|| News { cursor: last, away, ..News::default() });
        }
        let Some(seen) = cursor.checked_sub(self.before).filter(|_| cursor <= last) else {
            return Some(News { cursor: last, reset: true, away, changes: Vec::new() });
        };
        if cursor == last {
            return None;
        }
        let mut news = News { cursor: last, away, ..News::default() };
        for entry in self.entries.iter().skip(usize::try_from(seen).unwrap_or(usize::MAX)) {
            match entry {
                Entry::Change(change) => news.changes.push(change.clone()),
                Entry::Away => {}
                Entry::Break => {
                    news.reset = true;
                    news.changes.clear();
                }
            }
        }
        Some(news)
    }

    /// For a reader whose patience has ended.
    #[must_use]
    pub fn nothing(&self, cursor: u64) -> News {
        News { cursor, away: self.away.clone(), ..News::default() }
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.pop_front();
            self.before += 1;
        }
        self.entries.push_back(entry);
    }
}

#[cfg(test)]
mod tests {
    use wire::NodeId;
    use wire::registry::answer::Happened;

    use super::*;

    fn change(node: u32) -> Change {
        Change { what: Happened::Online, node_id: NodeId(node), hostname: None, network_id: None, at: 5 }
    }

    #[test]
    fn a_reader_goes_on_from_where_it_was() {
        let mut log = Log::new(1000);
        assert_eq!(log.since(0), None, "the directory has not said anything yet");
        log.handle_answer(false, Vec::new());
        let cursor = log.since(0).unwrap().cursor;
        assert_eq!(log.since(cursor), None);
        log.handle_answer(false, vec![change(1), change(2)]);
        let news = log.since(cursor).unwrap();
        assert_eq!((news.reset, news.changes.len()), (false, 2));
        assert_eq!(log.since(news.cursor), None);
    }

    #[test]
    fn after_a_break_everything_is_to_be_asked_anew() {
        let mut log = Log::new(1000);
        log.handle_answer(false, vec![change(1)]);
        let cursor = log.since(0).unwrap().cursor;
        log.handle_silence("gone".to_owned());
        log.handle_silence("still gone".to_owned());
        let news = log.since(cursor).unwrap();
        assert_eq!((news.reset, news.away.as_deref()), (false, Some("still gone")));
        assert_eq!(log.since(news.cursor), None, "told once");
        log.handle_answer(false, vec![change(2)]);
        let news = log.since(cursor).unwrap();
        assert_eq!((news.reset, news.away, news.changes.len()), (true, None, 1));
    }

    #[test]
    fn who_is_too_far_behind_or_of_another_feed_begins_anew() {
        let mut log = Log::new(1000);
        log.handle_answer(false, (0..5000).map(change).collect());
        assert!(log.since(1001).unwrap().reset, "that is forgotten");
        assert!(log.since(7).unwrap().reset && log.since(1 << 40).unwrap().reset);
        assert_eq!(log.since(5990).unwrap().changes.len(), 10);
        assert_eq!(log.entries.len(), ENTRIES_MAX);
    }
}
