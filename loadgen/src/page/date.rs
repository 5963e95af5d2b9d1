//! A date as people read it.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `22 November 2026, 17:40 UTC`.
#[must_use]
pub fn utc(unix_seconds: u64) -> String {
    let (days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // The Gregorian calendar repeats every 400 years of 146 097 days. Years are counted from March, so that a leap day
    // is the last day of its year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12;
    let year = era * 400 + year + u64::from(month < 2);
    let (hour, minute) = (seconds / 3600, seconds / 60 % 60);
    format!("{day} {} {year}, {hour:02}:{minute:02} UTC", MONTHS[month as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        for (seconds, text) in [
            (0, "1 January 1970, 00:00 UTC"),
            (951_825_540, "29 February 2000, 11:59 UTC"),
            (1_709_251_199, "29 February 2024, 23:59 UTC"),
            (1_795_369_200, "22 November 2026, 17:40 UTC"),
            (4_107_542_400, "1 March 2100, 00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
