//! The event log, `events.jsonl` in the data folder: one JSON object a line, for whoever asks later what happened. It
//! rotates by itself and is readable by its owner alone.
//!
//! | field | what |
//! |---|---|
//! | `time` | RFC 3339, UTC, to the nanosecond |
//! | `level` | `info` or `warn` |
//! | `event` | what: the names below |
//! | `node_id` | this node, once it is registered |
//! | `peer_id` | the other node, where there is one |
//! | `trace_id` | the trace it belongs to, where that is known |
//! | others | as in the flight recorder (`pilotctl events`) |
//!
//! Events of the daemon: `registered` (`address`), `directory_complaint`, `directory_lost` (`reason`), `directory_back`,
//! `relay_changed` (`relay`, null for none), `trust_requested` (`justification`), `trust_changed`, `capability_changed`.
//! Events with a peer: `session_established`, `session_failed`, `path_direct`, `path_relayed`, `punch_failed`,
//! `stream_refused`, `stream_failed`, `message_sent`, `message_received`.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use wire::NodeId;
use wire::trace::TraceContext;

use crate::node::{ControlKind, Event};
use crate::rfc3339;

/// How much something matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Of use when looking for a cause; not kept.
    Debug,
    /// Worth keeping.
    Info,
    /// Something does not work.
    Warn,
}

/// The log, or none.
#[derive(Clone, Debug)]
pub struct EventLog(telemetry::EventLog);

impl EventLog {
    /// A log that keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self(telemetry::EventLog::none())
    }

    /// A log that is open.
    #[must_use]
    pub const fn new(log: telemetry::EventLog) -> Self {
        Self(log)
    }

    /// Lines written, and lines lost.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.0.written(), self.0.dropped())
    }

    /// Writes one line; `record` is an object with `event`.
    pub(super) fn write(
        &self,
        at_ns: u64,
        own: Option<NodeId>,
        level: Level,
        peer: Option<NodeId>,
        trace: Option<TraceContext>,
        record: Value,
    ) {
        self.0.write(&Line {
            time: rfc3339::format_precise(Duration::from_nanos(at_ns)),
            level,
            node_id: own,
            peer_id: peer,
            trace_id: trace.map(trace_id),
            record,
        });
    }
}

#[derive(Serialize)]
struct Line {
    time: String,
    level: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<NodeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<NodeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(flatten)]
    record: Value,
}

/// The trace's id in hex.
#[must_use]
pub fn trace_id(trace: TraceContext) -> String {
    trace.trace_id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How much an event with a peer matters. Names with which nothing is wrong happen at every dial.
#[must_use]
pub const fn level(kind: &ControlKind) -> Level {
    match kind {
        ControlKind::SessionEstablished
        | ControlKind::PathDirect { .. }
        | ControlKind::PathRelayed { .. }
        | ControlKind::PunchFailed { .. }
        | ControlKind::StreamRefused { .. }
        | ControlKind::MessageSent { .. }
        | ControlKind::MessageReceived { .. } => Level::Info,
        ControlKind::SessionFailed { .. } | ControlKind::StreamFailed { .. } | ControlKind::PeerBanned { .. } => {
            Level::Warn
        }
        ControlKind::DialBegun { .. }
        | ControlKind::DirectoryAsked { .. }
        | ControlKind::DirectoryAnswered { .. }
        | ControlKind::DirectoryRefused { .. }
        | ControlKind::KeysAsked
        | ControlKind::SessionRenegotiated
        | ControlKind::RelayUsed { .. }
        | ControlKind::PunchAsked { .. }
        | ControlKind::ProbeSent { .. }
        | ControlKind::ProbeAnswered { .. }
        | ControlKind::StreamAsked { .. }
        | ControlKind::StreamEstablished { .. }
        | ControlKind::StreamAccepted { .. }
        | ControlKind::StreamClosed { .. }
        | ControlKind::TraceReceived { .. } => Level::Debug,
    }
}

/// What is kept of an event with a peer, if anything.
pub(super) fn of_peer(kind: &ControlKind) -> Option<(Level, Value)> {
    match level(kind) {
        Level::Debug => None,
        level => Some((level, serde_json::to_value(kind).ok()?)),
    }
}

/// What is kept of an event that concerns the daemon as a whole, if anything.
pub(super) fn of_daemon(event: &Event) -> Option<(Level, Value)> {
    Some(match event {
        Event::Registered { address, .. } => {
            (Level::Info, json!({"event": "registered", "address": address.to_string()}))
        }
        Event::Complaint(text) => (Level::Warn, json!({"event": "directory_complaint", "reason": text})),
        Event::DirectoryLost(reason) => (Level::Warn, json!({"event": "directory_lost", "reason": reason})),
        Event::DirectoryBack => (Level::Info, json!({"event": "directory_back"})),
        Event::RelayChanged(relay) => {
            let level = if relay.is_some() { Level::Info } else { Level::Warn };
            (level, json!({"event": "relay_changed", "relay": relay.map(|relay| relay.to_string())}))
        }
        Event::TrustRequested { peer, justification } => {
            (Level::Info, json!({"event": "trust_requested", "peer_id": peer, "justification": justification}))
        }
        Event::TrustChanged => (Level::Info, json!({"event": "trust_changed"})),
        Event::CapabilityChanged => (Level::Info, json!({"event": "capability_changed"})),
        Event::Opened(_)
        | Event::Accepted { .. }
        | Event::Readable(_)
        | Event::Writable(_)
        | Event::Datagram { .. }
        // The control events tell more of it.
        | Event::PathChanged { .. }
        | Event::RelaysListed(_) => return None,
    })
}
