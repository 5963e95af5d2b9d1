//! What is sent through every contender alike: one value a load.

use std::fmt;

use serde::Serialize;

/// One kind of traffic at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Load {
    /// Where the relay stands, seen from the generator.
    pub place: Place,
    /// Bytes of payload, the relay header apart.
    pub payload_bytes: usize,
    /// Sessions the relay holds; destinations are drawn from all of them, but for [`Pattern::Active`].
    pub sessions: u32,
    /// The order of destinations.
    pub pattern: Pattern,
    /// Whether the receiver takes merged datagrams (UDP GRO), as a network card does that segments by itself. Else the
    /// relay's core pays for cutting its trains.
    pub sink_merges: bool,
}

/// Where the relay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On the generator's loopback device.
    Loopback,
    /// In a network namespace of its own, at the other end of a veth pair.
    Veth,
}

/// In which order destinations follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Each drawn anew.
    Random,
    /// Each drawn destination gets so many datagrams in a row.
    Runs(u32),
    /// Random among only so many.
    Active(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Veth => "veth",
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("random destinations"),
            Self::Runs(run) => write!(f, "runs of {run}"),
            Self::Active(active) => write!(f, "{active} active destinations"),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, payload_bytes, sessions, pattern, sink_merges } = self;
        write!(f, "{place}, {payload_bytes} bytes, {sessions} sessions, {pattern}")?;
        if *sink_merges { f.write_str(", receiver with GRO") } else { Ok(()) }
    }
}
