//! What the daemon is told: the configuration file, then the environment, then the command line, the later one winning.
//! Every wrong value is refused in one line that says what to write instead. What the values do is left to the daemon.
//!
//! | part | subject |
//! |---|---|
//! | [`settings`] | the flags, and the same names as keys of the file |
//! | [`check`] | whether a daemon could start with them |
//! | [`default_file`] | a file to begin with |
//! | `offer` | what the node can do, from its flags and its file |
//! | [`values`] | single values: addresses, fingerprints |

pub mod check;
pub mod default_file;
mod offer;
pub mod settings;
pub mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use settings::{LogFormat, Settings};
use values::{Fingerprint, HostPort, Listen, Share};
use wire::registry::names;

use crate::capability::Offer;

/// Where the directory listens unless told otherwise.
const REGISTRY_DEFAULT: &str = "127.0.0.1:9000";
/// The relay is looked for on the directory's host, at this port.
const BEACON_PORT: u16 = 9001;
const SOCKET_NAME: &str = "pilot.sock";
const DATA_DIR_NAME: &str = ".pilot";
/// The key's name in the data folder.
pub const IDENTITY_NAME: &str = "identity.json";
/// Relays that are tried.
const BEACONS_MAX: usize = 16;

/// All a daemon has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The directory.
    pub registry: HostPort,
    /// The SHA-256 of the directory's certificate; without it the connection is plain.
    pub registry_fingerprint: Option<Fingerprint>,
    /// Relays the operator has named; none to use the directory's list, and the directory's host until that is known.
    pub beacons: Vec<HostPort>,
    /// Where the tunnel sockets are bound.
    pub listen: Listen,
    /// The unix socket for clients.
    pub socket: PathBuf,
    /// The folder for whatever outlives the daemon.
    pub data_dir: PathBuf,
    /// The node's key.
    pub identity: PathBuf,
    /// The name wanted; may be empty.
    pub hostname: String,
    /// What the node can do for others; tags alone describe the node without a record.
    pub offer: Option<Offer>,
    /// An email address or another name of whoever runs the node; may be empty.
    pub owner: String,
    /// Anyone may connect.
    pub public: bool,
    /// Trust whoever asks.
    pub trust_auto_approve: bool,
    /// Never go direct.
    pub relay_only: bool,
    /// The endpoint to announce instead of the one the relay sees.
    pub endpoint: Option<SocketAddr>,
    /// What the process gives up.
    pub confinement: confinement::Mode,
    /// How to log.
    pub log_format: LogFormat,
    /// What to log, as `RUST_LOG` is written.
    pub log_level: String,
    /// The collector of traces, a base URL; none for what the environment says.
    pub otlp_endpoint: Option<String>,
    /// The share of traces begun here that are recorded.
    pub trace_sample: Share,
    /// Where health and figures are served over HTTP.
    pub http: Option<SocketAddr>,
    /// Keep events in a file.
    pub event_log: bool,
    /// Which services of its own the daemon offers.
    pub services: Services,
}

/// Services inside the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Services {
    /// Port 7.
    pub echo: bool,
    /// Port 1001.
    pub data_exchange: bool,
    /// Port 1002.
    pub event_stream: bool,
}

/// Why there is no configuration; each text is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line asks for help or the version, or cannot be parsed.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// The file cannot be read.
    #[error("cannot read --config {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML, or has keys that mean nothing.
    #[error("--config {path}: {reason}; the keys are the names of the flags, see pilot-agent --help")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A value is wrong.
    #[error("--{flag} {value}: {hint}")]
    Value {
        /// Which.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What should be given.
        hint: String,
    },
    /// Nobody said where the node keeps its things.
    #[error("there is no home folder to keep the identity in; name a folder with --data-dir")]
    NoDataDir,
}

impl Config {
    /// Reads arguments (the program's name first), environment and file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        Self::of(Settings::from_arguments(arguments)?)
    }

    /// What arguments and environment have `given`, and what the file adds.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn of(given: Settings) -> Result<Self, ConfigError> {
        let settings = match &given.config {
            Some(path) => given.clone().or(read_file(path)?),
            None => given,
        };
        Self::from_settings(settings, std::env::home_dir())
    }

    /// Checks settings and fills in what is left open. `home` is where the data folder goes by default.
    ///
    /// # Errors
    /// [`ConfigError::Value`], [`ConfigError::NoDataDir`].
    pub fn from_settings(settings: Settings, home: Option<PathBuf>) -> Result<Self, ConfigError> {
        let offer = offer::read(&settings)?;
        let registry = settings.registry.unwrap_or_else(|| REGISTRY_DEFAULT.to_owned());
        let registry = check("registry", &registry, HostPort::parse)?;
        let beacons = settings.beacon.unwrap_or_default();
        if beacons.len() > BEACONS_MAX {
            return Err(wrong("beacon", &beacons[BEACONS_MAX], format!("at most {BEACONS_MAX} relays can be named")));
        }
        let beacons = beacons.iter().map(|text| check("beacon", text, HostPort::parse)).collect::<Result<_, _>>()?;
        let hostname = settings.hostname.unwrap_or_default();
        if !hostname.is_empty() {
            names::check_hostname(&hostname).map_err(|error| wrong("hostname", &hostname, error.to_string()))?;
        }
        let encrypt = settings.encrypt.unwrap_or(true);
        if !encrypt {
            return Err(wrong("encrypt", "false", "tunnels are always encrypted; leave the flag out".to_owned()));
        }
        let data_dir = settings.data_dir.or_else(|| home.map(|home| home.join(DATA_DIR_NAME)));
        let data_dir = data_dir.ok_or(ConfigError::NoDataDir)?;
        let optional = |flag, text: &Option<String>| -> Result<Option<SocketAddr>, ConfigError> {
            text.as_deref().map(|text| check(flag, text, values::endpoint)).transpose()
        };
        Ok(Self {
            registry_fingerprint: settings
                .registry_fingerprint
                .as_deref()
                .map(|text| check("registry-fingerprint", text, Fingerprint::parse))
                .transpose()?,
            listen: match settings.listen.as_deref() {
                Some(text) => check("listen", text, Listen::parse)?,
                None => Listen::Anywhere(0),
            },
            socket: settings.socket.unwrap_or_else(|| std::env::temp_dir().join(SOCKET_NAME)),
            identity: settings.identity.unwrap_or_else(|| data_dir.join(IDENTITY_NAME)),
            endpoint: optional("endpoint", &settings.endpoint)?,
            owner: settings.owner.unwrap_or_default(),
            public: settings.public.unwrap_or(false),
            trust_auto_approve: settings.trust_auto_approve.unwrap_or(false),
            relay_only: settings.relay_only.unwrap_or(false),
            confinement: settings.confinement.unwrap_or_default(),
            log_format: settings.log_format.unwrap_or_default(),
            log_level: settings.log_level.unwrap_or_else(|| "info".to_owned()),
            otlp_endpoint: settings.otlp_endpoint.filter(|url| !url.is_empty()),
            trace_sample: match settings.trace_sample.as_deref() {
                Some(text) => check("trace-sample", text, Share::parse)?,
                None => Share::ALL,
            },
            http: settings
                .http
                .as_deref()
                .map(|text| {
                    check("http", text, |text| {
                        text.parse().map_err(|_| "write IP:PORT, such as 127.0.0.1:9102".to_owned())
                    })
                })
                .transpose()?,
            event_log: !settings.no_event_log.unwrap_or(false),
            services: Services {
                echo: !settings.no_echo.unwrap_or(false),
                data_exchange: !settings.no_dataexchange.unwrap_or(false),
                event_stream: !settings.no_eventstream.unwrap_or(false),
            },
            registry,
            beacons,
            hostname,
            offer,
            data_dir,
        })
    }

    /// The relays to begin with.
    #[must_use]
    pub fn first_beacons(&self) -> Vec<HostPort> {
        match self.beacons.as_slice() {
            [] => vec![HostPort { host: self.registry.host.clone(), port: BEACON_PORT }],
            named => named.to_vec(),
        }
    }
}

fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let reason = format!("line {line}: {}", error.message().lines().next().unwrap_or_default());
        ConfigError::Malformed { path: path.to_owned(), reason }
    })
}

fn check<T>(flag: &'static str, text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, ConfigError> {
    parse(text).map_err(|hint| wrong(flag, text, hint))
}

fn wrong(flag: &'static str, value: &str, hint: String) -> ConfigError {
    ConfigError::Value { flag, value: value.to_owned(), hint }
}
