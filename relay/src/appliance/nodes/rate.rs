//! Rates as people write them.

/// Per second; `None` is what everyone is granted, 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub Option<u64>);

/// `500`, `20k`, `10M`, `1G`, `default` or `unlimited`.
pub fn rate(text: &str) -> Result<Rate, String> {
    let number = match text {
        "default" => return Ok(Rate(None)),
        "unlimited" => return Ok(Rate(Some(0))),
        text => text,
    };
    let (digits, factor) = match number.chars().last() {
        Some('k' | 'K') => (&number[..number.len() - 1], 1_000),
        Some('M') => (&number[..number.len() - 1], 1_000_000),
        Some('G') => (&number[..number.len() - 1], 1_000_000_000),
        _ => (number, 1),
    };
    let rate = digits.parse::<u64>().ok().and_then(|digits| digits.checked_mul(factor)).filter(|rate| *rate > 0);
    rate.map(|rate| Rate(Some(rate)))
        .ok_or_else(|| "expected a number such as 500, 20k or 10M, `default` or `unlimited`".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        for (text, expected) in [
            ("500", Some(500)),
            ("20k", Some(20_000)),
            ("10M", Some(10_000_000)),
            ("1G", Some(1_000_000_000)),
            ("unlimited", Some(0)),
            ("default", None),
        ] {
            assert_eq!(rate(text), Ok(Rate(expected)), "{text}");
        }
        for text in ["", "0", "k", "1.5k", "-1", "10T", "99999999999999999999", "18446744073709551615G", "é"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
