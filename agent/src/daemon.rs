//! The daemon: sockets, timers, files, the directory and the clients' unix socket around the engine [`Node`]. What is
//! sent to whom, and when, is the node's decision; here it is carried out, on one thread.
//!
//! ```text
//!   UDP ◄──► sockets ◄──┐                    ┌──► ipc ◄──► pilotctl, SDKs
//!                       ├── drive ── core ───┤
//!   TCP ◄──► directory ◄┘    │       (Node)  └──► services: echo, data exchange, event stream
//!                            └── timers, addresses, relays, state
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`runtime`] | one thread, with an io_uring where the host allows it |
//! | [`confinement`] | what the process gives up before all this |
//! | [`clock`] | time and chance: read here alone |
//! | [`core`] | the node, and who waits for what it says |
//! | [`drive`] | the loop: datagrams in, what follows out |
//! | [`byte_stream`] | a stream of the node as bytes to read and write |
//! | [`sockets`] | UDP in batches, and ICMP's word on what cannot be reached |
//! | [`directory`] | the directory's client |
//! | [`addresses`], [`relays`] | what the node has to know of the world outside |
//! | [`ipc`] | the unix socket and its clients |
//! | [`services`] | what the daemon itself offers on the node's ports |
//! | [`state`] | files that outlive the daemon |
//! | [`trust_file`] | whom the node trusts, kept after each change |
//! | [`capability_file`] | what the node offers, kept likewise |
//! | [`feeds`] | what changes in the directory, while somebody watches |
//! | [`observe`] | what happened, for people and collectors: event log, spans, figures |
//! | [`service_manager`] | what systemd is told |
//! | [`metrics`], [`http`] | figures for Prometheus, over HTTP |

pub mod addresses;
pub mod byte_stream;
pub mod capability_file;
pub mod clock;
pub mod confinement;
pub mod core;
pub mod directory;
pub mod drive;
pub mod feeds;
pub mod http;
pub mod ipc;
pub mod metrics;
pub mod observe;
pub mod relays;
pub mod runtime;
pub mod service_manager;
pub mod services;
pub mod sockets;
pub mod state;
pub mod trust_file;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::node::{self, Event, Node};
use crate::stream::{self, State as StreamState};
use capability_file::CapabilityFile;
use clock::Clock;
use core::Core;
use directory::{Directory, Place as DirectoryPlace};
use http::Http;
use ipc::Place;
use observe::Observer;
use observe::event_log::EventLog;
use runtime::Ring;
use sockets::Sockets;
use state::State;
use trust_file::TrustFile;

/// Lists of relays that wait to be resolved.
const LISTS_MAX: usize = 4;
/// What open streams have to deliver their last bytes at the end.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// How often it is looked whether they have.
const FAREWELL_LOOK: Duration = Duration::from_millis(10);

/// Runs a daemon until `stop` receives something or a client asks for its end. A second word from `stop` cuts the
/// farewell short. To be called in a `LocalSet`.
///
/// # Errors
/// The daemon cannot start; the text says what to do. [`ipc::PlaceError`] and [`state::InUse`] are among the causes.
pub async fn run(config: Config, ring: Ring, mut stop: mpsc::Receiver<()>) -> anyhow::Result<()> {
    let clock = Clock::start();
    // Whoever has the socket is asked for it first, with a word on how to stop it. Of two that start at once the locks let
    // one pass, before anything is made that the other would find or remove.
    Place::check(&config.socket).await?;
    let state = Rc::new(State::open(&config.data_dir)?);
    let _folder_lock = state.lock()?;
    let identity = Arc::new(state::load_identity(&config.identity, clock::secret)?);
    let _identity_lock = state::lock_identity(&config.identity)?;
    let place = Place::bind(&config.socket).await?;
    let sockets = Sockets::bind(config.listen)
        .context("cannot bind the tunnel socket; choose another address or port with --listen")?;
    let sockets = Rc::new(sockets);
    let local = sockets.local_addresses().next().context("this host has neither IPv4 nor IPv6")?;

    let directory_place =
        DirectoryPlace { registry: config.registry.clone(), fingerprint: config.registry_fingerprint };
    let directory = Directory::new(directory_place, u64::from_be_bytes(clock::chance()?));
    // Whoever had it could compute the keys of all tunnels.
    let seed = clock::secret()?;
    let mut node = Node::new(clock.now(), node_config(&config), Arc::clone(&identity), &seed);
    drop(seed);
    if let Some(text) = state.trust()? {
        let now = clock.now();
        let restored = node.with_trust(now, |trust| trust.restore(&text));
        restored.with_context(|| {
            format!("the trust file in {} is damaged; restore it or move it away", config.data_dir.display())
        })?;
    }
    capability_file::begin(&mut node, clock.now(), &state, config.offer.clone())?;
    let (observer, _observing) = observe(&config, clock)?;
    let core = Core::new(node, clock, directory, Rc::clone(&observer));
    let capability = Rc::new(CapabilityFile::new(Rc::clone(&core), Rc::clone(&state)));
    let trust = Rc::new(TrustFile::new(Rc::clone(&core), Rc::clone(&state)));
    let context = Rc::new(ipc::Context {
        core: Rc::clone(&core),
        identity,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        owner: config.owner.clone(),
        local,
        started: clock.now(),
        hostname: RefCell::new(config.hostname.clone()),
        networks: RefCell::default(),
        stop: Notify::new(),
        clients: Cell::new(0),
        trust: Rc::clone(&trust),
        verifier: RefCell::default(),
        feeds: feeds::Feeds::new(&core),
    });
    let _http = match config.http {
        Some(address) => Some(Task::spawn(Http::bind(address).await?.serve(Rc::clone(&context), observer))),
        None => None,
    };
    let _process = state.note_process(clock.now()).await;
    services::start(&core, &state, config.services, ring)?;

    let (lists, listed) = mpsc::channel(LISTS_MAX);
    let relay_lost = Rc::new(Notify::new());
    let concern =
        concern(Rc::clone(&context), lists, Rc::clone(&relay_lost), Rc::clone(&trust), Rc::clone(&capability));
    let first = first_relays(&config, &state);
    let _tasks = [
        Task::spawn(drive::drive(Rc::clone(&core), Rc::clone(&sockets), concern)),
        Task::spawn(addresses::follow(Rc::clone(&core), Rc::clone(&sockets))),
        Task::spawn(relays::follow(
            Rc::clone(&core),
            Rc::clone(&sockets),
            Rc::clone(&state),
            relays::Wanted { first, fixed: !config.beacons.is_empty() },
            listed,
            relay_lost,
        )),
        Task::spawn(Rc::clone(&trust).keep()),
        Task::spawn(service_manager::stay_alive()),
    ];
    tracing::info!(socket = %config.socket.display(), %local, registry = %config.registry, "the daemon is up");
    ::confinement::tell_of_keys();
    service_manager::ready();
    tokio::select! {
        () = ipc::serve(Rc::clone(&context), &place) => {}
        _ = stop.recv() => tracing::info!("stopping"),
        () = context.stop.notified() => tracing::info!("stopping at a client's request"),
    }
    service_manager::stopping();
    // No new clients; another daemon may take the place.
    drop(place);
    tokio::select! {
        _ = timeout(FAREWELL_MAX, farewell(&core)) => {}
        Some(()) = stop.recv() => {}
    }
    trust.keep_now().await;
    capability.keep().await;
    tracing::info!("stopped");
    Ok(())
}

/// What keeps the collector's thread and that of the event log at work.
type Observing = (Option<telemetry::export::Guard>, Option<telemetry::event_log::Guard>);

/// The collector of spans, if there is one.
fn collector(config: &Config) -> Option<telemetry::export::Options> {
    let (name, version) = ("pilot-agent", env!("CARGO_PKG_VERSION"));
    match &config.otlp_endpoint {
        Some(endpoint) => Some(telemetry::export::Options::new(endpoint, name, version)),
        None => telemetry::export::Options::from_environment(name, version),
    }
}

/// Where what happens is told, as the operator wants it. An event log that cannot be written costs a warning.
fn observe(config: &Config, clock: Clock) -> anyhow::Result<(Rc<Observer>, Observing)> {
    let (exporter, exporting) = match collector(config) {
        Some(mut options) => {
            if options.instance_id.is_empty() {
                options.instance_id.clone_from(&config.hostname);
            }
            let started = telemetry::Exporter::start(options);
            let (exporter, guard) = started.context("traces cannot be exported; see --otlp-endpoint")?;
            (exporter, Some(guard))
        }
        None => (telemetry::Exporter::none(), None),
    };
    let opened =
        config.event_log.then(|| telemetry::EventLog::open(telemetry::event_log::Options::new(&config.data_dir)));
    let (events, keeping) = match opened {
        Some(Ok((log, guard))) => (EventLog::new(log), Some(guard)),
        Some(Err(error)) => {
            tracing::warn!(%error, "there will be no event log");
            (EventLog::none(), None)
        }
        None => (EventLog::none(), None),
    };
    Ok((Observer::new(clock, exporter, events, config.trace_sample), (exporting, keeping)))
}

fn node_config(config: &Config) -> node::Config {
    node::Config {
        hostname: config.hostname.clone(),
        owner: config.owner.clone(),
        public: config.public,
        relay_only: config.relay_only,
        trust_auto_approve: config.trust_auto_approve,
        relays: config.first_beacons().iter().filter_map(|place| place.address()).collect(),
        endpoint: config.endpoint,
        stream: stream::Config::default(),
        ..node::Config::default()
    }
}

/// The operator's relays; else the last list of the directory, and the directory's own host.
fn first_relays(config: &Config, state: &State) -> Vec<crate::config::values::HostPort> {
    let mut first = Vec::new();
    if config.beacons.is_empty() {
        let kept = state.relays();
        first.extend(kept.iter().filter_map(|text| crate::config::values::HostPort::parse(text).ok()));
    }
    for place in config.first_beacons() {
        if !first.contains(&place) {
            first.push(place);
        }
    }
    first
}

/// What is done about events that are for nobody in particular.
fn concern(
    context: Rc<ipc::Context>,
    lists: mpsc::Sender<Vec<String>>,
    relay_lost: Rc<Notify>,
    trust: Rc<TrustFile>,
    capability: Rc<CapabilityFile>,
) -> impl Fn(Event) + 'static {
    move |event| match event {
        Event::Registered { node, address } => {
            tracing::info!(%node, %address, "registered");
            let context = Rc::clone(&context);
            spawn_local(async move { context.refresh().await });
        }
        Event::Complaint(text) => tracing::warn!(%text, "the directory complains"),
        Event::DirectoryLost(reason) => tracing::warn!(%reason, "the directory is away"),
        Event::DirectoryBack => tracing::info!("the directory is back"),
        Event::RelayChanged(Some(relay)) => tracing::info!(%relay, "relay"),
        Event::RelayChanged(None) => {
            tracing::warn!("no relay answers");
            relay_lost.notify_one();
        }
        Event::RelaysListed(list) => {
            // The next list is as good when this one finds no place.
            let _ = lists.try_send(list);
        }
        Event::TrustRequested { peer, justification } => {
            tracing::info!(%peer, ?justification, "asks to be trusted; answer with: pilotctl approve {peer}");
        }
        Event::TrustChanged => trust.handle_changed(),
        Event::CapabilityChanged => {
            let capability = Rc::clone(&capability);
            spawn_local(async move { capability.keep().await });
        }
        // The control event beside it says more.
        Event::PathChanged { .. }
        // These have found who waits for them.
        | Event::Opened(_)
        | Event::Accepted { .. }
        | Event::Readable(_)
        | Event::Writable(_)
        | Event::Datagram { .. } => {}
    }
}

/// Lets streams deliver what was written to them.
async fn farewell(core: &Core) {
    let open: Vec<_> = core.look(|node| node.streams().map(|stream| stream.id).collect());
    core.act(|node, now| open.iter().for_each(|id| node.close(now, *id)));
    let is_pending = |state| !matches!(state, StreamState::TimeWait | StreamState::Closed);
    while core.look(|node| node.streams().any(|stream| is_pending(stream.state))) {
        sleep(FAREWELL_LOOK).await;
    }
}

/// A task that ends with its owner.
struct Task(AbortHandle);

impl Task {
    fn spawn(work: impl Future<Output = ()> + 'static) -> Self {
        Self::of(&spawn_local(work))
    }

    fn of(task: &JoinHandle<()>) -> Self {
        Self(task.abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
