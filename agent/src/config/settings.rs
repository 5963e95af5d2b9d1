//! The names of all settings: flags of the command line, variables `PILOT_…` of the environment, keys of the file.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

/// The command line of `pilot-agent`: settings for the daemon, or something else to do.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "pilot-agent",
    version,
    about = "The node on this host: tunnels and streams to any peer of the fleet.",
    args_conflicts_with_subcommands = true
)]
pub struct CommandLine {
    /// What to do instead of being the node.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to be it.
    #[command(flatten)]
    pub settings: Settings,
}

/// What to do instead of being the node.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Check the settings, or print a configuration file to begin with
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the words that a shell completes
    #[command(hide = true)]
    Completions(flags::documents::Completions),
    /// Print the manual page, or write the pages of all commands into a folder
    #[command(hide = true)]
    Man(flags::documents::Man),
}

/// `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Look at settings, files and ports before a node is started or restarted with them
    ///
    /// Nothing is changed. Run it as the user the node runs as. Exit status: 0 it would start, 2 a setting is wrong, 3 a
    /// file, folder or port cannot be used.
    Check(Box<CheckArguments>),
    /// Print a configuration file with every setting explained and none changed
    Default,
}

/// `config check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArguments {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The node's.
    #[command(flatten)]
    pub settings: Settings,
}

impl CommandLine {
    /// Reads arguments, the program's name first.
    ///
    /// # Errors
    /// What clap says, which includes `--help` and `--version`.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(arguments.into_iter().map(double_dash))
    }
}

/// Settings as they are given; what is not given stays open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Parser)]
#[command(
    name = "pilot-agent",
    version,
    about = "The node on this host: tunnels and streams to any peer of the fleet."
)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// The directory [default: 127.0.0.1:9000]
    #[arg(long, value_name = "HOST:PORT", env = "PILOT_REGISTRY")]
    pub registry: Option<String>,
    /// Speak TLS to the directory, and to none but the one with this fingerprint, which it prints at its start
    #[arg(long, value_name = "HEX", env = "PILOT_REGISTRY_FINGERPRINT")]
    pub registry_fingerprint: Option<String>,
    /// A relay; may be repeated [default: as the directory says]
    #[arg(long, value_name = "HOST:PORT", env = "PILOT_BEACON", value_delimiter = ',')]
    pub beacon: Option<Vec<String>>,
    /// Where the tunnel is bound [default: any port, IPv4 and IPv6]
    #[arg(long, value_name = "ADDR", env = "PILOT_LISTEN")]
    pub listen: Option<String>,
    /// The unix socket for pilotctl and other clients [default: pilot.sock in the temporary folder]
    #[arg(long, value_name = "PATH", env = "PILOT_SOCKET")]
    pub socket: Option<PathBuf>,
    /// The folder for all that outlives the daemon [default: ~/.pilot]
    #[arg(long, value_name = "DIR", env = "PILOT_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// The node's key; made at the first start [default: identity.json in the data folder]
    #[arg(long, value_name = "FILE", env = "PILOT_IDENTITY")]
    pub identity: Option<PathBuf>,
    /// The name others may call this node by
    #[arg(long, value_name = "NAME", env = "PILOT_HOSTNAME")]
    pub hostname: Option<String>,
    /// What this node can do for others, in a few words; found by `pilotctl query`
    #[arg(long, value_name = "TITLE", env = "PILOT_CAPABILITY")]
    pub capability: Option<String>,
    /// The same in as many words as it takes
    #[arg(long, value_name = "TEXT", env = "PILOT_CAPABILITY_TEXT")]
    pub capability_text: Option<String>,
    /// A word that describes this node; may be repeated
    #[arg(long, value_name = "TAG", env = "PILOT_TAGS", value_delimiter = ',')]
    pub tag: Option<Vec<String>>,
    /// A file with title, text, tags, input, output, price, limits, version (JSON or TOML)
    #[arg(long, value_name = "FILE", env = "PILOT_CAPABILITY_FILE")]
    pub capability_file: Option<PathBuf>,
    /// Who runs this node, as an email address
    #[arg(long, alias = "email", value_name = "TEXT", env = "PILOT_OWNER")]
    #[serde(alias = "email")]
    pub owner: Option<String>,
    /// Let anyone connect, not only whom this node trusts
    #[arg(long, env = "PILOT_PUBLIC", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub public: Option<bool>,
    /// Trust whoever asks
    #[arg(long, env = "PILOT_TRUST_AUTO_APPROVE", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub trust_auto_approve: Option<bool>,
    /// Never go direct, and hide this host's address
    #[arg(long, env = "PILOT_RELAY_ONLY", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub relay_only: Option<bool>,
    /// The endpoint to announce, where the relay cannot see the right one
    #[arg(long, value_name = "IP:PORT", env = "PILOT_ENDPOINT")]
    pub endpoint: Option<String>,
    /// Give up what the node does not need: capabilities, files, system calls [default: auto]
    #[arg(long, value_name = "MODE", env = "PILOT_CONFINEMENT")]
    pub confinement: Option<confinement::Mode>,
    /// How to write the log [default: text]
    #[arg(long, value_name = "FORMAT", env = "PILOT_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What to log: error, warn, info, debug, or as RUST_LOG is written [default: info]
    #[arg(long, value_name = "LEVEL", env = "PILOT_LOG_LEVEL")]
    pub log_level: Option<String>,
    /// Send spans of traces to this OTLP collector [default: as OTEL_EXPORTER_OTLP_ENDPOINT says]
    #[arg(long, value_name = "URL", env = "PILOT_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// The share of traces begun here that are recorded, 0 to 1 [default: 1]
    #[arg(long, value_name = "SHARE", env = "PILOT_TRACE_SAMPLE")]
    pub trace_sample: Option<String>,
    /// Health and figures for Prometheus over HTTP, at /healthz and /metrics [default: none]
    #[arg(long, value_name = "IP:PORT", env = "PILOT_HTTP")]
    pub http: Option<String>,
    /// No event log (events.jsonl in the data folder)
    #[arg(long, env = "PILOT_NO_EVENT_LOG", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub no_event_log: Option<bool>,
    /// No echo service (port 7)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
        value_parser = BoolishValueParser::new())]
    pub no_echo: Option<bool>,
    /// No data exchange service (port 1001)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
        value_parser = BoolishValueParser::new())]
    pub no_dataexchange: Option<bool>,
    /// No event stream service (port 1002)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
        value_parser = BoolishValueParser::new())]
    pub no_eventstream: Option<bool>,
    /// Read settings from this file (TOML; keys are the names of these flags)
    #[arg(long, value_name = "FILE", env = "PILOT_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Kept for scripts written for older daemons
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub encrypt: Option<bool>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For collectors: one object a line.
    Json,
}

impl Settings {
    /// The settings on a command line and in the environment.
    ///
    /// # Errors
    /// What clap says, which includes `--help` and `--version`.
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(arguments.into_iter().map(double_dash))
    }

    /// These settings, and those of `lower` where these are open.
    #[must_use]
    pub fn or(self, lower: Self) -> Self {
        Self {
            registry: self.registry.or(lower.registry),
            registry_fingerprint: self.registry_fingerprint.or(lower.registry_fingerprint),
            beacon: self.beacon.or(lower.beacon),
            listen: self.listen.or(lower.listen),
            socket: self.socket.or(lower.socket),
            data_dir: self.data_dir.or(lower.data_dir),
            identity: self.identity.or(lower.identity),
            hostname: self.hostname.or(lower.hostname),
            capability: self.capability.or(lower.capability),
            capability_text: self.capability_text.or(lower.capability_text),
            tag: self.tag.or(lower.tag),
            capability_file: self.capability_file.or(lower.capability_file),
            owner: self.owner.or(lower.owner),
            public: self.public.or(lower.public),
            trust_auto_approve: self.trust_auto_approve.or(lower.trust_auto_approve),
            relay_only: self.relay_only.or(lower.relay_only),
            endpoint: self.endpoint.or(lower.endpoint),
            confinement: self.confinement.or(lower.confinement),
            log_format: self.log_format.or(lower.log_format),
            log_level: self.log_level.or(lower.log_level),
            otlp_endpoint: self.otlp_endpoint.or(lower.otlp_endpoint),
            trace_sample: self.trace_sample.or(lower.trace_sample),
            http: self.http.or(lower.http),
            no_event_log: self.no_event_log.or(lower.no_event_log),
            no_echo: self.no_echo.or(lower.no_echo),
            no_dataexchange: self.no_dataexchange.or(lower.no_dataexchange),
            no_eventstream: self.no_eventstream.or(lower.no_eventstream),
            config: self.config.or(lower.config),
            encrypt: self.encrypt.or(lower.encrypt),
        }
    }
}

/// `-registry` as older daemons spell it becomes `--registry`. Short flags have one letter and stay.
fn double_dash(argument: OsString) -> OsString {
    let Some(text) = argument.to_str() else { return argument };
    match text.strip_prefix('-') {
        Some(name) if name.len() > 1 && name.starts_with(|first: char| first.is_ascii_alphabetic()) => {
            format!("--{name}").into()
        }
        _ => argument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory as _;
        Settings::command().debug_assert();
    }

    fn parse(arguments: &[&str]) -> Settings {
        let arguments = ["pilot-agent"].iter().chain(arguments).map(OsString::from);
        Settings::from_arguments(arguments).unwrap()
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        let new = parse(&["--registry", "h:1", "--socket=/x", "--public", "--relay-only=false", "--email", "a@b"]);
        let old = parse(&["-registry", "h:1", "-socket=/x", "-public", "-relay-only=false", "-email", "a@b"]);
        assert_eq!(old, new);
        assert_eq!((old.public, old.relay_only, old.owner.as_deref()), (Some(true), Some(false), Some("a@b")));
    }

    #[test]
    fn beacons_repeat() {
        let settings = parse(&["--beacon", "a:1", "--beacon", "b:2"]);
        assert_eq!(settings.beacon, Some(vec!["a:1".to_owned(), "b:2".to_owned()]));
    }
}
