//! Arguments, checked: what load to make, against what, from where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZero;
use std::time::Duration;

use clap::Parser;

use crate::payload::STAMP_LEN;
use crate::peers::{LOOPBACK_SOURCES, SourcePrefix};
use crate::plan::Plan;

/// The largest payload: a UDP datagram less the relay header.
const SIZE_MAX: usize = 65_507 - wire::beacon::RELAY_HEADER_LEN;
/// Datagrams per second that can be asked for.
const RATE_MAX: u64 = 100_000_000;
/// A week.
const SECONDS_MAX: f64 = 604_800.0;
/// Datagrams that may be due at the same moment.
const BURST_MAX: u64 = 1024;
/// Bursts per second when the burst is not given: the sleeps between them are then long enough to be worth it.
const BURSTS_PER_SECOND: u64 = 5000;
/// The largest burst that is chosen on its own: one system call.
const AUTOMATIC_BURST_MAX: u64 = crate::socket::BATCH_MAX as u64;
const WORKERS_MAX: u32 = 64;
const SOCKETS_MAX: u32 = 1024;
const CONNECTIONS_MAX: u32 = 256;
const RELAY_PORT: u16 = 9001;
const REGISTRY_PORT: u16 = 9000;

/// Simulates a fleet of peers that relay datagrams to each other in random pairs, and reports what became of each.
///
/// The load is open-loop: datagrams are due at fixed times whatever happens to them, and latency counts from those
/// times. Without arguments: 100 000 peers on this host, 50 000 datagrams of 256 bytes a second for 10 s.
///
/// Against a relay on 127.0.0.0/8 every peer has a loopback address of its own. Elsewhere peers share sockets, told
/// apart by node id (message types 08 and 09); so also on ::1, since IPv6 has only one loopback address. With
/// --source-prefix every peer has its own address again.
#[derive(Clone, Debug, Parser)]
#[command(version, after_help = EXIT_STATUS_HELP)]
pub struct Args {
    /// Simulated peers
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub peers: u32,
    /// The relay's address; a name is looked up
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:9001")]
    pub relay: String,
    /// The directory's address
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:9000")]
    pub registry: String,
    /// Make up node ids 1 to N instead of registering; the relay must run with --admission open
    #[arg(long, conflicts_with = "registry")]
    pub no_directory: bool,
    /// Datagrams per second, over all peers
    #[arg(long, value_name = "PPS", default_value_t = 50_000)]
    pub rate: u64,
    /// How long to send
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// Payload of each datagram; the relay header of 9 bytes comes on top
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub size: usize,
    /// Datagrams due at the same moment [default: what makes 5000 bursts a second, at most 64]
    #[arg(long, value_name = "N")]
    pub burst: Option<u64>,
    /// Consecutive datagrams from one peer to its partner
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub run: u64,
    /// Loss above this makes the exit status 1
    #[arg(long, value_name = "PERCENT", default_value_t = 0.1)]
    pub max_loss: f64,
    /// Chooses identities, pairs and senders; the same seed repeats them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Give every peer a source address out of this prefix, routed to this host: ip route add local CIDR dev lo
    #[arg(long, value_name = "CIDR")]
    pub source_prefix: Option<SourcePrefix>,
    /// UDP sockets, where peers share them
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub sockets: u32,
    /// Threads that send and receive [default: half the processors]
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
    /// Connections to the directory
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub connections: u32,
    /// Write the report to stdout as JSON
    #[arg(long)]
    pub json: bool,
}

const EXIT_STATUS_HELP: &str = "\
Exit status:
  0  loss within --max-loss
  1  loss above --max-loss
  2  the command line is wrong
  3  the load could not be made: no answer, or this host is too slow for the rate";

/// What to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Simulated peers, at least two.
    pub peers: u32,
    /// The relay.
    pub relay: SocketAddr,
    /// The directory, unless node ids are made up.
    pub registry: Option<SocketAddr>,
    /// The load.
    pub plan: Plan,
    /// Bytes of each payload.
    pub size_bytes: usize,
    /// Tolerated loss.
    pub max_loss_percent: f64,
    /// Source addresses, one per peer; without them peers share sockets.
    pub sources: Option<SourcePrefix>,
    /// UDP sockets that peers share.
    pub sockets: u32,
    /// Threads.
    pub workers: u32,
    /// Connections to the directory.
    pub connections: u32,
    /// Whether the report is JSON.
    pub json: bool,
}

/// A mistake in the arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}\ntry: loadgen --help")]
pub struct UsageError(String);

impl Config {
    /// Checks `args` and looks up names.
    ///
    /// # Errors
    /// [`UsageError`] names the argument and what it may be.
    pub fn new(args: &Args) -> Result<Self, UsageError> {
        let relay = resolve("--relay", &args.relay, RELAY_PORT)?;
        let registry =
            if args.no_directory { None } else { Some(resolve("--registry", &args.registry, REGISTRY_PORT)?) };
        check("--size", args.size, STAMP_LEN..=SIZE_MAX)?;
        check("--max-loss", args.max_loss, 0.0..=100.0)?;
        check("--connections", args.connections, 1..=CONNECTIONS_MAX)?;
        let sources = sources(args, relay)?;
        let workers = args.workers.unwrap_or_else(half_the_processors);
        check("--workers", workers, 1..=WORKERS_MAX)?;
        check("--sockets", args.sockets, 1..=SOCKETS_MAX)?;
        Ok(Self {
            peers: args.peers,
            relay,
            registry,
            plan: plan(args)?,
            size_bytes: args.size,
            max_loss_percent: args.max_loss,
            sources,
            sockets: args.sockets,
            workers: workers.min(args.peers),
            connections: args.connections,
            json: args.json,
        })
    }

    /// How long the plan lasts.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.plan.packets as f64 / self.plan.rate_pps as f64)
    }

    /// Bytes of the largest datagram that is sent or received.
    #[must_use]
    pub const fn datagram_len(&self) -> usize {
        self.size_bytes + wire::beacon::RELAY_HEADER_LEN
    }
}

fn plan(args: &Args) -> Result<Plan, UsageError> {
    check("--rate", args.rate, 1..=RATE_MAX)?;
    check("--seconds", args.seconds, 0.000_001..=SECONDS_MAX)?;
    check("--run", args.run, 1..=u64::MAX)?;
    let burst = args.burst.unwrap_or_else(|| (args.rate / BURSTS_PER_SECOND).clamp(1, AUTOMATIC_BURST_MAX));
    check("--burst", burst, 1..=BURST_MAX)?;
    let packets = ((args.rate as f64 * args.seconds).round() as u64).max(1);
    Ok(Plan { rate_pps: args.rate, packets, burst, run: args.run, seed: args.seed })
}

fn sources(args: &Args, relay: SocketAddr) -> Result<Option<SourcePrefix>, UsageError> {
    let sources = args.source_prefix.or_else(|| is_ipv4_loopback(relay).then_some(LOOPBACK_SOURCES));
    let places = sources.map_or(u32::MAX - 1, |sources| sources.capacity());
    check("--peers", args.peers, 2..=places)?;
    match sources {
        Some(sources) if !sources.is_family_of(relay.ip()) => {
            Err(UsageError(format!("--source-prefix {sources} and --relay {relay} are of different address families")))
        }
        sources => Ok(sources),
    }
}

/// Takes `HOST:PORT`, `HOST` and bare IPv6 addresses. IPv4 wins, since only there loopback has many addresses.
fn resolve(argument: &str, text: &str, default_port: u16) -> Result<SocketAddr, UsageError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(dialled(ip), default_port));
    }
    let looked_up = if text.contains(':') { text.to_socket_addrs() } else { (text, default_port).to_socket_addrs() };
    let mut addresses: Vec<_> = looked_up
        .map_err(|error| UsageError(format!("{argument} {text}: {error}; write it like 198.51.100.7:{default_port}")))?
        .collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    match addresses.first() {
        Some(address) if address.port() == 0 => Err(UsageError(format!("{argument} {text}: port 0 reaches nobody"))),
        Some(address) => Ok(SocketAddr::new(dialled(address.ip()), address.port())),
        None => Err(UsageError(format!("{argument} {text}: the name has no address"))),
    }
}

/// A wildcard is where a server listens; on this host it is reached at the loopback address.
fn dialled(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn check<T: PartialOrd + std::fmt::Display>(
    argument: &str,
    value: T,
    allowed: std::ops::RangeInclusive<T>,
) -> Result<(), UsageError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(UsageError(format!("{argument} {value} is out of range; use {} to {}", allowed.start(), allowed.end())))
}

fn is_ipv4_loopback(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback())
}

fn half_the_processors() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    u32::try_from(processors / 2).unwrap_or(WORKERS_MAX).clamp(1, WORKERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, String> {
        let arguments = std::iter::once("loadgen").chain(arguments.iter().copied());
        let args = Args::try_parse_from(arguments).map_err(|error| error.to_string())?;
        Config::new(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn no_arguments_mean_the_canonical_workload() {
        let config = config(&[]).unwrap();
        assert_eq!((config.peers, config.size_bytes), (100_000, 256));
        assert_eq!(config.relay.to_string(), "127.0.0.1:9001");
        assert_eq!(config.registry.unwrap().to_string(), "127.0.0.1:9000");
        assert_eq!((config.plan.rate_pps, config.plan.packets, config.plan.burst), (50_000, 500_000, 10));
        assert_eq!(config.duration(), Duration::from_secs(10));
        assert_eq!(config.sources, Some(LOOPBACK_SOURCES));
    }

    #[test]
    fn addresses_take_several_forms() {
        for (text, expected) in [
            ("198.51.100.7", "198.51.100.7:9001"),
            ("198.51.100.7:1", "198.51.100.7:1"),
            ("2001:db8::1", "[2001:db8::1]:9001"),
            ("[2001:db8::1]:5", "[2001:db8::1]:5"),
            ("localhost", "127.0.0.1:9001"),
            ("localhost:7", "127.0.0.1:7"),
            ("0.0.0.0:7", "127.0.0.1:7"),
            ("::", "[::1]:9001"),
        ] {
            assert_eq!(config(&["--relay", text]).unwrap().relay.to_string(), expected);
        }
    }

    #[test]
    fn peers_share_sockets_unless_they_can_have_addresses() {
        assert_eq!(config(&["--relay", "198.51.100.7"]).unwrap().sources, None);
        assert_eq!(config(&["--relay", "::1"]).unwrap().sources, None);
        let prefixed = config(&["--relay", "198.51.100.7", "--source-prefix", "10.8.0.0/13"]).unwrap();
        assert_eq!(prefixed.sources.unwrap().to_string(), "10.8.0.0/13");
    }

    #[test]
    fn mistakes_are_named() {
        for (arguments, mention) in [
            (&["--peers", "1"][..], "--peers 1 is out of range; use 2 to"),
            (&["--rate", "0"], "--rate 0"),
            (&["--seconds", "0"], "--seconds 0"),
            (&["--seconds", "NaN"], "--seconds NaN"),
            (&["--size", "27"], "use 28 to 65498"),
            (&["--max-loss=-1"], "--max-loss -1"),
            (&["--max-loss", "101"], "--max-loss 101"),
            (&["--burst", "0"], "--burst 0"),
            (&["--workers", "0"], "--workers 0"),
            (&["--relay", "127.0.0.1:0"], "port 0"),
            (&["--relay", "127.0.0.1:99999"], "--relay 127.0.0.1:99999"),
            (&["--source-prefix", "10.0.0.0/30", "--peers", "3"], "use 2 to 2"),
            (&["--source-prefix", "fd00::/64"], "different address families"),
            (&["--source-prefix", "fd00"], "is no prefix"),
            (&["--no-directory", "--registry", "127.0.0.1"], "cannot be used with"),
        ] {
            let error = config(arguments).expect_err("a mistake");
            assert!(error.contains(mention), "{arguments:?}: {error}");
        }
    }
}
