//! The log of a process, to standard error: text for people, or JSON lines with stable fields for collectors. `RUST_LOG`
//! wins over the level given.
//!
//! | level | means |
//! |---|---|
//! | `error` | something does not work, and will not by itself: someone has to look |
//! | `warn` | something went wrong and was survived, or soon will go wrong; said once, not for each datagram |
//! | `info` | what an operator wants to have read the next morning: starts, ends, changes of state |
//! | `debug` | what whoever looks for a fault needs: single requests, peers, decisions |
//! | `trace` | more than that; not for production |
//!
//! A JSON line has these fields, in this order, and then those of the event under their own names:
//!
//! | field | what |
//! |---|---|
//! | `timestamp` | RFC 3339 in UTC, with milliseconds |
//! | `level` | `error`, `warn`, `info`, `debug`, `trace` |
//! | `service` | the program, as `pilot-relay` |
//! | `target` | the module that says it |
//! | `message` | one sentence; the same event has the same |
//! | `trace_id`, `span_id` | in hex, where the event has a `traceparent` |
//!
//! An event's own field of such a name gets a `_` behind it. Whatever text an event brings, no control character leaves
//! in either format: in text `\u{1b}` stands for it, in JSON `\u001b`.

pub(crate) mod format;
mod timestamp;

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

pub use self::format::LogFormat;

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For collectors: one object a line.
    Json,
}

/// `text` or `json`.
impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("{} is no format: write text or json", other.escape_debug())),
        }
    }
}

/// The level is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: write error, warn, info, debug or trace, or filters as RUST_LOG takes them")]
pub struct LevelError(String);

/// Starts logging for the whole process, whose service is called as its program file.
///
/// # Errors
/// [`LevelError`].
pub fn start(format: Format, level: &str) -> Result<(), LevelError> {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(|path| path.file_name()).and_then(|name| name.to_str());
    start_as(name.unwrap_or("pilot"), format, level)
}

/// Starts logging for the whole process, as `service`.
///
/// # Errors
/// [`LevelError`].
pub fn start_as(service: &str, format: Format, level: &str) -> Result<(), LevelError> {
    let given = EnvFilter::try_from_default_env();
    let filter = given.or_else(|_| EnvFilter::try_new(level)).map_err(|_| LevelError(level.to_owned()))?;
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .event_format(LogFormat::new(service, format))
        .with_env_filter(filter)
        .with_filter_reloading();
    let filter = log.reload_handle();
    // Only the first log is of the process; a second one does not come to life.
    let _ = CHANGE_FILTER.set(Box::new(move |new| drop(filter.reload(new))));
    log.init();
    Ok(())
}

/// Whether `level` is one.
///
/// # Errors
/// [`LevelError`].
pub fn check_level(level: &str) -> Result<(), LevelError> {
    EnvFilter::try_new(level).map(drop).map_err(|_| LevelError(level.to_owned()))
}

type ChangeFilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

static CHANGE_FILTER: OnceLock<ChangeFilter> = OnceLock::new();

/// Changes the level of a log that was started. `RUST_LOG` still wins.
///
/// # Errors
/// [`LevelError`]; the level stays.
pub fn set_level(level: &str) -> Result<(), LevelError> {
    let filter = EnvFilter::try_new(level).map_err(|_| LevelError(level.to_owned()))?;
    if let Some(change) = CHANGE_FILTER.get()
        && EnvFilter::try_from_default_env().is_err()
    {
        change(filter);
    }
    Ok(())
}
