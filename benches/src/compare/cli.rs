//! The command line.

use std::net::SocketAddrV4;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::contender::Spec;
use crate::load::{Place, Traffic};
use crate::rival::Rival;

/// Compares relays on this host: what a relayed datagram costs each of them, and how long each keeps it.
///
/// One generator drives them in turn in short slices, round after round, so that they share whatever the host does
/// meanwhile; figures are medians over rounds, ratios are medians of same-round ratios. Needs root (network namespaces),
/// two CPUs and nothing else running. The default takes about two minutes, --full about ten.
#[derive(Clone, Debug, Parser)]
#[command(name = "compare", args_conflicts_with_subcommands = true, max_term_width = 110)]
pub struct Arguments {
    /// A rival's process; started by this program itself
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The comparison
    #[command(flatten)]
    pub options: Options,
}

/// What else this program is.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serves as a rival until killed
    #[command(hide = true)]
    Rival {
        /// Which
        kind: Rival,
        /// Where it listens
        #[arg(long)]
        listen: SocketAddrV4,
        /// Where the floor sends
        #[arg(long)]
        fixed: SocketAddrV4,
    },
}

/// Settings of a comparison.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The whole matrix: both places, 64, 256 and 1200 bytes, 1 000 and 100 000 sessions
    #[arg(long)]
    pub full: bool,
    /// Places of the relay [default: loopback; with --full both]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PLACE,…")]
    pub places: Option<Vec<Place>>,
    /// Payload sizes [default: 256; with --full 64,256,1200]
    #[arg(long, value_delimiter = ',', value_name = "BYTES,…", value_parser = clap::value_parser!(u16).range(16..=1400))]
    pub payloads: Option<Vec<u16>>,
    /// Kinds of traffic of the cost tables [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND,…")]
    pub traffic: Option<Vec<Traffic>>,
    /// Session counts of the cost tables [default: 1000; with --full 1000,100000]
    #[arg(long, value_delimiter = ',', value_name = "N,…", value_parser = clap::value_parser!(u32).range(64..=4_000_000))]
    pub sessions: Option<Vec<u32>>,
    /// Session counts at which our relay's cost is compared with itself
    #[arg(long, value_delimiter = ',', value_name = "N,…", default_value = "1000,100000,1000000",
          value_parser = clap::value_parser!(u32).range(64..=4_000_000))]
    pub scale: Vec<u32>,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,…", default_value = "cost,scale,latency")]
    pub parts: Vec<Part>,
    /// Only these contenders
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub only: Option<Vec<String>>,
    /// Another relay that speaks the beacon protocol, such as `go=./beacon -listen {listen}`; may be repeated
    #[arg(long, value_name = "NAME=COMMAND", value_parser = Spec::external)]
    pub relay: Vec<Spec>,
    /// Rounds; an odd number has a true median
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Length of a slice
    #[arg(long, value_name = "MS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(10..=10_000))]
    pub slice_ms: u64,
    /// Datagrams a second of the latency table [default: half of what `naive` reaches]
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    pub rate: Option<u64>,
    /// The relay's CPU
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    pub relay_cpu: usize,
    /// The generator's CPU
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    pub generator_cpu: usize,
    /// Our relay's program [default: pilot-relay beside this program]
    #[arg(long, value_name = "FILE")]
    pub pilot_relay: Option<PathBuf>,
    /// Write everything measured as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the tables as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write plots as SVG files into this folder
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
}

/// A part of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// CPU per datagram of every contender, as fast as each goes.
    Cost,
    /// Our relay's cost over the number of sessions.
    Scale,
    /// Latency of every contender at one rate.
    Latency,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
