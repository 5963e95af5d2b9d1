//! `pilot-relay`: relay, hole-punch broker, STUN server and directory in one program, started with one command.
#![forbid(unsafe_code)]

mod appliance;

use std::process::ExitCode;

use clap::Parser;

use self::appliance::cli::CommandLine;

/// Connections and rings allocate here and there; packet memory is mapped once and never sees the allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let CommandLine { command, arguments } = CommandLine::parse();
    if let Some(command) = command {
        return appliance::run_command(command);
    }
    let format = if arguments.log_json { telemetry::log::Format::Json } else { telemetry::log::Format::Text };
    telemetry::log::start_as("pilot-relay", format, "info").expect("a level that is one");
    match appliance::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pilot-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}
