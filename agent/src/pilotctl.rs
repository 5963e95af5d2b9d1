//! The command line `pilotctl`: it asks the daemon over its socket and shows the answers, to a person or, with
//! `--json`, to a script in the shapes that existing scripts parse.
//!
//! | module | subject |
//! |---|---|
//! | [`arguments`] | the command line itself |
//! | [`commands`] | what each command does |
//! | [`exit`] | how a command ends |
//! | [`screen`], [`table`], [`text`], [`width`], [`duration`] | what is printed, and how |
//! | [`places`] | files and folders |
//! | `session` | the connection to the daemon, and who a peer is |
//! | `directory` | the few questions that work without a daemon |
//! | `documents` | manual pages and completions |
//! | `clock` | the time, and chance |

pub mod arguments;
mod clock;
pub mod commands;
mod directory;
mod documents;
pub mod duration;
pub mod exit;
pub mod places;
pub mod screen;
mod session;
pub mod table;
pub mod text;
pub mod width;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use arguments::Arguments;
use exit::{Exit, Failure};
use screen::Screen;

/// After an interrupt, for a command that has a sum to print.
const INTERRUPT_GRACE: Duration = Duration::from_millis(200);

/// Runs one command line, its program's name first.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words = arguments::normalised(words);
    // As clap sees it, but also where clap gives up.
    let json = words.iter().any(|word| word == "--json");
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error, json).into(),
    };
    let mut screen = Screen::new(arguments.json);
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(interruptible(arguments, &mut screen));
            // A read of standard input may be under way for ever.
            runtime.shutdown_background();
            exit
        }
        Err(error) => Err(Failure::new(exit::Code::Internal, format!("cannot start: {error}"))),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            screen.failure(&failure);
            failure.exit().into()
        }
    }
}

async fn interruptible(arguments: Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut command = std::pin::pin!(commands::run(arguments, screen));
    tokio::select! {
        biased;
        outcome = &mut command => outcome.map(|()| Exit::Success),
        _ = tokio::signal::ctrl_c() => match tokio::time::timeout(INTERRUPT_GRACE, command).await {
            Ok(outcome) => outcome.map(|()| Exit::Success),
            Err(_) => Ok(Exit::Interrupted),
        },
    }
}

/// Help and release go out as asked for; everything else is a mistake in the command line.
fn refuse(error: &clap::Error, json: bool) -> Exit {
    if !error.use_stderr() {
        return match error.print() {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Exit::Failed,
            _ => Exit::Success,
        };
    }
    if !json {
        let _ = error.print();
        return Exit::Usage;
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty());
    let message = paragraphs.next().unwrap_or("invalid command line").trim_start_matches("error: ");
    let failure = Failure::usage(message.split_whitespace().collect::<Vec<_>>().join(" "));
    let hint = paragraphs.next().map(|usage| usage.split_whitespace().collect::<Vec<_>>().join(" "));
    Screen::new(true).failure(&failure.hint(hint.unwrap_or_else(|| "pilotctl --help".to_owned())));
    Exit::Usage
}
