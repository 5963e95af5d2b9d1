//! Spans on their way to a collector. Whoever hands one over never waits: what the queue has no room for is counted.

use crate::span::Span;

/// Where spans go: to a collector, or nowhere.
#[derive(Clone, Debug, Default)]
pub struct Exporter {}

impl Exporter {
    /// An exporter that forgets what it is given.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether anybody is interested: without a collector spans need not be made.
    #[must_use]
    pub fn is_on(&self) -> bool {
        false
    }

    /// Hands a span over.
    pub fn export(&self, _span: Span) {}
}
