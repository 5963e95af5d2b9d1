//! Durations on the command line and on the screen: `1m30s`, `500ms`, `2.5s`, or plain seconds.

use std::time::Duration;

/// Longer than anyone waits; keeps sums of instants in range.
const SECONDS_MAX: f64 = 10.0 * 365.0 * 86_400.0;

/// The duration a text stands for.
///
/// # Errors
/// For the user: what is expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration \"{text}\"; expected such as 500ms, 5s, 1m30s or 24h");
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => sum_of_parts(text).ok_or_else(invalid)?,
    };
    if (0.0..=SECONDS_MAX).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(invalid()) }
}

fn sum_of_parts(mut text: &str) -> Option<f64> {
    let mut seconds = 0.0;
    while !text.is_empty() {
        let unit_start = text.find(|character: char| character != '.' && !character.is_ascii_digit())?;
        let (number, rest) = text.split_at(unit_start);
        let unit_end = rest.find(|character: char| character == '.' || character.is_ascii_digit());
        let (unit, rest) = rest.split_at(unit_end.unwrap_or(rest.len()));
        let unit_seconds = match unit {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit_seconds;
        text = rest;
    }
    Some(seconds)
}

/// A round trip for a person: three figures at most.
#[must_use]
pub fn milliseconds(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms {
        ..1.0 => format!("{ms:.2}ms"),
        1.0..9.95 => format!("{ms:.1}ms"),
        9.95..9_999.5 => format!("{ms:.0}ms"),
        _ => format!("{:.1}s", ms / 1e3),
    }
}

/// A span of time for a person, its two largest units.
#[must_use]
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// Milliseconds as scripts get them: microseconds are the last figures.
#[must_use]
pub fn json_milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_existing_scripts_write_them() {
        for (text, ms) in
            [("500ms", 500), ("5s", 5000), ("1m30s", 90_000), ("1.5s", 1500), ("24h", 86_400_000), ("3", 3000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["abc", "5x", "-1s", "1e300", "nan", "s", "1.2.3s", "5s3"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_with_the_figures_that_matter() {
        let shown = |us| milliseconds(Duration::from_micros(us));
        assert_eq!([shown(85), shown(1400), shown(22_300), shown(12_000_000)], ["0.09ms", "1.4ms", "22ms", "12.0s"]);
        assert_eq!([span(4), span(68), span(7260), span(90_000)], ["4s", "1m08s", "2h01m", "1d01h"]);
    }
}
