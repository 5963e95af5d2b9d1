//! Draws traces.

use std::fmt::Write as _;

use super::{CollectedSpan, attributes};

/// The spans of `trace_id`, children below their parents.
pub fn render(spans: &[CollectedSpan], trace_id: &[u8]) -> String {
    let mut of_trace: Vec<_> = spans.iter().filter(|collected| collected.span.trace_id == trace_id).collect();
    of_trace.sort_by_key(|collected| collected.span.start_time_unix_nano);
    let begin_ns = of_trace.first().map_or(0, |first| first.span.start_time_unix_nano);
    let hex: String = trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut out = format!("trace {hex}\n");
    let mut left = of_trace.clone();
    // A span whose parent was not sent, because it runs still or was lost, begins a tree of its own.
    let is_root = |collected: &&CollectedSpan| {
        let parent = &collected.span.parent_span_id;
        !of_trace.iter().any(|other| other.span.span_id == *parent && other.span.span_id != collected.span.span_id)
    };
    let roots: Vec<_> = of_trace.iter().copied().filter(is_root).collect();
    for root in roots {
        branch(&mut out, root, &mut left, begin_ns, 1);
    }
    out
}

/// All traces.
pub fn render_all(spans: &[CollectedSpan]) -> String {
    let mut ids: Vec<_> = spans.iter().map(|collected| &collected.span.trace_id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(|id| render(spans, id)).collect()
}

fn branch(out: &mut String, at: &CollectedSpan, left: &mut Vec<&CollectedSpan>, begin_ns: u64, depth: usize) {
    left.retain(|other| !std::ptr::eq(*other, at));
    let span = &at.span;
    let milliseconds = |ns: u64| Milliseconds(ns.saturating_sub(begin_ns));
    let duration = Milliseconds(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano));
    let indent = "  ".repeat(depth);
    let offset = milliseconds(span.start_time_unix_nano);
    let _ = write!(out, "{indent}+{offset} {}: {} ({duration})", at.service(), span.name.escape_debug());
    for (key, value) in attributes(&span.attributes) {
        let _ = write!(out, " {}={}", key.escape_debug(), value.escape_debug());
    }
    if let Some(status) = span.status.as_ref().filter(|status| status.code == 2) {
        let _ = write!(out, " ERROR {}", status.message.escape_debug());
    }
    out.push('\n');
    for event in &span.events {
        let _ = write!(out, "{indent}  · +{} {}", milliseconds(event.time_unix_nano), event.name.escape_debug());
        for (key, value) in attributes(&event.attributes) {
            let _ = write!(out, " {}={}", key.escape_debug(), value.escape_debug());
        }
        out.push('\n');
    }
    let children: Vec<_> = left.iter().copied().filter(|other| other.span.parent_span_id == span.span_id).collect();
    for child in children {
        branch(out, child, left, begin_ns, depth + 1);
    }
}

struct Milliseconds(u64);

impl std::fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03} ms", self.0 / 1_000_000, self.0 / 1000 % 1000)
    }
}
