//! The command line of `loadgen attack`, and what it means.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use wire::NodeId;
use wire::cidr::Cidr;

use crate::config::{REGISTRY_PORT, RELAY_PORT, UsageError, check, resolve};
use crate::peers::SourcePrefix;

const RATE_MAX: u64 = 100_000_000;
const CONNECTIONS_MAX: u32 = 100_000;
/// What no packet of the internet is routed to: loopback, benchmarking (RFC 2544, 5180), documentation (RFC 5737, 3849).
const ALLOWED_TARGETS: [&str; 8] = [
    "127.0.0.0/8",
    "::1",
    "198.18.0.0/15",
    "2001:2::/48",
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:db8::/32",
];

/// Misuses a relay or a directory, to see what becomes of it.
///
/// For laboratories: the target must be on loopback or at an address for benchmarks or documentation, as network
/// namespaces use them; any other is refused. Raw kinds (spoof, replay, fragments, half-open) need root and IPv4.
#[derive(Clone, Debug, Args)]
pub struct AttackArgs {
    /// What to do
    #[arg(long, value_enum)]
    pub kind: Kind,
    /// The relay's address, for kinds over UDP
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:9001")]
    pub relay: String,
    /// The directory's address, or that of another TCP server, for kinds over TCP
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:9000")]
    pub target: String,
    /// Datagrams per second; 0 is as fast as it goes
    #[arg(long, value_name = "PPS", default_value_t = 0)]
    pub rate: u64,
    /// How long
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub seconds: f64,
    /// Payload bytes of heavy and unknown
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub size: usize,
    /// The sender's node id, for heavy and unknown; it says discover first
    #[arg(long, value_name = "ID", default_value_t = 900_001)]
    pub node: u32,
    /// How many nodes behind this source send in turn, for heavy and unknown; ids from --node on
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nodes: u32,
    /// The destination's node id, for heavy; the ids 1 to N that contest claims
    #[arg(long, value_name = "ID", default_value_t = 1)]
    pub dest: u32,
    /// UDP port to send from [default: any]
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Address to send from [default: as routed]
    #[arg(long, value_name = "IP")]
    pub source: Option<IpAddr>,
    /// Send from the addresses of this prefix in turn, for spoof, replay and half-open [default: 198.19.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub source_prefix: Option<SourcePrefix>,
    /// Datagrams to send again, one a line in hex, for replay
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
    /// Connections held at once, for kinds over TCP
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub connections: u32,
    /// Chooses the random bytes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Write the report to stdout as JSON
    #[arg(long)]
    pub json: bool,
}

/// What can be done to a relay or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One sender relays far more than its budget
    Heavy,
    /// Relays to nodes that do not exist
    Unknown,
    /// Discovers that claim other nodes' ids
    Contest,
    /// Every message type from 00 to 0F with random ids and bytes
    Types,
    /// Malformed and truncated STUN
    Stun,
    /// Tunnel frames of every magic
    Tunnel,
    /// Datagrams without a byte
    Empty,
    /// Datagrams of 64 KiB
    Huge,
    /// Discovers, punches and relays from forged sources (raw)
    Spoof,
    /// IP fragments that never become whole (raw)
    Fragments,
    /// Recorded datagrams of others, from forged sources (raw)
    Replay,
    /// Frames sent byte by byte
    SlowLoris,
    /// Connections opened and closed at once
    ConnectFlood,
    /// TCP handshakes never finished (raw)
    HalfOpen,
    /// A TLS hello followed by noise
    TlsGarbage,
    /// A length prefix of 4 GiB
    GiantLength,
    /// Frames with JSON a hundred thousand levels deep
    DeepJson,
    /// Connections that say nothing
    Idle,
    /// Slow, endless and senseless HTTP requests
    Http,
}

impl Kind {
    /// Whether it goes over TCP, against `--target`.
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        matches!(
            self,
            Self::SlowLoris
                | Self::ConnectFlood
                | Self::HalfOpen
                | Self::TlsGarbage
                | Self::GiantLength
                | Self::DeepJson
                | Self::Idle
                | Self::Http
        )
    }
}

/// [`AttackArgs`], checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to do.
    pub kind: Kind,
    /// To whom.
    pub target: SocketAddr,
    /// Datagrams per second; 0 is no limit.
    pub rate_pps: u64,
    /// How long.
    pub duration_ns: u64,
    /// Payload bytes.
    pub size: usize,
    /// The senders' ids.
    pub senders: Vec<NodeId>,
    /// The destination's id, or the last id that is claimed.
    pub dest: NodeId,
    /// Port to send from.
    pub port: u16,
    /// Address to send from.
    pub source: Option<IpAddr>,
    /// Forged sources.
    pub sources: SourcePrefix,
    /// Recorded datagrams.
    pub capture: Vec<Vec<u8>>,
    /// Connections held at once.
    pub connections: u32,
    /// Of the random bytes.
    pub seed: u64,
}

impl Config {
    /// Checks `args`, looks up names, reads the recording.
    ///
    /// # Errors
    /// [`UsageError`] names the argument and what it may be.
    pub fn new(args: &AttackArgs) -> Result<Self, UsageError> {
        let target = if args.kind.is_tcp() {
            resolve("--target", &args.target, REGISTRY_PORT)?
        } else {
            resolve("--relay", &args.relay, RELAY_PORT)?
        };
        check_target(target)?;
        check("--rate", args.rate, 0..=RATE_MAX)?;
        check("--size", args.size, 0..=60_000)?;
        check("--nodes", args.nodes, 1..=100_000)?;
        check("--connections", args.connections, 1..=CONNECTIONS_MAX)?;
        let sources = match args.source_prefix {
            Some(prefix) if !prefix.is_family_of(target.ip()) => {
                return Err(UsageError(format!("--source-prefix {prefix} and {target} are of different families")));
            }
            Some(prefix) => prefix,
            None => "198.19.0.0/16".parse().map_err(UsageError)?,
        };
        Ok(Self {
            kind: args.kind,
            target,
            rate_pps: args.rate,
            duration_ns: crate::config::nanoseconds("--seconds", args.seconds)?,
            size: args.size,
            senders: (0..args.nodes).map(|index| NodeId(args.node.saturating_add(index))).collect(),
            dest: NodeId(args.dest),
            port: args.port,
            source: args.source,
            sources,
            capture: capture(args)?,
            connections: args.connections,
            seed: args.seed.max(1),
        })
    }
}

fn check_target(target: SocketAddr) -> Result<(), UsageError> {
    let allowed = ALLOWED_TARGETS.iter().filter_map(|range| range.parse::<Cidr>().ok());
    if allowed.into_iter().any(|range| range.contains(target.ip())) {
        return Ok(());
    }
    Err(UsageError(format!(
        "{target} is not a laboratory's address; attack what is on loopback, 198.18.0.0/15 or 2001:db8::/32"
    )))
}

fn capture(args: &AttackArgs) -> Result<Vec<Vec<u8>>, UsageError> {
    let Some(path) = &args.capture else {
        return match args.kind {
            Kind::Replay => {
                Err(UsageError("--kind replay needs --capture FILE, one datagram a line in hex".to_owned()))
            }
            _ => Ok(Vec::new()),
        };
    };
    let wrong = |what: &dyn std::fmt::Display| UsageError(format!("--capture {}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let datagrams = lines.map(|line| from_hex(line.trim()).ok_or_else(|| wrong(&"a line is not in hex")));
    let datagrams = datagrams.collect::<Result<Vec<_>, _>>()?;
    if datagrams.is_empty() { Err(wrong(&"there is no datagram in it")) } else { Ok(datagrams) }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Load};

    fn config(arguments: &[&str]) -> Result<Config, String> {
        let arguments = ["loadgen", "attack"].into_iter().chain(arguments.iter().copied());
        let args = Args::try_parse_from(arguments).map_err(|error| error.to_string())?;
        let Some(Load::Attack(args)) = args.load else { panic!("an attack was asked for") };
        Config::new(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn only_a_laboratory_is_attacked() {
        for allowed in ["127.0.0.1", "198.18.0.2:9001", "[2001:db8::2]:9001", "::1"] {
            assert!(config(&["--kind", "types", "--relay", allowed]).is_ok(), "{allowed}");
        }
        for refused in ["192.168.1.1", "10.0.0.1:9001", "8.8.8.8", "[2600::1]:9001", "198.20.0.1"] {
            let error = config(&["--kind", "types", "--relay", refused]).expect_err(refused);
            assert!(error.contains("not a laboratory's address"), "{error}");
            assert!(config(&["--kind", "idle", "--target", refused]).is_err(), "{refused}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (arguments, mention) in [
            (&["--kind", "nonsense"][..], "nonsense"),
            (&["--kind", "replay"], "--capture FILE"),
            (&["--kind", "replay", "--capture", "/nowhere"], "--capture /nowhere"),
            (&["--kind", "heavy", "--nodes", "0"], "--nodes 0"),
            (&["--kind", "heavy", "--seconds", "0"], "--seconds 0"),
            (&["--kind", "spoof", "--source-prefix", "fd00::/64"], "different families"),
        ] {
            let error = config(arguments).expect_err("a mistake");
            assert!(error.contains(mention), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn a_recording_is_hex() {
        assert_eq!(from_hex("0100000001"), Some(vec![1, 0, 0, 0, 1]));
        assert_eq!(from_hex("010"), None);
        assert_eq!(from_hex("zz"), None);
    }
}
