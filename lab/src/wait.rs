//! Waiting for events with a deadline, and telling a person what was seen. The only place that reads the clock.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// Measures how long a story takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts counting now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the laboratory's one clock reader")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Self::start().0 - self.0
    }
}

/// Seconds since 1970, as signed messages carry them.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the laboratory's one clock reader")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Calls `probe` until it yields a value, every few milliseconds.
///
/// # Panics
/// When `within` has passed first; `what` names what was awaited.
#[track_caller]
pub fn wait_until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(watch.elapsed() < within, "waited {within:?} in vain for {what}");
        thread::park_timeout(PROBE_INTERVAL);
    }
}

/// Prints a line that is worth reading even when the test passes: it goes past the test runner's capture.
pub fn evidence(line: impl AsRef<str>) {
    let name = thread::current().name().unwrap_or("lab").to_owned();
    // A closed stderr must not fail a test that otherwise passes.
    let _ = writeln!(std::io::stderr().lock(), "  {name}: {}", line.as_ref());
}
