//! Where a connection stands, why it has ended, and how it fares.

use std::time::Duration;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The SYN is on its way.
    SynSent,
    /// Data goes both ways.
    Established,
    /// The application has closed; what it wrote and the FIN are on their way.
    FinWait,
    /// Both ends are done; repeated segments are still recognised. A new SYN for this pair of ports may replace it.
    TimeWait,
    /// Nothing will be sent or taken any more.
    Closed,
}

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// One end closed, the other knows.
    #[error("closed")]
    Finished,
    /// Nobody listens there, or there are too many connections.
    #[error("connection refused")]
    Refused,
    /// The peer gave the connection up.
    #[error("connection reset by peer")]
    Reset,
    /// The peer does not answer.
    #[error("the peer does not answer")]
    TimedOut,
    /// The peer has closed, and some of its last bytes never came.
    #[error("the end of the stream is missing")]
    Truncated,
    /// This end gave the connection up.
    #[error("connection aborted")]
    Aborted,
    /// The administrator keeps the peer out.
    #[error("the peer is banned")]
    Banned,
}

/// How a connection fares.
#[derive(Clone, Copy, Debug)]
pub struct Metrics {
    /// None before the first measurement.
    pub smoothed_rtt: Option<Duration>,
    /// Of about the last ten seconds.
    pub minimum_rtt: Option<Duration>,
    /// Most that may be in flight.
    pub congestion_window_bytes: u64,
    /// The rate of pacing.
    pub bytes_per_second: u64,
    /// Sent and neither acknowledged nor taken for lost.
    pub in_flight_bytes: u64,
    /// Segments sent again, tail probes included.
    pub retransmissions: u64,
    /// Of these, needless as far as can be told.
    pub spurious_retransmissions: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
}
