//! The only place that reads the clock, and draws chance.

use std::time::{Duration, Instant, SystemTime};

use super::exit::{Code, Failure};

/// A time that only goes forward.
#[expect(clippy::disallowed_methods, reason = "the command line is a driver; this is its clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the command line is a driver; this is its calendar")]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How long ago `start` was.
pub fn since(start: Instant) -> Duration {
    now().saturating_duration_since(start)
}

/// Bytes that nobody can foresee.
#[expect(clippy::disallowed_methods, reason = "the command line is a driver; this is its chance")]
pub fn chance<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(Code::Internal, format!("no random numbers: {error}")))?;
    Ok(bytes)
}
