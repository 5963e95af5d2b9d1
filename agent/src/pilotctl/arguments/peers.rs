//! Words of the commands that talk to peers, and show what came from them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::Relevant;
use crate::pilotctl::duration;

/// Where the secure channel is.
const SECURE_PORT: u16 = 443;

/// Someone else.
#[derive(Debug, Args)]
pub struct Peer {
    /// Hostname, node id or address
    #[arg(value_name = "PEER")]
    pub peer: String,
}

/// `ping`.
#[derive(Debug, Args)]
pub struct Ping {
    /// Hostname, node id or address
    pub peer: String,
    /// How many
    #[arg(long, short = 'c', default_value_t = 4, value_name = "N")]
    pub count: u32,
    /// From one to the next
    #[arg(long, short = 'i', default_value = "1s", value_parser = duration::parse, value_name = "DURATION")]
    pub interval: Duration,
}

/// `connect`.
#[derive(Debug, Args)]
pub struct Connect {
    /// Hostname, node id or address
    pub peer: String,
    /// The peer's port [default: 1000, or 443 with --secure]
    pub port: Option<u16>,
    /// Seal what is said once more, and let both ends prove who they are
    #[arg(long)]
    pub secure: bool,
    /// Send this, print one response, and end
    #[arg(long, short = 'm', value_name = "TEXT")]
    pub message: Option<String>,
}

/// `send`.
#[derive(Debug, Args)]
pub struct Send {
    /// Hostname, node id or address
    pub peer: String,
    /// The peer's port
    pub port: u16,
    /// What to send
    #[arg(long, short = 'd', value_name = "TEXT", required_unless_present = "stdin")]
    pub data: Option<String>,
    /// Send what standard input holds
    #[arg(long, conflicts_with = "data")]
    pub stdin: bool,
}

impl Connect {
    /// The port that is meant.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.secure { SECURE_PORT } else { 1000 })
    }
}

/// `recv`.
#[derive(Debug, Args)]
pub struct Receive {
    /// Our port [default with --secure: 443]
    #[arg(required_unless_present = "secure")]
    pub port: Option<u16>,
    /// Take only peers that prove who they are, on a channel sealed once more (connect --secure)
    #[arg(long)]
    pub secure: bool,
    /// End after so many; 0 for no end [default: 1]
    #[arg(long, short = 'c', value_name = "N")]
    pub count: Option<u64>,
}

impl Receive {
    /// The port that is meant.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(SECURE_PORT)
    }
}

/// `listen`.
#[derive(Debug, Args)]
pub struct Listen {
    /// Our port
    pub port: u16,
    /// End after so many; 0 for no end [default: 0]
    #[arg(long, short = 'c', value_name = "N")]
    pub count: Option<u64>,
}

/// `dgram`.
#[derive(Debug, Args)]
pub struct Dgram {
    /// Hostname, node id or address
    pub peer: String,
    /// The peer's port
    pub port: u16,
    /// What to send
    #[arg(long, short = 'd', value_name = "TEXT")]
    pub data: String,
}

/// `send-message`.
#[derive(Debug, Args)]
pub struct SendMessage {
    /// Hostname, node id or address
    #[arg(required_unless_present = "most_relevant")]
    pub peer: Option<String>,
    /// Or who else.
    #[command(flatten)]
    pub relevant: Relevant,
    /// What to send; - for standard input
    #[arg(long, short = 'd', value_name = "TEXT", required_unless_present = "data_file", allow_hyphen_values = true)]
    pub data: Option<String>,
    /// Send what a file holds
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub data_file: Option<PathBuf>,
    /// What it is
    #[arg(long, value_enum, default_value_t = MessageType::Text, value_name = "TYPE")]
    pub r#type: MessageType,
    /// Send it so many times
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..),
        conflicts_with = "most_relevant")]
    pub count: u32,
    /// Send all of them on one stream
    #[arg(long, conflicts_with = "most_relevant")]
    pub reuse_conn: bool,
    /// The id of the message this one answers
    #[arg(long, value_name = "ID")]
    pub reply_to: Option<String>,
    /// Wait so long for an answer in the inbox
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub wait: Option<Duration>,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MessageType {
    /// A text.
    Text,
    /// A JSON document.
    Json,
    /// Anything.
    Binary,
}

impl MessageType {
    /// Its name for scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Binary => "binary",
        }
    }
}

/// `send-file`.
#[derive(Debug, Args)]
#[command(allow_missing_positional = true)]
pub struct SendFile {
    /// Hostname, node id or address
    #[arg(required_unless_present = "most_relevant")]
    pub peer: Option<String>,
    /// The file
    #[arg(required = true)]
    pub file: PathBuf,
    /// Or who else.
    #[command(flatten)]
    pub relevant: Relevant,
}

/// `inbox`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Inbox {
    /// Read one message whole.
    #[command(subcommand)]
    pub read: Option<InboxRead>,
    /// The newest only, whole
    #[arg(long)]
    pub latest: bool,
    /// From this node only: part of its address
    #[arg(long, value_name = "ADDR")]
    pub from: Option<String>,
    /// Which of them.
    #[command(flatten)]
    pub choice: Choice,
}

/// `inbox read`.
#[derive(Debug, Subcommand)]
pub enum InboxRead {
    /// Read one message whole
    Read {
        /// Its id, as `inbox` shows it
        id: String,
    },
}

/// `received`.
#[derive(Debug, Args)]
pub struct Received {
    /// Which of them.
    #[command(flatten)]
    pub choice: Choice,
}

/// Which of many.
#[derive(Clone, Debug, Args)]
pub struct Choice {
    /// At most so many, the newest; 0 for all
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub limit: usize,
    /// Those of the last so long
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub since: Option<Duration>,
    /// Delete them
    #[arg(long)]
    pub clear: bool,
    /// With --clear: only those older than this
    #[arg(long, value_parser = duration::parse, value_name = "DURATION", requires = "clear")]
    pub before: Option<Duration>,
}

/// `publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// The broker: hostname, node id or address
    pub peer: String,
    /// What it is about
    pub topic: String,
    /// What it says
    #[arg(long, short = 'd', value_name = "TEXT")]
    pub data: String,
}

/// `subscribe`.
#[derive(Debug, Args)]
pub struct Subscribe {
    /// The broker: hostname, node id or address
    pub peer: String,
    /// What about; * for all
    pub topic: String,
    /// End after so many; 0 for no end
    #[arg(long, short = 'c', default_value_t = 0, value_name = "N")]
    pub count: u64,
}

/// `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Hostname, node id or address
    pub peer: String,
    /// Megabytes to send
    #[arg(default_value_t = 1.0, value_name = "MB", value_parser = megabytes)]
    pub megabytes: f64,
}

const MEGABYTES_MAX: f64 = 4096.0;

fn megabytes(text: &str) -> Result<f64, String> {
    let megabytes = text.parse::<f64>().ok().filter(|megabytes| (0.000_001..=MEGABYTES_MAX).contains(megabytes));
    megabytes.ok_or_else(|| format!("invalid size \"{text}\"; expected megabytes, at most {MEGABYTES_MAX}"))
}
