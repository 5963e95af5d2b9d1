//! Whole runs: one load, or the loads of a search, each with its report.

use crate::config::{Config, Mode};
use crate::fleet::{Failure, Fleet};
use crate::host;
use crate::payload::Payloads;
use crate::peers::Placement;
use crate::plan::Plan;
use crate::report::{Circumstances, Report, SearchReport, Workload};
use crate::search::Search;
use crate::view::View;

/// Makes the load that `config` describes, or searches for the highest one; `run_id` marks the datagrams.
///
/// # Errors
/// The load could not be made. Loss is no error; it is in the report.
pub fn run(config: &Config, run_id: u64, view: &View) -> Result<Report, Failure> {
    let mut fleet = Fleet::enrol(config, run_id, view)?;
    let mut report = match config.mode {
        Mode::Once => make_load(&mut fleet, config, &config.plan(), run_id, "relaying", view)?,
        Mode::FindMax { trial_ns } => search(&mut fleet, config, trial_ns, run_id, view)?,
    };
    report.check(&config.conditions);
    Ok(report)
}

/// Makes load after load with the same sessions until the search is over.
fn search(fleet: &mut Fleet, config: &Config, trial_ns: u64, run_id: u64, view: &View) -> Result<Report, Failure> {
    let mut search = Search::new(config.rate_pps.from, crate::config::RATE_MAX);
    let mut trials = Vec::new();
    // The plan of the whole run serves the confirmation; it is also what is shown should the search try nothing.
    let mut last = None;
    loop {
        let trial = match search.poll_trial() {
            Ok(trial) => trial,
            Err(finding) => {
                let last: Report = last.expect("a search makes at least one trial");
                return Ok(last.with_search(SearchReport { finding, trials }));
            }
        };
        let duration_ns = if trial.is_confirmation { config.duration_ns } else { trial_ns };
        let name = if trial.is_confirmation { "confirming" } else { "trying" };
        let plan = config.plan_at(trial.rate_pps, duration_ns);
        let number = run_id.wrapping_add(trials.len() as u64);
        let report = make_load(fleet, config, &plan, number, name, view)?;
        let trial = report.as_trial(trial.is_confirmation);
        view.say(&trial);
        search.handle_outcome(trial.outcome);
        trials.push(trial);
        last = Some(report);
    }
}

fn make_load(
    fleet: &mut Fleet,
    config: &Config,
    plan: &Plan,
    run_id: u64,
    name: &str,
    view: &View,
) -> Result<Report, Failure> {
    let circumstances = Circumstances {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_unix_seconds: fleet.unix_seconds(),
        host: host::describe(config.relay),
    };
    let tally = fleet.relay(plan, Payloads::new(run_id, config.sizes, plan.duration_ns), name, view)?;
    Ok(Report::new(circumstances, workload(config, plan, fleet.placement()), fleet.enrolment, &tally))
}

fn workload(config: &Config, plan: &Plan, placement: &Placement) -> Workload {
    let placement = match placement {
        Placement::OwnAddress(prefix) => format!("each at its own address of {prefix}"),
        Placement::SharedSockets { local } => {
            let sockets = config.sockets.div_ceil(config.workers) * config.workers;
            format!("on {sockets} shared sockets at {local}")
        }
    };
    Workload {
        relay: config.relay.to_string(),
        peers: config.peers,
        placement,
        shape: config.shape.to_string(),
        rate: plan.rate_pps.to_string(),
        rate_pps: plan.rate_pps.mean().round() as u64,
        seconds: plan.duration_ns as f64 / 1e9,
        size: config.sizes.to_string(),
        size_bytes: config.sizes.mean().round() as u64,
        burst: plan.burst,
        run: plan.run,
        workers: config.workers,
        seed: config.seed,
        max_loss_percent: config.max_loss_percent,
    }
}
