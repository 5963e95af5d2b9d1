//! Text for a terminal: what others wrote is made harmless, figures are made readable.

use std::borrow::Cow;
use std::fmt::Write;

/// A text from a peer or a file: control characters, and those that reorder a line, are shown as escapes.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    escape(text, |character| is_harmful(character) || matches!(character, '\n' | '\t'))
}

/// As [`harmless`], for texts of several lines.
#[must_use]
pub fn harmless_lines(text: &str) -> Cow<'_, str> {
    escape(text, is_harmful)
}

/// Bytes that may be text.
#[must_use]
pub fn harmless_bytes(bytes: &[u8]) -> String {
    harmless_lines(&String::from_utf8_lossy(bytes)).into_owned()
}

/// As many characters of a text as fit.
#[must_use]
pub fn shortened(text: &str, characters_max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters_max) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// What a terminal acts on: control characters but line feed and tab, and the marks that reverse the order of text.
pub(super) fn is_harmful(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => true,
        _ => character.is_control(),
    }
}

fn escape(text: &str, harmful: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' if harmful('\n') => escaped.push_str("\\n"),
            '\t' if harmful('\t') => escaped.push_str("\\t"),
            '\r' => escaped.push_str("\\r"),
            _ if !harmful(character) => escaped.push(character),
            _ if (character as u32) < 0x80 => {
                let _ = write!(escaped, "\\x{:02x}", character as u32);
            }
            _ => {
                let _ = write!(escaped, "\\u{{{:x}}}", character as u32);
            }
        }
    }
    Cow::Owned(escaped)
}

/// A number of bytes.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub fn size(bytes: u64) -> String {
    let kilobytes = bytes as f64 / 1024.0;
    match kilobytes {
        ..1.0 => format!("{bytes} B"),
        1.0..1023.95 => format!("{kilobytes:.1} KB"),
        1023.95..1_048_524.8 => format!("{:.1} MB", kilobytes / 1024.0),
        _ => format!("{:.1} GB", kilobytes / 1_048_576.0),
    }
}

/// "1 peer", "2 peers".
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Seconds since 1970 as RFC 3339, in UTC.
#[must_use]
pub fn timestamp(unix_seconds: u64) -> String {
    let (days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Days since 0000-03-01, so that the leap day ends a year; 400 years have 146 097 days.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Seconds since 1970 of an RFC 3339 text in UTC, as the daemon writes it; fractions are ignored.
#[must_use]
pub fn unix_seconds(timestamp: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| timestamp.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_peer_writes_reaches_the_terminal_as_a_command() {
        assert_eq!(harmless("plain ✓ text"), "plain ✓ text");
        assert_eq!(harmless("\x1b[31mred\x07\r\n\u{9b}2J\u{202e}"), "\\x1b[31mred\\x07\\r\\n\\u{9b}2J\\u{202e}");
        assert_eq!(harmless_lines("two\nlines\x7f"), "two\nlines\\x7f");
        assert_eq!(harmless_bytes(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn times_are_written_and_read() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_795_380_124, "2026-11-22T20:42:04Z"),
        ] {
            assert_eq!(timestamp(seconds), text);
            assert_eq!(unix_seconds(text), Some(seconds));
        }
        assert_eq!(unix_seconds("2026-11-22T20:42:04.774089092Z"), Some(1_795_380_124));
        assert_eq!(unix_seconds("yesterday"), None);
        assert_eq!(unix_seconds("2026-é1-22T20:42:04Z"), None);
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([size(6), size(1536), size(2 << 20), size(3 << 30)], ["6 B", "1.5 KB", "2.0 MB", "3.0 GB"]);
        assert_eq!([count(1, "peer"), count(0, "peer")], ["1 peer", "0 peers"]);
        assert_eq!(shortened("ábcd", 2), "áb…");
    }
}
