//! Numbers as people read them.

/// `1 234 567`, with thin spaces that do not break.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 * 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A time of so many microseconds, with three digits and the unit that suits it.
#[must_use]
pub fn time(microseconds: f64) -> String {
    match microseconds {
        us if us < 999.5 => format!("{} µs", digits(us)),
        us if us < 999_500.0 => format!("{} ms", digits(us / 1e3)),
        us => format!("{} s", digits(us / 1e6)),
    }
}

/// A number with about three digits, without an exponent.
#[must_use]
pub fn figure(number: f64) -> String {
    if number >= 1000.0 { grouped(number.round() as u64) } else { digits(number) }
}

fn digits(number: f64) -> String {
    let decimals = match number {
        number if number >= 100.0 || number == 0.0 => 0,
        number if number >= 10.0 => 1,
        number if number >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
        assert_eq!(
            [0.0, 0.5, 95.04, 999.4, 1200.0, 2_500_000.0].map(time),
            ["0 µs", "0.5 µs", "95 µs", "999 µs", "1.2 ms", "2.5 s"]
        );
        assert_eq!([0.0, 0.1, 0.1234, 12.34, 123_456.7].map(figure), ["0", "0.1", "0.1234", "12.3", "123\u{202f}457"]);
    }
}
