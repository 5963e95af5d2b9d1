//! Arguments in, report out, exit status.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use loadgen::args::{Args, Load};
use loadgen::attack;
use loadgen::compare::compare;
use loadgen::config::Config;
use loadgen::directory;
use loadgen::idle;
use loadgen::page::page;
use loadgen::report::{Report, Verdict};
use loadgen::run::run;
use loadgen::view::View;
use serde::Serialize;

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

/// A word to the user, and how the process ends.
type Failed = (String, Exit);

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match (&args.load, args.compare.as_deref()) {
        (Some(Load::Directory(args)), _) => load_directory(args),
        (Some(Load::Idle(args)), _) => hold_idle(args),
        (Some(Load::Attack(args)), _) => misuse(args),
        (Some(Load::Completions(arguments)), _) => written(arguments.print(&Args::command())),
        (Some(Load::Man(arguments)), _) => written(arguments.print(&Args::command())),
        (None, Some([a, b])) => compare_reports(a, b, args.json),
        (None, _) => make_load(&args),
    };
    let exit = result.unwrap_or_else(|(error, exit)| {
        eprintln!("loadgen: {error}");
        exit
    });
    ExitCode::from(exit as u8)
}

fn make_load(args: &Args) -> Result<Exit, Failed> {
    let config = Config::new(args).map_err(|error| failed(&error, Exit::Usage))?;
    let report = run(&config, draw_run_id(), &View::on_stderr()).map_err(|error| failed(&error, Exit::Environment))?;
    print(&report, config.json)?;
    if let Some(path) = &config.html {
        fs::write(path, page(&report))
            .map_err(|error| failed(&format!("cannot write {}: {error}", path.display()), Exit::Environment))?;
    }
    for checked in report.conditions.iter().filter(|checked| checked.is_true) {
        eprintln!("loadgen: {checked}");
    }
    Ok(exit_of(&report))
}

fn load_directory(args: &directory::args::DirectoryArgs) -> Result<Exit, Failed> {
    let config = directory::config::Config::new(args).map_err(|error| failed(&error, Exit::Usage))?;
    let report = directory::run::run(&config, draw_run_id(), &View::on_stderr())
        .map_err(|error| failed(&error, Exit::Environment))?;
    print(&report, config.json)?;
    Ok(match report.verdict {
        directory::report::Verdict::Ok => Exit::Ok,
        directory::report::Verdict::Errors | directory::report::Verdict::Slow => Exit::Loss,
        directory::report::Verdict::GeneratorLimit => Exit::Environment,
    })
}

fn hold_idle(args: &idle::args::IdleArgs) -> Result<Exit, Failed> {
    let config = idle::args::Config::new(args).map_err(|error| failed(&error, Exit::Usage))?;
    let report = idle::run(&config, &View::on_stderr()).map_err(|error| failed(&error, Exit::Environment))?;
    print(&report, args.json)?;
    Ok(if report.is_within_bound() { Exit::Ok } else { Exit::Loss })
}

fn misuse(args: &attack::args::AttackArgs) -> Result<Exit, Failed> {
    let config = attack::args::Config::new(args).map_err(|error| failed(&error, Exit::Usage))?;
    let report = attack::run(&config).map_err(|error| failed(&error, Exit::Environment))?;
    print(&report, args.json)?;
    Ok(Exit::Ok)
}

/// A load that was not made proves nothing about the relay, neither its loss nor what the conditions say.
fn exit_of(report: &Report) -> Exit {
    match report.verdict {
        Verdict::GeneratorLimit => Exit::Environment,
        Verdict::Ok if report.conditions.iter().any(|checked| checked.is_true) => Exit::Loss,
        Verdict::Ok => Exit::Ok,
        Verdict::Loss => Exit::Loss,
    }
}

fn compare_reports(a: &PathBuf, b: &PathBuf, json: bool) -> Result<Exit, Failed> {
    let names = [a, b].map(|path| path.display().to_string());
    let comparison = compare(names, &read(a)?, &read(b)?).map_err(|error| failed(&error, Exit::Usage))?;
    print(&comparison, json)?;
    Ok(Exit::Ok)
}

fn read(path: &Path) -> Result<Report, Failed> {
    let usage = |error: &dyn Display| failed(&format!("{}: {error}", path.display()), Exit::Usage);
    let text = fs::read_to_string(path).map_err(|error| usage(&error))?;
    serde_json::from_str(&text)
        .map_err(|error| usage(&format!("no report of this loadgen ({error}); write one with: loadgen --json")))
}

/// Datagrams of other runs, still under way or made at the same time, must not be taken for ours.
#[expect(clippy::disallowed_methods, reason = "the one number that must differ between runs")]
fn draw_run_id() -> u64 {
    getrandom::u64().expect("the kernel has random numbers")
}

fn written(result: io::Result<()>) -> Result<Exit, Failed> {
    result.map(|()| Exit::Ok).map_err(|error| failed(&format!("cannot write: {error}"), Exit::Environment))
}

/// Writes to stdout. A reader that has seen enough and closed the pipe is no failure.
fn print(what: &(impl Display + Serialize), json: bool) -> Result<(), Failed> {
    let text = if json {
        serde_json::to_string_pretty(what).map(|text| text + "\n").map_err(io::Error::other)
    } else {
        Ok(what.to_string())
    };
    let mut stdout = io::stdout().lock();
    match text.and_then(|text| stdout.write_all(text.as_bytes())).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| failed(&format!("cannot write the report: {error}"), Exit::Environment)),
    }
}

fn failed(error: &dyn Display, exit: Exit) -> Failed {
    (error.to_string(), exit)
}
