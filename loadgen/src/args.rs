//! The command line as it is written. What it means is left to [`config`](crate::config).

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::attack::args::AttackArgs;
use crate::conditions::Condition;
use crate::directory::args::DirectoryArgs;
use crate::idle::args::IdleArgs;
use crate::peers::SourcePrefix;
use crate::ramp::Ramp;

/// Simulates a fleet of peers that relay datagrams to each other, and reports what became of each.
///
/// The load is open-loop: datagrams are due at fixed times whatever happens to them, and latency counts from those
/// times. Without arguments: 100 000 peers on this host, 50 000 datagrams of 256 bytes a second for 10 s.
///
/// Against a relay on 127.0.0.0/8 every peer has a loopback address of its own. Elsewhere peers share sockets, told
/// apart by node id (message types 08 and 09); so also on ::1, since IPv6 has only one loopback address. With
/// --source-prefix every peer has its own address again.
///
/// Progress goes to stderr, the report to stdout.
#[derive(Clone, Debug, Parser)]
#[command(version, after_help = AFTER_HELP, next_help_heading = "Target", args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Another load than that of a relay.
    #[command(subcommand)]
    pub load: Option<Load>,
    /// The relay's address; a name is looked up
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:9001")]
    pub relay: String,
    /// The directory's address
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:9000")]
    pub registry: String,
    /// Make up node ids 1 to N instead of registering; the relay must run with --admission open
    #[arg(long, conflicts_with = "registry")]
    pub no_directory: bool,

    /// Simulated peers
    #[arg(long, value_name = "N", default_value_t = 100_000, help_heading = "Load")]
    pub peers: u32,
    /// Datagrams per second, over all peers: a number, or a ramp like 10000..80000
    #[arg(long, value_name = "PPS", default_value_t = Ramp::constant(50_000), help_heading = "Load")]
    pub rate: Ramp,
    /// How long to send
    #[arg(long, value_name = "S", default_value_t = 10.0, help_heading = "Load")]
    pub seconds: f64,
    /// Payload bytes: 256, a ramp 64..1200, drawn evenly 64-1200, or imix (IP packets of 40, 576 and 1500 bytes, 7:4:1)
    #[arg(long, value_name = "BYTES", default_value = "256", help_heading = "Load")]
    pub size: String,
    /// Who sends to whom
    #[arg(long, value_enum, default_value_t = ShapeName::Pairs, help_heading = "Load")]
    pub shape: ShapeName,
    /// Peers that send, with --shape one-to-many [default: 1]
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub senders: Option<u32>,
    /// Peers that receive, with --shape many-to-one [default: 1]
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub receivers: Option<u32>,
    /// Datagrams due at the same moment [default: what makes 5000 bursts a second, at most 64]
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub burst: Option<u64>,
    /// Consecutive datagrams of a worker from one peer to another
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    pub run: u64,
    /// Chooses identities, flows and their order; the same seed repeats them
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    pub seed: u64,

    /// Search for the highest rate within --max-loss; --rate is where it begins, --seconds how long it is confirmed
    #[arg(long, help_heading = "Search")]
    pub find_max: bool,
    /// Length of each trial of --find-max
    #[arg(long, value_name = "S", default_value_t = 2.0, requires = "find_max", help_heading = "Search")]
    pub trial: f64,

    /// Loss above this makes the exit status 1
    #[arg(long, value_name = "PERCENT", default_value_t = 0.1, help_heading = "Verdict")]
    pub max_loss: f64,
    /// A condition that makes the exit status 1; may be repeated, or a list with commas
    ///
    /// Figures: loss, late, duplicated, reordered in %; p50, p90, p99, p999, max latency in us, ms or s; rate delivered
    /// per second. Comparisons: > >= < <=.
    #[arg(long, value_name = "CONDITION", value_parser = Condition::parse_list, help_heading = "Verdict")]
    pub fail_if: Vec<Vec<Condition>>,

    /// Write the report to stdout as JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Write the report as a page with plots, too
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub html: Option<PathBuf>,
    /// Set two reports written by --json side by side, and make no load
    #[arg(
        long,
        num_args = 2,
        value_names = ["A.json", "B.json"],
        conflicts_with_all = LOAD_FLAGS,
        help_heading = "Output"
    )]
    pub compare: Option<Vec<PathBuf>>,

    /// Threads that send and receive [default: half the processors]
    #[arg(long, value_name = "N", help_heading = "Generator")]
    pub workers: Option<u32>,
    /// Connections to the directory
    #[arg(long, value_name = "N", default_value_t = 32, help_heading = "Generator")]
    pub connections: u32,
    /// UDP sockets, where peers share them
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Generator")]
    pub sockets: u32,
    /// Give every peer a source address out of this prefix, routed to this host: ip route add local CIDR dev lo
    #[arg(long, value_name = "CIDR", help_heading = "Generator")]
    pub source_prefix: Option<SourcePrefix>,
}

/// Loads of something else than a relay.
#[derive(Clone, Debug, Subcommand)]
pub enum Load {
    /// Fills a directory with nodes and capabilities, then asks about them at a fixed rate
    Directory(DirectoryArgs),
    /// Opens connections to a directory, asks once on each, and says what they cost it while idle
    Idle(IdleArgs),
    /// Misuses a relay or a directory in a laboratory: floods, forged sources, slow and endless connections
    Attack(AttackArgs),
    /// Print the words that a shell completes
    #[command(hide = true)]
    Completions(flags::documents::Completions),
    /// Print the manual page, or write the pages of all commands into a folder
    #[command(hide = true)]
    Man(flags::documents::Man),
}

/// The names of [`Shape`](crate::flows::Shape)s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShapeName {
    /// Random pairs: every peer sends to one other and hears from one other
    Pairs,
    /// A few send to all others
    OneToMany,
    /// All others send to a few
    ManyToOne,
}

/// What makes no sense without a load.
const LOAD_FLAGS: [&str; 22] = [
    "relay",
    "registry",
    "no_directory",
    "peers",
    "rate",
    "seconds",
    "size",
    "shape",
    "senders",
    "receivers",
    "burst",
    "run",
    "seed",
    "find_max",
    "trial",
    "max_loss",
    "fail_if",
    "html",
    "workers",
    "connections",
    "sockets",
    "source_prefix",
];

const AFTER_HELP: &str = "\
Examples:
  loadgen                                            the canonical load
  loadgen --rate 10000..80000 --html report.html     a ramp, as a page with plots
  loadgen --find-max --peers 1000                    how much does the relay carry?
  loadgen --shape many-to-one --receivers 16 --run 4 sixteen active destinations, in runs of four
  loadgen --size imix --fail-if 'loss>0.1%,p99>5ms'  for CI
  loadgen directory --nodes 100000 --find-max        how much does the directory answer?
  loadgen --json > a.json; …; loadgen --compare a.json b.json

Exit status:
  0  loss within --max-loss, no --fail-if true; with --find-max: a rate was found
  1  loss above --max-loss, or a --fail-if is true, and the load was what was asked for
  2  the command line is wrong, or reports that cannot be compared
  3  the load could not be made: no answer, or this host is too slow for the rate, whatever --fail-if says then";
