//! `pilot-relay upgrade`: succession by the service manager.

use std::process::ExitCode;

use clap::Args;

/// How.
#[derive(Clone, Debug, Args)]
pub struct Arguments {}

/// Runs it.
///
/// # Errors
/// What went wrong, and what to do.
pub fn run(_arguments: Arguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
