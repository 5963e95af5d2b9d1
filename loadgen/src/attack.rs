//! Misuse on purpose: floods, forged sources, half messages, slow and endless connections. What a server makes of it is
//! seen at the server, by its counters and by the load of honest peers beside it.
//!
//! [`args`] says what to do and refuses targets outside a laboratory; [`datagrams`] makes the bytes of UDP kinds,
//! [`packets`] wraps them where no socket would send them, [`connections`] keeps TCP servers busy.

pub mod args;
pub mod connections;
pub mod datagrams;
pub mod packets;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Type};
use wire::beacon;

use crate::clock::Clock;
use crate::numbers::grouped;
use crate::socket::{BATCH_MAX, SendBatch, Socket};
use args::{Config, Kind};
use datagrams::{Chance, Datagrams};
use packets::Part;

/// How often senders introduce themselves before they send, and how long that may take.
const INTRODUCTIONS: u32 = 3;
const INTRODUCTION_INTERVAL: Duration = Duration::from_millis(50);
/// Forged packets are sent from ports like those of daemons.
const FORGED_PORT_FIRST: u16 = 20_000;

/// Why nothing was attacked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A socket failed.
    #[error("{what}: {error}\n{hint}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The kind has no such form.
    #[error("--kind {0:?} is written for IPv4 alone; name an IPv4 target")]
    Ipv4Only(Kind),
}

/// What was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Which attack.
    pub kind: Kind,
    /// Against whom.
    pub target: SocketAddr,
    /// How long it took.
    pub seconds: f64,
    /// Datagrams, packets or connections the kernel took.
    pub sent: u64,
    /// Those it refused, or the server did.
    pub refused: u64,
    /// Connections that the server ended.
    pub ended: u64,
    /// Payload bytes.
    pub bytes: u64,
}

/// Attacks until the time is up.
///
/// # Errors
/// [`Failure`], when it cannot be done on this host.
pub fn run(config: &Config) -> Result<Report, Failure> {
    let clock = Clock::start();
    let mut report =
        Report { kind: config.kind, target: config.target, seconds: 0.0, sent: 0, refused: 0, ended: 0, bytes: 0 };
    match config.kind {
        Kind::Spoof | Kind::Fragments | Kind::Replay | Kind::HalfOpen => forge(config, &clock, &mut report)?,
        kind if kind.is_tcp() => {
            let done = connections::attack(config, &clock);
            report.sent = done.opened;
            report.refused = done.refused;
            report.ended = done.ended;
            report.bytes = done.bytes;
        }
        _ => flood(config, &clock, &mut report)?,
    }
    report.seconds = clock.now_ns() as f64 / 1e9;
    Ok(report)
}

/// Sends datagrams through a socket, from one address.
fn flood(config: &Config, clock: &Clock, report: &mut Report) -> Result<(), Failure> {
    let len_max = Datagrams::len_max(config);
    let failed = |error| Failure::Socket {
        what: "cannot open a UDP socket",
        error,
        hint: "choose another --port, or leave it out",
    };
    let socket = Socket::bind(config.target, config.port, len_max).map_err(failed)?;
    let mut batch = SendBatch::new(config.target, len_max);
    let mut datagrams = Datagrams::new(config);
    if matches!(config.kind, Kind::Heavy | Kind::Unknown) {
        introduce(config, &socket, &mut batch);
    }
    // The length is known only once a datagram is written.
    let mut bytes = vec![0; len_max];
    let start_ns = clock.now_ns();
    let mut number = 0;
    while clock.now_ns() - start_ns < config.duration_ns {
        let due = due(config, clock.now_ns() - start_ns, number);
        if due == 0 {
            std::thread::park_timeout(Duration::from_micros(200));
            continue;
        }
        for _ in 0..due {
            if batch.is_full() {
                break;
            }
            let len = datagrams.write_next(&mut bytes);
            batch.push(config.source, len).copy_from_slice(&bytes[..len]);
            report.bytes += len as u64;
            number += 1;
        }
        let flushed = batch.flush(&socket);
        report.sent += flushed.sent;
        report.refused += flushed.refused;
    }
    Ok(())
}

fn introduce(config: &Config, socket: &Socket, batch: &mut SendBatch) {
    for _ in 0..INTRODUCTIONS {
        for sender in &config.senders {
            let mut bytes = [0; beacon::ROUTING_KEY_END];
            let len = datagrams::discover(*sender, &mut bytes);
            batch.push(config.source, len).copy_from_slice(&bytes[..len]);
            if batch.is_full() {
                batch.flush(socket);
            }
        }
        batch.flush(socket);
        std::thread::park_timeout(INTRODUCTION_INTERVAL);
    }
}

/// How many are due now.
fn due(config: &Config, passed_ns: u64, sent: u64) -> u64 {
    if config.rate_pps == 0 {
        return BATCH_MAX as u64;
    }
    let planned = u128::from(passed_ns) * u128::from(config.rate_pps) / 1_000_000_000;
    u64::try_from(planned).unwrap_or(u64::MAX).saturating_sub(sent).min(BATCH_MAX as u64)
}

fn forged(config: &Config, number: u64) -> IpAddr {
    config.sources.address((number % u64::from(config.sources.capacity().max(1))) as u32)
}

/// Sends packets of our own making through a raw socket.
fn forge(config: &Config, clock: &Clock, report: &mut Report) -> Result<(), Failure> {
    let SocketAddr::V4(to) = config.target else { return Err(Failure::Ipv4Only(config.kind)) };
    let failed = |error| Failure::Socket {
        what: "cannot open a raw socket",
        error,
        hint: "run as root, in a network namespace",
    };
    // IPPROTO_RAW: the packets bring their own headers.
    let socket = socket2::Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)));
    let socket = socket.map_err(failed)?;
    let destination = SockAddr::from(SocketAddrV4::new(*to.ip(), 0));
    let mut datagrams = Datagrams::new(config);
    let mut chance = Chance(config.seed);
    let mut bytes = vec![0; Datagrams::len_max(config)];
    let start_ns = clock.now_ns();
    let mut number = 0;
    while clock.now_ns() - start_ns < config.duration_ns {
        let due = due(config, clock.now_ns() - start_ns, number);
        if due == 0 {
            std::thread::park_timeout(Duration::from_micros(200));
        }
        for _ in 0..due {
            let port = FORGED_PORT_FIRST + chance.below(u64::from(u16::MAX - FORGED_PORT_FIRST)) as u16;
            let ip = match forged(config, chance.next()) {
                IpAddr::V4(ip) => ip,
                IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
            };
            let from = SocketAddrV4::new(ip, port);
            let packet = match config.kind {
                Kind::HalfOpen => packets::syn(from, to, chance.next() as u32),
                kind => {
                    let len = datagrams.write_next(&mut bytes);
                    let part = match (kind, number % 2) {
                        (Kind::Spoof | Kind::Replay, _) => Part::Whole,
                        (_, 0) => Part::First,
                        _ => Part::Later(1 + chance.below(180) as u16),
                    };
                    packets::udp(from, to, &bytes[..len], part, chance.next() as u16)
                }
            };
            match socket.send_to(&packet, &destination) {
                Ok(_) => report.sent += 1,
                Err(_) => report.refused += 1,
            }
            report.bytes += packet.len() as u64;
            number += 1;
        }
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, target, seconds, sent, refused, ended, bytes } = self;
        let what = if kind.is_tcp() { "connections" } else { "datagrams" };
        writeln!(
            out,
            "{kind:?} against {target}: {} {what} ({} bytes) in {seconds:.1} s, {:.0} a second; {} refused, {} ended by \
             the server",
            grouped(*sent),
            grouped(*bytes),
            *sent as f64 / seconds,
            grouped(*refused),
            grouped(*ended),
        )
    }
}
