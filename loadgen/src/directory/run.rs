//! A whole run: the population enrols, then each kind is asked, once or as a search asks for it.

use std::time::Duration;

use super::config::{Config, RATE_MAX};
use super::connection::{Connection, Failure};
use super::drive::{Drive, Tally};
use super::enrol::Enrolled;
use super::kind::{Kind, Known, Novelty, PREPARED_MAX, Prepared};
use super::population::Population;
use super::process::{Memory, Process};
use super::report::{Load, Phase, ProcessReport, Report, SearchReport, Step, Workload, per_processor_second};
use super::vocabulary::Dice;
use crate::clock::Clock;
use crate::config::Mode;
use crate::host;
use crate::numbers::{grouped, time};
use crate::plan::Share;
use crate::progress::Counter;
use crate::search::{Finding, Outcome, Search};
use crate::view::View;

/// Before the first request, for all workers to get ready.
const LEAD_NS: u64 = 20_000_000;
/// Signs of life are given again before a load that begins so long after the last ones.
const KEEP_ALIVE_NS: u64 = 120_000_000_000;
/// Requests that may wait for an answer, in seconds of the rate: beyond that the rate is not carried, and asking on
/// would only take memory.
const WAITING_SECONDS_MAX: u64 = 1;
/// A worker may have so many waiting at any rate.
const WAITING_MIN: u64 = 500;
/// And no more than so many.
const WAITING_MAX: u64 = 50_000;

/// Loads a directory as `config` says; `run_id` tells this run's new nodes from those of all others.
///
/// # Errors
/// The load could not be made. Errors among the answers are no error; they are in the report.
pub fn run(config: &Config, run_id: u64, view: &View) -> Result<Report, Failure> {
    let process = match config.pid {
        Some(pid) => Some(Process::numbered(pid).map_err(|error| Failure::Process { pid, error })?),
        None => Process::listening_at(config.registry),
    };
    let clock = Clock::start();
    let started = clock.read().wall;
    let before = memory(process);
    let mut run = Run {
        config,
        view,
        process,
        clock,
        enrolled: Enrolled::connect(config)?,
        population: Population::new(config.seed),
        strangers: Population::new(run_id),
        strangers_used: 0,
        serial: u64::try_from(started.as_millis()).unwrap_or(u64::MAX >> 1),
        alive_ns: 0,
        loads: 0,
    };
    let enrolment = run.enrol()?;
    let phases = config.kinds.iter().map(|kind| run.ask(*kind)).collect::<Result<Vec<_>, _>>()?;
    let process = process.zip(before).zip(memory(process));
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_unix_seconds: started.as_secs(),
        host: host::describe(config.registry),
        workload: workload(config),
        process: process.map(|((process, before), after)| ProcessReport { pid: process.pid, before, after }),
        verdict: Report::judge(&phases, config.p99_us_max),
        enrolment,
        phases,
    })
}

fn workload(config: &Config) -> Workload {
    Workload {
        registry: config.registry.to_string(),
        nodes: config.nodes,
        groups: config.groups,
        connections: config.connections,
        workers: config.workers,
        seed: config.seed,
        p99_us_max: config.p99_us_max,
    }
}

fn memory(process: Option<Process>) -> Option<Memory> {
    process?.memory().ok()
}

struct Run<'a> {
    config: &'a Config,
    view: &'a View,
    process: Option<Process>,
    clock: Clock,
    enrolled: Enrolled,
    population: Population,
    strangers: Population,
    strangers_used: u32,
    /// Not below that of any record published.
    serial: u64,
    /// When all nodes have last given a sign of life.
    alive_ns: u64,
    /// Loads made; each draws anew.
    loads: u64,
}

impl Run<'_> {
    fn enrol(&mut self) -> Result<Vec<Step>, Failure> {
        let (registry, view, population) = (self.config.registry, self.view, self.population.clone());
        // Every step is a sign of life of each node; the last one may take minutes.
        let mut steps = vec![
            self.step("registered", |enrolled| enrolled.register(registry, &population, view))?,
            self.step("made public", |enrolled| enrolled.publish_visibility(registry, &population, view))?,
        ];
        self.alive_ns = self.clock.now_ns();
        if self.config.has_capabilities {
            let serial = self.serial;
            steps.push(self.step("published", |enrolled| enrolled.publish(registry, &population, serial, view))?);
        }
        if self.config.groups > 0 {
            let groups = self.config.groups;
            self.alive_ns = self.clock.now_ns();
            steps.push(self.step("joined", |enrolled| enrolled.join(registry, &population, groups, view))?);
        }
        Ok(steps)
    }

    fn step(&mut self, name: &str, work: impl FnOnce(&mut Enrolled) -> Result<u64, Failure>) -> Result<Step, Failure> {
        let (began_ns, busy_before) = (self.clock.now_ns(), self.processor_time());
        let requests = work(&mut self.enrolled)?;
        let seconds = (self.clock.now_ns() - began_ns) as f64 / 1e9;
        let processor_seconds = self.processor_seconds_since(busy_before);
        Ok(Step {
            name: name.to_owned(),
            requests,
            seconds,
            per_second: requests as f64 / seconds,
            processor_seconds,
            per_processor_second: per_processor_second(requests, processor_seconds),
            memory: memory(self.process),
        })
    }

    fn ask(&mut self, kind: Kind) -> Result<Phase, Failure> {
        let Config { rate, duration_ns, .. } = *self.config;
        match self.config.mode {
            Mode::Once => {
                let load = self.load(kind, rate, duration_ns)?;
                Ok(Phase { kind, load: Some(load), search: None })
            }
            Mode::FindMax { trial_ns } => {
                let search = self.search(kind, trial_ns)?;
                let half = match search.finding {
                    Finding::Highest { rate_pps, .. } | Finding::AtLeast { rate_pps } => Some((rate_pps / 2).max(1)),
                    Finding::Nothing { .. } => None,
                };
                let load = half.map(|rate| self.load(kind, rate, duration_ns)).transpose()?;
                Ok(Phase { kind, load, search: Some(search) })
            }
        }
    }

    fn search(&mut self, kind: Kind, trial_ns: u64) -> Result<SearchReport, Failure> {
        let mut search = Search::new(self.config.rate, RATE_MAX);
        let mut trials = Vec::new();
        loop {
            let trial = search.trial();
            let duration_ns = if trial.is_confirmation { self.config.duration_ns } else { trial_ns };
            let load = self.load(kind, trial.rate_pps, duration_ns)?;
            let outcome = load.outcome(self.config.p99_us_max);
            self.view.say(format_args!(
                "{:>10}/s for {} s  p99 {:>9}  {}",
                grouped(load.rate),
                load.seconds,
                time(load.latency_us.p99),
                match outcome {
                    Outcome::Carried if trial.is_confirmation => "confirmed",
                    Outcome::Carried => "carried",
                    Outcome::Lossy if load.errors.is_empty() => "too slow",
                    Outcome::Lossy => "answered with errors",
                    Outcome::GeneratorLimit => "the generator's limit",
                }
            ));
            trials.push(load);
            if let Some(finding) = search.handle_outcome(outcome) {
                return Ok(SearchReport { finding, trials });
            }
        }
    }

    /// One load. What it needs is prepared before, and everybody given a sign of life if it is time.
    fn load(&mut self, kind: Kind, rate: u64, duration_ns: u64) -> Result<Load, Failure> {
        if self.clock.now_ns() - self.alive_ns > KEEP_ALIVE_NS {
            self.alive_ns = self.clock.now_ns();
            self.enrolled.keep_alive(self.config.registry, &self.population, self.view)?;
        }
        let plan = self.config.plan(rate, duration_ns);
        let workers = u64::from(self.config.workers);
        let shares: Vec<_> = (0..workers).map(|worker| plan.share(worker, workers, 0..1)).collect();
        let prepared = self.prepare(kind, &shares);
        let progress = Counter::default();
        let waiting_max = (rate * WAITING_SECONDS_MAX / workers).clamp(WAITING_MIN, WAITING_MAX) as usize;
        let busy_before = self.processor_time();
        let (clock, connections) = (self.clock, &mut self.enrolled.connections);
        let tallies = self.view.phase(kind.name(), plan.packets(), &progress, || {
            let start_ns = clock.now_ns() + LEAD_NS;
            let drives = split(connections, shares.len()).into_iter().zip(&prepared);
            std::thread::scope(|scope| {
                let progress = &progress;
                let threads: Vec<_> = drives
                    .zip(shares)
                    .filter(|(_, share)| share.remaining() > 0)
                    .map(|((connections, prepared), share)| {
                        let mut drive = Drive { clock, start_ns, connections, prepared, progress, waiting_max };
                        scope.spawn(move || drive.run(share))
                    })
                    .collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()
            })
        })?;
        let mut sum = Tally::default();
        tallies.iter().for_each(|tally| sum.add(tally));
        Ok(Load::new(rate, duration_ns as f64 / 1e9, &sum, self.processor_seconds_since(busy_before)))
    }

    fn prepare(&mut self, kind: Kind, shares: &[Share]) -> Vec<Vec<Prepared>> {
        let workers = shares.len();
        let most = shares.iter().map(Share::remaining).max().unwrap_or(0);
        let novelty =
            Novelty { strangers: &self.strangers, stranger_first: self.strangers_used, serial_first: self.serial + 1 };
        let loads = self.loads;
        let known = |worker| Known {
            population: &self.population,
            ids: &self.enrolled.ids,
            connections: self.enrolled.connections.len(),
            worker,
            workers,
        };
        let prepared = std::thread::scope(|scope| {
            let threads: Vec<_> = shares
                .iter()
                .enumerate()
                .map(|(worker, share)| {
                    let count = match kind.is_write() {
                        true => share.remaining(),
                        false => share.remaining().min(PREPARED_MAX / workers as u64),
                    };
                    let (known, novelty) = (known(worker), &novelty);
                    let mut dice = Dice::new(known.population.seed ^ loads, worker as u64);
                    scope.spawn(move || known.prepare(kind, count, &mut dice, novelty))
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        self.loads += 1;
        self.serial += most;
        if kind == Kind::Register {
            self.strangers_used += most as u32 * workers as u32;
        }
        prepared
    }

    fn processor_time(&self) -> Option<Duration> {
        self.process?.processor_time().ok()
    }

    fn processor_seconds_since(&self, before: Option<Duration>) -> Option<f64> {
        Some(self.processor_time()?.saturating_sub(before?).as_secs_f64())
    }
}

/// Deals the connections out: worker `w` of `workers` gets every one whose number is `w` more than a multiple of theirs.
fn split(connections: &mut [Connection], workers: usize) -> Vec<Vec<&mut Connection>> {
    let mut hands: Vec<Vec<&mut Connection>> = (0..workers).map(|_| Vec::new()).collect();
    for (number, connection) in connections.iter_mut().enumerate() {
        hands[number % workers].push(connection);
    }
    hands
}
