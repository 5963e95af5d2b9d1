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
    /// How datagrams reach the relay.
    pub arrivals: Arrivals,
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
    /// The same, and the relay's end receives by NAPI with GRO on a kernel thread that is charged to the relay, as a
    /// network card whose queue is served by the relay's core.
    VethNapi,
}

/// How datagrams reach the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// A sender hands over [`BURST`] at once (UDP GSO), and a relay that asks for it (UDP GRO) gets them as one: what
    /// senders with batching do, and network cards that merge. For the others the kernel cuts the burst up, at the
    /// generator's expense.
    Bursts,
    /// One by one, each from a sender of its own.
    Singly,
}

/// The kinds of traffic that are compared, by the names of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Traffic {
    /// Random destinations.
    Random,
    /// The same, arriving one by one.
    Singly,
    /// Runs of 4.
    #[value(name = "runs-4")]
    Runs4,
    /// Runs of 16.
    #[value(name = "runs-16")]
    Runs16,
    /// Runs of 16, the receiver takes merged datagrams.
    #[value(name = "runs-16-gro")]
    Runs16Gro,
    /// 16 active destinations in random order, the receiver takes merged datagrams.
    #[value(name = "active-16-gro")]
    Active16Gro,
}

impl Traffic {
    /// This traffic with `payload_bytes` to `sessions` destinations at `place`.
    #[must_use]
    pub const fn load(self, place: Place, payload_bytes: usize, sessions: u32) -> Load {
        let (pattern, arrivals, sink_merges) = match self {
            Self::Random => (Pattern::Random, Arrivals::Bursts, false),
            Self::Singly => (Pattern::Random, Arrivals::Singly, false),
            Self::Runs4 => (Pattern::Runs(4), Arrivals::Bursts, false),
            Self::Runs16 => (Pattern::Runs(16), Arrivals::Bursts, false),
            Self::Runs16Gro => (Pattern::Runs(16), Arrivals::Bursts, true),
            Self::Active16Gro => (Pattern::Active(16), Arrivals::Bursts, true),
        };
        Load { place, payload_bytes, sessions, pattern, arrivals, sink_merges }
    }
}

/// Datagrams in a burst; all from one sender.
pub const BURST: usize = 32;

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
            Self::VethNapi => "veth with NAPI",
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

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bursts => write!(f, "in bursts of {BURST}"),
            Self::Singly => f.write_str("arriving singly"),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, payload_bytes, sessions, pattern, arrivals, sink_merges } = self;
        write!(f, "{place}, {payload_bytes} bytes, {sessions} sessions, {pattern}")?;
        write!(f, ", {arrivals}")?;
        if *sink_merges { f.write_str(", receiver with GRO") } else { Ok(()) }
    }
}
