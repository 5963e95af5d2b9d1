//! Relays side by side: one generator drives each in turn, in short slices, round after round.
//!
//! ```text
//! cli ─► measure ─► contender ─► process (CPU time), place (namespaces), coturn ─► turn
//!           │           └─► rival/*: the relays to beat, processes of this same program
//!           ├─► generator ─► pairs, udp
//!           └─► report ─► table, plot, goals
//! ```

mod cli;
mod contender;
mod coturn;
#[cfg(test)]
mod example_report;
mod generator;
mod goals;
mod host;
mod load;
mod measure;
mod pairs;
mod place;
mod plot;
mod process;
mod report;
mod rival;
mod table;
#[cfg(test)]
mod test_sink;
mod turn;
mod udp;
mod units;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::cli::{Arguments, Command, Options};
use crate::contender::Setting;
use crate::load::{Place, Traffic};
use crate::measure::Comparison;
use crate::report::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Command::Rival { kind, listen, fixed }) => rival::run(kind, listen, fixed).map_err(Into::into),
        None => compare(&arguments.options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> anyhow::Result<()> {
    place::enter_private_network()?;
    let compare = std::env::current_exe().context("cannot find this program")?;
    let pilot_relay = options.pilot_relay.clone().unwrap_or_else(|| compare.with_file_name("pilot-relay"));
    let pilot_relay = fs::canonicalize(&pilot_relay).with_context(|| {
        format!("{} is missing; build it first: cargo build --release -p relay", pilot_relay.display())
    })?;
    host::pin(options.generator_cpu)?;
    let _priority = host::Priority::take()?;
    let setting = Setting { compare, pilot_relay, relay_cpu: options.relay_cpu, generator_cpu: options.generator_cpu };
    let report = Report { host: host::describe(), ..Report::default() };
    let mut comparison = Comparison { options, setting, report, next_port: measure::FIRST_PORT };
    comparison.run()?;
    let mut report = comparison.report;
    report.remarks.extend(host::remarks());
    write(options, &report)
}

#[expect(clippy::print_stdout, reason = "the tables are this program's output")]
fn write(options: &Options, report: &Report) -> anyhow::Result<()> {
    println!("{}", table::terminal(report));
    let save =
        |path: &Path, text: &str| fs::write(path, text).with_context(|| format!("cannot write {}", path.display()));
    if let Some(path) = &options.json {
        save(path, &serde_json::to_string_pretty(report)?)?;
    }
    if let Some(path) = &options.markdown {
        save(path, &table::markdown(report))?;
    }
    if let Some(folder) = &options.plots {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (name, svg) in plots(report) {
            save(&folder.join(name), &svg)?;
        }
    }
    Ok(())
}

/// The pictures of the README: what was measured of the traffic shown there, and of nothing else.
fn plots(report: &Report) -> Vec<(&'static str, String)> {
    let shown = [Traffic::Random, Traffic::Runs16, Traffic::Active16Gro];
    let loads = shown.map(|traffic| traffic.load(Place::Loopback, 256, 1000));
    let latency = report.paced.first().and_then(|paced| plot::latency_by_contender(report, paced));
    let like = Traffic::Singly.load(Place::Loopback, 256, 1000);
    let named = [
        ("cost.svg", plot::cost_by_contender(report, &loads)),
        ("latency.svg", latency),
        ("sessions.svg", plot::cost_by_sessions(report, &like)),
    ];
    named.into_iter().filter_map(|(name, svg)| Some((name, svg?))).collect()
}
