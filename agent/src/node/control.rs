//! What happens between this node and its peers besides the traffic itself, as plain values: nothing here is made for each
//! packet. They are kept for each peer, newest 64, and handed out once.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use telemetry::Recorder;
use wire::NodeId;
use wire::trace::TraceContext;

use crate::Time;

/// Events kept of each peer.
pub const EVENTS_OF_ONE_MAX: usize = 64;
/// Peers of which any are kept.
pub const PEERS_MAX: usize = 1024;
/// Events the owner has not taken yet; the oldest go first.
const PENDING_MAX: usize = 1024;
/// Characters kept of a reason in another's words.
const REASON_CHARS_MAX: usize = 160;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlEvent {
    /// When.
    pub at: Time,
    /// With whom.
    pub peer: NodeId,
    /// What.
    pub kind: ControlKind,
    /// The trace it belongs to, if that is known.
    pub trace: Option<TraceContext>,
}

/// What happened. Ports are the stream's, `local_port` ours; `connection` is its number here.
#[expect(missing_docs, reason = "the fields are those of the documentation of each variant")]
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ControlKind {
    /// The application wants a stream.
    DialBegun { connection: u32, remote_port: u16 },
    /// The directory was asked.
    DirectoryAsked { question: Question },
    /// It has answered.
    DirectoryAnswered { question: Question },
    /// It has no answer for us.
    DirectoryRefused { question: Question, reason: String },
    /// An exchange of keys was begun.
    KeysAsked,
    /// Keys were exchanged.
    SessionEstablished,
    /// Ephemeral keys were negotiated.
    SessionRenegotiated,
    /// The peer does not answer our keys, or must not be talked to.
    SessionFailed { reason: String },
    /// What is sent goes through this relay.
    RelayUsed { relay: SocketAddr },
    /// The relay was asked to broker hole punching.
    PunchAsked { relay: SocketAddr },
    /// The first probe went to an endpoint at which the peer may be; `source` is how that is known.
    ProbeSent { endpoint: SocketAddr, source: String },
    /// An endpoint has answered a probe, after it had not.
    ProbeAnswered {
        endpoint: SocketAddr,
        #[serde(rename = "rtt_ms", serialize_with = "milliseconds")]
        rtt: Duration,
    },
    /// No endpoint has answered; the next attempt after this rest, if there is traffic.
    PunchFailed {
        #[serde(rename = "rest_ms", serialize_with = "milliseconds")]
        rest: Duration,
    },
    /// Traffic goes directly.
    PathDirect { endpoint: SocketAddr },
    /// Traffic goes through the relay again.
    PathRelayed { reason: String },
    /// The SYN left.
    StreamAsked { connection: u32, local_port: u16, remote_port: u16 },
    /// The peer has answered the SYN.
    StreamEstablished {
        connection: u32,
        local_port: u16,
        remote_port: u16,
        #[serde(rename = "after_ms", serialize_with = "milliseconds")]
        after: Duration,
    },
    /// A dial has failed.
    StreamFailed { connection: u32, remote_port: u16, reason: String },
    /// The peer has opened a stream.
    StreamAccepted { connection: u32, local_port: u16, remote_port: u16 },
    /// The peer wanted a stream and was not let in.
    StreamRefused { local_port: u16, reason: Cow<'static, str> },
    /// A stream has ended.
    StreamClosed { connection: u32, local_port: u16, remote_port: u16, reason: String, sent: u64, received: u64 },
    /// The peer has told which trace a stream belongs to.
    TraceReceived { local_port: u16, remote_port: u16 },
    /// The directory's administrator keeps the peer out: the tunnel and so many streams with it have ended.
    PeerBanned { streams: usize },
    /// Something was delivered to the peer's data exchange, which has confirmed it: `exchange`, all that went on the stream.
    MessageSent { connection: u32, what: Cow<'static, str>, bytes: u64 },
    /// A service has received something: `message` or `file`.
    MessageReceived { connection: u32, what: Cow<'static, str>, bytes: u64 },
}

/// What the directory is asked about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Its key.
    Lookup,
    /// Its endpoints.
    Resolve,
    /// Whether it is trusted.
    CheckTrust,
}

impl Question {
    /// The operation's name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Resolve => "resolve",
            Self::CheckTrust => "check_trust",
        }
    }
}

/// For people.
impl fmt::Display for ControlKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |span: &Duration| format!("{:.1} ms", span.as_secs_f64() * 1000.0);
        match self {
            Self::DialBegun { connection, remote_port } => write!(f, "dial #{connection} to port {remote_port}"),
            Self::DirectoryAsked { question } => write!(f, "directory asked ({})", question.name()),
            Self::DirectoryAnswered { question } => write!(f, "directory answered ({})", question.name()),
            Self::DirectoryRefused { question, reason } => {
                write!(f, "no answer of the directory ({}): {reason}", question.name())
            }
            Self::KeysAsked => f.write_str("keys sent"),
            Self::SessionEstablished => f.write_str("keys exchanged"),
            Self::SessionRenegotiated => f.write_str("ephemeral keys negotiated"),
            Self::SessionFailed { reason } => write!(f, "no session: {reason}"),
            Self::RelayUsed { relay } => write!(f, "through the relay {relay}"),
            Self::PunchAsked { relay } => write!(f, "hole punching asked of {relay}"),
            Self::ProbeSent { endpoint, source } => write!(f, "probe to {endpoint} ({source})"),
            Self::ProbeAnswered { endpoint, rtt } => write!(f, "{endpoint} answered in {}", ms(rtt)),
            Self::PunchFailed { rest } => {
                write!(f, "no direct path; next attempt in {} s, if there is traffic", rest.as_secs())
            }
            Self::PathDirect { endpoint } => write!(f, "direct path to {endpoint}"),
            Self::PathRelayed { reason } => write!(f, "path through the relay: {reason}"),
            Self::StreamAsked { connection, remote_port, .. } => {
                write!(f, "stream #{connection} to port {remote_port}: SYN sent")
            }
            Self::StreamEstablished { connection, remote_port, after, .. } => {
                write!(f, "stream #{connection} to port {remote_port} open after {}", ms(after))
            }
            Self::StreamFailed { connection, remote_port, reason } => {
                write!(f, "stream #{connection} to port {remote_port} failed: {reason}")
            }
            Self::StreamAccepted { connection, local_port, .. } => {
                write!(f, "stream #{connection} accepted at port {local_port}")
            }
            Self::StreamRefused { local_port, reason } => write!(f, "stream to port {local_port} refused: {reason}"),
            Self::StreamClosed { connection, reason, sent, received, .. } => {
                write!(f, "stream #{connection} {reason}; {sent} bytes sent, {received} received")
            }
            Self::TraceReceived { local_port, .. } => write!(f, "trace of the stream at port {local_port}"),
            Self::PeerBanned { streams } => write!(f, "banned by the administrator; tunnel ended, streams: {streams}"),
            Self::MessageSent { connection, what, bytes } => {
                write!(f, "{what} of {bytes} bytes sent on stream #{connection}")
            }
            Self::MessageReceived { connection, what, bytes } => {
                write!(f, "{what} of {bytes} bytes received on stream #{connection}")
            }
        }
    }
}

/// The last events of each peer, and those the owner has not heard of.
#[derive(Debug)]
pub(super) struct Journal {
    of: Recorder<NodeId, ControlEvent>,
    pending: VecDeque<ControlEvent>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { of: Recorder::new(PEERS_MAX, EVENTS_OF_ONE_MAX), pending: VecDeque::new() }
    }
}

impl Journal {
    pub(super) fn push(&mut self, event: ControlEvent) {
        if self.pending.len() == PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back(event.clone());
        self.of.record(event.peer, event);
    }

    pub(super) fn poll(&mut self) -> Option<ControlEvent> {
        self.pending.pop_front()
    }

    pub(super) fn of(&self, peer: NodeId) -> impl Iterator<Item = &ControlEvent> {
        self.of.events(peer)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &ControlEvent> {
        self.of.subjects().flat_map(|peer| self.of.events(peer))
    }
}

/// A reason in another's words, short and without control characters.
pub(super) fn reason(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(REASON_CHARS_MAX).collect()
}

fn milliseconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(peer: u32, connection: u32) -> ControlEvent {
        let kind = ControlKind::DialBegun { connection, remote_port: 7 };
        ControlEvent { at: Time(1), peer: NodeId(peer), kind, trace: None }
    }

    #[test]
    fn memory_is_bounded_whatever_the_number_of_peers_and_events() {
        let mut journal = Journal::default();
        for peer in 1..=2000 {
            (0..100).for_each(|connection| journal.push(event(peer, connection)));
        }
        assert_eq!(journal.of(NodeId(1)).count(), 0, "the quietest are forgotten");
        let last: Vec<_> = journal.of(NodeId(2000)).cloned().collect();
        assert_eq!((last.len(), &last[0], &last[63]), (EVENTS_OF_ONE_MAX, &event(2000, 36), &event(2000, 99)));
        assert_eq!(journal.all().count(), PEERS_MAX * EVENTS_OF_ONE_MAX);
        assert_eq!(std::iter::from_fn(|| journal.poll()).count(), PENDING_MAX);
    }

    #[test]
    fn an_event_has_a_name_fields_and_words() {
        let endpoint = "192.0.2.1:7".parse().unwrap();
        let kind = ControlKind::ProbeAnswered { endpoint, rtt: Duration::from_micros(1500) };
        let json = serde_json::to_value(&kind).unwrap();
        assert_eq!(json, serde_json::json!({"event": "probe_answered", "endpoint": "192.0.2.1:7", "rtt_ms": 1.5}));
        assert_eq!(kind.to_string(), "192.0.2.1:7 answered in 1.5 ms");
        assert_eq!(reason("no\x1b[2J such node"), "no[2J such node");
        assert_eq!(reason(&"x".repeat(1000)).len(), REASON_CHARS_MAX);
    }
}
