//! The command line of `loadgen directory`. What it means is left to [`config`](super::config).

use clap::Args;

use super::kind::Kind;

/// Fills a directory with nodes and capabilities, then asks about them at a fixed rate.
///
/// First the nodes are registered, made public and described, each signed with its own key, as fast as the directory
/// takes it. Then one kind of request after another is made, open-loop: requests are due at fixed times whatever became
/// of the others, and latency counts from those times. If the directory is on this host, the processor time and memory
/// of its process are read from the kernel: "a core" is a second of its processor time.
///
/// The directory spares loopback its limits. From elsewhere it answers "rate limited", unless started with --exempt.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct DirectoryArgs {
    /// The directory's address
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:9000", help_heading = "Target")]
    pub registry: String,
    /// The directory's process, for its processor time and memory [default: whoever listens at its port on this host]
    #[arg(long, value_name = "PID", help_heading = "Target")]
    pub pid: Option<u32>,

    /// Nodes
    #[arg(long, value_name = "N", default_value_t = 100_000, help_heading = "Population")]
    pub nodes: u32,
    /// Groups that the nodes join, each one
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Population")]
    pub groups: u32,
    /// Publish no capabilities; nothing is queried then
    #[arg(long, help_heading = "Population")]
    pub no_capabilities: bool,
    /// Chooses keys, names, words and questions; the same seed repeats them, and finds the same nodes again
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Population")]
    pub seed: u64,

    /// What to ask, one after another [default: all]
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',', help_heading = "Load")]
    pub kinds: Vec<Kind>,
    /// Requests per second
    #[arg(long, value_name = "RPS", default_value_t = 1000, help_heading = "Load")]
    pub rate: u64,
    /// How long to ask each kind; 0 only fills the directory
    #[arg(long, value_name = "S", default_value_t = 5.0, help_heading = "Load")]
    pub seconds: f64,
    /// Search for the highest rate of each kind whose p99 stays within --max-p99; then ask at half of it
    #[arg(long, help_heading = "Load")]
    pub find_max: bool,
    /// Length of each trial of --find-max
    #[arg(long, value_name = "S", default_value_t = 2.0, requires = "find_max", help_heading = "Load")]
    pub trial: f64,
    /// Latency in milliseconds that 99 of 100 answers have to stay below [default: with --find-max 50]
    #[arg(long, value_name = "MS", help_heading = "Load")]
    pub max_p99: Option<f64>,

    /// Connections to the directory
    #[arg(long, value_name = "N", default_value_t = 32, help_heading = "Generator")]
    pub connections: u32,
    /// Threads that ask [default: half the processors]
    #[arg(long, value_name = "N", help_heading = "Generator")]
    pub workers: Option<u32>,

    /// Write the report to stdout as JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

const AFTER_HELP: &str = "\
Exit status:
  0  all was answered without an error, within --max-p99 if given; with --find-max: a rate was found for each kind
  1  it was not
  2  the command line is wrong
  3  the load could not be made: no answer, or this host is too slow for the rate";
