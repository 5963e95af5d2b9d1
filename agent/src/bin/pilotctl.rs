//! The command line of a fleet host.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::pilotctl::run(std::env::args_os())
}
