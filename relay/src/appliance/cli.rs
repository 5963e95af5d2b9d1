//! Command line to settings. Everything that can be refused is refused here, in one line that says what to type.

// What is said of a flag is its --help, where `[::]` is an address.
#![allow(rustdoc::broken_intra_doc_links)]

mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use directory::Enrolment;
use directory::service::enrolment::Policy;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use relay::admission::Budget;
use relay::config::{Config, SESSIONS_MAX_DEFAULT};
use relay::server::{Admission, Rules};
use wire::cidr::Cidr;
use wire::stun::SOFTWARE_MAX;
use zeroize::Zeroizing;

pub use self::values::is_of_a_name;
use self::values::{CpuList, Listen, advertised, cpu_list, listen};
use super::data_dir::DataDir;
use super::{backup, config_file, drain, import, nodes, upgrade};

/// However low a limit, a few packets in a row must pass, or nothing would.
const BURST_PACKETS_MIN: u64 = 32;
const BURST_BYTES_MIN: u64 = 65_536;
/// Variables of settings begin so.
pub const ENVIRONMENT: &str = "PILOT_RELAY_";
/// Whom spans are from.
const PROGRAM: &str = "pilot-relay";

/// How datagrams are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Datapath {
    /// io_uring.
    Uring,
    /// The best this host has; io_uring today.
    Auto,
}

/// Relay, hole-punch broker, STUN server and directory for a fleet of Pilot nodes.
///
/// Without arguments it serves everything: relay and STUN on UDP 9001, STUN on UDP 3478, the directory on TCP 9000,
/// health and metrics on 127.0.0.1:3000. Addresses are ADDRESS:PORT, NAME:PORT or `off`; port 0 picks a free one.
///
/// Every flag can also be set as PILOT_RELAY_FLAG in the environment, and as a key of the file named by --config; flags
/// win over the environment, and that over the file.
#[derive(Clone, Debug, Parser)]
#[command(name = "pilot-relay", version, max_term_width = 110, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub arguments: Arguments,
}

/// What to do instead of serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Inspect this host, and say what to change for a relay with the same flags
    ///
    /// Nothing is changed, and a relay at work is not disturbed. Run it as root to see everything. Each line is a check:
    /// ok; note: worth knowing, or could not be looked at; warn: the relay works and would work better; problem: it would
    /// not start, or nodes would not reach it. What to type follows, with the heading of tuning/README.md that says why.
    #[command(after_help = DOCTOR_EXIT_STATUS)]
    Doctor(Box<DoctorArguments>),
    /// Check or show the settings a relay would run with, or print a configuration file to begin with
    Config(config_file::Arguments),
    /// List, approve, ban and remove the nodes of this network
    Nodes(nodes::Arguments),
    /// Copy the data folder into one file, also while the relay serves
    ///
    /// The file is one moment of the directory's database, with the administrator's token, keys and certificates of the data
    /// folder. It is written beside and renamed, and is as secret as the folder. Settings outside the folder are not in it.
    Backup(backup::BackupArguments),
    /// Put a backup in the place of the data folder's database, at once or at the relay's next start
    ///
    /// The backup is checked and, if it is of an older version, brought up to date. Where no relay serves, it is put in place
    /// at once; else it waits in the data folder, and the next start takes it over. What was there before is kept in the
    /// folder before-restore-TIME. Nodes that have registered since the backup was made register again and may get other
    /// numbers.
    Restore(backup::RestoreArguments),
    /// Take over the nodes, names and trust of another registry from its snapshot
    Import(import::Arguments),
    /// Have the running relay succeeded by this program without losing a datagram
    #[command(after_help = upgrade::EXIT_STATUS)]
    Upgrade(upgrade::Arguments),
    /// Begin no session any more, serve those there are until they fall silent, then end
    Drain(drain::Arguments),
    /// Print the words that a shell completes
    #[command(hide = true)]
    Completions(flags::documents::Completions),
    /// Print the manual page, or write the pages of all commands into a folder
    #[command(hide = true)]
    Man(flags::documents::Man),
}

const DOCTOR_EXIT_STATUS: &str = "\
Exit status:
  0  nothing has to change
  1  warnings
  2  the command line is wrong
  3  problems";

/// The flags of `doctor`: those of the relay it is asked about, and its own.
#[derive(Clone, Debug, Args)]
pub struct DoctorArguments {
    /// Print an array of checks: id, status, finding, advice, see (heading of the guide), values
    #[arg(long)]
    pub json: bool,
    /// The relay's.
    #[command(flatten)]
    pub relay: Arguments,
}

/// The flags of the relay.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Folder for the directory's database and the admin token [default: /var/lib/pilot-relay for root, else
    /// ~/.local/share/pilot-relay]
    #[arg(long, value_name = "DIR", env = "PILOT_RELAY_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Relay, hole punching and STUN (UDP) [default: [::]:9001]
    #[arg(long, value_name = "ADDR", value_parser = listen, default_value = "any:9001", hide_default_value = true)]
    pub beacon: Listen,
    /// STUN alone, classic clients included (UDP) [default: [::]:3478]
    #[arg(long, value_name = "ADDR", value_parser = listen, default_value = "any:3478", hide_default_value = true)]
    pub stun: Listen,
    /// The embedded directory (TCP) [default: [::]:9000]
    #[arg(long, value_name = "ADDR", value_parser = listen, default_value = "any:9000", hide_default_value = true)]
    pub registry: Listen,
    /// Health, metrics and counters (HTTP)
    #[arg(long, value_name = "ADDR", value_parser = listen, default_value = "127.0.0.1:3000")]
    pub http: Listen,
    /// How nodes reach this relay, where that differs from its own addresses; may be repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    pub advertise: Vec<String>,
    /// Threads that move datagrams, each on a CPU of its own [default: one per CPU]
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// CPUs for the shards, such as 0-3,8 [default: those this process may use]
    #[arg(long, value_name = "LIST", value_parser = cpu_list)]
    pub cpus: Option<CpuList>,
    /// Sessions kept at most
    #[arg(long, value_name = "N", default_value_t = SESSIONS_MAX_DEFAULT)]
    pub sessions_max: usize,
    /// How datagrams are moved
    #[arg(long, value_enum, default_value_t = Datapath::Auto)]
    pub datapath: Datapath,
    /// File with settings (TOML, the names of the flags as keys); the environment and flags win over it
    #[arg(long, value_name = "FILE", env = "PILOT_RELAY_CONFIG")]
    pub config: Option<PathBuf>,
    /// Who belongs to this network: whoever registers, whom the administrator approves, or whose key is listed in
    /// --allowlist
    #[arg(long, value_enum, default_value_t = Enrolment::Open)]
    pub enrol: Enrolment,
    /// File with the public keys that are let in, one a line in base64; read again at a reload. One that suddenly names no
    /// key is refused
    #[arg(long, value_name = "FILE")]
    pub allowlist: Option<PathBuf>,
    /// Forget nodes that were not there for so many days; 0 keeps them
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub forget_after: u32,
    /// Who is checked: nobody (laboratories), everyone by the directory's knowledge, or only the proven are let in
    #[arg(long, value_enum, default_value_t = Admission::Grace)]
    pub admission: Admission,
    /// Microseconds a shard looks for news before it sleeps [default: 50 where CPUs are left over, else 0]
    #[arg(long, value_name = "MICROS")]
    pub spin: Option<u64>,
    /// Packets per second one sender may relay; 0 is no limit
    #[arg(long, value_name = "PPS", default_value_t = 100_000)]
    pub sender_packets: u64,
    /// Bytes per second one sender may relay; 0 is no limit
    #[arg(long, value_name = "BPS", default_value_t = 125_000_000)]
    pub sender_bytes: u64,
    /// Packets per second one source (/32, /56) may relay, all its nodes together; 0 is no limit
    #[arg(long, value_name = "PPS", default_value_t = 200_000)]
    pub prefix_packets: u64,
    /// Bytes per second one source (/32, /56) may relay, all its nodes together; 0 is no limit
    #[arg(long, value_name = "BPS", default_value_t = 250_000_000)]
    pub prefix_bytes: u64,
    /// Discovers, punches and STUN requests per second one source (/32, /56) may send; 0 is no limit
    #[arg(long, value_name = "PPS", default_value_t = 500)]
    pub control_packets: u64,
    /// Sources that no limit applies to, in relay and directory; may be repeated [default: loopback]
    #[arg(long, value_name = "CIDR")]
    pub exempt: Vec<Cidr>,
    /// What STUN answers say of the software; nothing by default
    #[arg(long, value_name = "TEXT")]
    pub stun_software: Option<String>,
    /// Certificate chain for TLS on the directory's port (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// TLS on the directory's port: with a certificate of our own making, kept in the data folder, whose fingerprint agents
    /// pin; or not at all [default: self-signed, unless --tls-cert names another]
    #[arg(long, value_enum, value_name = "HOW")]
    pub tls: Option<directory::TlsSwitch>,
    /// As --tls self-signed; of before
    #[arg(long)]
    pub tls_self_signed: bool,
    /// Refuse connections to the directory that do not open with TLS
    #[arg(long)]
    pub tls_required: bool,
    /// File with the administrator's token [default: admin-token in the data folder, made at the first start]
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Give up what serving does not need: capabilities, files, system calls
    #[arg(long, value_enum, default_value_t = ::confinement::Mode::Auto)]
    pub confinement: ::confinement::Mode,
    /// Log JSON lines
    #[arg(long)]
    pub log_json: bool,
    /// What to log: error, warn, info, debug, or as RUST_LOG is written, which wins over it
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Take over from the relay that is asked at this socket; `pilot-relay upgrade` says it
    #[arg(long, hide = true, value_name = "SOCKET")]
    pub succeed: Option<PathBuf>,
    /// OpenTelemetry collector that the relay's spans of traced messages are sent to, as http://127.0.0.1:4318 [default:
    /// OTEL_EXPORTER_OTLP_ENDPOINT, else none]
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
}

/// What the arguments mean on this host.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The relay's part.
    pub relay: Config,
    /// Where the directory listens.
    pub registry: Option<SocketAddr>,
    /// Where health and metrics are served.
    pub http: Option<SocketAddr>,
    /// The data folder, if given.
    pub data_dir: Option<PathBuf>,
    /// What to hand out as relay addresses, as given.
    pub advertise_text: Vec<String>,
    /// Where spans are sent.
    pub otlp: Option<telemetry::export::Options>,
    /// Where the relay to be succeeded is asked.
    pub succeed: Option<PathBuf>,
    /// Whether the directory speaks TLS, and with which certificate.
    pub tls: directory::Tls,
    /// Whether it speaks nothing else.
    pub tls_required: bool,
    /// Where the administrator's secret is, if given.
    pub admin_token_file: Option<PathBuf>,
    /// What this process gives up.
    pub confinement: ::confinement::Mode,
    enrolment: Enrolment,
    allowlist: Option<PathBuf>,
    forget_after_days: u32,
}

/// The command line, with environment and file.
pub fn program() -> flags::Program {
    flags::Program::new(CommandLine::command(), ENVIRONMENT)
}

impl Arguments {
    /// Resolves names, looks at the host, and checks what depends on each other.
    ///
    /// # Errors
    /// What does not fit, with the flag to change.
    pub fn resolve(self) -> anyhow::Result<Settings> {
        let (Datapath::Uring | Datapath::Auto) = self.datapath;
        let has_ipv6 = relay::interfaces::has_ipv6();
        let beacon = self.beacon.resolve(has_ipv6);
        if beacon.is_none() && self.stun.resolve(has_ipv6).is_none() && self.registry.resolve(has_ipv6).is_none() {
            bail!("--beacon, --stun and --registry are all off, so there is nothing to serve; leave one of them on");
        }
        if self.admission == Admission::Strict && self.registry.resolve(has_ipv6).is_none() {
            bail!(
                "--admission strict lets in what a directory proves, and --registry is off; leave it on or choose grace"
            );
        }
        let cpus = self.cpus()?;
        let all_cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if self.sessions_max == 0 || self.sessions_max > 1 << 28 {
            bail!("--sessions-max must lie between 1 and {}", 1 << 28);
        }
        if self.stun_software.as_ref().is_some_and(|text| text.len() > SOFTWARE_MAX) {
            bail!("--stun-software takes at most {SOFTWARE_MAX} bytes");
        }
        let spin = self.spin.unwrap_or(if cpus.len() < all_cpus { 50 } else { 0 });
        let beacon_port = beacon.map_or(0, |beacon| beacon.port());
        let advertise = self.advertise.iter().map(|text| advertised(text, beacon_port));
        let advertise = advertise.collect::<anyhow::Result<Vec<_>>>()?.concat();
        let exempt = if self.exempt.is_empty() { Cidr::loopback() } else { self.exempt };
        let files = self.tls_cert.zip(self.tls_key);
        let tls = directory::Tls::chosen(self.tls, self.tls_self_signed, files, self.tls_required)?;
        let packets = |per_second: u64| Budget::new(per_second, (per_second / 5).max(BURST_PACKETS_MIN));
        let bytes = |per_second: u64| Budget::new(per_second, (per_second / 4).max(BURST_BYTES_MIN));
        let rules = Rules {
            admission: self.admission,
            sender_packets: packets(self.sender_packets),
            sender_bytes: bytes(self.sender_bytes),
            prefix_control: Budget::new(self.control_packets, self.control_packets.saturating_mul(4)),
            prefix_packets: packets(self.prefix_packets),
            prefix_bytes: bytes(self.prefix_bytes),
            exempt,
            stun_software: self.stun_software,
            ..Rules::default()
        };
        Ok(Settings {
            relay: Config {
                beacon,
                stun: self.stun.resolve(has_ipv6),
                advertise,
                cpus,
                sessions_max: self.sessions_max,
                spin: Duration::from_micros(spin),
                rules,
            },
            otlp: match self.otlp {
                Some(url) => Some(telemetry::export::Options::new(&url, PROGRAM, env!("CARGO_PKG_VERSION"))),
                None => telemetry::export::Options::from_environment(PROGRAM, env!("CARGO_PKG_VERSION")),
            },
            registry: self.registry.resolve(has_ipv6),
            http: self.http.resolve(has_ipv6),
            data_dir: self.data_dir,
            advertise_text: self.advertise,
            succeed: self.succeed,
            tls,
            tls_required: self.tls_required,
            confinement: self.confinement,
            enrolment: self.enrol,
            allowlist: self.allowlist,
            forget_after_days: self.forget_after,
            admin_token_file: self.admin_token_file,
        })
    }

    fn cpus(&self) -> anyhow::Result<Vec<usize>> {
        let mut cpus = allowed_cpus()?;
        if let Some(CpuList(wanted)) = &self.cpus {
            if let Some(missing) = wanted.iter().find(|cpu| !cpus.contains(cpu)) {
                bail!("--cpus names CPU {missing}, which this process may not use; choose among {cpus:?}");
            }
            cpus.clone_from(wanted);
        }
        let shards = self.shards.unwrap_or(cpus.len());
        if shards == 0 || shards > cpus.len() {
            bail!("--shards must lie between 1 and {}, the number of CPUs to use", cpus.len());
        }
        cpus.truncate(shards);
        Ok(cpus)
    }
}

impl Settings {
    /// The administrator's secret: of the file named, else of the data folder. `None` where there is neither.
    ///
    /// # Errors
    /// It cannot be read or made, or is empty.
    pub fn admin_token(&self, data_dir: Option<&DataDir>) -> anyhow::Result<Option<directory::AdminToken>> {
        let token = match (&self.admin_token_file, data_dir) {
            (Some(file), _) => std::fs::read_to_string(file)
                .map(Zeroizing::new)
                .with_context(|| format!("cannot read --admin-token-file {}", file.display()))?,
            (None, Some(data_dir)) => data_dir.admin_token()?,
            (None, None) => return Ok(None),
        };
        let token = directory::AdminToken::new(&token);
        token.context("the admin token is empty; write one into the file").map(Some)
    }

    /// Files that a reload reads again.
    #[must_use]
    pub fn files_read_again(&self) -> Vec<PathBuf> {
        let pair = match &self.tls {
            directory::Tls::Files { cert, key } => vec![cert.clone(), key.clone()],
            _ => Vec::new(),
        };
        pair.into_iter().chain(self.allowlist.clone()).chain(self.admin_token_file.clone()).collect()
    }

    /// Who may register, with the list of keys read.
    ///
    /// # Errors
    /// The list cannot be read, is none to go by, or names no key although nodes in `data_dir` are in by it.
    pub fn policy(&self, data_dir: PathBuf) -> anyhow::Result<Policy> {
        let config = directory::Config {
            enrolment: self.enrolment,
            allowlist: self.allowlist.clone(),
            forget_after_days: self.forget_after_days,
            ..directory::Config::new(data_dir)
        };
        config.policy()
    }

    /// The file with the keys that are let in.
    #[must_use]
    pub fn allowlist(&self) -> Option<&Path> {
        self.allowlist.as_deref()
    }

    /// The embedded directory's part.
    ///
    /// # Errors
    /// The admin token cannot be read or made.
    pub fn directory_config(&self, listen: SocketAddr, data_dir: &DataDir) -> anyhow::Result<directory::Config> {
        Ok(directory::Config {
            listen: vec![listen],
            tls: self.tls.clone(),
            tls_required: self.tls_required,
            admin_token: self.admin_token(Some(data_dir))?,
            exempt: self.relay.rules.exempt.clone(),
            enrolment: self.enrolment,
            allowlist: self.allowlist.clone(),
            forget_after_days: self.forget_after_days,
            ..directory::Config::new(data_dir.path())
        })
    }
}

/// The CPUs this process may use, in ascending order.
///
/// # Errors
/// The kernel does not tell.
pub fn allowed_cpus() -> anyhow::Result<Vec<usize>> {
    let set =
        sched_getaffinity(Pid::from_raw(0)).context("cannot ask which CPUs may be used; name them with --cpus")?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        program().command().clone().debug_assert();
    }
}
