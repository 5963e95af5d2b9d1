//! How the network has grown: a row an hour. The text of a row, and what becomes of text that is none.

use std::collections::VecDeque;

/// Five years of hours.
pub const HOURS_MAX: usize = 5 * 365 * 24;
const HOUR_SECONDS: u64 = 3600;
/// The first line of the file.
pub const HEADER: &str = "hour_unix_seconds,registered,online_peak";

/// An hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    /// When it began, Unix seconds.
    pub began: u64,
    /// Registered nodes, at its end.
    pub registered: u64,
    /// The most nodes that were present at once.
    pub online_peak: u64,
}

impl Hour {
    /// A line of the file, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{},{},{}\n", self.began, self.registered, self.online_peak)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(',').map(|field| field.parse::<u64>().ok());
        let hour = Self { began: fields.next()??, registered: fields.next()??, online_peak: fields.next()?? };
        (fields.next().is_none() && hour.began.is_multiple_of(HOUR_SECONDS)).then_some(hour)
    }
}

/// What a file is worth.
#[derive(Debug, PartialEq)]
pub enum Loaded {
    /// All of it; the file can be appended to.
    Whole(Growth),
    /// All but a last line that was cut short, or more than is kept, or twice the same hour: write it anew.
    Rewrite(Growth),
    /// Something else: put it aside.
    Damaged,
}

/// Hours, the oldest first; the last one may not be over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    hours: VecDeque<Hour>,
}

impl Growth {
    /// Reads the text of a file.
    #[must_use]
    pub fn load(text: &str) -> Loaded {
        // Appending may have been cut short anywhere, also within the header.
        let (lines, rest) = text.rsplit_once('\n').unwrap_or(("", text));
        let mut lines = lines.split('\n').filter(|line| !line.is_empty());
        let mut growth = Self::default();
        match lines.next() {
            Some(HEADER) => {}
            None if HEADER.starts_with(rest) => return Loaded::Rewrite(growth),
            _ => return Loaded::Damaged,
        }
        let mut read = 0;
        for line in lines {
            let Some(hour) = Hour::parse(line) else { return Loaded::Damaged };
            growth.merge(hour);
            read += 1;
        }
        if rest.is_empty() && growth.hours.len() == read { Loaded::Whole(growth) } else { Loaded::Rewrite(growth) }
    }

    /// The text of a file with all of it.
    #[must_use]
    pub fn text(&self) -> String {
        self.hours.iter().fold(format!("{HEADER}\n"), |text, hour| text + &hour.line())
    }

    /// Takes note of the figures now. Returns the hour before when this begins another.
    pub fn record(&mut self, unix_seconds: u64, registered: u64, online: u64) -> Option<Hour> {
        let before = self.hours.back().copied();
        self.merge(Hour { began: unix_seconds / HOUR_SECONDS * HOUR_SECONDS, registered, online_peak: online });
        before.filter(|before| self.hours.back().is_some_and(|last| last.began != before.began))
    }

    /// The hour that is not over.
    #[must_use]
    pub fn current(&self) -> Option<&Hour> {
        self.hours.back()
    }

    /// The hours that began at `since` or later, Unix seconds, the oldest first.
    pub fn since(&self, since: u64) -> impl Iterator<Item = &Hour> {
        self.hours.range(self.hours.partition_point(|hour| hour.began < since)..)
    }

    /// Hours only go forward: when the wall clock is set back, the last hour stays the last.
    fn merge(&mut self, hour: Hour) {
        match self.hours.back_mut() {
            Some(last) if hour.began <= last.began => {
                last.registered = hour.registered;
                last.online_peak = last.online_peak.max(hour.online_peak);
            }
            _ => {
                if self.hours.len() >= HOURS_MAX {
                    self.hours.pop_front();
                }
                self.hours.push_back(hour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_800_000_000;

    fn grown() -> Growth {
        let mut growth = Growth::default();
        for (seconds, registered, online) in [(0, 1, 1), (1800, 2, 9), (3599, 3, 2), (3600, 4, 4), (9000, 5, 5)] {
            growth.record(T + seconds, registered, online);
        }
        growth
    }

    #[test]
    fn an_hour_keeps_its_last_count_and_its_peak() {
        let hours: Vec<_> = grown().since(0).map(|hour| (hour.began - T, hour.registered, hour.online_peak)).collect();
        assert_eq!(hours, [(0, 3, 9), (3600, 4, 4), (7200, 5, 5)]);
        let mut growth = Growth::default();
        assert_eq!(growth.record(T, 1, 1), None);
        assert_eq!(growth.record(T + 3600, 2, 2), Some(Hour { began: T, registered: 1, online_peak: 1 }));
    }

    #[test]
    fn a_file_comes_back_as_it_was() {
        assert_eq!(Growth::load(&grown().text()), Loaded::Whole(grown()));
        assert_eq!(Growth::load(""), Loaded::Rewrite(Growth::default()));
    }

    #[test]
    fn a_file_cut_anywhere_loses_its_last_line_at_most() {
        let text = grown().text();
        for len in 0..text.len() {
            match Growth::load(&text[..len]) {
                Loaded::Damaged => panic!("{:?}", &text[..len]),
                Loaded::Whole(growth) | Loaded::Rewrite(growth) => {
                    assert_eq!(growth.hours.len(), text[..len].matches('\n').count().saturating_sub(1));
                }
            }
        }
    }

    #[test]
    fn what_is_no_row_is_damage() {
        let text = grown().text();
        for bad in [
            text.replace(",9\n", ",x\n"),
            text.replace(",9\n", ",9,9\n"),
            "\u{0}\n".into(),
            text.replace(T.to_string().as_str(), "7"),
        ] {
            assert_eq!(Growth::load(&bad), Loaded::Damaged, "{bad}");
        }
    }

    #[test]
    fn a_row_written_twice_counts_once_and_a_clock_set_back_adds_none() {
        let again = grown().text() + &Hour { began: T + 7200, registered: 6, online_peak: 3 }.line();
        let Loaded::Rewrite(growth) = Growth::load(&again) else { panic!() };
        assert_eq!(growth.current(), Some(&Hour { began: T + 7200, registered: 6, online_peak: 5 }));
        let mut growth = grown();
        assert_eq!(growth.record(T, 7, 1), None);
        assert_eq!(growth, {
            let mut same = grown();
            same.merge(Hour { began: T + 7200, registered: 7, online_peak: 0 });
            same
        });
    }

    #[test]
    fn five_years_are_enough() {
        let mut growth = Growth::default();
        for hour in 0..HOURS_MAX as u64 + 10 {
            growth.record(T + hour * 3600, hour, 0);
        }
        assert_eq!((growth.hours.len(), growth.since(0).next().unwrap().registered), (HOURS_MAX, 10));
        assert_eq!(growth.since(T + 100 * 3600).next().unwrap().registered, 100);
    }
}
