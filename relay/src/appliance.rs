//! The appliance around the relay: settings, data folder, the embedded directory, the admin address, signals.
//!
//! Nothing here is on the path of a datagram. The order at start matters: the directory publishes every stored node
//! into the membership before it accepts a connection, and only then the shards begin to serve; what arrives meanwhile
//! waits in the sockets, which are bound first. A relay that takes over from one before serves its sessions at once, and
//! the directory follows when the database is free.

mod admin;
mod authority;
mod backup;
mod before;
pub mod cli;
mod config_file;
mod confinement;
mod data_dir;
mod directory_link;
pub mod doctor;
mod drain;
pub mod failure;
mod import;
mod nodes;
mod phase;
mod recorder;
mod relay_key;
mod relay_source;
mod reload;
mod service_manager;
mod spans;
mod store;
mod succession;
mod upgrade;
mod welcome;
mod whereabouts;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use ::confinement::Rings;
use anyhow::{Context as _, bail};
use nix::sys::signal::{SigSet, Signal};
use relay::inheritance::Descriptor;
use relay::membership::Membership;
use relay::runtime::Relay;
use relay::server::Admission;
use telemetry::Exporter;
use telemetry::export::{Guard, Options};

use self::admin::{Admin, Events, Sources};
use self::authority::Asked;
use self::before::Before;
use self::cli::{Arguments, Command, Settings};
use self::data_dir::DataDir;
use self::directory_link::Link;
use self::phase::{CurrentPhase, Phase};
use self::recorder::Recorder;
use self::relay_source::Source;
use self::service_manager::{ServiceManager, Watchdog};
use self::spans::Spans;
use self::store::Store;
use self::succession::{Attendance, End, Seat};
use self::whereabouts::Whereabouts;

/// Connections the embedded directory may hold need a file descriptor each.
const OPEN_FILES_WANTED: u64 = 1 << 20;

/// Does something else than to serve.
pub fn run_command(command: Command, given: &flags::Given) -> ExitCode {
    let done = match command {
        Command::Doctor(arguments) => return doctor::run(*arguments),
        Command::Config(arguments) => config_file::run(arguments, given),
        Command::Nodes(arguments) => nodes::run(arguments),
        Command::Backup(arguments) => backup::backup(arguments),
        Command::Restore(arguments) => backup::restore(arguments),
        Command::Import(arguments) => import::run(arguments),
        Command::Upgrade(arguments) => upgrade::run(arguments),
        Command::Drain(arguments) => drain::run(arguments),
        Command::Completions(arguments) => written(arguments.print(cli::program().command())),
        Command::Man(arguments) => written(arguments.print(cli::program().command())),
    };
    done.unwrap_or_else(|error| {
        eprintln!("pilot-relay: {error:#}");
        ExitCode::FAILURE
    })
}

fn written(result: std::io::Result<()>) -> anyhow::Result<ExitCode> {
    result.context("cannot write").map(|()| ExitCode::SUCCESS)
}

/// Runs until a signal ends it, a successor has taken over, or a shard fails. `given` is what `arguments` were made from.
///
/// # Errors
/// What prevented the start, or ended a shard; the text says what to do.
pub fn run(arguments: Arguments, given: flags::Given) -> anyhow::Result<()> {
    let passed = service_manager::passed()?;
    let manager = ServiceManager::of_environment();
    // Names may be waited for, and a hang-up is no reason to end.
    let hangups = reload::Hangups::block()?;
    let mut settings = arguments.resolve().map_err(failure::of_settings)?;
    ::confinement::harden(settings.confinement);
    let signals = block_signals()?;
    raise_open_files();
    let phase = Arc::new(CurrentPhase::new());
    if settings.succeed.is_some() && settings.registry.is_some() {
        // It is opened once the relay at work is gone, and then nobody would be left to go on. That one is not asked yet, and
        // does not wait: reading all of a large database takes its time.
        look_at_database(&settings)?;
    }
    let mut before = Before::find(settings.succeed.as_deref(), passed)?;
    let watchdog = before.watchdog().or_else(service_manager::watchdog_of_environment);
    let mut store = Store::new(manager.clone(), before.names());
    // Nodes that were served go on being served while the directory comes; until then nobody else comes in.
    let early = before.is_something();
    let membership = Arc::new(Membership::default());
    match settings.registry {
        Some(_) if early => membership.await_authority(),
        registry => membership.set_authority(registry.is_some()),
    }
    let data_dir = settings.registry.map(|_| DataDir::open(settings.data_dir.clone())).transpose()?;
    if data_dir.as_ref().is_some_and(DataDir::is_restored) {
        before.forget_sessions();
    }
    // Without a directory nobody knows the nodes' keys, and where nobody is checked no claim is needed.
    if let Some(data_dir) = data_dir.as_ref().filter(|_| settings.relay.rules.admission != Admission::Open) {
        settings.relay.rules.cookies = Some(relay_key::cookies(data_dir.path())?);
    }
    let relay_key = settings.relay.rules.cookies.as_ref().map(|cookies| *cookies.relay_key());
    let place = match &settings.succeed {
        Some(path) => Some(path.clone()),
        None => succession::socket_path(data_dir.as_ref().map(DataDir::path).or(settings.data_dir.as_deref())),
    };
    // What can be refused is refused before this relay takes over from another.
    let doors = Doors::open(&settings, &mut before, &mut store)?;
    let needs = confinement::needs(&settings, given.file(), data_dir.as_ref(), place.as_deref());
    let confine = || needs.enter().map_err(io::Error::other);
    let relay = Arc::new(Relay::start_with(&settings.relay, membership, before.take_sockets(), confine)?);
    let link = Arc::new(Link::new(Arc::clone(&relay), settings.advertise_text.clone(), relay_key));
    let mut before = early.then_some(before);
    let mut take_over = || before.take().map(|before| before.take_over(&relay, &mut store)).transpose();
    // Where the relay before has ended nobody serves meanwhile, and a file that is made may wait for the disk; one that is at
    // work serves until all is ready here.
    let taken_at_once = if settings.succeed.is_none() { take_over()? } else { None };
    let prepared = match (settings.registry, &data_dir) {
        (Some(listen), Some(data_dir)) => Some(directory::Prepared::new(settings.directory_config(listen, data_dir)?)?),
        _ => None,
    };
    let admin_token = settings.admin_token(data_dir.as_ref())?;
    let (exporter, otlp) = start_exporter(settings.otlp.clone())?;
    if let Some(data_dir) = data_dir.as_ref().filter(|data_dir| settings.succeed.is_some() && data_dir.awaits_restore())
    {
        // Key and token are those of before, and sessions carry numbers of before.
        bail!(
            "a backup waits in {} for a restart, so there is no upgrade until then: systemctl restart pilot-relay, or \
             pilot-relay restore --cancel",
            data_dir.path().display()
        );
    }
    let taken = match taken_at_once {
        Some(taken) => Some(taken),
        None => take_over()?,
    };
    let (report, end) = mpsc::channel();
    let watchdog_alive = watchdog
        .map(|patience| Watchdog::start(manager.clone(), Arc::clone(&relay), Arc::clone(&phase), patience))
        .transpose()?;
    let others = doors.descriptors(&relay)?;
    let duties = succession::Duties {
        relay: Arc::clone(&relay),
        phase: Arc::clone(&phase),
        others: copies(&others)?,
        watchdog,
        inherited: taken.as_ref().map(|taken| taken.inherited.clone()),
        drain: drain_on_demand(Arc::clone(&relay), Arc::clone(&phase), manager.clone(), report.clone()),
        end: Mutex::new(report.clone()),
    };
    let seat = take_seat(place, settings.succeed.is_some(), duties)?;
    let kept = taken.as_ref().map_or(0, |taken| taken.inherited.sessions);
    taken.map(|taken| taken.dismiss(&manager)).transpose()?;
    let directory = match (prepared, doors.directory) {
        (Some(prepared), Some(listener)) => Some(Arc::new(directory::start_on(listener, prepared, link)?)),
        _ => None,
    };
    if let (Some(directory), Some(relay_key)) = (&directory, relay_key) {
        relay.consult(Asked::of(directory), relay_key)?;
    }
    let whereabouts = data_dir.as_ref().map(|data_dir| Whereabouts::in_folder(data_dir.path()));
    let last_seen = whereabouts.as_ref().map(Whereabouts::load).unwrap_or_default();
    relay.membership().remember(last_seen.clone());
    relay.membership().set_authority(directory.is_some());
    relay.serve()?;
    let keeper = whereabouts.map(|whereabouts| whereabouts.keep(Arc::clone(&relay), last_seen)).transpose()?;
    let recorder = Recorder::start(Arc::clone(relay.events()), Spans::new(exporter))?;
    let source = Arc::new(Source::new(Arc::clone(&relay), recorder, settings.relay.cpus.clone()));
    let events = Events { source: Arc::clone(&source), token: admin_token };
    let sources =
        Sources { relay: Arc::clone(&relay), directory: directory.clone(), events, phase: Arc::clone(&phase) };
    let admin = doors.admin.map(|listener| Admin::start(listener, sources)).transpose()?;
    store.follow(Arc::clone(&relay), &others)?;
    let welcome = welcome::text(&settings, &relay, directory.as_deref(), admin.as_ref(), data_dir.as_ref());
    reload::follow(hangups, reload::Reloader::new(given, directory.as_ref()))?;
    ::confinement::seal(settings.confinement, Rings::Made)?;
    ::confinement::tell_of_keys();
    phase.advance(Phase::Serving);
    // Whoever reads it finds what it says.
    welcome::print(&welcome)?;
    manager.tell(&["READY=1", &format!("STATUS=serving; {kept} sessions kept from the relay before")]);
    let end = wait_for_end(&relay, signals, report, &end)?;
    phase.advance(Phase::Stopping);
    if !matches!(end, End::Succeeded) {
        // A successor has both from here on.
        manager.tell(&["STOPPING=1"]);
        seat.iter().for_each(Attendance::remove);
    }
    drop(keeper);
    drop(admin);
    drop(source);
    // What was recorded last is still delivered.
    drop(otlp);
    if let Some(directory) = directory.and_then(Arc::into_inner) {
        directory.shutdown();
    }
    // Last, so that as little as possible waits for the next relay.
    relay.stop();
    drop(watchdog_alive);
    if matches!(end, End::Abandoned) {
        bail!("the successor has failed after it took over; a service manager starts the next one");
    }
    Ok(())
}

/// Refuses a database that could not be opened. A folder that is not there yet has none.
fn look_at_database(settings: &Settings) -> anyhow::Result<()> {
    let Ok(data_dir) = DataDir::existing(settings.data_dir.clone()) else { return Ok(()) };
    let seen = data_dir.look_at_database().context("the relay at work goes on")?;
    tracing::debug!(?seen, "looked at the database");
    Ok(())
}

/// The sockets that take connections, from the relay before or new.
struct Doors {
    directory: Option<Vec<TcpListener>>,
    admin: Option<TcpListener>,
}

impl Doors {
    fn open(settings: &Settings, before: &mut Before, store: &mut Store) -> anyhow::Result<Self> {
        let directory = settings.registry.map(|wanted| match before.take_listener(before::DIRECTORY, wanted, store) {
            Some(listener) => Ok(vec![listener]),
            None => refused_as(before, wanted, directory::listener::bind(&[wanted])),
        });
        let admin = settings.http.map(|wanted| match before.take_listener(before::ADMIN, wanted, store) {
            Some(listener) => Ok(listener),
            None => refused_as(before, wanted, directory::http::Server::bind(wanted)),
        });
        Ok(Self { directory: directory.transpose()?, admin: admin.transpose()? })
    }

    /// Copies for the next relay, with the sessions' ledger.
    fn descriptors(&self, relay: &Relay) -> anyhow::Result<Vec<Descriptor>> {
        let mut descriptors = Vec::new();
        for listener in self.directory.iter().flatten() {
            let file = listener.try_clone().context("cannot keep the directory's socket for a restart")?.into();
            descriptors.push(Descriptor { name: before::DIRECTORY.to_owned(), file });
        }
        if let Some(listener) = &self.admin {
            let file = listener.try_clone().context("cannot keep the admin socket for a restart")?.into();
            descriptors.push(Descriptor { name: before::ADMIN.to_owned(), file });
        }
        descriptors.extend(relay.ledger().map(|file| Descriptor { name: before::ledger_name(), file }));
        Ok(descriptors)
    }
}

/// Says it where the relay before is why an address cannot be bound.
fn refused_as<T>(before: &Before, wanted: SocketAddr, bound: anyhow::Result<T>) -> anyhow::Result<T> {
    bound.map_err(|error| before.obstacle(wanted, &error).map_or(error, anyhow::Error::msg))
}

fn copies(descriptors: &[Descriptor]) -> std::io::Result<Vec<Descriptor>> {
    let copy = |one: &Descriptor| Ok(Descriptor { name: one.name.clone(), file: one.file.try_clone()? });
    descriptors.iter().map(copy).collect()
}

/// Where successors and operators ask; a relay that cannot be asked serves all the same.
fn take_seat(place: Option<PathBuf>, succeeds: bool, duties: succession::Duties) -> anyhow::Result<Option<Attendance>> {
    let Some(path) = place else { return Ok(None) };
    match Seat::take(&path, succeeds) {
        Ok(seat) => Ok(Some(seat.attend(Arc::new(duties))?)),
        Err(error) => {
            tracing::warn!("this relay cannot be upgraded or drained: {error:#}");
            Ok(None)
        }
    }
}

fn drain_on_demand(
    relay: Arc<Relay>,
    phase: Arc<CurrentPhase>,
    manager: ServiceManager,
    report: mpsc::Sender<End>,
) -> Box<dyn Fn(Duration) + Send + Sync> {
    let report = Mutex::new(report);
    Box::new(move |deadline| {
        let report = report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Err(error) = drain::begin(Arc::clone(&relay), &phase, manager.clone(), deadline, report) {
            tracing::error!(%error, "cannot watch over draining; end this process with a signal");
        }
    })
}

/// Where spans go, and what keeps them going.
fn start_exporter(options: Option<Options>) -> anyhow::Result<(Exporter, Option<Guard>)> {
    let Some(options) = options else { return Ok((Exporter::none(), None)) };
    let (exporter, guard) =
        Exporter::start(options).context("change --otlp, or OTEL_EXPORTER_OTLP_ENDPOINT in the environment")?;
    Ok((exporter, Some(guard)))
}

/// SIGTERM and SIGINT are waited for by one thread; all threads started later inherit the mask.
fn block_signals() -> anyhow::Result<SigSet> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("cannot block signals")?;
    Ok(signals)
}

/// Waits for a reason to end. Shards that end on request are none: the one who asked says why.
fn wait_for_end(
    relay: &Arc<Relay>,
    signals: SigSet,
    report: mpsc::Sender<End>,
    end: &mpsc::Receiver<End>,
) -> anyhow::Result<End> {
    let (failures, failed) = mpsc::channel();
    let from_signal = report.clone();
    let signal_failures = failures.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || match signals.wait() {
        Ok(_) => drop(from_signal.send(End::Signal)),
        Err(error) => {
            let _ = signal_failures.send(anyhow::Error::new(error).context("cannot wait for signals"));
            let _ = from_signal.send(End::Signal);
        }
    })?;
    let relay = Arc::clone(relay);
    std::thread::Builder::new().name("shard-watch".to_owned()).spawn(move || {
        while let Some(ended) = relay.wait_ended() {
            if let Err(error) = ended.result {
                let _ = failures.send(anyhow::Error::new(error).context(format!("shard {} failed", ended.shard)));
                let _ = report.send(End::Signal);
            }
        }
    })?;
    let end = end.recv().context("no thread is left to wait for")?;
    match failed.try_recv() {
        Ok(failure) => Err(failure),
        Err(_) => Ok(end),
    }
}

fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard.min(OPEN_FILES_WANTED).max(soft), hard)
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
