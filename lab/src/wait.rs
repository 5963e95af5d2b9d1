//! Waiting for events with a deadline, and telling a person what was seen. The only place that reads the clock.

use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Does `story` while two others run on threads of their own; they are told by the flag that it is over, also when it has
/// failed: else a failing test would never end.
///
/// # Panics
/// As any of the three does, `story` first.
pub fn meanwhile<T, A: Send, B: Send>(
    one: impl FnOnce(&AtomicBool) -> A + Send,
    other: impl FnOnce(&AtomicBool) -> B + Send,
    story: impl FnOnce() -> T,
) -> (T, A, B) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (one, other) = (scope.spawn(|| one(&is_over)), scope.spawn(|| other(&is_over)));
        let story = panic::catch_unwind(AssertUnwindSafe(story));
        is_over.store(true, Ordering::Relaxed);
        let (one, other) = (one.join(), other.join());
        let story = story.unwrap_or_else(|panic| panic::resume_unwind(panic));
        let one = one.unwrap_or_else(|panic| panic::resume_unwind(panic));
        (story, one, other.unwrap_or_else(|panic| panic::resume_unwind(panic)))
    })
}

/// Prints a line that is worth reading even when the test passes: it goes past the test runner's capture.
pub fn evidence(line: impl AsRef<str>) {
    let name = thread::current().name().unwrap_or("lab").to_owned();
    // A closed stderr must not fail a test that otherwise passes.
    let _ = writeln!(std::io::stderr().lock(), "  {name}: {}", line.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends by the flag, or in failure after a while.
    fn until_over(is_over: &AtomicBool) {
        wait_until("the story to end", Duration::from_secs(20), || is_over.load(Ordering::Relaxed).then_some(()));
    }

    #[test]
    fn whoever_runs_beside_a_story_that_fails_is_told_and_the_failure_is_the_storys() {
        let failed = panic::catch_unwind(|| meanwhile(until_over, |_| panic!("also"), || panic!("a story")));
        let what = failed.err().and_then(|panic| panic.downcast_ref::<&str>().copied());
        assert_eq!(what, Some("a story"));
        assert_eq!(meanwhile(until_over, |_| 2, || 1), (1, (), 2));
    }
}
