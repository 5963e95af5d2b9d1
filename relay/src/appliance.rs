//! The appliance around the relay: settings, data folder, the embedded directory, the admin address, signals.
//!
//! Nothing here is on the path of a datagram. The order at start matters: the directory publishes every stored node
//! into the membership before it accepts a connection, and only then the shards begin to serve; what arrives meanwhile
//! waits in the sockets, which are bound first.

mod admin;
mod backup;
pub mod cli;
mod config_file;
mod confinement;
mod data_dir;
mod directory_link;
pub mod doctor;
mod import;
mod nodes;
mod recorder;
mod relay_source;
mod reload;
mod service_manager;
mod spans;
mod succession;
mod upgrade;
mod welcome;
mod whereabouts;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use relay::membership::Membership;
use relay::runtime::Relay;
use telemetry::Exporter;
use telemetry::export::{Guard, Options};

use self::admin::{Admin, Events, Sources};
use self::cli::{Arguments, Command};
use self::data_dir::DataDir;
use self::directory_link::Link;
use self::recorder::Recorder;
use self::relay_source::Source;
use self::spans::Spans;
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

/// Runs until a signal ends it, or a shard fails. `given` is what `arguments` were made from.
///
/// # Errors
/// What prevented the start, or ended a shard; the text says what to do.
pub fn run(arguments: Arguments, given: flags::Given) -> anyhow::Result<()> {
    let settings = arguments.resolve()?;
    let signals = block_signals()?;
    let hangups = reload::Hangups::block()?;
    raise_open_files();
    let membership = Arc::new(Membership::default());
    membership.set_authority(settings.registry.is_some());
    let relay = Arc::new(Relay::start(&settings.relay, membership)?);
    let link = Arc::new(Link::new(Arc::clone(&relay), settings.advertise_text.clone()));
    let (directory, data_dir) = match settings.registry {
        Some(listen) => {
            let data_dir = DataDir::open(settings.data_dir.clone())?;
            let config = settings.directory_config(listen, &data_dir)?;
            (Some(Arc::new(directory::start(config, link)?)), Some(data_dir))
        }
        None => (None, None),
    };
    let whereabouts = data_dir.as_ref().map(|data_dir| Whereabouts::in_folder(data_dir.path()));
    let before = whereabouts.as_ref().map(Whereabouts::load).unwrap_or_default();
    relay.membership().remember(before.clone());
    relay.serve()?;
    let keeper = whereabouts.map(|whereabouts| whereabouts.keep(Arc::clone(&relay), before)).transpose()?;
    let (exporter, otlp) = start_exporter(settings.otlp.clone())?;
    let recorder = Recorder::start(Arc::clone(relay.events()), Spans::new(exporter))?;
    let source = Arc::new(Source::new(Arc::clone(&relay), recorder, settings.relay.cpus.clone()));
    let events = Events { source: Arc::clone(&source), token: settings.admin_token(data_dir.as_ref())? };
    let sources = Sources { relay: Arc::clone(&relay), directory: directory.clone(), events };
    let admin = settings.http.map(|address| Admin::start(address, sources)).transpose()?;
    welcome::print(&settings, &relay, directory.as_deref(), admin.as_ref(), data_dir.as_ref())?;
    // Without a service manager nobody is told.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    reload::follow(hangups, reload::Reloader::new(given, directory.as_ref()))?;
    wait_for_end(&relay, signals)?;
    relay.stop();
    drop(keeper);
    drop(admin);
    drop(source);
    // What was recorded last is still delivered.
    drop(otlp);
    if let Some(directory) = directory.and_then(Arc::into_inner) {
        directory.shutdown();
    }
    Ok(())
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

fn wait_for_end(relay: &Arc<Relay>, signals: SigSet) -> anyhow::Result<()> {
    let (report, end) = std::sync::mpsc::channel();
    let from_signal = report.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let _ = from_signal.send(signals.wait().map(drop).context("cannot wait for signals"));
    })?;
    let relay = Arc::clone(relay);
    std::thread::Builder::new().name("shard-watch".to_owned()).spawn(move || {
        let ended = relay.wait_ended();
        let _ = report.send(match ended {
            Some(ended) => ended.result.with_context(|| format!("shard {} failed", ended.shard)),
            None => Err(anyhow::anyhow!("a shard's thread died")),
        });
    })?;
    end.recv().context("no thread is left to wait for")?
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
