//! `pilot-relay backup` and `restore`.

use std::process::ExitCode;

use clap::Args;

/// Where to.
#[derive(Clone, Debug, Args)]
pub struct BackupArguments {}

/// Where from.
#[derive(Clone, Debug, Args)]
pub struct RestoreArguments {}

/// Runs it.
///
/// # Errors
/// What went wrong, and what to do.
pub fn backup(_arguments: BackupArguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}

/// Runs it.
///
/// # Errors
/// What went wrong, and what to do.
pub fn restore(_arguments: RestoreArguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
