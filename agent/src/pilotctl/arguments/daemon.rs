//! Words of `daemon`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The daemon of this host.
#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Start it in the background and wait until it is registered
    #[command(after_help = "Examples:\n  pilotctl daemon start --hostname coordinator\n  \
        pilotctl daemon start --hostname specialist-papers --capability \"resolve academic citations\" --tag papers\n  \
        pilotctl daemon start --registry relay.example:9000 --beacon relay.example:9001 --public")]
    Start(Box<Start>),
    /// Stop it and wait for its end
    Stop,
    /// Say whether it runs; the exit status says so, too
    Status,
}

/// How the daemon is started.
#[derive(Debug, Args)]
pub struct Start {
    /// The name other nodes find this one by
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// What this node can do for others, in a few words
    #[arg(long, value_name = "TITLE")]
    pub capability: Option<String>,
    /// The same in as many words as it takes
    #[arg(long, value_name = "TEXT")]
    pub capability_text: Option<String>,
    /// A word that describes this node; may be repeated
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// A file with title, text, tags, input, output, price, limits, version (JSON or TOML)
    #[arg(long, value_name = "FILE")]
    pub capability_file: Option<PathBuf>,
    /// The relay, host:port
    #[arg(long, value_name = "ADDR")]
    pub beacon: Option<String>,
    /// Where to receive from other nodes, host:port
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// The file that keeps this node's key
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Let any node connect
    #[arg(long)]
    pub public: bool,
    /// Trust whoever asks
    #[arg(long)]
    pub trust_auto_approve: bool,
    /// Never go direct, and hide this host's address
    #[arg(long)]
    pub relay_only: bool,
    /// Send spans of traces to this OTLP collector
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// The share of traces begun here that are recorded, 0 to 1
    #[arg(long, value_name = "SHARE")]
    pub trace_sample: Option<String>,
    /// Health and figures for Prometheus over HTTP, at /healthz and /metrics
    #[arg(long, value_name = "IP:PORT")]
    pub http: Option<String>,
    /// No event log (events.jsonl in the data folder)
    #[arg(long)]
    pub no_event_log: bool,
    /// A file with all of this
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the daemon keeps its files [default: ~/.pilot]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Stay in the foreground, as a service manager wants it
    #[arg(long)]
    pub foreground: bool,
}
