//! Traces and the flight recorder over the socket. Operations of the extension:
//!
//! ```text
//! {"op":"trace","traceparent":"00-…"}   this client's dials from now on belong there; without the field they begin anew
//! {"op":"trace","connection":7}         the trace of a stream: {"trace_id":…,"traceparent":…}, or nulls
//! {"op":"events","node_id":2}           the last control events with a peer; without node_id, the latest with any
//! ```

use serde_json::{Value, json};
use wire::NodeId;
use wire::trace::TraceContext;

use super::Context;
use super::client::Client;
use crate::daemon::observe::event_log::trace_id;
use crate::node::{ControlEvent, StreamId};

/// Events of one answer; it fits a frame.
const EVENTS_MAX: usize = 500;

/// Sets or tells a trace.
pub(super) fn trace(client: &Client, request: &Value) -> Result<Value, String> {
    if let Some(connection) = request.get("connection") {
        let connection = connection.as_u64().and_then(|connection| u32::try_from(connection).ok());
        let connection = connection.ok_or("trace: \"connection\" must be a connection's number")?;
        let trace = client.context.core.look(|node| node.stream_trace(StreamId(connection)));
        return Ok(view(trace));
    }
    let given = match request.get("traceparent") {
        None | Some(Value::Null) => None,
        Some(text) => {
            let text = text.as_str().unwrap_or_default();
            Some(text.parse::<TraceContext>().map_err(|error| format!("trace: {error}"))?)
        }
    };
    client.set_trace(given);
    Ok(view(given))
}

fn view(trace: Option<TraceContext>) -> Value {
    json!({"trace_id": trace.map(trace_id), "traceparent": trace.map(|trace| trace.to_string())})
}

/// The flight recorder.
pub(super) fn events(context: &Context, node: Option<NodeId>) -> Value {
    let clock = context.core.clock();
    let now = clock.now();
    let view = |event: &ControlEvent| {
        let mut entry = serde_json::to_value(&event.kind).unwrap_or_default();
        entry["node_id"] = json!(event.peer);
        entry["address"] = json!(event.peer.address().to_string());
        entry["unix_ms"] = json!(clock.unix_ns(event.at) / 1_000_000);
        entry["at_secs_ago"] = json!(now.since(event.at).as_secs_f64());
        entry["what"] = json!(event.kind.to_string());
        if let Some(trace) = event.trace {
            entry["trace_id"] = json!(trace_id(trace));
        }
        entry
    };
    let events: Vec<Value> = context.core.look(|own| match node {
        Some(node) => own.control_events(node).map(view).collect(),
        None => own.latest_control_events(EVENTS_MAX).into_iter().map(view).collect(),
    });
    json!({"node_id": node, "events": events})
}
