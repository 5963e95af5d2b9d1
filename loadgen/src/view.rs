//! How far things are, told on stderr: bars on a terminal, plain lines elsewhere. Reads counters and snapshots only.

use std::fmt::{Display, Write};
use std::io::IsTerminal;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::clock::Clock;
use crate::numbers::{figure, grouped, time};
use crate::progress::{Counter, Live, Snapshot};

/// Redraws a second.
const DRAWS_PER_SECOND: u8 = 10;
/// Between two sets of figures, or two plain lines.
const FIGURES_INTERVAL_NS: u64 = 1_000_000_000;

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

    /// Says something. No bar may be shown at the time.
    pub fn say(&self, line: impl Display) {
        eprintln!("{line}");
    }

    /// Does `work` on a thread of its own and shows `counter` rise to `total` meanwhile.
    pub fn phase<T: Send>(&self, name: &str, total: u64, counter: &Counter, work: impl FnOnce() -> T + Send) -> T {
        let bar = self.bar(name, total, "{msg:>12} {wide_bar:.cyan/dim} {done} of {all} · {rate}/s");
        let clock = Clock::start();
        let mut next_line_ns = FIGURES_INTERVAL_NS;
        let line = || format!("{name}: {} of {total}", counter.get());
        let result = watch(work, || {
            bar.set_position(counter.get());
            if !self.is_terminal && clock.now_ns() >= next_line_ns {
                next_line_ns = clock.now_ns() + FIGURES_INTERVAL_NS;
                self.say(line());
            }
        });
        bar.finish_and_clear();
        if !self.is_terminal {
            self.say(line());
        }
        result
    }

    /// Does the `work` of sending `total` datagrams on a thread of its own and shows `live` meanwhile.
    pub fn load<T: Send>(&self, name: &str, total: u64, live: &Live, work: impl FnOnce() -> T + Send) -> T {
        let template = "{prefix:>12} {wide_bar:.cyan/dim} {done} of {all} sent\n             {msg}";
        let bar = self.bar(name, total, template);
        bar.set_prefix(name.to_owned());
        bar.set_message("…");
        let clock = Clock::start();
        let mut figures = Figures::default();
        let result = watch(work, || {
            let snapshot = live.snapshot();
            bar.set_position(snapshot.sent);
            if let Some(text) = figures.next(clock.now_ns(), &snapshot) {
                if !self.is_terminal {
                    self.say(format_args!("{name}: {} of {total} sent, {text}", snapshot.sent));
                }
                bar.set_message(text);
            }
        });
        bar.finish_and_clear();
        result
    }

    fn bar(&self, name: &str, total: u64, template: &str) -> ProgressBar {
        let target = if self.is_terminal {
            ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND)
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template(template)
            .expect("a constant template")
            .progress_chars("━╸─")
            .with_key("done", |state: &ProgressState, out: &mut dyn Write| put(out, state.pos()))
            .with_key("all", |state: &ProgressState, out: &mut dyn Write| put(out, state.len().unwrap_or(0)))
            .with_key("rate", |state: &ProgressState, out: &mut dyn Write| put(out, state.per_sec() as u64));
        ProgressBar::with_draw_target(Some(total), target).with_style(style).with_message(name.to_owned())
    }
}

fn put(out: &mut dyn Write, number: u64) {
    // A bar that cannot be written is not worth stopping for.
    let _ = out.write_str(&grouped(number));
}

/// Does `work` on a thread of its own and calls `draw` now and then until it is done.
fn watch<T: Send>(work: impl FnOnce() -> T + Send, mut draw: impl FnMut()) -> T {
    let interval = Duration::from_secs(1) / u32::from(DRAWS_PER_SECOND);
    let result = std::thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        let worker = scope.spawn(move || {
            let _done_when_dropped = done;
            work()
        });
        while is_done.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            draw();
        }
        worker.join()
    });
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The figures of the last second, once a second.
#[derive(Debug, Default)]
struct Figures {
    since_ns: u64,
    delivered_before: u64,
    /// The worst snapshot since; several make up a second, and the view must not hide the bad ones.
    latency_ns: Option<(u64, u64)>,
}

impl Figures {
    fn next(&mut self, now_ns: u64, snapshot: &Snapshot) -> Option<String> {
        self.latency_ns = self.latency_ns.max(snapshot.latency_ns);
        let elapsed_ns = now_ns - self.since_ns;
        if elapsed_ns < FIGURES_INTERVAL_NS {
            return None;
        }
        let delivered_pps = (snapshot.delivered - self.delivered_before) as f64 * 1e9 / elapsed_ns as f64;
        let latency = self.latency_ns.map_or_else(String::new, |(p50_ns, p99_ns)| {
            format!(" · p50 {} · p99 {}", time(p50_ns as f64 / 1e3), time(p99_ns as f64 / 1e3))
        });
        *self = Self { since_ns: now_ns, delivered_before: snapshot.delivered, latency_ns: None };
        let rate = grouped(delivered_pps.round() as u64);
        Some(format!("{rate}/s delivered · loss {} %{latency}", figure(snapshot.loss_percent)))
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

    #[test]
    fn figures_come_once_a_second_and_tell_the_rate_since() {
        let mut figures = Figures::default();
        let at = |delivered, latency_ns| Snapshot { sent: 9000, delivered, loss_percent: 0.25, latency_ns };
        assert_eq!(figures.next(500_000_000, &at(500, Some((95_000, 2_000_000)))), None);
        let text = figures.next(1_000_000_000, &at(1500, Some((80_000, 90_000)))).unwrap();
        assert_eq!(text, "1\u{202f}500/s delivered · loss 0.25 % · p50 95 µs · p99 2 ms");
        assert_eq!(figures.next(1_900_000_000, &at(1500, None)), None);
        assert_eq!(figures.next(3_000_000_000, &at(1500, None)).unwrap(), "0/s delivered · loss 0.25 %");
    }
}
