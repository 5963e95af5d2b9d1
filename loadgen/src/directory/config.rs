//! The command line of `loadgen directory`, checked.

use std::net::SocketAddr;

use super::args::DirectoryArgs;
use super::kind::Kind;
use crate::config::{
    AUTOMATIC_BURST_MAX, BURSTS_PER_SECOND, CONNECTIONS_MAX, Mode, REGISTRY_PORT, UsageError, WORKERS_MAX, check,
    half_the_processors, nanoseconds, resolve,
};
use crate::plan::Plan;
use crate::ramp::Ramp;

/// As many as a directory takes.
const NODES_MAX: u32 = 2_000_000;
const GROUPS_MAX: u32 = 10_000;
/// Members of one group that a directory takes.
const GROUP_MEMBERS_MAX: u32 = 10_000;
/// Requests per second that can be asked for.
pub const RATE_MAX: u64 = 1_000_000;
/// The bound of a search that names none, in milliseconds.
const P99_MS: f64 = 50.0;

/// What to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory.
    pub registry: SocketAddr,
    /// Its process, if it was named.
    pub pid: Option<u32>,
    /// Nodes.
    pub nodes: u32,
    /// Groups, each node in one.
    pub groups: u32,
    /// Whether nodes have records.
    pub has_capabilities: bool,
    /// Chooses everything.
    pub seed: u64,
    /// What is asked, in this order.
    pub kinds: Vec<Kind>,
    /// Once at the rate, or a search that begins there.
    pub mode: Mode,
    /// Requests per second.
    pub rate: u64,
    /// How long each kind is asked, or a found rate confirmed.
    pub duration_ns: u64,
    /// Bound of the 99th percentile, in microseconds.
    pub p99_us_max: Option<f64>,
    /// Connections.
    pub connections: u32,
    /// Threads, at most as many as connections.
    pub workers: u32,
    /// Whether the report is JSON.
    pub json: bool,
}

impl Config {
    /// Checks `args` and looks up names.
    ///
    /// # Errors
    /// [`UsageError`] names the argument and what it may be.
    pub fn new(args: &DirectoryArgs) -> Result<Self, UsageError> {
        check("--nodes", args.nodes, 1..=NODES_MAX)?;
        check("--groups", args.groups, 0..=GROUPS_MAX.min(args.nodes))?;
        if args.groups > 0 && args.nodes.div_ceil(args.groups) > GROUP_MEMBERS_MAX {
            let least = args.nodes.div_ceil(GROUP_MEMBERS_MAX);
            let wrong = format!("a group holds {GROUP_MEMBERS_MAX} members; use --groups {least} or more");
            return Err(UsageError(wrong));
        }
        check("--rate", args.rate, 1..=RATE_MAX)?;
        check("--connections", args.connections, 1..=CONNECTIONS_MAX)?;
        let workers = args.workers.unwrap_or_else(half_the_processors);
        check("--workers", workers, 1..=WORKERS_MAX)?;
        if let Some(p99_ms) = args.max_p99 {
            check("--max-p99", p99_ms, 0.001..=60_000.0)?;
        }
        let mode = match args.find_max {
            true => Mode::FindMax { trial_ns: nanoseconds("--trial", args.trial)? },
            false => Mode::Once,
        };
        let p99_ms = args.max_p99.or(args.find_max.then_some(P99_MS));
        if let Some(p99_ms) = p99_ms.filter(|p99_ms| args.find_max && *p99_ms > args.trial * 500.0) {
            let wrong = format!(
                "--max-p99 {p99_ms} is more than half of --trial {}: a rate that is not carried would not show",
                args.trial
            );
            return Err(UsageError(wrong));
        }
        let connections = args.connections.min(args.nodes);
        let asks_nothing = args.seconds == 0.0 && !args.find_max;
        Ok(Self {
            registry: resolve("--registry", &args.registry, REGISTRY_PORT)?,
            pid: args.pid,
            nodes: args.nodes,
            groups: args.groups,
            has_capabilities: !args.no_capabilities,
            seed: args.seed,
            kinds: if asks_nothing { Vec::new() } else { kinds(args)? },
            mode,
            rate: args.rate,
            duration_ns: if asks_nothing { 0 } else { nanoseconds("--seconds", args.seconds)? },
            p99_us_max: p99_ms.map(|ms| ms * 1000.0),
            connections,
            workers: workers.min(connections),
            json: args.json,
        })
    }

    /// The times at which requests are due. Those that are due together are few enough to be due often.
    #[must_use]
    pub fn plan(&self, rate: u64, duration_ns: u64) -> Plan {
        let burst = (rate / BURSTS_PER_SECOND).clamp(1, AUTOMATIC_BURST_MAX);
        Plan { rate_pps: Ramp::constant(rate), duration_ns, burst, run: 1, seed: self.seed }
    }
}

fn kinds(args: &DirectoryArgs) -> Result<Vec<Kind>, UsageError> {
    if args.kinds.is_empty() {
        let all = Kind::ALL.into_iter().filter(|kind| !args.no_capabilities || !kind.needs_records());
        return Ok(all.collect());
    }
    match args.kinds.iter().find(|kind| args.no_capabilities && kind.needs_records()) {
        Some(kind) => Err(UsageError(format!("--kinds {} makes no sense with --no-capabilities", kind.name()))),
        None => Ok(args.kinds.clone()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Load};

    fn config(arguments: &[&str]) -> Result<Config, String> {
        let arguments = ["loadgen", "directory"].iter().chain(arguments);
        let args = Args::try_parse_from(arguments).map_err(|error| error.to_string())?;
        let Some(Load::Directory(args)) = args.load else { panic!("a subcommand was given") };
        Config::new(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn no_arguments_mean_all_kinds_about_a_hundred_thousand_nodes() {
        let config = config(&[]).unwrap();
        assert_eq!((config.nodes, config.groups, config.rate), (100_000, 0, 1000));
        assert_eq!((&config.kinds[..], config.p99_us_max), (&Kind::ALL[..], None));
        assert_eq!(config.registry.to_string(), "127.0.0.1:9000");
    }

    #[test]
    fn a_search_has_a_bound_and_few_nodes_take_few_connections() {
        let search = config(&["--find-max", "--nodes", "3", "--workers", "9", "--kinds", "query,mix"]).unwrap();
        assert_eq!((search.p99_us_max, search.connections, search.workers), (Some(50_000.0), 3, 3));
        assert_eq!(search.kinds, [Kind::Query, Kind::Mix]);
        assert!(config(&["--seconds", "0"]).unwrap().kinds.is_empty());
        assert!(config(&["--no-capabilities"]).unwrap().kinds.iter().all(|kind| !kind.needs_records()));
    }

    #[test]
    fn mistakes_are_named() {
        for (arguments, mention) in [
            (&["--nodes", "0"][..], "--nodes 0 is out of range"),
            (&["--groups", "2"], "use --groups 10 or more"),
            (&["--nodes", "5", "--groups", "6"], "--groups 6 is out of range; use 0 to 5"),
            (&["--rate", "0"], "--rate 0"),
            (&["--max-p99", "0"], "--max-p99 0"),
            (&["--max-p99", "500", "--find-max", "--trial", "0.9"], "more than half of --trial 0.9"),
            (&["--kinds", "sing"], "resolve-hostname"),
            (&["--kinds", "query", "--no-capabilities"], "--kinds query makes no sense"),
            (&["--trial", "1"], "--find-max"),
            (&["--registry", "127.0.0.1:0"], "port 0"),
        ] {
            let error = config(arguments).expect_err("a mistake");
            assert!(error.contains(mention), "{arguments:?}: {error}");
        }
        let both = Args::try_parse_from(["loadgen", "--peers", "5", "directory"]).expect_err("two loads");
        assert!(both.to_string().contains("cannot be used with"), "{both}");
    }
}
