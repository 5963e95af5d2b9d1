//! The only place that reads the clock, and draws chance.

use std::time::{Duration, Instant, SystemTime};

use secrets::Locked;

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
pub fn chance<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Bytes that a key is made of, drawn where they stay.
pub fn secret() -> Result<Locked<[u8; 32]>, Failure> {
    let mut bytes = Locked::new([0; 32]);
    fill(&mut *bytes)?;
    Ok(bytes)
}

#[expect(clippy::disallowed_methods, reason = "the command line is a driver; this is its chance")]
fn fill(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes).map_err(|error| Failure::new(Code::Internal, format!("no random numbers: {error}")))
}
