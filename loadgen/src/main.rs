//! Arguments in, report out, exit status.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use loadgen::config::{Args, Config};
use loadgen::report::{Report, Verdict};
use loadgen::run::run;
use loadgen::view::View;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How the process ends. Clap uses the same number for usage.
#[derive(Clone, Copy)]
enum Exit {
    Ok = 0,
    Loss = 1,
    Usage = 2,
    Environment = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let config = match Config::new(&args) {
        Ok(config) => config,
        Err(error) => return fail(&error, Exit::Usage),
    };
    match run(&config, draw_run_id(), &View::on_stderr()) {
        Ok(report) => match print(&report, config.json) {
            Ok(()) => exit_of(report.verdict).into(),
            Err(error) => fail(&format!("cannot write the report: {error}"), Exit::Environment),
        },
        Err(failure) => fail(&failure, Exit::Environment),
    }
}

const fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Ok => Exit::Ok,
        Verdict::Loss => Exit::Loss,
        Verdict::GeneratorLimit => Exit::Environment,
    }
}

/// Datagrams of other runs, still under way or made at the same time, must not be taken for ours.
#[expect(clippy::disallowed_methods, reason = "the one number that must differ between runs")]
fn draw_run_id() -> u64 {
    getrandom::u64().expect("the kernel has random numbers")
}

/// Writes the report to stdout. A reader that has seen enough and closed the pipe is no failure.
fn print(report: &Report, json: bool) -> io::Result<()> {
    let text =
        if json { serde_json::to_string_pretty(report).map_err(io::Error::other)? + "\n" } else { report.to_string() };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn fail(error: &dyn std::fmt::Display, exit: Exit) -> ExitCode {
    eprintln!("loadgen: {error}");
    exit.into()
}
