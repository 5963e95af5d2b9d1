//! `pilot-relay config check`, and the configuration file.

use std::process::ExitCode;

use clap::Args;

/// What to do with the settings.
#[derive(Clone, Debug, Args)]
pub struct Arguments {}

/// Runs it.
///
/// # Errors
/// What went wrong, and what to do.
pub fn run(_arguments: Arguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
