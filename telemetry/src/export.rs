//! Spans on their way to a collector. Whoever hands one over never waits: what the queue has no room for is counted.
//!
//! A thread of its own takes spans from a bounded queue and posts them in batches, as OTLP in protobuf over HTTP. A
//! collector that is away costs one warning and the spans of the meantime, nothing else.

#[cfg(feature = "otlp")]
mod convert;
pub mod options;
#[cfg(feature = "otlp")]
mod otlp;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use self::options::Options;
#[cfg(feature = "otlp")]
pub use self::otlp::{Guard, StartError};
use crate::span::Span;

/// Where spans go: to a collector, or nowhere. Clones share the queue.
#[derive(Clone, Debug, Default)]
pub struct Exporter {
    #[cfg(feature = "otlp")]
    queue: Option<otlp::Queue>,
    counts: Arc<Counts>,
}

/// What became of the spans.
#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
}

impl Exporter {
    /// An exporter that forgets what it is given.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Starts the thread that delivers spans, and goes on until the guard is dropped. Callable from anywhere, a tokio
    /// runtime included.
    ///
    /// # Errors
    /// [`StartError`]: the URL is none of ours, or no thread could be started.
    #[cfg(feature = "otlp")]
    pub fn start(options: Options) -> Result<(Self, Guard), StartError> {
        let counts = Arc::<Counts>::default();
        let (queue, guard) = otlp::start(options, Arc::clone(&counts))?;
        Ok((Self { queue: Some(queue), counts }, guard))
    }

    /// Whether anybody is interested: without a collector spans need not be made.
    #[must_use]
    pub fn is_on(&self) -> bool {
        #[cfg(feature = "otlp")]
        return self.queue.is_some();
        #[cfg(not(feature = "otlp"))]
        false
    }

    /// Hands a span over, unless its trace is not recorded. Never waits.
    #[cfg_attr(
        not(feature = "otlp"),
        expect(clippy::needless_pass_by_value, reason = "it is kept where it can be sent")
    )]
    pub fn export(&self, span: Span) {
        #[cfg(feature = "otlp")]
        if let Some(queue) = &self.queue
            && span.context.is_sampled()
            && !queue.push(span)
        {
            self.counts.lost.fetch_add(1, Relaxed);
        }
        #[cfg(not(feature = "otlp"))]
        let _ = span;
    }

    /// Spans that a collector has taken.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.counts.exported.load(Relaxed)
    }

    /// Spans that no collector would take, or none was there for.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.counts.failed.load(Relaxed)
    }

    /// Spans that the queue had no room for.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Relaxed)
    }
}
