//! How a command ends: what the shell sees, and what is said when it failed.

use std::fmt;
use std::io;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::client::{ConnectError, RequestError};

/// What the shell sees. In the man page; scripts rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// What was asked for failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// No daemon answers.
    NoDaemon = 3,
    /// Stopped from the keyboard.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The kind of a failure, in `--json` as its `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The command line makes no sense.
    InvalidArgument,
    /// No such node, name or file.
    NotFound,
    /// The daemon, the directory or the peer refused, or could not be reached.
    ConnectionFailed,
    /// The peer does not trust this node, or is unknown.
    TrustRequired,
    /// No daemon answers.
    NotRunning,
    /// An admin token is needed.
    AuthRequired,
    /// It took too long.
    Timeout,
    /// Something on this host is in the way: a file, a permission.
    Internal,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidArgument => "invalid_argument",
            Self::NotFound => "not_found",
            Self::ConnectionFailed => "connection_failed",
            Self::TrustRequired => "trust_required",
            Self::NotRunning => "not_running",
            Self::AuthRequired => "auth_required",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        })
    }
}

/// Why a command failed: one line what, one line what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its kind.
    pub code: Code,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Whoever read the output has gone. Nothing is wrong then.
    pub pipe_closed: bool,
    /// Everything has been said on the screen already.
    pub told: bool,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, pipe_closed: false, told: false }
    }

    /// A command line that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// What was to be said is on the screen; only the exit status is left to tell.
    #[must_use]
    pub fn told(code: Code) -> Self {
        Self { told: true, ..Self::new(code, "") }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what was tried before what happened, where the daemon does not say it.
    #[must_use]
    pub fn while_(mut self, what: &str) -> Self {
        if !self.message.starts_with(what) {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }

    /// What the shell sees.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self.code {
            _ if self.pipe_closed => Exit::Success,
            Code::InvalidArgument => Exit::Usage,
            Code::NotRunning => Exit::NoDaemon,
            _ => Exit::Failed,
        }
    }

    /// For scripts.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut value = json!({
            "status": "error", "code": self.code.to_string(), "error": self.message, "message": self.message,
        });
        if let Some(hint) = &self.hint {
            value["hint"] = json!(hint);
        }
        value
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let pipe_closed = error.kind() == io::ErrorKind::BrokenPipe;
        Self { pipe_closed, ..Self::new(Code::Internal, format!("cannot write the output: {error}")) }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::NotRunning(path) => Self::new(Code::NotRunning, "daemon is not running")
                .hint(format!("start the daemon with: pilotctl daemon start  (tried {})", path.display())),
            error @ ConnectError::Stranger { .. } => Self::new(Code::ConnectionFailed, error.to_string())
                .hint("name your own daemon's socket with --socket PATH or PILOT_SOCKET"),
            ConnectError::Refused { path, source: error } => {
                let failure = Self::new(
                    Code::ConnectionFailed,
                    format!("the daemon's socket {} cannot be opened: {error}", path.display()),
                );
                if error.kind() == io::ErrorKind::PermissionDenied {
                    failure.hint("run pilotctl as the user that runs the daemon")
                } else {
                    failure.hint("name the daemon's socket with --socket PATH or PILOT_SOCKET")
                }
            }
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(text) => Self::new(Code::ConnectionFailed, text),
            RequestError::Disconnected(_) => {
                Self::new(Code::ConnectionFailed, error.to_string()).hint("is it still running? pilotctl daemon status")
            }
            RequestError::Senseless(_) => Self::new(Code::ConnectionFailed, error.to_string())
                .hint("daemon and pilotctl may be of different releases: pilotctl version"),
            RequestError::TooLong { .. } => Self::usage(error.to_string()),
        }
    }
}
