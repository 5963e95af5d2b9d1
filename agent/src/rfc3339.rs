//! Times as RFC 3339 writes them, to the second: `2026-01-31T12:00:00Z`. Reading takes fractions and offsets, too.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

const DAY: i64 = 86_400;

/// `unix` seconds as text, in UTC.
pub(crate) fn format(unix: u64) -> String {
    // The last second of the year 9999: later ones have no such text.
    let unix = unix.min(253_402_300_799).cast_signed();
    let (year, month, day) = civil_from_days(unix.div_euclid(DAY));
    let second = unix.rem_euclid(DAY);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// As [`format`], to the nanosecond.
pub(crate) fn format_precise(unix: Duration) -> String {
    let whole = format(unix.as_secs());
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), unix.subsec_nanos())
}

/// As names of files have it, to the millisecond: `20260131-120000.000`.
pub(crate) fn compact(unix: Duration) -> String {
    let digits: String = format(unix.as_secs()).chars().filter(|c| !matches!(c, '-' | ':' | 'Z')).collect();
    format!("{}.{:03}", digits.replace('T', "-"), unix.subsec_millis())
}

/// The unix seconds of `text`; those before 1970 count as 0 (a time that was never set is the year 1).
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let (time, rest) = rest.strip_prefix(['T', 't', ' '])?.split_at_checked(8)?;
    let [year, month, day] = numbers(date, b'-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, b':', [2, 2, 2])?;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => rest,
    };
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), ..] => {
            let [hours, minutes] = numbers(&zone[1..], b':', [2, 2])?;
            (hours * 3600 + minutes * 60) * if *sign == b'+' { 1 } else { -1 }
        }
        _ => return None,
    };
    let is_valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let unix = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    is_valid.then(|| u64::try_from(unix).unwrap_or(0))
}

pub(crate) fn serialize<S: Serializer>(unix: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*unix))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| de::Error::custom("a time is not as RFC 3339 writes it"))
}

/// `N` numbers of the given widths, between separators.
fn numbers<const N: usize>(text: &str, separator: u8, widths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(char::from(separator));
    let mut out = [0; N];
    for (number, width) in out.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

/// Days since 1970 of a date of the Gregorian calendar. Years begin in March here, so that leap days come last.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let (era, day_of_era) = ((days + 719_468).div_euclid(146_097), (days + 719_468).rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_print_and_parse() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_600, "2026-01-01T00:00:00Z"),
            (1_795_355_408, "2026-11-22T13:50:08Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(format(unix), text);
            assert_eq!(parse(text), Some(unix));
        }
    }

    #[test]
    fn fractions_are_written_where_they_are_wanted() {
        let unix = Duration::new(1_795_355_408, 91_576_787);
        assert_eq!(format_precise(unix), "2026-11-22T13:50:08.091576787Z");
        assert_eq!(compact(unix), "20261122-135008.091");
    }

    #[test]
    fn every_day_of_many_years_comes_back() {
        for day in 0..100_000 {
            let unix = day * 86_400 + 12_345;
            assert_eq!(parse(&format(unix)), Some(unix));
        }
    }

    #[test]
    fn fractions_and_offsets_are_read() {
        assert_eq!(parse("2026-01-01T02:00:00.123456789+02:00"), Some(1_767_225_600));
        assert_eq!(parse("2025-12-31T19:30:00-04:30"), Some(1_767_225_600));
        assert_eq!(parse("0001-01-01T00:00:00Z"), Some(0));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "2026",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00+2",
            "äääää",
            "2026-01-01T0ä:00:0Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
