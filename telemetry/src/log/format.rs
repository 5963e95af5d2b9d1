//! Events to lines.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use wire::trace::TraceContext;

use super::Format;
use super::timestamp::Timestamp;

/// What our own fields of a JSON line are called.
const RESERVED: [&str; 7] = ["timestamp", "level", "service", "target", "message", "trace_id", "span_id"];

/// The lines of one process.
#[derive(Clone, Debug)]
pub struct LogFormat {
    service: String,
    format: Format,
}

impl LogFormat {
    /// Lines of `service`.
    #[must_use]
    pub fn new(service: &str, format: Format) -> Self {
        Self { service: service.to_owned(), format }
    }
}

impl<S, N> FormatEvent<S, N> for LogFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        match self.format {
            Format::Text => text(&mut out, level, target, &fields),
            Format::Json => json(&mut out, level, target, &self.service, fields),
        }
    }
}

fn text(out: &mut Writer<'_>, level: Level, target: &str, fields: &Fields) -> fmt::Result {
    let (colour, plain) = if out.has_ansi_escapes() { (colour_of(level), "\u{1b}[0m") } else { ("", "") };
    write!(out, "{} {colour}{:>5}{plain} {target}: ", Timestamp::now(), level.as_str())?;
    let mut line = String::new();
    line.push_str(&fields.message);
    for (name, value) in &fields.others {
        let separator = if line.is_empty() { "" } else { " " };
        write!(line, "{separator}{name}=")?;
        match value {
            Value::String(text) if needs_quotes(text) => write!(line, "\"{}\"", text.replace('"', "\\\""))?,
            Value::String(text) => line.push_str(text),
            other => write!(line, "{other}")?,
        }
    }
    for character in line.chars() {
        if is_unsafe(character) { write!(out, "{}", character.escape_default())? } else { out.write_char(character)? }
    }
    writeln!(out)
}

fn json(out: &mut Writer<'_>, level: Level, target: &str, service: &str, fields: Fields) -> fmt::Result {
    let mut line = String::from("{");
    let mut put = |name: &str, value: &Value| {
        let separator = if line.len() > 1 { "," } else { "" };
        let _ = write!(line, "{separator}{}:{value}", Value::from(name));
    };
    put("timestamp", &Timestamp::now().to_string().into());
    put("level", &level.as_str().to_ascii_lowercase().into());
    put("service", &service.into());
    put("target", &target.into());
    put("message", &fields.message.into());
    for (name, value) in fields.others {
        let context =
            value.as_str().filter(|_| name == "traceparent").and_then(|text| text.parse::<TraceContext>().ok());
        match context {
            Some(context) => {
                put("trace_id", &hex(&context.trace_id).into());
                put("span_id", &hex(&context.span_id).into());
            }
            None if RESERVED.contains(&name.as_str()) => put(&format!("{name}_"), &value),
            None => put(&name, &value),
        }
    }
    line.push('}');
    escape_json(out, &line)?;
    writeln!(out)
}

/// Writes a line of JSON so that whoever shows it sees what is there. Unsafe characters stand in texts alone, where JSON has
/// a way to write them.
pub(crate) fn escape_json(out: &mut impl fmt::Write, line: &str) -> fmt::Result {
    let mut units = [0; 2];
    for character in line.chars() {
        if is_unsafe(character) {
            character.encode_utf16(&mut units).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?;
        } else {
            out.write_char(character)?;
        }
    }
    Ok(())
}

/// Characters that make a terminal or an editor show something else than what is there: controls of both sets, ends of
/// lines, and changes of direction.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{61C}')
}

fn needs_quotes(text: &str) -> bool {
    text.is_empty() || text.contains([' ', '"', '=', '\n', '\r', '\t'])
}

const fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[35m",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What an event brings.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        match (field.name(), value.into()) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => drop(self.others.insert(name.strip_prefix("r#").unwrap_or(name).to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string());
    }
}
