//! The command line, checked: what load to make, against what, from where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZero;
use std::path::PathBuf;

use crate::args::{Args, ShapeName};
use crate::conditions::Condition;
use crate::flows::Shape;
use crate::payload::STAMP_LEN;
use crate::peers::{LOOPBACK_SOURCES, SourcePrefix};
use crate::plan::Plan;
use crate::ramp::Ramp;
use crate::sizes::Sizes;

/// The largest payload: a UDP datagram less the relay header.
const SIZE_MAX: usize = 65_507 - wire::beacon::RELAY_HEADER_LEN;
/// Datagrams per second that can be asked for.
pub const RATE_MAX: u64 = 100_000_000;
/// A week.
const SECONDS_MAX: f64 = 604_800.0;
/// Datagrams that may be due at the same moment.
const BURST_MAX: u64 = 1024;
/// Bursts per second when the burst is not given: the sleeps between them are then long enough to be worth it.
pub(crate) const BURSTS_PER_SECOND: u64 = 5000;
/// The largest burst that is chosen on its own: one system call.
pub(crate) const AUTOMATIC_BURST_MAX: u64 = crate::socket::BATCH_MAX as u64;
const IPV4_HEADER_LEN: usize = 20;
const IPV6_HEADER_LEN: usize = 40;
pub(crate) const WORKERS_MAX: u32 = 64;
const SOCKETS_MAX: u32 = 1024;
pub(crate) const CONNECTIONS_MAX: u32 = 256;
pub(crate) const RELAY_PORT: u16 = 9001;
pub(crate) const REGISTRY_PORT: u16 = 9000;

/// What to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// One load, or a search.
    pub mode: Mode,
    /// The relay.
    pub relay: SocketAddr,
    /// The directory, unless node ids are made up.
    pub registry: Option<SocketAddr>,
    /// Simulated peers, at least two.
    pub peers: u32,
    /// Datagrams per second.
    pub rate_pps: Ramp,
    /// How long to send.
    pub duration_ns: u64,
    /// Payloads.
    pub sizes: Sizes,
    /// Who sends to whom.
    pub shape: Shape,
    /// Datagrams due at the same moment, unless the rate decides.
    pub burst: Option<u64>,
    /// Consecutive datagrams of one flow.
    pub run: u64,
    /// Chooses identities, flows and their order.
    pub seed: u64,
    /// Tolerated loss.
    pub max_loss_percent: f64,
    /// What makes the run a failure besides.
    pub conditions: Vec<Condition>,
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
    /// Where the report goes as a page.
    pub html: Option<PathBuf>,
}

/// What is made of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is made once.
    Once,
    /// Its rate is varied to find the highest one that is carried.
    FindMax {
        /// Length of a trial.
        trial_ns: u64,
    },
}

/// A mistake in the arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}\ntry: loadgen --help")]
pub struct UsageError(pub(crate) String);

impl Config {
    /// Checks `args` and looks up names.
    ///
    /// # Errors
    /// [`UsageError`] names the argument and what it may be.
    pub fn new(args: &Args) -> Result<Self, UsageError> {
        let relay = resolve("--relay", &args.relay, RELAY_PORT)?;
        let registry =
            if args.no_directory { None } else { Some(resolve("--registry", &args.registry, REGISTRY_PORT)?) };
        check("--max-loss", args.max_loss, 0.0..=100.0)?;
        check("--connections", args.connections, 1..=CONNECTIONS_MAX)?;
        let sources = sources(args, relay)?;
        let workers = args.workers.unwrap_or_else(half_the_processors);
        check("--workers", workers, 1..=WORKERS_MAX)?;
        check("--sockets", args.sockets, 1..=SOCKETS_MAX)?;
        check("--rate", args.rate.lowest(), 1..=RATE_MAX)?;
        check("--rate", args.rate.highest(), 1..=RATE_MAX)?;
        check("--run", args.run, 1..=u64::MAX)?;
        if let Some(burst) = args.burst {
            check("--burst", burst, 1..=BURST_MAX)?;
        }
        Ok(Self {
            mode: mode(args)?,
            relay,
            registry,
            peers: args.peers,
            rate_pps: args.rate,
            duration_ns: nanoseconds("--seconds", args.seconds)?,
            sizes: sizes(args, relay)?,
            shape: shape(args)?,
            burst: args.burst,
            run: args.run,
            seed: args.seed,
            max_loss_percent: args.max_loss,
            conditions: args.fail_if.concat(),
            sources,
            sockets: args.sockets,
            workers: workers.min(args.peers),
            connections: args.connections,
            json: args.json,
            html: args.html.clone(),
        })
    }

    /// The load as asked for.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.plan_of(self.rate_pps, self.duration_ns)
    }

    /// The load at another rate, for another time.
    #[must_use]
    pub fn plan_at(&self, rate_pps: u64, duration_ns: u64) -> Plan {
        self.plan_of(Ramp::constant(rate_pps), duration_ns)
    }

    fn plan_of(&self, rate_pps: Ramp, duration_ns: u64) -> Plan {
        let chosen = (rate_pps.highest() / BURSTS_PER_SECOND).clamp(1, AUTOMATIC_BURST_MAX);
        Plan { rate_pps, duration_ns, burst: self.burst.unwrap_or(chosen), run: self.run, seed: self.seed }
    }

    /// Bytes of the largest datagram that is sent or received.
    #[must_use]
    pub fn datagram_len(&self) -> usize {
        self.sizes.most() + wire::beacon::RELAY_HEADER_LEN
    }
}

fn mode(args: &Args) -> Result<Mode, UsageError> {
    if !args.find_max {
        return Ok(Mode::Once);
    }
    if !args.rate.is_constant() {
        let wrong = format!(
            "--rate {} is a ramp, but --find-max begins at one rate; write --rate {}",
            args.rate, args.rate.from
        );
        return Err(UsageError(wrong));
    }
    Ok(Mode::FindMax { trial_ns: nanoseconds("--trial", args.trial)? })
}

fn sizes(args: &Args, relay: SocketAddr) -> Result<Sizes, UsageError> {
    let ip_header_len = if relay.is_ipv4() { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN };
    let sizes =
        Sizes::parse(&args.size, STAMP_LEN, ip_header_len).map_err(|error| UsageError(format!("--size {error}")))?;
    check("--size", sizes.least(), STAMP_LEN..=SIZE_MAX)?;
    check("--size", sizes.most(), STAMP_LEN..=SIZE_MAX)?;
    Ok(sizes)
}

fn shape(args: &Args) -> Result<Shape, UsageError> {
    let few = |argument: &str, count: Option<u32>| {
        let count = count.unwrap_or(1);
        check(argument, count, 1..=args.peers.saturating_sub(1)).map(|()| count)
    };
    match (args.shape, args.senders, args.receivers) {
        (ShapeName::OneToMany, senders, None) => Ok(Shape::OneToMany { senders: few("--senders", senders)? }),
        (ShapeName::ManyToOne, None, receivers) => Ok(Shape::ManyToOne { receivers: few("--receivers", receivers)? }),
        (ShapeName::Pairs, None, None) => Ok(Shape::Pairs),
        (_, Some(_), _) => Err(UsageError("--senders is for --shape one-to-many".to_owned())),
        (_, None, Some(_)) => Err(UsageError("--receivers is for --shape many-to-one".to_owned())),
    }
}

pub(crate) fn nanoseconds(argument: &str, seconds: f64) -> Result<u64, UsageError> {
    check(argument, seconds, 0.000_001..=SECONDS_MAX)?;
    Ok((seconds * 1e9).round() as u64)
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
pub(crate) fn resolve(argument: &str, text: &str, default_port: u16) -> Result<SocketAddr, UsageError> {
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

pub(crate) fn check<T: PartialOrd + std::fmt::Display>(
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

pub(crate) fn half_the_processors() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    u32::try_from(processors / 2).unwrap_or(WORKERS_MAX).clamp(1, WORKERS_MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, String> {
        let arguments = std::iter::once("loadgen").chain(arguments.iter().copied());
        let args = Args::try_parse_from(arguments).map_err(|error| error.to_string())?;
        Config::new(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn no_arguments_mean_the_canonical_workload() {
        let config = config(&[]).unwrap();
        assert_eq!((config.peers, config.sizes.to_string()), (100_000, "256".to_owned()));
        assert_eq!((config.mode, config.shape), (Mode::Once, Shape::Pairs));
        assert_eq!(config.relay.to_string(), "127.0.0.1:9001");
        assert_eq!(config.registry.unwrap().to_string(), "127.0.0.1:9000");
        let plan = config.plan();
        assert_eq!((plan.rate_pps, plan.packets(), plan.burst), (Ramp::constant(50_000), 500_000, 10));
        assert_eq!(plan.duration_ns, 10_000_000_000);
        assert_eq!(config.sources, Some(LOOPBACK_SOURCES));
    }

    #[test]
    fn shapes_sizes_and_conditions_are_taken() {
        let fan = config(&["--shape", "one-to-many", "--senders", "3"]).unwrap();
        assert_eq!(fan.shape, Shape::OneToMany { senders: 3 });
        assert_eq!(config(&["--shape", "many-to-one"]).unwrap().shape, Shape::ManyToOne { receivers: 1 });
        assert_eq!(config(&["--size", "imix"]).unwrap().datagram_len(), 1472);
        assert_eq!(config(&["--size", "imix", "--relay", "::1"]).unwrap().datagram_len(), 1452);
        let conditions = ["--fail-if", "loss>1%,p99>5ms", "--fail-if", "rate<9"];
        assert_eq!(config(&conditions).unwrap().conditions.len(), 3);
        let ramp = config(&["--rate", "10000..80000", "--seconds", "2"]).unwrap().plan();
        assert_eq!((ramp.packets(), ramp.burst), (90_000, 16));
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
            (&["--rate", "5-9"], "no ramp like 10000..80000"),
            (&["--rate", "0..9"], "--rate 0"),
            (&["--rate", "9..100000001"], "--rate 100000001"),
            (&["--rate", "5..9", "--find-max"], "write --rate 5"),
            (&["--trial", "0", "--find-max"], "--trial 0"),
            (&["--trial", "3"], "--find-max"),
            (&["--size", "27"], "use 28 to 65498"),
            (&["--size", "27..99"], "use 28 to 65498"),
            (&["--size", "99-65499"], "use 28 to 65498"),
            (&["--size", "big"], "--size 'big' is no size"),
            (&["--shape", "star"], "one-to-many"),
            (&["--senders", "2"], "--senders is for --shape one-to-many"),
            (&["--receivers", "2", "--shape", "one-to-many"], "--receivers is for"),
            (&["--senders", "4", "--shape", "one-to-many", "--peers", "4"], "use 1 to 3"),
            (&["--fail-if", "loss>1"], "write it like 1%"),
            (&["--compare", "a", "b", "--rate", "5"], "cannot be used with"),
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
