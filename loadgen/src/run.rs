//! A whole run: open the sockets, register, discover, relay, report.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::AtomicU32;

use wire::NodeId;

use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::Roster;
use crate::payload::Payloads;
use crate::peers::{self, LOOPBACK_SOURCES, Placement};
use crate::plan::partners;
use crate::register::{RegisterError, Registered, register};
use crate::report::{Enrolment, Report, Tally, Workload};
use crate::view::{Progress, View};
use crate::worker::{Load, RollCall, Worker};

/// The first port that workers bind. Fixed, so that a repeated run has the same endpoints and its sessions at the relay
/// need not be contested; below the range that the kernel hands out on its own.
const SOURCE_PORT_FIRST: u16 = 29_001;
/// Between the roll-call and the first datagram, for all workers to get ready.
const LEAD_NS: u64 = 20_000_000;
/// Below this, a pause of a few milliseconds loses datagrams.
const RECEIVE_BUFFER_BYTES_MIN: usize = 1 << 20;

/// Why there is no report. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The directory did not do its part.
    #[error("{error}\n{}", directory_hint(error))]
    Directory {
        /// What happened.
        #[from]
        error: RegisterError,
    },
    /// The relay did not do its part.
    #[error("{text}")]
    Relay {
        /// What happened and what to do.
        text: String,
    },
    /// This host did not.
    #[error("{what}: {error}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Makes the load that `config` describes; `run_id` marks its datagrams.
///
/// # Errors
/// The load could not be made. Loss is no error; it is in the report.
pub fn run(config: &Config, run_id: u64, view: &View) -> Result<Report, Failure> {
    let clock = Clock::start();
    let placement = place(config)?;
    let mut workers = open_workers(config)?;
    warn_of_small_buffers(&workers)?;
    let progress = Progress::default();

    let register_begin_ns = clock.now_ns();
    let registered = register_peers(config, &workers, &placement, &progress, view)?;
    let directory_seconds = registered.as_ref().map(|_| seconds_between(register_begin_ns, clock.now_ns()));
    // The connections prove addresses as long as they live, which is until the end of the run.
    let (ids, _connections) = match registered {
        Some(Registered { ids, connections }) => (ids, connections),
        None => (peers::made_up_ids(config.peers), Vec::new()),
    };

    let load = Load {
        clock,
        roster: roster(config, placement, ids, run_id),
        plan: config.plan,
        workers: config.workers,
        sending: AtomicU32::new(config.workers),
        progress,
    };
    let discover_begin_ns = clock.now_ns();
    discover(config, &mut workers, &load, view)?;
    let relay_seconds = seconds_between(discover_begin_ns, clock.now_ns());

    let tally = relay(&mut workers, &load, view)?;
    let enrolment = Enrolment { registered: config.peers, directory_seconds, relay_seconds };
    Ok(Report::new(workload(config, &placement), enrolment, &tally))
}

fn place(config: &Config) -> Result<Placement, Failure> {
    match config.sources {
        Some(prefix) => Ok(Placement::OwnAddress(prefix)),
        None => local_address(config.relay)
            .map(|local| Placement::SharedSockets { local })
            .map_err(|error| Failure::Host { what: "no route to the relay", error }),
    }
}

/// The local address from which `relay` is reached. Connecting a UDP socket sends nothing.
fn local_address(relay: SocketAddr) -> io::Result<IpAddr> {
    let wildcard = if relay.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(wildcard)?;
    socket.connect(relay)?;
    Ok(socket.local_addr()?.ip())
}

fn open_workers(config: &Config) -> Result<Vec<Worker>, Failure> {
    let sockets = match config.sources {
        Some(_) => 1,
        None => config.sockets.div_ceil(config.workers),
    };
    let sockets = u16::try_from(sockets).expect("config bounds the number of sockets");
    (0..config.workers)
        .map(|index| {
            let peers = peers::share(config.peers, index, config.workers);
            let port = SOURCE_PORT_FIRST + u16::try_from(index).expect("config bounds the number of workers") * sockets;
            Worker::open(index, peers, sockets, port, config.relay, config.datagram_len())
        })
        .collect::<io::Result<_>>()
        .map_err(|error| Failure::Host { what: "cannot open UDP sockets", error })
}

fn warn_of_small_buffers(workers: &[Worker]) -> Result<(), Failure> {
    for worker in workers {
        let bytes = worker
            .receive_buffer_bytes()
            .map_err(|error| Failure::Host { what: "cannot read the size of a receive buffer", error })?;
        if bytes < RECEIVE_BUFFER_BYTES_MIN {
            eprintln!(
                "warning: receive buffers of only {bytes} bytes; run as root, or: sysctl -w net.core.rmem_max=16777216"
            );
            break;
        }
    }
    Ok(())
}

fn register_peers(
    config: &Config,
    workers: &[Worker],
    placement: &Placement,
    progress: &Progress,
    view: &View,
) -> Result<Option<Registered>, Failure> {
    let Some(registry) = config.registry else { return Ok(None) };
    let endpoint = |peer: u32| {
        let owner = workers.partition_point(|worker| worker.peers().end <= peer);
        workers[owner].endpoint(placement, peer)
    };
    let registered = view.phase("registering", config.peers.into(), &progress.registered, || {
        register(registry, config.plan.seed, config.peers, config.connections, &endpoint, &progress.registered)
    })?;
    Ok(Some(registered))
}

fn roster(config: &Config, placement: Placement, ids: Vec<NodeId>, run_id: u64) -> Roster {
    Roster {
        relay: config.relay,
        placement,
        ids,
        partners: partners(config.peers, config.plan.seed),
        payloads: Payloads::new(run_id, config.size_bytes),
    }
}

fn discover(config: &Config, workers: &mut [Worker], load: &Load, view: &View) -> Result<(), Failure> {
    let roll_calls = view.phase("discovering", config.peers.into(), &load.progress.discovered, || {
        on_threads(workers, |worker| worker.discover(load))
    })?;
    let mut all = RollCall::default();
    for roll_call in roll_calls {
        all.confirmed += roll_call.confirmed;
        all.answered += roll_call.answered;
        all.send_error = all.send_error.or(roll_call.send_error);
    }
    if all.confirmed == config.peers {
        return Ok(());
    }
    Err(Failure::Relay { text: relay_hint(config, &all) })
}

fn relay(workers: &mut [Worker], load: &Load, view: &View) -> Result<Tally, Failure> {
    let start_ns = load.clock.now_ns() + LEAD_NS;
    let tallies = view.phase("relaying", load.plan.packets, &load.progress.sent, || {
        on_threads(workers, |worker| worker.relay(load, start_ns))
    })?;
    let mut sum = Tally::default();
    for tally in &tallies {
        sum.add(tally);
    }
    Ok(sum)
}

/// Does `work` for every worker at the same time.
fn on_threads<T: Send>(
    workers: &mut [Worker],
    work: impl Fn(&mut Worker) -> io::Result<T> + Sync,
) -> Result<Vec<T>, Failure> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = workers.iter_mut().map(|worker| scope.spawn(move || work(worker))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<io::Result<_>>()
            .map_err(|error| Failure::Host { what: "a UDP socket failed", error })
    })
}

fn workload(config: &Config, placement: &Placement) -> Workload {
    let placement = match placement {
        Placement::OwnAddress(prefix) => format!("each at its own address of {prefix}"),
        Placement::SharedSockets { local } => {
            let sockets = config.sockets.div_ceil(config.workers) * config.workers;
            format!("on {sockets} shared sockets at {local}")
        }
    };
    Workload {
        peers: config.peers,
        placement,
        rate_pps: config.plan.rate_pps,
        seconds: config.duration().as_secs_f64(),
        size_bytes: config.size_bytes,
        burst: config.plan.burst,
        run: config.plan.run,
        workers: config.workers,
        seed: config.plan.seed,
        max_loss_percent: config.max_loss_percent,
    }
}

fn directory_hint(error: &RegisterError) -> &'static str {
    match error {
        RegisterError::Unreachable { .. } => {
            "start one with: pilot-relay\nor leave it out: loadgen --no-directory, with the relay under --admission open"
        }
        RegisterError::Refused { reason, .. } if reason.contains("rate limited") => {
            "run loadgen on the directory's host, whose loopback addresses it does not limit, or exempt this address"
        }
        RegisterError::Silent { .. } | RegisterError::Refused { .. } | RegisterError::Unexpected { .. } => {
            "see the directory's log, or leave it out: loadgen --no-directory, with the relay under --admission open"
        }
    }
}

fn relay_hint(config: &Config, all: &RollCall) -> String {
    let (relay, peers) = (config.relay, config.peers);
    match (all, config.sources) {
        (RollCall { send_error: Some(error), .. }, Some(prefix)) => format!(
            "cannot send from the addresses of {prefix}: {error}\nroute them to this host: ip route add local {prefix} dev lo"
        ),
        (RollCall { send_error: Some(error), .. }, None) => format!("cannot send to the relay at {relay}: {error}"),
        (RollCall { confirmed: 0, answered: 0, .. }, Some(prefix)) if prefix != LOOPBACK_SOURCES => format!(
            "no answer from the relay at {relay} to the addresses of {prefix}\n\
             start it with: pilot-relay\nroute them to this host, there: ip route add {prefix} via THIS-HOST, \
             and here: ip route add local {prefix} dev lo"
        ),
        (RollCall { confirmed: 0, answered: 0, .. }, _) => {
            format!("no answer from the relay at {relay}\nstart one with: pilot-relay")
        }
        (RollCall { confirmed: 0, .. }, _) if config.registry.is_none() => format!(
            "the relay at {relay} answers but forwards nothing for made-up node ids\n\
             start it with: pilot-relay --admission open\nor register: loadgen without --no-directory"
        ),
        (RollCall { confirmed: 0, .. }, _) => format!(
            "the relay at {relay} answers but forwards nothing for the node ids of the directory\n\
             check that --registry names the directory of this relay"
        ),
        (RollCall { confirmed, .. }, _) => format!(
            "the relay at {relay} forwards for {confirmed} of {peers} peers and then for no more\n\
             see its counters for the reason, and raise its --sessions-max if its table is full"
        ),
    }
}

fn seconds_between(begin_ns: u64, end_ns: u64) -> f64 {
    (end_ns - begin_ns) as f64 / 1e9
}
