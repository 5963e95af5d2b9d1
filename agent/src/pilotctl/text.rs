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
        '\u{061C}'
        | '\u{200E}'
        | '\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}'
        | '\u{2028}'
        | '\u{2029}' => true,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_peer_writes_reaches_the_terminal_as_a_command() {
        assert_eq!(harmless("plain ✓ text"), "plain ✓ text");
        assert_eq!(harmless("\x1b[31mred\x07\r\n\u{9b}2J\u{202e}"), "\\x1b[31mred\\x07\\r\\n\\u{9b}2J\\u{202e}");
        assert_eq!(harmless("a\u{61c}b"), "a\\u{61c}b");
        assert_eq!(harmless_lines("two\nlines\x7f"), "two\nlines\\x7f");
        assert_eq!(harmless_bytes(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([size(6), size(1536), size(2 << 20), size(3 << 30)], ["6 B", "1.5 KB", "2.0 MB", "3.0 GB"]);
        assert_eq!([count(1, "peer"), count(0, "peer")], ["1 peer", "0 peers"]);
        assert_eq!(shortened("ábcd", 2), "áb…");
    }
}
