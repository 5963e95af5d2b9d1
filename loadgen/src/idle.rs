//! What an idle connection costs a directory: opens many from this process, asks once on each, waits until the
//! directory's process is at rest, and divides what it and the kernel have come to hold.
//!
//! The process is read from the kernel as [`directory`](crate::directory) reads it, what the kernel itself holds by
//! [`kernel`]. TLS is measured apart, by [`tls`].

pub mod args;
pub mod kernel;
pub mod tls;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use wire::NodeId;
use wire::registry::{self, Operation, Request};

use crate::clock::Clock;
use crate::directory::process::{Memory, Process};
use crate::numbers::grouped;
use crate::peers::share;
use crate::progress::Counter;
use crate::view::View;
use args::Config;
use kernel::{Held, Slabs};

/// Threads that connect.
const THREADS: u32 = 8;
/// A source address has about 28 000 ports; other programs want some.
const PER_SOURCE: u32 = 10_000;
/// Sources on loopback: 127.1.0.1 and following.
const SOURCE_FIRST: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const TIMEOUT: Duration = Duration::from_secs(20);
/// Files besides the connections.
const OTHER_FILES: u64 = 128;
/// The directory is at rest when its memory has not changed for so long. It gives busy buffers back after a second.
const REST: Duration = Duration::from_secs(3);
const REST_NS_MAX: u64 = 30_000_000_000;
/// Answers that are longer than this are none to a lookup.
const ANSWER_BYTES_MAX: usize = 4096;
const MEBIBYTE: f64 = 1_048_576.0;

/// Why nothing was measured. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A connection could not be opened, or no answer came.
    #[error("connection {number} of {wanted} to {registry}: {error}\n{}", hint(error))]
    Connection {
        /// Connections that stood.
        number: u64,
        /// Connections wanted.
        wanted: u32,
        /// The directory.
        registry: SocketAddr,
        /// What happened.
        error: io::Error,
    },
    /// Too few files.
    #[error("this process may open {allowed} files only; raise the limit: ulimit -n {wanted}")]
    Files {
        /// How many are allowed.
        allowed: u64,
        /// How many it takes.
        wanted: u64,
    },
    /// The directory's process.
    #[error("no process on this host that listens at {registry} is to be seen; run as root, or name it with --pid")]
    Process {
        /// The directory.
        registry: SocketAddr,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "start one with: pilot-directory",
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "it closes more connections than its limit or its files allow; see its log"
        }
        _ => "see its log",
    }
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The directory.
    pub registry: String,
    /// Connections held.
    pub connections: u32,
    /// Whether they speak TLS.
    pub is_tls: bool,
    /// How long it took to open them all.
    pub seconds: f64,
    /// The directory's process before and with them.
    pub before: Memory,
    /// See [`Self::before`].
    pub with_all: Memory,
    /// What the process holds for each.
    pub process_bytes_each: f64,
    /// The bound on it, if one was given.
    pub process_bytes_each_max: Option<f64>,
    /// What the kernel holds for the directory's end of each; absent where the kernel does not tell.
    pub kernel: Option<Held>,
}

impl Report {
    /// Whether each connection costs the process no more than the bound.
    #[must_use]
    pub fn is_within_bound(&self) -> bool {
        self.process_bytes_each_max.is_none_or(|bound| self.process_bytes_each <= bound)
    }
}

/// Opens the connections, measures, and lets them go.
///
/// # Errors
/// [`Failure`].
pub fn run(config: &Config, view: &View) -> Result<Report, Failure> {
    let registry = config.registry;
    let process = config.pid.map_or_else(|| Process::listening_at(registry), |pid| Process::numbered(pid).ok());
    let memory = &|| process.and_then(|process| process.memory().ok()).ok_or(Failure::Process { registry });
    raise_file_limit(config.connections)?;
    let clock = Clock::start();
    let (before, slabs_before) = (at_rest(clock, memory)?, Slabs::read());
    let began_ns = clock.now_ns();
    let opened = Counter::default();
    let connections = view.phase("connecting", config.connections.into(), &opened, || open_all(config, &opened))?;
    let seconds = (clock.now_ns() - began_ns) as f64 / 1e9;
    let with_all = at_rest(clock, memory)?;
    let kernel = slabs_before.zip(Slabs::read()).map(|(before, with)| with.held_since(&before, config.connections));
    let process_bytes = with_all.resident_bytes.saturating_sub(before.resident_bytes);
    Ok(Report {
        registry: registry.to_string(),
        connections: connections.len() as u32,
        is_tls: config.is_tls,
        seconds,
        before,
        with_all,
        process_bytes_each: process_bytes as f64 / connections.len() as f64,
        process_bytes_each_max: config.process_bytes_each_max,
        kernel,
    })
}

fn raise_file_limit(connections: u32) -> Result<(), Failure> {
    let wanted = u64::from(connections) + OTHER_FILES;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let raised = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok();
    if raised { Ok(()) } else { Err(Failure::Files { allowed: hard, wanted }) }
}

fn open_all(config: &Config, opened: &Counter) -> Result<Vec<TcpStream>, Failure> {
    let tls = config.is_tls.then(tls::config);
    thread::scope(|scope| {
        let tls = &tls;
        let open = |number| {
            let failed = |error| Failure::Connection {
                number: opened.get(),
                wanted: config.connections,
                registry: config.registry,
                error,
            };
            let stream = connect(config.registry, number).map_err(failed)?;
            match tls {
                Some(tls) => tls::ask(tls, &stream, &lookup()),
                None => ask(&mut &stream, &lookup()),
            }
            .map_err(failed)?;
            opened.add(1);
            Ok(stream)
        };
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let numbers = share(config.connections, thread, THREADS);
                scope.spawn(move || numbers.map(open).collect::<Result<Vec<_>, _>>())
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>, _>>().map(|parts| parts.into_iter().flatten().collect())
    })
}

/// Connection `number`; on loopback from a source address that has ports enough.
fn connect(registry: SocketAddr, number: u32) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(registry), Type::STREAM, Some(Protocol::TCP))?;
    if let IpAddr::V4(ip) = registry.ip()
        && ip.is_loopback()
    {
        let source = Ipv4Addr::from_bits(SOURCE_FIRST.to_bits() + number / PER_SOURCE);
        // The port is chosen when the destination is known; to look for one that is free everywhere takes long.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SockAddr::from(SocketAddr::new(source.into(), 0)))?;
    }
    socket.connect_timeout(&registry.into(), TIMEOUT)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// A question that every directory answers, if only with an error.
fn lookup() -> Vec<u8> {
    let mut framed = Vec::new();
    registry::push_message(&mut framed, &Request::from(Operation::Lookup { node_id: NodeId(1) }));
    framed
}

/// Asks, and waits for the whole answer.
fn ask(stream: &mut (impl Read + Write), framed: &[u8]) -> io::Result<()> {
    stream.write_all(framed)?;
    stream.flush()?;
    let mut length = [0; registry::LENGTH_BYTES];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > ANSWER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no directory"));
    }
    stream.read_exact(&mut vec![0; length])
}

/// The memory once it no longer changes.
fn at_rest(clock: Clock, memory: impl Fn() -> Result<Memory, Failure>) -> Result<Memory, Failure> {
    let began_ns = clock.now_ns();
    let mut last = memory()?;
    loop {
        thread::park_timeout(REST);
        let now = memory()?;
        if now == last || clock.now_ns() - began_ns > REST_NS_MAX {
            return Ok(now);
        }
        last = now;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.is_tls { "TLS" } else { "plain" };
        let connections = grouped(self.connections.into());
        writeln!(
            out,
            "idle connections  {connections} {how}, one lookup each, opened in {:.1} s to {}",
            self.seconds, self.registry
        )?;
        let bound = self.process_bytes_each_max.map(|bound| {
            let word = if self.is_within_bound() { "within" } else { "ABOVE" };
            format!(", {word} the bound of {bound:.0}")
        });
        writeln!(
            out,
            "process           {:.0} bytes each{}; {:.1} MiB resident before, {:.1} MiB with them",
            self.process_bytes_each,
            bound.unwrap_or_default(),
            self.before.resident_bytes as f64 / MEBIBYTE,
            self.with_all.resident_bytes as f64 / MEBIBYTE,
        )?;
        match &self.kernel {
            Some(held) => writeln!(out, "kernel            {held}"),
            None => writeln!(out, "kernel            /proc/slabinfo is not to be read; run as root"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_kept_or_not() {
        let report = |bound| Report {
            registry: "127.0.0.1:9000".to_owned(),
            connections: 1000,
            is_tls: false,
            seconds: 1.0,
            before: Memory::default(),
            with_all: Memory { resident_bytes: 3_000_000, peak_bytes: 3_000_000 },
            process_bytes_each: 3000.0,
            process_bytes_each_max: bound,
            kernel: None,
        };
        assert!(report(None).is_within_bound() && report(Some(3000.0)).is_within_bound());
        assert!(!report(Some(2999.0)).is_within_bound());
        assert!(report(Some(2999.0)).to_string().contains("ABOVE the bound of 2999"));
    }
}
