//! The log of a process, to standard error: text for people, or JSON lines with stable fields for collectors. `RUST_LOG`
//! wins over the level given.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For collectors: one object a line.
    Json,
}

/// The level is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: write error, warn, info, debug or trace, or filters as RUST_LOG takes them")]
pub struct LevelError(String);

/// Starts logging for the whole process.
///
/// # Errors
/// [`LevelError`].
pub fn start(format: Format, level: &str) -> Result<(), LevelError> {
    let given = EnvFilter::try_from_default_env();
    let filter = given.or_else(|_| EnvFilter::try_new(level)).map_err(|_| LevelError(level.to_owned()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => builder.init(),
        Format::Json => builder.json().init(),
    }
    Ok(())
}
