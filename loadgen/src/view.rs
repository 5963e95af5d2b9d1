//! How far things are, told on stderr: a bar on a terminal, plain lines elsewhere. Reads snapshots of counters only.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Redraws a second.
const DRAWS_PER_SECOND: u8 = 10;
/// Redraws between two plain lines.
const DRAWS_PER_LINE: u32 = 50;

/// Counters the view reads. Workers add to them once a batch.
#[derive(Debug, Default)]
pub struct Progress {
    /// Peers that the directory has given an id.
    pub registered: Counter,
    /// Peers that the relay knows.
    pub discovered: Counter,
    /// Datagrams sent.
    pub sent: Counter,
}

/// One counter, on a cache line of its own.
#[derive(Debug, Default)]
pub struct Counter(CachePadded<AtomicU64>);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Shows the phases of a run.
#[derive(Debug)]
pub struct View {
    is_terminal: bool,
}

impl View {
    /// A view on stderr.
    #[must_use]
    pub fn on_stderr() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal() }
    }

    /// Does `work` on a thread of its own and shows `counter` rise to `total` meanwhile.
    pub fn phase<T: Send>(&self, name: &str, total: u64, counter: &Counter, work: impl FnOnce() -> T + Send) -> T {
        let bar = self.bar(name, total);
        let interval = Duration::from_secs(1) / u32::from(DRAWS_PER_SECOND);
        let result = std::thread::scope(|scope| {
            let (done, is_done) = mpsc::channel::<()>();
            let worker = scope.spawn(move || {
                let _done_when_dropped = done;
                work()
            });
            let mut draws = 0;
            while is_done.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                draws += 1;
                bar.set_position(counter.get());
                if !self.is_terminal && draws % DRAWS_PER_LINE == 0 {
                    eprintln!("{name}: {} of {total}", counter.get());
                }
            }
            worker.join()
        });
        bar.finish_and_clear();
        if !self.is_terminal {
            eprintln!("{name}: {} of {total}", counter.get());
        }
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn bar(&self, name: &str, total: u64) -> ProgressBar {
        let target = if self.is_terminal {
            ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND)
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("{msg:>12} {wide_bar} {human_pos} of {human_len} · {per_sec}")
            .expect("a constant template");
        ProgressBar::with_draw_target(Some(total), target).with_style(style).with_message(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_returns_what_its_work_returns() {
        let counter = Counter::default();
        let result = View { is_terminal: false }.phase("counting", 3, &counter, || {
            counter.add(3);
            "done"
        });
        assert_eq!((result, counter.get()), ("done", 3));
    }
}
