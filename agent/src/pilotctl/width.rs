//! How many columns of a terminal a text takes: East Asian wide characters and emoji two (UAX #11), marks that combine none.

/// Inclusive ranges of two columns.
const WIDE: [(u32, u32); 22] = [
    (0x1100, 0x115F),
    (0x231A, 0x231B),
    (0x2329, 0x232A),
    (0x23E9, 0x23EC),
    (0x25FD, 0x25FE),
    (0x2614, 0x2615),
    (0x2648, 0x2653),
    (0x2693, 0x2693),
    (0x26A1, 0x26A1),
    (0x2705, 0x2705),
    (0x2753, 0x2755),
    (0x2E80, 0x303E),
    (0x3041, 0x33FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0xA4CF),
    (0xA960, 0xA97F),
    (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF),
    (0xFE30, 0xFE6F),
    (0xFF01, 0xFF60),
    (0xFFE0, 0xFFE6),
    (0x1F300, 0x1FAFF),
];
/// Inclusive ranges of none.
const COMBINING: [(u32, u32); 16] = [
    (0x0300, 0x036F),
    (0x0483, 0x0489),
    (0x0591, 0x05BD),
    (0x0610, 0x061A),
    (0x064B, 0x065F),
    (0x0900, 0x0902),
    (0x093C, 0x093C),
    (0x0941, 0x0948),
    (0x0E31, 0x0E31),
    (0x0E34, 0x0E3A),
    (0x0E47, 0x0E4E),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x200B, 0x200D),
    (0x20D0, 0x20F0),
    (0xFE00, 0xFE0F),
];

/// Columns of a text.
#[must_use]
pub fn of(text: &str) -> usize {
    text.chars().map(of_character).sum()
}

/// As much of a text as fits so many columns; an ellipsis in the last one where something is left out.
#[must_use]
pub fn fitted(text: &str, columns: usize) -> std::borrow::Cow<'_, str> {
    if of(text) <= columns {
        return text.into();
    }
    let mut left = columns.saturating_sub(1);
    let end = text.char_indices().find(|(_, character)| match left.checked_sub(of_character(*character)) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    });
    format!("{}…", &text[..end.map_or(text.len(), |(index, _)| index)]).into()
}

fn of_character(character: char) -> usize {
    let code = u32::from(character);
    let is_in = |ranges: &[(u32, u32)]| ranges.iter().any(|(first, last)| (*first..=*last).contains(&code));
    match code {
        ..0x0300 => 1,
        _ if is_in(&COMBINING) => 0,
        0x20000..=0x3FFFD => 2,
        _ if is_in(&WIDE) => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_counted_as_a_terminal_shows_them() {
        assert_eq!([of("papers"), of("é"), of("e\u{301}"), of("学术引用"), of("한국"), of("🦀x")], [6, 1, 1, 8, 4, 3]);
    }

    #[test]
    fn a_text_is_cut_where_it_would_be_too_wide() {
        assert_eq!(fitted("学术引用", 8), "学术引用");
        assert_eq!(fitted("学术引用", 7), "学术引…");
        assert_eq!(fitted("学术引用", 6), "学术…");
        assert_eq!(fitted("abc", 2), "a…");
        assert!(of(&fitted(&"字".repeat(4000), 48)) <= 48);
    }
}
