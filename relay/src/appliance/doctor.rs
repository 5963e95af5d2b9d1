//! `pilot-relay doctor`: looks at the host with the eyes of a relay that has the same flags, and says what to change.
//!
//! ```text
//! host (files), probe (tries) ──► facts ──► kernel, clock, limits, … (verdicts) ──► report
//! ```
//!
//! Verdicts are pure functions of facts. Nothing is changed on the host.

mod addresses;
mod buffers;
mod cards;
mod check;
mod clock;
mod cpus;
mod host;
mod kernel;
mod limits;
mod memory;
mod notation;
mod probe;
mod report;
mod topics;
mod tracking;

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use self::addresses::{Holder, Port, Reached};
use self::check::{Check, Status};
use self::host::Host;
use super::OPEN_FILES_WANTED;
use super::cli::{DoctorArguments, Settings, allowed_cpus};

/// What the exit status says; clap takes 2 for a wrong command line.
const FINE: u8 = 0;
const COULD_BE_BETTER: u8 = 1;
const WRONG_USAGE: u8 = 2;
const HAS_PROBLEMS: u8 = 3;

/// Inspects the host, prints the verdicts, and returns the exit status they mean.
pub fn run(arguments: DoctorArguments) -> ExitCode {
    let settings = match arguments.relay.resolve() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("pilot-relay doctor: {error:#}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let checks = examine(&settings, &Host::at("/"));
    let mut out = io::stdout().lock();
    let text = if arguments.json {
        format!("{:#}\n", report::json(&checks))
    } else {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        report::text(&checks, out.is_terminal() && !is_plain)
    };
    // A reader that has gone away is no error.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ExitCode::from(match checks.iter().map(|check| check.status).max() {
        Some(Status::Problem) => HAS_PROBLEMS,
        Some(Status::Warn) => COULD_BE_BETTER,
        _ => FINE,
    })
}

/// Gathers the facts and has them judged.
fn examine(settings: &Settings, host: &Host) -> Vec<Check> {
    let relay = &settings.relay;
    let shards = relay.shards();
    let relays = host.relays(std::process::id());
    let ports = ports_of(settings, host, &relays);
    let mut checks = kernel::checks(&kernel::Facts {
        release: host.text("proc/sys/kernel/osrelease").unwrap_or_default(),
        io_uring_disabled: host.sysctl("kernel.io_uring_disabled"),
        io_uring_group: host.sysctl("kernel.io_uring_group"),
        is_filtered: host.is_filtered(),
        shards,
        rings: probe::rings(shards),
    });
    let (source, available) = host.clock_sources();
    checks.push(clock::check(&clock::Facts { source, available, reading_ns: probe::clock_reading_ns() }));
    checks.extend(limits::checks(&limit_facts(settings, host, &relays)));
    checks.extend(memory::checks(&memory::Facts {
        needed_bytes: relay.memory().total() as u64,
        available_bytes: host.available_bytes(),
        is_running: ports.iter().any(|port| matches!(port.holder, Holder::Relay(_))),
        huge_pages: host.huge_pages(),
    }));
    let cpus: Vec<cpus::Cpu> = relay.cpus.iter().map(|cpu| host.cpu(*cpu)).collect();
    let nodes = cpus.iter().filter_map(|cpu| cpu.node).collect();
    let allowed = allowed_cpus().unwrap_or_else(|_| relay.cpus.clone());
    checks.extend(cpus::checks(&cpus::Facts { shards: relay.cpus.clone(), allowed, cpus }));
    checks.extend(buffers::checks(&host.buffers(probe::socket_buffers())));
    let numbers = [relay.beacon, relay.stun].into_iter().flatten().map(|address| address.port()).collect();
    checks.push(tracking::check(&host.tracking(numbers)));
    let served = relay.beacon.map(probe::served).unwrap_or_default();
    let cards = probe::interfaces_of(&served);
    let cards = cards.iter().map(|name| cards::Card { offloads: probe::offloads(name), ..host.card(name) });
    checks.extend(cards::checks(&cards::Facts {
        shards: relay.cpus.clone(),
        nodes,
        cards: cards.collect(),
        irqbalance: host.processes("irqbalance").first().copied(),
    }));
    let advertised = advertised(settings, &ports);
    checks.extend(addresses::checks(&addresses::Facts { served, ports, advertised }));
    checks
}

/// The relay that runs tells best what the service user has; the unit that is installed tells what it will have.
fn limit_facts(settings: &Settings, host: &Host, relays: &[u32]) -> limits::Facts {
    let unknown = || limits::Limits {
        whose: "this process".to_owned(),
        locked_bytes: 0,
        keys_bytes: None,
        open_files: 0,
        may_lock: false,
    };
    // One may have ended since it was listed.
    let of = |pid: &u32| host.limits(&pid.to_string(), format!("the relay at work (process {pid})"));
    let running = relays.iter().find_map(of);
    limits::Facts {
        own: host.limits("self", "this process".to_owned()).unwrap_or_else(unknown),
        service: running.or_else(|| host.unit_limits()),
        shards: settings.relay.shards(),
        open_files_wanted: settings.registry.map(|_| OPEN_FILES_WANTED),
    }
}

/// Whose a port is that can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Nobody's.
    Free,
    /// The relay at work has it, and a successor goes on with it.
    Kept,
    /// The relay at work listens at this other address of the port, and a successor cannot bind its own until that has ended.
    Moved(SocketAddr),
}

/// What there is to say of each port that these settings want: flag and address, and whose it is. The error says why it
/// cannot be had.
pub fn ports(settings: &Settings) -> Vec<(String, Result<Whose, String>)> {
    let host = Host::at("/");
    let relays = host.relays(std::process::id());
    let say = |port: Port| {
        let verdict = match port.holder {
            Holder::Free => Ok(Whose::Free),
            Holder::Relay(_) => Ok(kept(&host, &port)),
            Holder::Other(program, pid) => Err(format!("{program} (process {pid}) has it")),
            Holder::Unknown => Err("another program has it; run this as root to see which".to_owned()),
            Holder::Unusable(reason) => Err(reason),
        };
        (format!("{} {} {}", port.flag, port.transport, port.address), verdict)
    };
    ports_of(settings, &host, &relays).into_iter().map(say).collect()
}

/// A relay binds UDP once the one before is gone.
fn kept(host: &Host, port: &Port) -> Whose {
    let has_ipv6 = relay::interfaces::has_ipv6();
    let bound = if port.transport == "TCP" { host.sockets("tcp", port.address) } else { Vec::new() };
    let serves = |bound: SocketAddr| super::before::is_address(bound.ip(), port.address.ip(), has_ipv6);
    match bound.first() {
        Some((other, _)) if !bound.iter().any(|(bound, _)| serves(*bound)) => Whose::Moved(*other),
        _ => Whose::Kept,
    }
}

/// Whose the wanted ports are; port 0 is always free.
fn ports_of(settings: &Settings, host: &Host, relays: &[u32]) -> Vec<Port> {
    let wanted = [
        ("--beacon", "udp", settings.relay.beacon),
        ("--stun", "udp", settings.relay.stun),
        ("--registry", "tcp", settings.registry),
        ("--http", "tcp", settings.http),
    ];
    let wanted = wanted.into_iter().filter_map(|(flag, transport, address)| Some((flag, transport, address?)));
    let look = |(flag, transport, address): (&'static str, &'static str, SocketAddr)| Port {
        flag,
        transport: if transport == "udp" { "UDP" } else { "TCP" },
        address,
        holder: probe::port(host, transport, address, relays),
    };
    wanted.map(look).collect()
}

/// Asks what is advertised, where a relay serves the beacon's port and could answer.
fn advertised(settings: &Settings, ports: &[Port]) -> Vec<(SocketAddr, Reached)> {
    let serves = ports.iter().any(|port| port.flag == "--beacon" && matches!(port.holder, Holder::Relay(_)));
    let ask = |address: &SocketAddr| (*address, if serves { probe::ask(*address) } else { Reached::NotAsked });
    settings.relay.advertise.iter().map(ask).collect()
}
