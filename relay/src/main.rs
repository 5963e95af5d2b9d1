//! `pilot-relay`: relay, hole-punch broker, STUN server and directory in one program, started with one command.
#![forbid(unsafe_code)]

mod appliance;

use std::process::ExitCode;

use clap::Parser;

/// Connections and rings allocate here and there; packet memory is mapped once and never sees the allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = appliance::cli::Arguments::parse();
    appliance::logging::start(arguments.log_json);
    match appliance::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pilot-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}
