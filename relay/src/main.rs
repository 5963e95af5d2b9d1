//! `pilot-relay`: relay, hole-punch broker, STUN server and directory in one program, started with one command.
#![forbid(unsafe_code)]

mod appliance;

use std::process::ExitCode;

use relay::Time;

use self::appliance::cli::{self, CommandLine};
use self::appliance::failure;

/// As clap ends the program for a wrong command line.
const WRONG_USAGE: u8 = 2;

/// Connections and rings allocate here and there; packet memory is mapped once and never sees the allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let began = Time::read_clock();
    let (CommandLine { command, arguments }, given) = match cli::program().read(std::env::args_os()) {
        Ok(read) => read,
        Err(error) => return failure::of_reading(&error, began),
    };
    if let Some(command) = command {
        return appliance::run_command(command, &given);
    }
    let format = if arguments.log_json { telemetry::log::Format::Json } else { telemetry::log::Format::Text };
    if let Err(error) = telemetry::log::start_as("pilot-relay", format, &arguments.log_level) {
        eprintln!("pilot-relay: --log-level {error}");
        return ExitCode::from(WRONG_USAGE);
    }
    let is_successor = arguments.succeed.is_some();
    match appliance::run(arguments, given) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::end(&error, began, is_successor),
    }
}
