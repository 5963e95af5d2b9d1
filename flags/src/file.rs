//! A TOML file as arguments: `sessions-max = 1000` is `--sessions-max=1000`, and a list is the flag repeated.

use std::path::Path;

use toml::de::{DeTable, DeValue};

/// No file of settings is so long.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One key of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
    /// Counted from 1.
    pub(crate) line: usize,
}

impl Entry {
    /// As it would be typed.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = String> + '_ {
        self.values.iter().map(|value| format!("--{}={value}", self.key))
    }
}

/// The keys of the file at `path`, in the order of its lines; the error is one line that says where.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| format!("cannot read --config {shown}: {error}");
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(format!("--config {shown} is longer than {FILE_BYTES_MAX} bytes; name a file with settings"));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text).map_err(|(line, reason)| format!("{shown}:{line}: {reason}"))
}

fn parse(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let line_of = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let reason = error.message().lines().next().unwrap_or_default().to_owned();
        (line_of(error.span().map_or(0, |span| span.start)), format!("{reason}; write lines such as key = \"value\""))
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_of(key.span().start);
        let values = match value.get_ref() {
            DeValue::Array(items) => items.iter().map(|item| scalar(item.get_ref())).collect::<Option<Vec<_>>>(),
            DeValue::Table(_) => {
                return Err((line, format!("[{}]: there are no sections; write key = value", key.get_ref())));
            }
            value => scalar(value).map(|value| vec![value]),
        };
        let key = key.get_ref().to_string();
        let Some(values) = values else {
            return Err((line, format!("{key}: write a text in quotes, a number, true or false, or a list of them")));
        };
        entries.push(Entry { key, values, line });
    }
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    Some(match value {
        DeValue::String(text) => text.to_string(),
        // The digits alone, signs of other bases having been read.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok()?.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_arguments() {
        let text = "# comment\nhttp = \"off\"\n\nsessions-max = 1_000\nexempt = [\"10.0.0.0/8\",\n  \"fd00::/8\"]\nlog-json = true\nmask = 0x10\n";
        let entries = parse(text).unwrap();
        let lines: Vec<usize> = entries.iter().map(|entry| entry.line).collect();
        assert_eq!(lines, [2, 4, 5, 7, 8]);
        let arguments: Vec<String> = entries.iter().flat_map(Entry::arguments).collect();
        assert_eq!(
            arguments,
            [
                "--http=off",
                "--sessions-max=1000",
                "--exempt=10.0.0.0/8",
                "--exempt=fd00::/8",
                "--log-json=true",
                "--mask=16"
            ]
        );
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn refusals_name_the_line() {
        for (text, line, words) in [
            ("a = 1\nb = \n", 2, "key ="),
            ("a = 1\na = 2\n", 2, "duplicate key"),
            ("\n[section]\na = 1\n", 2, "no sections"),
            ("a.b = 1\n", 1, "no sections"),
            ("a = 2026-11-23\n", 1, "a text in quotes"),
            ("a = [[1]]\n", 1, "a text in quotes"),
        ] {
            let (at, reason) = parse(text).unwrap_err();
            assert_eq!(at, line, "{text:?}: {reason}");
            assert!(reason.contains(words), "{text:?}: {reason}");
        }
    }
}
