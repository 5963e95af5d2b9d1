//! Signs that the generator, not the relay, was at its limit, and what to do about each.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::numbers::time;
use crate::tally::LATE;

/// Share of late datagrams above which latencies and losses are the generator's too.
pub const LATE_PERCENT_MAX: f64 = 1.0;
/// Share of the latency's p99 that the lateness's p99 may have before the generator shapes what it measures.
pub const LATENESS_SHARE_MAX: f64 = 0.25;
/// Lateness that is only the grain of the host's timers and batches, in microseconds.
pub const LATENESS_US_MIN: f64 = 100.0;
/// A worker that is on a processor for more of its time than this has nothing in reserve.
pub const BUSY_PERCENT_MAX: f64 = 95.0;

/// One sign.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "sign", rename_all = "snake_case")]
pub enum Sign {
    /// Fewer datagrams left than were asked for, or they took longer.
    Behind {
        /// Datagrams a second that left.
        sent_pps: f64,
        /// Datagrams a second that should have.
        asked_pps: u64,
    },
    /// Too many left late; they then leave in bursts nobody asked for.
    Late {
        /// How many.
        datagrams: u64,
        /// How late the latest hundredth was, in microseconds.
        p99_us: f64,
    },
    /// Few or none left late, but a good part of the latency passed before they left.
    Imprecise {
        /// How late the latest hundredth was, in microseconds.
        lateness_p99_us: f64,
        /// The latency that 99 % stay below, in microseconds.
        latency_p99_us: f64,
    },
    /// The kernel would not send some.
    Refused {
        /// How many.
        datagrams: u64,
    },
    /// Some arrived but were dropped in the generator's own sockets.
    Overrun {
        /// How many.
        datagrams: u64,
    },
    /// A worker's thread never rested.
    Busy {
        /// Share of its time on a processor.
        percent: f64,
    },
}

impl Sign {
    /// The sign in a word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Behind { .. } => "behind",
            Self::Late { .. } => "late",
            Self::Imprecise { .. } => "imprecise",
            Self::Refused { .. } => "refused",
            Self::Overrun { .. } => "overrun",
            Self::Busy { .. } => "busy",
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late_ms = LATE.as_millis();
        match self {
            Self::Behind { sent_pps, asked_pps } => write!(
                out,
                "the generator reached {sent_pps:.0} of {asked_pps} datagrams a second: lower --rate, add --workers, or \
                 send from another host"
            ),
            Self::Late { datagrams, p99_us } => write!(
                out,
                "{datagrams} left more than {late_ms} ms late (p99 {:.0} ms) and in bursts: latencies and losses are the \
                 generator's too; lower --rate, or send from a host that is not shared with the relay",
                p99_us / 1000.0
            ),
            Self::Imprecise { lateness_p99_us, latency_p99_us } => write!(
                out,
                "the lateness of {} at p99 is a good part of the latency of {}: the latencies are the generator's \
                 too; lower --rate, or send from a host that is not shared with the relay",
                time(*lateness_p99_us),
                time(*latency_p99_us)
            ),
            Self::Refused { datagrams } => {
                write!(out, "this host refused to send {datagrams} datagrams; they count as never sent")
            }
            Self::Overrun { datagrams } => write!(
                out,
                "{datagrams} of the lost reached this host and were dropped in the generator's own sockets; they do not \
                 count as the relay's loss; add --workers, or raise net.core.rmem_max"
            ),
            Self::Busy { percent } => write!(
                out,
                "the busiest worker was on a processor for {percent:.0} % of the time: add --workers, or send from a host \
                 with more processors"
            ),
        }
    }
}
