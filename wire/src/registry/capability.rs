//! What a node says it can do: a record that the node signs, so that whoever keeps or passes it on cannot change it.
//!
//! The signature covers the record's text byte for byte, and the text names the node and its key:
//!
//! ```text
//! {"pilot_capability":1,"node":7,"public_key":"…","serial":1764000000000,"title":"Academic citations",
//!  "text":"Resolves citations to DOIs …","tags":["papers"],"input":{…},"output":{…},"version":"2.1"}
//! ```
//!
//! The serial only grows (Unix milliseconds, unless the clock went back): an older record never replaces a newer one. A
//! record that says `withdrawn` takes the one before it back, and stays, so that what was withdrawn cannot be replayed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PublicKey;
use super::names::{NameError, normalise_tags};
use crate::NodeId;

/// Bytes of a record's text.
pub const RECORD_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a title.
pub const TITLE_BYTES_MAX: usize = 160;
/// Bytes of the free text.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a version.
pub const VERSION_BYTES_MAX: usize = 64;
/// Bytes of each of the structured hints, as JSON.
pub const HINT_BYTES_MAX: usize = 2 * 1024;
/// Values in each hint, and how deep they nest.
pub const HINT_VALUES_MAX: usize = 256;
/// How deep a hint may nest.
pub const HINT_DEPTH_MAX: usize = 8;
/// The highest serial: any JSON reader holds numbers up to this exactly.
pub const SERIAL_MAX: u64 = (1 << 53) - 1;
/// The version of the format.
pub const FORMAT: u32 = 1;

/// A record. Text is for people and for search, never for a terminal as it stands: it may hold any character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`FORMAT`].
    #[serde(rename = "pilot_capability")]
    pub format: u32,
    /// Whose it is.
    pub node: NodeId,
    /// The key that has signed it.
    pub public_key: PublicKey,
    /// Grows with each record of a node.
    pub serial: u64,
    /// The record before this is taken back; nothing else is said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// In a few words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// In as many as it takes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Tags, by the rule for tags (section 6.5).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What it takes: a JSON value, by convention a JSON Schema or an example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// What it gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// What it costs, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Value>,
    /// How much one may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Value>,
    /// The version of what is offered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// Why a record is refused. The text says what would be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// More than [`RECORD_BYTES_MAX`].
    #[error("capability record too long: {0} bytes, at most {RECORD_BYTES_MAX}")]
    TooLong(usize),
    /// Not such an object.
    #[error("invalid capability record: {0}")]
    Malformed(String),
    /// Another format.
    #[error("invalid capability record: format {0}, expected {FORMAT}")]
    Format(u32),
    /// More than [`SERIAL_MAX`]: nothing could be newer.
    #[error("invalid capability record: serial {0} too high, at most {SERIAL_MAX}")]
    Serial(u64),
    /// A text or hint exceeds its bound.
    #[error("invalid capability record: {field} too long, at most {limit} bytes")]
    FieldTooLong {
        /// Which.
        field: &'static str,
        /// Its bound.
        limit: usize,
    },
    /// A hint nests too deep, or has too many values.
    #[error(
        "invalid capability record: {0} nests deeper than {HINT_DEPTH_MAX} levels or has over {HINT_VALUES_MAX} values"
    )]
    HintTooLarge(&'static str),
    /// Neither a title nor a text nor tags.
    #[error("invalid capability record: a title, a text or tags required")]
    Empty,
    /// Withdrawn, and yet something is said.
    #[error("invalid capability record: a withdrawn record says nothing else")]
    WithdrawnWithContent,
    /// A tag breaks the rule.
    #[error("invalid capability record: {0}")]
    Tag(#[from] NameError),
}

impl Record {
    /// Reads and checks a record's text; not whether its signature fits.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(text: &str) -> Result<Self, RecordError> {
        if text.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLong(text.len()));
        }
        let record: Self = serde_json::from_str(text).map_err(|error| RecordError::Malformed(error.to_string()))?;
        record.check()?;
        Ok(record)
    }

    /// The text to sign and publish.
    ///
    /// # Errors
    /// [`RecordError`]: a bound is exceeded.
    pub fn encode(&self) -> Result<String, RecordError> {
        self.check()?;
        let text = serde_json::to_string(self).map_err(|error| RecordError::Malformed(error.to_string()))?;
        if text.len() > RECORD_BYTES_MAX { Err(RecordError::TooLong(text.len())) } else { Ok(text) }
    }

    fn check(&self) -> Result<(), RecordError> {
        if self.format != FORMAT {
            return Err(RecordError::Format(self.format));
        }
        if self.serial > SERIAL_MAX {
            return Err(RecordError::Serial(self.serial));
        }
        let texts = [
            ("title", &self.title, TITLE_BYTES_MAX),
            ("text", &self.text, TEXT_BYTES_MAX),
            ("version", &self.version, VERSION_BYTES_MAX),
        ];
        for (field, text, limit) in texts {
            if text.len() > limit {
                return Err(RecordError::FieldTooLong { field, limit });
            }
        }
        normalise_tags(&self.tags)?;
        for (field, hint) in
            [("input", &self.input), ("output", &self.output), ("price", &self.price), ("limits", &self.limits)]
        {
            hint.as_ref().map_or(Ok(()), |hint| check_hint(field, hint))?;
        }
        let says_something = !self.title.is_empty() || !self.text.is_empty() || !self.tags.is_empty();
        let hints = self.input.is_some() || self.output.is_some() || self.price.is_some() || self.limits.is_some();
        match (self.withdrawn, says_something) {
            (true, true) => Err(RecordError::WithdrawnWithContent),
            (true, false) if hints || !self.version.is_empty() => Err(RecordError::WithdrawnWithContent),
            (false, false) => Err(RecordError::Empty),
            _ => Ok(()),
        }
    }
}

/// What is signed for the record `text` of `node`.
#[must_use]
pub fn signed_text(node: NodeId, text: &str) -> String {
    format!("capability:{node}:{text}")
}

fn check_hint(field: &'static str, hint: &Value) -> Result<(), RecordError> {
    let mut values = 0;
    if !is_small(hint, HINT_DEPTH_MAX, &mut values) {
        return Err(RecordError::HintTooLarge(field));
    }
    let bytes = hint.to_string().len();
    if bytes > HINT_BYTES_MAX { Err(RecordError::FieldTooLong { field, limit: HINT_BYTES_MAX }) } else { Ok(()) }
}

fn is_small(value: &Value, depth: usize, values: &mut usize) -> bool {
    *values += 1;
    if *values > HINT_VALUES_MAX {
        return false;
    }
    match value {
        Value::Array(inner) => depth > 0 && inner.iter().all(|value| is_small(value, depth - 1, values)),
        Value::Object(inner) => depth > 0 && inner.values().all(|value| is_small(value, depth - 1, values)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            format: FORMAT,
            node: NodeId(7),
            public_key: super::super::Base64([3; 32]),
            serial: 5,
            withdrawn: false,
            title: "Academic citations".to_owned(),
            text: "学术引用".to_owned(),
            tags: vec!["papers".to_owned()],
            input: Some(serde_json::json!({"citation": "text"})),
            output: None,
            price: None,
            limits: None,
            version: String::new(),
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let text = record().encode().unwrap();
        assert!(text.starts_with(r#"{"pilot_capability":1,"node":7,"#), "{text}");
        assert_eq!(Record::decode(&text), Ok(record()));
        let withdrawn = Record {
            withdrawn: true,
            title: String::new(),
            text: String::new(),
            tags: Vec::new(),
            input: None,
            ..record()
        };
        assert_eq!(Record::decode(&withdrawn.encode().unwrap()), Ok(withdrawn));
    }

    #[test]
    fn bounds_are_told_by_name() {
        let refused = |change: fn(&mut Record)| {
            let mut record = record();
            change(&mut record);
            record.encode().unwrap_err().to_string()
        };
        assert!(refused(|record| record.title = "x".repeat(161)).contains("title too long, at most 160"));
        assert!(refused(|record| record.tags = vec!["Upper".to_owned()]).contains("invalid tag"));
        assert!(refused(|record| record.format = 2).contains("format 2"));
        assert!(refused(|record| record.serial = 1 << 53).contains("serial 9007199254740992 too high"));
        assert!(refused(|record| record.withdrawn = true).contains("says nothing else"));
        assert!(
            refused(|record| record.output = Some(serde_json::json!([[[[[[[[[1]]]]]]]]]))).contains("nests deeper")
        );
        assert!(
            refused(|record| {
                record.title.clear();
                record.text.clear();
                record.tags.clear();
            })
            .contains("a title, a text or tags required")
        );
        assert!(matches!(Record::decode(&"x".repeat(9000)), Err(RecordError::TooLong(9000))));
        assert!(matches!(Record::decode("{}"), Err(RecordError::Malformed(_))));
        assert!(matches!(Record::decode(r#"{"more":1}"#), Err(RecordError::Malformed(_))));
    }
}
