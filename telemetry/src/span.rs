//! A span as a plain value. Engines have no clock, and what they did is known only once it is over, so spans are made after
//! the fact rather than entered and left.

use std::borrow::Cow;

use wire::trace::TraceContext;

/// One thing a program did for a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace, and this span's id in it.
    pub context: TraceContext,
    /// The span that caused it, here or in another program.
    pub parent: Option<[u8; 8]>,
    /// Whether the parent is in another program.
    pub parent_is_remote: bool,
    /// What it is, as `pilot.dial`.
    pub name: Cow<'static, str>,
    /// Whom it serves.
    pub kind: Kind,
    /// Unix nanoseconds.
    pub start_ns: u64,
    /// Unix nanoseconds; not before `start_ns`.
    pub end_ns: u64,
    /// What is to be known about it.
    pub attributes: Vec<(&'static str, Value)>,
    /// What happened in between.
    pub events: Vec<SpanEvent>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// A point in a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    /// Unix nanoseconds.
    pub at_ns: u64,
    /// What.
    pub name: Cow<'static, str>,
    /// What is to be known about it.
    pub attributes: Vec<(&'static str, Value)>,
}

/// The role of a span, as OpenTelemetry has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work inside a program.
    Internal,
    /// A request to another.
    Client,
    /// A request of another.
    Server,
    /// A message sent.
    Producer,
    /// A message received.
    Consumer,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
