//! The order of a comparison: who is started when, which slice follows which.
//!
//! All contenders of a part stay alive, and within a round each gets a slice of every load before the next load begins;
//! so what is compared was measured within a second. Who begins changes from round to round.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use hdrhistogram::Histogram;

use crate::cli::{Options, Part};
use crate::contender::{Contender, Setting, Spec};
use crate::generator::{Generator, Tally};
use crate::load::{Load, Place, Traffic};
use crate::place::Site;
use crate::report::{Paced, PacedSlice, Report, Resident, Saturated, Slice, Spread};

/// Ports of relays, counters pages 1000 above; outside the range from which the kernel picks.
pub const FIRST_PORT: u16 = 20_000;
const CHECKED_PAYLOAD_BYTES: usize = 100;
const SCALE_PAYLOAD_BYTES: usize = 256;
const LATENCY_PAYLOAD_BYTES: usize = 256;
/// Datagrams due together in the latency part.
const PACED_BURST: u32 = 4;
/// Latency slices are longer, for their high quantiles need samples.
const PACED_SLICES: u64 = 2;
/// Slices that find half of what the naive relay reaches.
const CALIBRATION_ROUNDS: u64 = 3;
const PAGE_PATIENCE: Duration = Duration::from_secs(2);
/// Latencies beyond ten seconds count as ten seconds.
const LATENCY_NS_MAX: u64 = 10_000_000_000;

/// Runs the parts asked for.
pub struct Comparison<'a> {
    /// The command line.
    pub options: &'a Options,
    /// Programs and CPUs.
    pub setting: Setting,
    /// Grows as parts are done.
    pub report: Report,
    /// Never one twice: a port served by a ring stays bound for a moment after the process has ended.
    pub next_port: u16,
}

impl Comparison<'_> {
    /// Measures everything. A contender that does not start is left out with a remark, and so is a part that fails.
    ///
    /// # Errors
    /// Names in `--only` that nobody has.
    pub fn run(&mut self) -> anyhow::Result<()> {
        self.check_names()?;
        let places = self.options.places.clone();
        let places = places.unwrap_or(if self.options.full {
            vec![Place::Loopback, Place::Veth]
        } else {
            vec![Place::Loopback]
        });
        let counts = self.options.sessions.clone();
        let counts = counts.unwrap_or(if self.options.full { vec![1000, 100_000] } else { vec![1000] });
        for place in places {
            if self.does(Part::Cost) {
                for sessions in &counts {
                    let done = self.cost(place, *sessions);
                    self.settle("cost", done);
                }
            }
            if self.does(Part::Scale) && place == Place::Loopback {
                let done = self.scale(place);
                self.settle("scale", done);
            }
            if self.does(Part::Latency) {
                let done = self.latency(place, counts[0]);
                self.settle("latency", done);
            }
        }
        Ok(())
    }

    fn check_names(&self) -> anyhow::Result<()> {
        let specs = [Spec::saturated(), Spec::paced(), self.options.relay.clone()].concat();
        let unknown = self.options.only.iter().flatten().find(|name| specs.iter().all(|spec| spec.name != **name));
        let names: BTreeSet<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let names = Vec::from_iter(names);
        match unknown {
            Some(name) => bail!("--only {name}: nobody has that name; there are {}", names.join(", ")),
            None => Ok(()),
        }
    }

    /// What was measured before a part failed is worth reporting all the same.
    fn settle(&mut self, part: &str, done: anyhow::Result<()>) {
        if let Err(error) = done {
            self.remark(format!("{part} is left out: {error:#}"));
        }
    }

    fn does(&self, part: Part) -> bool {
        self.options.parts.contains(&part)
    }

    fn cost(&mut self, place: Place, sessions: u32) -> anyhow::Result<()> {
        let payloads = self.options.payloads.clone();
        let payloads = payloads.unwrap_or(if self.options.full { vec![64, 256, 1200] } else { vec![256] });
        let traffic = self.options.traffic.clone().unwrap_or_else(|| Traffic::value_variants().to_vec());
        let load = |payload: &u16, traffic: &Traffic| traffic.load(place, usize::from(*payload), sessions);
        let loads: Vec<Load> =
            payloads.iter().flat_map(|payload| traffic.iter().map(move |traffic| load(payload, traffic))).collect();
        let site = Site::open(place)?;
        let mut generator = Generator::new(site.source_ip(), site.sink_ip(0))?;
        let specs: Vec<Spec> = Spec::saturated().into_iter().chain(self.options.relay.clone()).collect();
        let sized: Vec<(Spec, u32)> = specs.into_iter().map(|spec| (spec, sessions)).collect();
        let mut contenders = self.start(&site, &sized, &mut generator);
        let title = format!("{place}, {sessions} sessions");
        let measured = self.saturate(&mut contenders, &loads, &mut generator, &title)?;
        self.report.saturated.extend(measured);
        self.remark_on_steering(&contenders);
        Ok(())
    }

    fn scale(&mut self, place: Place) -> anyhow::Result<()> {
        let site = Site::open(place)?;
        let mut generator = Generator::new(site.source_ip(), site.sink_ip(0))?;
        let sized: Vec<(Spec, u32)> = self.options.scale.iter().map(|sessions| (Spec::pilot(), *sessions)).collect();
        let mut contenders = self.start(&site, &sized, &mut generator);
        let loads = [Traffic::Random, Traffic::Singly].map(|traffic| traffic.load(place, SCALE_PAYLOAD_BYTES, 0));
        let measured = self.saturate(&mut contenders, &loads, &mut generator, "cost over the number of sessions")?;
        self.report.scaled.extend(measured);
        let resident = |one: &Contender| Resident { sessions: one.sessions, bytes: one.resident_bytes() };
        self.report.resident.extend(contenders.iter().map(resident));
        Ok(())
    }

    /// Starts those asked for, each of them once checked; who fails is named in the remarks and left out.
    fn start(&mut self, site: &Site, sized: &[(Spec, u32)], generator: &mut Generator) -> Vec<Contender> {
        let mut contenders = Vec::new();
        for (spec, sessions) in sized {
            if self.options.only.as_ref().is_some_and(|only| !only.contains(&spec.name)) {
                continue;
            }
            say(&format!("starting {}, {sessions} sessions", spec.name));
            self.next_port += 1;
            let started = spec.start(&self.setting, site, self.next_port, *sessions, generator).and_then(|contender| {
                // The floor sends everything to one place.
                if spec.name != "floor" {
                    let load = Traffic::Random.load(Place::Loopback, CHECKED_PAYLOAD_BYTES, *sessions);
                    generator.check(&contender.target, &load).with_context(|| format!("{} misdelivers", spec.name))?;
                }
                Ok(contender)
            });
            match started {
                Ok(contender) => {
                    if self.report.contenders.iter().all(|known| known.name != spec.name) {
                        self.report.contenders.push(spec.describe());
                    }
                    contenders.push(contender);
                }
                Err(error) => self.remark(format!("{} is left out: {error:#}", spec.name)),
            }
        }
        contenders
    }

    fn saturate(
        &self,
        contenders: &mut [Contender],
        loads: &[Load],
        generator: &mut Generator,
        title: &str,
    ) -> anyhow::Result<Vec<Saturated>> {
        let length = Duration::from_millis(self.options.slice_ms);
        let mut measured = Vec::new();
        for load in loads {
            for contender in &*contenders {
                let load = Load { sessions: contender.sessions, ..*load };
                measured.push(Saturated { contender: contender.spec.name.clone(), load, rounds: Vec::new() });
            }
        }
        let count = contenders.len();
        for round in 0..u64::from(self.options.rounds) {
            say(&format!("{title}: round {} of {}", round + 1, self.options.rounds));
            for (number, load) in loads.iter().enumerate() {
                for turn in 0..count {
                    let index = (turn + round as usize) % count;
                    let contender = &mut contenders[index];
                    let load = Load { sessions: contender.sessions, ..*load };
                    let before = contender.cpu_ns();
                    let tally = generator.saturate(&contender.target, &load, round, length)?;
                    contender.check()?;
                    let slice = slice(tally, contender.cpu_ns() - before);
                    measured[number * count + index].rounds.push(slice);
                }
            }
        }
        Ok(measured)
    }

    fn latency(&mut self, place: Place, sessions: u32) -> anyhow::Result<()> {
        let load = Traffic::Singly.load(place, LATENCY_PAYLOAD_BYTES, sessions);
        let site = Site::open(place)?;
        let mut generator = Generator::new(site.source_ip(), site.sink_ip(0))?;
        let specs = Spec::paced().into_iter().chain(self.options.relay.clone());
        let sized: Vec<(Spec, u32)> = specs.map(|spec| (spec, sessions)).collect();
        let mut contenders = self.start(&site, &sized, &mut generator);
        let slice_length = Duration::from_millis(self.options.slice_ms);
        let rate_pps = match self.options.rate {
            Some(rate) => rate,
            None => half_of_naive(&contenders, &load, &mut generator, slice_length)?,
        };
        let first = self.report.paced.len();
        self.report.paced.extend(contenders.iter().map(|contender| Paced {
            contender: contender.spec.name.clone(),
            load,
            rate_pps,
            burst: PACED_BURST,
            rounds: Vec::new(),
        }));
        let rounds = u64::from(self.options.rounds) * 2 + 1;
        let count = contenders.len();
        for round in 0..rounds {
            say(&format!("{place}, latency at {rate_pps}/s: round {} of {rounds}", round + 1));
            for turn in 0..count {
                let index = (turn + round as usize) % count;
                let contender = &mut contenders[index];
                let mut latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?;
                let before = contender.cpu_ns();
                let length = slice_length * PACED_SLICES as u32;
                let target = &contender.target;
                let tally = generator.pace(target, &load, round, length, rate_pps, PACED_BURST, &mut latencies)?;
                contender.check()?;
                self.report.paced[first + index].rounds.push(PacedSlice {
                    slice: slice(tally, contender.cpu_ns() - before),
                    p50_ns: latencies.value_at_quantile(0.5),
                    p99_ns: latencies.value_at_quantile(0.99),
                    p999_ns: latencies.value_at_quantile(0.999),
                });
            }
        }
        Ok(())
    }

    fn remark(&mut self, remark: String) {
        say(&remark);
        if !self.report.remarks.contains(&remark) {
            self.report.remarks.push(remark);
        }
    }

    /// With several shards every datagram must have come to the shard that holds its sender.
    fn remark_on_steering(&mut self, contenders: &[Contender]) {
        for contender in contenders {
            let Some(page) = contender.counters_page() else { continue };
            match steering(page) {
                Ok(text) => self.remark(format!("{}: {text}", contender.spec.name)),
                Err(error) => self.remark(format!("{}: its counters cannot be read: {error:#}", contender.spec.name)),
            }
        }
    }
}

fn slice(tally: Tally, cpu_ns: u64) -> Slice {
    Slice { seconds: tally.elapsed.as_secs_f64(), sent: tally.sent, delivered: tally.delivered, cpu_ns }
}

fn half_of_naive(
    contenders: &[Contender],
    load: &Load,
    generator: &mut Generator,
    length: Duration,
) -> anyhow::Result<u64> {
    let naive = contenders.iter().find(|contender| contender.spec.name == "naive");
    let naive = naive.context("without the naive relay there is no rate to halve; give one with --rate")?;
    let mut rates = Vec::new();
    for round in 0..CALIBRATION_ROUNDS {
        rates.push(slice(generator.saturate(&naive.target, load, round, length)?, 1).delivered_pps());
    }
    let median = Spread::of(rates).context("the naive relay delivered nothing")?.median;
    Ok(((median / 2.0 / 1000.0).round() as u64).max(1) * 1000)
}

/// What each shard received, and how much of it belongs to another shard.
fn steering(page: SocketAddrV4) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(page)?;
    stream.set_read_timeout(Some(PAGE_PATIENCE))?;
    stream.write_all(b"GET /counters HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let counters: serde_json::Value = serde_json::from_str(body)?;
    let shards = counters["shards"].as_array().context("no shards in it")?;
    let sum = |name: &str| shards.iter().filter_map(|shard| shard[name].as_u64()).sum::<u64>();
    let each = |name: &str| shards.iter().map(|shard| shard[name].to_string()).collect::<Vec<_>>().join(" + ");
    Ok(format!(
        "forwarded {}; {} of them for senders of another shard; kernel drops {}",
        each("datagrams_forwarded"),
        sum("datagrams_foreign"),
        sum("kernel_drops")
    ))
}

fn say(text: &str) {
    eprintln!("compare: {text}");
}
