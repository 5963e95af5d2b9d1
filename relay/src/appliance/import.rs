//! `pilot-relay import`: the snapshot of another registry.

use std::process::ExitCode;

use clap::Args;

/// Which snapshot.
#[derive(Clone, Debug, Args)]
pub struct Arguments {}

/// Runs it.
///
/// # Errors
/// What went wrong, and what to do.
pub fn run(_arguments: Arguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
