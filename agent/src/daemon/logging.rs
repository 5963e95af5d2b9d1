//! The daemon's log: text for people, JSON lines for collectors, to standard error. `RUST_LOG` wins over the settings.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::settings::LogFormat;

/// Starts logging for the whole process.
///
/// # Errors
/// The level is none; the text says what to write.
pub fn start(format: LogFormat, level: &str) -> Result<(), String> {
    let given = EnvFilter::try_from_default_env();
    let filter = given.or_else(|_| EnvFilter::try_new(level)).map_err(|_| {
        format!("--log-level {level}: write error, warn, info, debug or trace, or filters as RUST_LOG takes them")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
