//! Whole runs: one load, or the loads of a search, each with its report.

use crate::config::{Config, Mode, RATE_MAX};
use crate::fleet::{Failure, Fleet};
use crate::host;
use crate::payload::Payloads;
use crate::peers::Placement;
use crate::plan::Plan;
use crate::report::{Circumstances, Report, SearchReport, Workload};
use crate::search::{Search, Trial};
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
    let mut search = Search::new(config.rate_pps.from, RATE_MAX);
    let mut trials = Vec::new();
    loop {
        let Trial { rate_pps, is_confirmation } = search.trial();
        let (name, duration_ns) =
            if is_confirmation { ("confirming", config.duration_ns) } else { ("trying", trial_ns) };
        let plan = config.plan_at(rate_pps, duration_ns);
        let report = make_load(fleet, config, &plan, run_id.wrapping_add(trials.len() as u64), name, view)?;
        let trial = report.as_trial(is_confirmation);
        view.say(&trial);
        let finding = search.handle_outcome(trial.outcome);
        trials.push(trial);
        if let Some(finding) = finding {
            return Ok(report.with_search(SearchReport { finding, trials }));
        }
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
