//! The peers of a run, and the workers that drive them: opened, registered, known to the relay, ready for any number of
//! loads.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::AtomicU32;

use wire::NodeId;

use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::Roster;
use crate::flows::Flows;
use crate::payload::Payloads;
use crate::peers::{self, LOOPBACK_SOURCES, Placement};
use crate::plan::Plan;
use crate::progress::{Counter, Live};
use crate::register::{RegisterError, Registered, register};
use crate::report::Enrolment;
use crate::tally::Tally;
use crate::timeline::interval_ns;
use crate::view::View;
use crate::worker::{Load, RollCall, Worker};

/// The first port that workers bind. Fixed, so that a repeated run has the same endpoints and its sessions at the relay
/// need not be contested; below the range that the kernel hands out on its own.
const SOURCE_PORT_FIRST: u16 = 29_001;
/// Before the first datagram, for all workers to get ready.
const LEAD_NS: u64 = 50_000_000;
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

/// Peers that the relay delivers to.
#[derive(Debug)]
pub struct Fleet {
    workers: Vec<Worker>,
    load: Load,
    /// How they became known.
    pub enrolment: Enrolment,
    /// They prove the peers' addresses as long as they live.
    _connections: Vec<TcpStream>,
}

impl Fleet {
    /// Makes the peers that `config` describes known to the directory and to the relay. `run_id` marks their datagrams.
    ///
    /// # Errors
    /// Somebody did not do their part.
    pub fn enrol(config: &Config, run_id: u64, view: &View) -> Result<Self, Failure> {
        let clock = Clock::start();
        let placement = place(config)?;
        let mut workers = open_workers(config)?;
        warn_of_small_buffers(&workers, view)?;

        let register_begin_ns = clock.now_ns();
        let registered = register_peers(config, &workers, &placement, view)?;
        let directory_seconds = registered.as_ref().map(|_| seconds_between(register_begin_ns, clock.now_ns()));
        let (ids, connections) = match registered {
            Some(Registered { ids, connections }) => (ids, connections),
            None => (peers::made_up_ids(config.peers), Vec::new()),
        };

        let plan = config.plan();
        let roster = roster(config, placement, ids, &plan, run_id);
        let has_flows = |worker: &Worker| !roster.flows.sent_by(&worker.peers()).is_empty();
        let senders = (0..).zip(&workers).filter(|(_, worker)| has_flows(worker)).map(|(index, _)| index).collect();
        let mut load = Load {
            clock,
            roster,
            plan,
            senders,
            sending: AtomicU32::new(0),
            known_since_ns: 0,
            discovered: Counter::default(),
            live: Live::new(config.workers, 1),
        };
        let discover_begin_ns = clock.now_ns();
        discover(config, &mut workers, &load, view)?;
        load.known_since_ns = clock.now_ns();
        let relay_seconds = seconds_between(discover_begin_ns, load.known_since_ns);
        let enrolment = Enrolment { registered: config.peers, directory_seconds, relay_seconds };
        Ok(Self { workers, load, enrolment, _connections: connections })
    }

    /// Where the peers sit.
    #[must_use]
    pub const fn placement(&self) -> &Placement {
        &self.load.roster.placement
    }

    /// When it is now, in seconds since 1970.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        self.load.clock.read().wall.as_secs()
    }

    /// Makes the load of `plan`. Its datagrams are marked by `run_id`, so that stragglers of an earlier load are told
    /// apart by another one.
    ///
    /// # Errors
    /// A socket failed. Loss is no error; it is in the tally.
    pub fn relay(&mut self, plan: &Plan, payloads: Payloads, name: &str, view: &View) -> Result<Tally, Failure> {
        let Self { workers, load, .. } = self;
        load.plan = *plan;
        load.roster.payloads = payloads;
        load.sending = AtomicU32::new(workers.len() as u32);
        load.live = Live::new(workers.len() as u32, interval_ns(plan.duration_ns));
        let load = &*load;
        let accounts: Vec<_> = workers.iter().map(|worker| worker.prepare(load)).collect();
        let start_ns = load.clock.now_ns() + LEAD_NS;
        let tallies = view.load(name, plan.packets(), &load.live, || {
            on_threads(workers.iter_mut().zip(accounts), |(worker, account)| worker.relay(load, start_ns, account))
        })?;
        let mut sum = Tally::new(plan.duration_ns);
        for tally in &tallies {
            sum.add(tally);
        }
        Ok(sum)
    }
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

fn warn_of_small_buffers(workers: &[Worker], view: &View) -> Result<(), Failure> {
    for worker in workers {
        let bytes = worker
            .receive_buffer_bytes()
            .map_err(|error| Failure::Host { what: "cannot read the size of a receive buffer", error })?;
        if bytes < RECEIVE_BUFFER_BYTES_MIN {
            view.say(format_args!(
                "warning: receive buffers of only {bytes} bytes; run as root, or: sysctl -w net.core.rmem_max=16777216"
            ));
            break;
        }
    }
    Ok(())
}

fn register_peers(
    config: &Config,
    workers: &[Worker],
    placement: &Placement,
    view: &View,
) -> Result<Option<Registered>, Failure> {
    let Some(registry) = config.registry else { return Ok(None) };
    let endpoint = |peer: u32| {
        let owner = workers.partition_point(|worker| worker.peers().end <= peer);
        workers[owner].endpoint(placement, peer)
    };
    let registered = Counter::default();
    let all = view.phase("registering", config.peers.into(), &registered, || {
        register(registry, config.seed, config.peers, config.connections, &endpoint, &registered)
    })?;
    Ok(Some(all))
}

fn roster(config: &Config, placement: Placement, ids: Vec<NodeId>, plan: &Plan, run_id: u64) -> Roster {
    Roster {
        relay: config.relay,
        placement,
        ids,
        flows: Flows::draw(config.shape, config.peers, config.seed),
        payloads: Payloads::new(run_id, config.sizes, plan.duration_ns),
    }
}

fn discover(config: &Config, workers: &mut [Worker], load: &Load, view: &View) -> Result<(), Failure> {
    let roll_calls = view.phase("discovering", config.peers.into(), &load.discovered, || {
        on_threads(workers.iter_mut(), |worker| worker.discover(load))
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

/// Does `work` for every worker at the same time.
fn on_threads<W: Send, T: Send>(
    workers: impl Iterator<Item = W>,
    work: impl Fn(W) -> io::Result<T> + Sync,
) -> Result<Vec<T>, Failure> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = workers.map(|worker| scope.spawn(move || work(worker))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<io::Result<_>>()
            .map_err(|error| Failure::Host { what: "a UDP socket failed", error })
    })
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
