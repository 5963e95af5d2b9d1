//! `pilot-relay`: relay, hole-punch broker, STUN server and directory in one program, started with one command.
#![forbid(unsafe_code)]

mod appliance;

use std::process::ExitCode;

use self::appliance::cli::{self, CommandLine};

/// As clap ends the program for a wrong command line.
const WRONG_USAGE: u8 = 2;

/// Connections and rings allocate here and there; packet memory is mapped once and never sees the allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (CommandLine { command, arguments }, given) = match cli::program().read(std::env::args_os()) {
        Ok(read) => read,
        Err(error) => return error.report("pilot-relay"),
    };
    if let Some(command) = command {
        return appliance::run_command(command, &given);
    }
    let format = if arguments.log_json { telemetry::log::Format::Json } else { telemetry::log::Format::Text };
    if let Err(error) = telemetry::log::start_as("pilot-relay", format, &arguments.log_level) {
        eprintln!("pilot-relay: --log-level {error}");
        return ExitCode::from(WRONG_USAGE);
    }
    match appliance::run(arguments, given) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pilot-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}
