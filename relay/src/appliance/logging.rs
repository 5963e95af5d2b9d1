//! Logs: text for people, JSON lines for collectors, to standard error. `RUST_LOG` sets the level.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging for the whole process.
pub fn start(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if json { builder.json().init() } else { builder.init() }
}
