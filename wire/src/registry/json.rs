//! JSON from strangers: bounded before it is parsed, and read field by field with errors that name the field.

use serde_json::{Map, Value};

use super::{Base64, MESSAGE_BYTES_MAX};
use crate::NodeId;

/// How deep objects and arrays may nest. Requests need two levels.
pub const DEPTH_MAX: usize = 16;

/// Values and keys in one request. They need some dozens.
pub const VALUES_MAX: usize = 4096;

/// Values and keys in one answer: lists of members as long as a message has room for.
pub const ANSWER_VALUES_MAX: usize = 131_072;

/// Why a message is not a request. The sender is at fault; the text is meant for them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The message exceeds [`MESSAGE_BYTES_MAX`].
    #[error("message too long: at most {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// Nesting exceeds [`DEPTH_MAX`].
    #[error("invalid request: nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// The number of values exceeds this, which is [`VALUES_MAX`] or [`ANSWER_VALUES_MAX`].
    #[error("invalid request: too many values, at most {0}")]
    TooManyValues(usize),
    /// Not a JSON object.
    #[error("invalid request: expected one JSON object")]
    NotAnObject,
    /// The type is none that the directory serves.
    #[error("invalid request type {0:?}")]
    UnknownType(String),
    /// A field that is needed is not there.
    #[error("invalid request: {0} is required")]
    Missing(&'static str),
    /// A field holds something else than it should.
    #[error("invalid {field}: expected {expected}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What should be there.
        expected: &'static str,
    },
    /// A text or list exceeds its bound.
    #[error("{field} too long: at most {limit}")]
    FieldTooLong {
        /// The field.
        field: &'static str,
        /// Bytes of a text, entries of a list.
        limit: usize,
    },
}

/// The fields of one JSON object.
#[derive(Debug)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Parses `message` after checking its bounds.
    ///
    /// # Errors
    /// A bound is exceeded, or this is no JSON object.
    pub fn parse(message: &[u8]) -> Result<Self, RequestError> {
        check_bounds(message, VALUES_MAX)?;
        serde_json::from_slice(message).map(Self).map_err(|_| RequestError::NotAnObject)
    }

    /// A text of at most `limit` bytes; absent and `null` count as empty.
    pub fn text(&mut self, field: &'static str, limit: usize) -> Result<String, RequestError> {
        self.take(field).map_or(Ok(String::new()), |value| text(field, value, limit))
    }

    /// A list of at most `limit` texts of at most `text_limit` bytes; absent and `null` count as empty.
    pub fn texts(&mut self, field: &'static str, limit: usize, text_limit: usize) -> Result<Vec<String>, RequestError> {
        match self.take(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) if values.len() > limit => Err(RequestError::FieldTooLong { field, limit }),
            Some(Value::Array(values)) => values.into_iter().map(|value| text(field, value, text_limit)).collect(),
            Some(_) => Err(RequestError::Invalid { field, expected: "a list of texts" }),
        }
    }

    /// True or false; absent and `null` count as false.
    pub fn flag(&mut self, field: &'static str) -> Result<bool, RequestError> {
        match self.take(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(RequestError::Invalid { field, expected: "true or false" }),
        }
    }

    /// A node's number; it must be there.
    pub fn node(&mut self, field: &'static str) -> Result<NodeId, RequestError> {
        self.optional_node(field)?.ok_or(RequestError::Missing(field))
    }

    /// A node's number, if there is one.
    pub fn optional_node(&mut self, field: &'static str) -> Result<Option<NodeId>, RequestError> {
        self.number(field, "a whole number from 0 to 4294967295").map(|node| node.map(NodeId))
    }

    /// A network's number; it must be there.
    pub fn network(&mut self, field: &'static str) -> Result<u16, RequestError> {
        self.number(field, "a whole number from 0 to 65535")?.ok_or(RequestError::Missing(field))
    }

    /// A network's number, if there is one.
    pub fn optional_network(&mut self, field: &'static str) -> Result<Option<u16>, RequestError> {
        self.number(field, "a whole number from 0 to 65535")
    }

    /// A small number; absent counts as 0.
    pub fn count(&mut self, field: &'static str) -> Result<u16, RequestError> {
        self.optional_network(field).map(Option::unwrap_or_default)
    }

    /// A place in a sequence; absent counts as 0. Of floats those are taken that hold every whole number up to theirs,
    /// below 2^53.
    pub fn cursor(&mut self, field: &'static str) -> Result<u64, RequestError> {
        self.optional_cursor(field).map(Option::unwrap_or_default)
    }

    /// The same, if there is one.
    pub fn optional_cursor(&mut self, field: &'static str) -> Result<Option<u64>, RequestError> {
        self.number(field, "a whole number")
    }

    /// What is of no consequence: taken where it has the right shape.
    pub fn plain<T: serde::de::DeserializeOwned>(&mut self, field: &'static str) -> Option<T> {
        serde_json::from_value(self.take(field)?).ok()
    }

    /// Bytes in base64; absent, `null` and empty count as none.
    pub fn base64<const N: usize>(
        &mut self,
        field: &'static str,
        expected: &'static str,
    ) -> Result<Option<Base64<N>>, RequestError> {
        let text = self.text(field, MESSAGE_BYTES_MAX)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| RequestError::Invalid { field, expected })
    }

    fn number<T: TryFrom<u64>>(
        &mut self,
        field: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, RequestError> {
        let Some(value) = self.take(field) else { return Ok(None) };
        let number = value.as_u64().or_else(|| whole(value.as_f64()?)).and_then(|number| number.try_into().ok());
        number.map(Some).ok_or(RequestError::Invalid { field, expected })
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.0.get_mut(field).map(Value::take).filter(|value| !value.is_null())
    }
}

fn text(field: &'static str, value: Value, limit: usize) -> Result<String, RequestError> {
    match value {
        Value::String(text) if text.len() > limit => Err(RequestError::FieldTooLong { field, limit }),
        Value::String(text) => Ok(text),
        _ => Err(RequestError::Invalid { field, expected: "a text" }),
    }
}

/// 2^53: below it a float holds every whole number.
const FLOAT_WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The whole number that a float stands for: some senders have no integers.
fn whole(float: f64) -> Option<u64> {
    let exact = float.fract() == 0.0 && (0.0..FLOAT_WHOLE_MAX).contains(&float);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "just checked")]
    exact.then_some(float as u64)
}

/// One pass over the bytes that allocates nothing. It need not tell valid JSON from invalid, only make sure that
/// whatever the parser builds from it is small.
pub(super) fn check_bounds(message: &[u8], values_max: usize) -> Result<(), RequestError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(RequestError::TooLong);
    }
    let (mut depth, mut values, mut in_text, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in message {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (true, _) => {}
            (false, b'{' | b'[') => {
                depth += 1;
                values += 1;
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (false, b',' | b':') => values += 1,
            (false, _) => {}
        }
        if depth > DEPTH_MAX {
            return Err(RequestError::TooDeep);
        }
        if values > values_max {
            return Err(RequestError::TooManyValues(values_max));
        }
    }
    Ok(())
}
