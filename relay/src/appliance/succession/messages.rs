//! What a relay and those who ask it say to each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What one asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// How are you?
    Status,
    /// Begin no session any more, and end.
    Drain {
        /// Seconds after which the end comes even so.
        deadline_seconds: u64,
    },
    /// I am ready to become your successor.
    Succeed,
    /// Stop; I take over.
    Take,
    /// I serve; you may go.
    Serving,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Drain`].
    Draining,
    /// To [`Request::Succeed`]: open files come with it.
    Descriptors {
        /// Their names, in order.
        names: Vec<String>,
        /// Whether another such message follows.
        more: bool,
        /// How long the service manager waits for signs of life.
        watchdog_micros: Option<u64>,
    },
    /// To [`Request::Take`].
    Stopped {
        /// When it began to stop receiving, in nanoseconds of `CLOCK_MONOTONIC`.
        since_nanos: u64,
    },
    /// No.
    Refused {
        /// Why.
        why: String,
    },
}

/// How a relay is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its phase, in a word.
    pub phase: String,
    /// The unit of the service manager that started it.
    pub unit: Option<String>,
    /// The flags it was started with.
    pub arguments: Vec<String>,
    /// Its settings in the environment; `None` from a version that does not say them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<BTreeMap<String, String>>,
    /// Its admin address; also `None` from a version that does not say it.
    #[serde(default)]
    pub admin: Option<SocketAddr>,
    /// Its sessions.
    pub sessions: u64,
    /// How it took over.
    pub inherited: Option<Inherited>,
}

/// How a relay took over from the one before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inherited {
    /// The version before; `None` where the store of the service manager had the sockets.
    pub from_version: Option<String>,
    /// Milliseconds in which nobody received; `None` where nobody knows when the one before ended.
    pub gap_ms: Option<f64>,
    /// Sessions taken over.
    pub sessions: usize,
    /// Datagrams the sockets had no room for in the gap.
    pub kernel_drops: u64,
    /// What could not be taken over, and why.
    pub refused: Vec<String>,
}
