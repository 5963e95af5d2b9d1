//! The one writer: data to standard output, talk to standard error, colours where a person looks.

use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};

use super::exit::Failure;
use super::text;

/// Where a command writes.
pub struct Screen {
    json: bool,
    colour: bool,
    colour_errors: bool,
}

impl Screen {
    /// The program's own outputs; `json` for scripts.
    #[must_use]
    pub fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            json,
            colour: wanted && !json && io::stdout().is_terminal(),
            colour_errors: wanted && !json && io::stderr().is_terminal(),
        }
    }

    /// Whether scripts read it.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Writes a line of data.
    ///
    /// # Errors
    /// Those of the output; a closed pipe among them.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Those of the output.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Writes what came from a peer: as it is into a file or a pipe, harmless onto a terminal.
    ///
    /// # Errors
    /// Those of the output.
    pub fn peer_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if io::stdout().is_terminal() { self.bytes(text::harmless_bytes(bytes).as_bytes()) } else { self.bytes(bytes) }
    }

    /// Writes the result for scripts.
    ///
    /// # Errors
    /// Those of the output.
    pub fn data(&mut self, data: Value) -> io::Result<()> {
        self.line(&one_line(&json!({"status": "ok", "data": data})))
    }

    /// Writes one of many objects for scripts.
    ///
    /// # Errors
    /// Those of the output.
    pub fn object(&mut self, object: &Value) -> io::Result<()> {
        self.line(&one_line(object))
    }

    /// Says something to a person that is not the result. What cannot be said is lost.
    pub fn talk(&mut self, line: &str) {
        if !self.json {
            let _ = writeln!(io::stderr().lock(), "{line}");
        }
    }

    /// Says why the command failed.
    pub fn failure(&mut self, failure: &Failure) {
        if failure.told || failure.pipe_closed {
            return;
        }
        let mut err = io::stderr().lock();
        if self.json {
            let _ = writeln!(err, "{}", one_line(&failure.to_json()));
            return;
        }
        let _ = writeln!(err, "{} {}", paint(self.colour_errors, "31", "error:"), text::harmless(&failure.message));
        if let Some(hint) = &failure.hint {
            let _ = writeln!(err, "{}  {}", paint(self.colour_errors, "36", "hint:"), text::harmless(hint));
        }
    }

    /// What went well.
    #[must_use]
    pub fn good(&self, text: &str) -> String {
        paint(self.colour, "32", text)
    }

    /// What did not.
    #[must_use]
    pub fn bad(&self, text: &str) -> String {
        paint(self.colour, "31", text)
    }

    /// What stands out.
    #[must_use]
    pub fn bold(&self, text: &str) -> String {
        paint(self.colour, "1", text)
    }

    /// What stays behind.
    #[must_use]
    pub fn dim(&self, text: &str) -> String {
        paint(self.colour, "2", text)
    }
}

fn paint(colour: bool, code: &str, text: &str) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// JSON on one line. JSON itself escapes only the older control characters; the others occur in strings alone, where
/// an escape means the same.
fn one_line(value: &Value) -> String {
    use std::fmt::Write as _;
    let plain = value.to_string();
    if !plain.contains(text::is_harmful) {
        return plain;
    }
    let mut escaped = String::with_capacity(plain.len() + 16);
    for character in plain.chars() {
        if text::is_harmful(character) {
            let _ = write!(escaped, "\\u{:04x}", character as u32);
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_for_scripts_carries_no_terminal_commands_and_means_the_same() {
        let value = json!({"a": "\u{9b}2J\x1b[m\u{7f}\u{202e}é"});
        let line = one_line(&value);
        assert!(!line.contains(char::is_control) && !line.contains('\u{202e}'), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }
}
