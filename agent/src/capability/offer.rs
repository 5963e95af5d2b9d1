//! What an operator says a node can do: without the node, its key and a serial, which make it a record.
//!
//! ```json
//! {"title": "Academic citations", "text": "Resolves citations to DOIs …", "tags": ["papers"],
//!  "input": {"citation": "text"}, "output": {"doi": "text"}, "price": null, "limits": {"per_minute": 60}, "version": "2.1"}
//! ```
//!
//! The same keys in a TOML file. `input`, `output`, `price` and `limits` may be any small JSON value.

use serde::Serialize;
use serde_json::{Map, Value};
use wire::NodeId;
use wire::registry::PublicKey;
use wire::registry::capability::{FORMAT, Record, RecordError, SERIAL_MAX};
use wire::registry::names::normalise_tags;

/// Fields of an offer.
const FIELDS: &str = "title, text, tags, input, output, price, limits, version";

/// What is offered. The fields are those of [`Record`].
#[expect(missing_docs, reason = "the names are those of the record, which documents them")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Offer {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// What is wrong with an offer, for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Neither JSON nor TOML.
    #[error("neither JSON nor TOML: {0}")]
    Syntax(String),
    /// Not an object.
    #[error("an object expected, with {FIELDS}")]
    NotAnObject,
    /// A field that means nothing.
    #[error("field {0:?} is unknown; the fields are {FIELDS}")]
    UnknownField(String),
    /// A field holds something else.
    #[error("field {field:?}: {expected} expected, not {found}")]
    Type {
        /// Which.
        field: String,
        /// What it takes.
        expected: &'static str,
        /// What it holds.
        found: &'static str,
    },
    /// A bound of the record is exceeded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Offer {
    /// Reads a file: JSON where it begins with a brace, TOML otherwise.
    ///
    /// # Errors
    /// [`OfferError`].
    pub fn parse(text: &str) -> Result<Self, OfferError> {
        let value: Value = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| OfferError::Syntax(error.to_string()))?
        } else {
            toml::from_str(text)
                .map_err(|error| OfferError::Syntax(error.message().lines().next().unwrap_or_default().to_owned()))?
        };
        Self::from_value(value)
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`OfferError`], the field named. Bounds are not looked at: what is given later may complete it.
    pub fn from_value(value: Value) -> Result<Self, OfferError> {
        let Value::Object(fields) = value else { return Err(OfferError::NotAnObject) };
        Self::from_fields(fields)
    }

    fn from_fields(fields: Map<String, Value>) -> Result<Self, OfferError> {
        let mut offer = Self::default();
        for (field, value) in fields {
            match field.as_str() {
                "title" => offer.title = text(field, value)?,
                "text" => offer.text = text(field, value)?,
                "version" => offer.version = text(field, value)?,
                "tags" => offer.tags = texts(field, value)?,
                "input" => offer.input = given(value),
                "output" => offer.output = given(value),
                "price" => offer.price = given(value),
                "limits" => offer.limits = given(value),
                _ => return Err(OfferError::UnknownField(field)),
            }
        }
        Ok(offer)
    }

    /// This offer, and what `lower` says where this one is silent.
    #[must_use]
    pub fn or(self, lower: Self) -> Self {
        let text = |upper: String, lower: String| if upper.is_empty() { lower } else { upper };
        Self {
            title: text(self.title, lower.title),
            text: text(self.text, lower.text),
            tags: if self.tags.is_empty() { lower.tags } else { self.tags },
            input: self.input.or(lower.input),
            output: self.output.or(lower.output),
            price: self.price.or(lower.price),
            limits: self.limits.or(lower.limits),
            version: text(self.version, lower.version),
        }
    }

    /// What a record says.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let Record { title, text, tags, input, output, price, limits, version, .. } = record.clone();
        Self { title, text, tags, input, output, price, limits, version }
    }

    /// The offer as it can be published: tags without `#`, all bounds kept.
    ///
    /// # Errors
    /// [`OfferError::Record`].
    pub fn checked(mut self) -> Result<Self, OfferError> {
        self.tags = normalise_tags(&self.tags).map_err(RecordError::from)?;
        // The longest numbers, so that what is taken now fits later, too.
        self.record(NodeId(u32::MAX), wire::registry::Base64([0; 32]), SERIAL_MAX).encode()?;
        Ok(self)
    }

    /// Whether tags are all there is, which need no record: the directory keeps them beside the hostname.
    #[must_use]
    pub fn is_tags_alone(&self) -> bool {
        *self == Self { tags: self.tags.clone(), ..Self::default() }
    }

    /// The record of this offer.
    #[must_use]
    pub fn record(&self, node: NodeId, public_key: PublicKey, serial: u64) -> Record {
        let Self { title, text, tags, input, output, price, limits, version } = self.clone();
        let withdrawn = false;
        Record {
            format: FORMAT,
            node,
            public_key,
            serial,
            withdrawn,
            title,
            text,
            tags,
            input,
            output,
            price,
            limits,
            version,
        }
    }
}

fn given(value: Value) -> Option<Value> {
    Some(value).filter(|value| !value.is_null())
}

fn text(field: String, value: Value) -> Result<String, OfferError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        other => Err(OfferError::Type { field, expected: "a text", found: kind(&other) }),
    }
}

fn texts(field: String, value: Value) -> Result<Vec<String>, OfferError> {
    match value {
        Value::Array(items) => items.into_iter().map(|item| text(field.clone(), item)).collect(),
        Value::Null => Ok(Vec::new()),
        other => Err(OfferError::Type { field, expected: "a list of texts", found: kind(&other) }),
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
