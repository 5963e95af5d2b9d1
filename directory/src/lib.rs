//! The directory of a Pilot network: who is who, where they are, who trusts whom, who is in which network. Speaks the
//! framed JSON of section 6 over TCP, with TLS on the same port if wanted; keeps its facts in SQLite.
//!
//! | module | decides | leaves to others |
//! |---|---|---|
//! | [`service`] | every answer; a plain value without I/O | everything below |
//! | [`facts`] | which facts are durable | |
//! | [`store`] | SQL | when to commit |
//! | [`search`] | words to tokens; threads that ask the full-text index | whom of those found the asker may see |
//! | [`journal`] | when to commit, and when a change counts as durable | |
//! | [`driver`] | the order: check signatures, decide, make durable, tell the relay, answer | bytes |
//! | [`connection`] | framing, batches, deadlines and memory of one connection | meaning |
//! | [`listener`] | who may connect; TLS or plain | |
//! | [`watchers`] | when those who follow changes are woken | what they then see |
//! | [`enrolment`] | who may register, in the administrator's words | what follows from them |
//! | [`limits`], [`endpoint`] | rates; what a `listen_addr` means | |
//! | [`relay_link`], [`relay_source`] | the seam to a relay, out and in | |
//! | [`import`] | what another registry's snapshot means here | |
//! | [`history`] | what the figures were; a plain value | files |
//! | [`http`] | the status page and the operator view | |
//!
//! Life of a registration: `connection` cuts it out of the stream and decodes it; `driver` has its signature checked
//! on another thread; `service` gives out the number, and a change and an effect with the answer; `journal` commits
//! the change together with those of other connections; the relay learns of the node; the answer is written.
#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod connection;
pub mod driver;
pub mod endpoint;
pub mod enrolment;
pub mod facts;
pub mod history;
pub mod http;
pub mod import;
pub mod journal;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod relay_link;
pub mod relay_source;
pub mod search;
pub mod service;
pub mod store;
pub mod tls;
pub mod watchers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use wire::NodeId;

use clock::Clock;
use connection::Budget;
use driver::Driver;
use http::Site;
use journal::Journal;
use listener::{Doors, Guests};
use metrics::Metrics;
use search::Searchers;
use search::pool::SEARCHERS_MAX;
use service::enrolment::{Moved, Policy};
use service::{Now, Service};
use store::Store;
use tls::Identity;

pub use config::{AdminToken, Config, Limits, Tls, TlsSwitch};
pub use enrolment::Enrolment;
pub use relay_link::{Known, NoRelay, RelayLink};
pub use relay_source::RelaySource;

/// How long requests in progress may take once the directory shuts down.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two calls of [`Driver::tick`].
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// A directory at work on threads of its own. Dropping it stops it as [`Running::shutdown`] does.
#[derive(Debug)]
pub struct Running {
    local_addrs: Vec<SocketAddr>,
    identity: Option<Identity>,
    tls: Tls,
    admin_token: Option<AdminToken>,
    data_dir: PathBuf,
    allowlist: Option<PathBuf>,
    driver: Arc<Driver>,
    journal: Arc<Journal>,
    stop: watch::Sender<bool>,
    reactor: Option<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
}

impl Running {
    /// The addresses listened on, with the ports that were picked.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Lower-case hex SHA-256 of the certificate clients may pin; `None` without TLS.
    #[must_use]
    pub fn tls_fingerprint(&self) -> Option<String> {
        self.identity.as_ref().map(Identity::fingerprint)
    }

    /// Shows new connections the certificate that `tls` names now; those that stand keep theirs. True when it is another
    /// one than before.
    ///
    /// # Errors
    /// It cannot be used, and the one before stays; or TLS was off or is to be switched off, which takes a restart.
    pub fn reload_certificate(&self, tls: &Tls) -> anyhow::Result<bool> {
        match (&self.identity, tls) {
            // Nothing was wanted, or nothing could be had.
            (None, tls) if *tls == self.tls => Ok(false),
            (None, _) => anyhow::bail!("TLS cannot be switched on while serving; restart"),
            (Some(identity), tls) => identity.reload(tls, &self.data_dir, self.driver.clock().now().unix_seconds),
        }
    }

    /// Counters in the Prometheus text format. Safe to call from any thread.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.driver.metrics_text()
    }

    /// The key `node` is registered with. Waits for the service, but for nothing else.
    #[must_use]
    pub fn public_key(&self, node: NodeId) -> Option<[u8; 32]> {
        self.driver.public_key(node)
    }

    /// Whether `requester` would be told where `target` is, as `resolve` decides it. Waits as the former does.
    #[must_use]
    pub fn lets_resolve(&self, requester: NodeId, target: NodeId) -> bool {
        self.driver.lets_resolve(requester, target)
    }

    /// The status page and the operator view, to be served with [`http::Server`]; `relay` is the one in this process. How
    /// the network grows is kept in the data folder, by one site at a time.
    #[must_use]
    pub fn site(&self, relay: Option<Arc<dyn RelaySource>>) -> Arc<Site> {
        let driver: Arc<Driver> = Arc::clone(&self.driver);
        Site::new(
            driver,
            http::Settings {
                relay,
                admin_token: self.admin_token.clone(),
                growth_file: Some(self.data_dir.join("growth.csv")),
                ..http::Settings::default()
            },
        )
    }

    /// `/nodes` and what is below it: who belongs, for the administrator. Behind the same token as the operator view of
    /// `site`.
    pub fn node_routes(&self, site: &Arc<Site>) -> axum::Router {
        http::nodes::routes(Arc::clone(&self.driver), Arc::clone(site))
    }

    /// Reads the list of keys again, if there is one: who is on it is let in, who was and is not any more waits again. The
    /// log says how many.
    ///
    /// # Errors
    /// It cannot be read, a line is no key, or it names none and the old one did: then the old one holds.
    pub fn reload_allowlist(&self) -> anyhow::Result<()> {
        let Some(file) = &self.allowlist else { return Ok(()) };
        let (listed, before) = (config::read_allowlist(file)?, self.driver.policy());
        let keys = listed.len();
        if keys == 0 && !before.listed.is_empty() {
            // Sooner a file that was emptied by mistake, or is being written, than a wish.
            anyhow::bail!(
                "--allowlist {} names no key; write the keys into it and reload again: so it would keep the \
                 directory from starting. To take everybody off the list, \
                 restart with --enrol approve and without --allowlist",
                file.display()
            );
        }
        let Moved { let_in, put_out } = self.driver.set_policy(Policy { listed, ..before });
        match put_out {
            0 => tracing::info!(keys, let_in, "the list of keys that may join was read again"),
            _ => tracing::warn!(
                keys,
                let_in,
                put_out,
                "the list of keys that may join was read again; nodes that it names no more are out and wait"
            ),
        }
        Ok(())
    }

    /// Stops accepting, lets requests in progress finish for a few seconds, closes the database. May be called from
    /// any thread, also one of an async runtime, which it blocks.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.stop.send_replace(true);
        // A thread that has panicked has said so already, and is as stopped as can be.
        self.reactor.take().map(JoinHandle::join);
        self.driver.searchers().close();
        self.journal.close();
        self.writer.take().map(JoinHandle::join);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Opens the database, publishes every stored node to `relay`, and serves. Needs no async runtime of the caller: the
/// directory owns its threads. Raises the process's limit of open files as far as it is allowed to.
///
/// # Errors
/// The data folder, an address or the certificate cannot be used; the text says which and what to do.
pub fn start(config: Config, relay: Arc<dyn RelayLink>) -> anyhow::Result<Running> {
    let listeners = listener::bind(&config.listen)?;
    start_on(listeners, Prepared::new(config)?, relay)
}

/// Settings whose files have been read. Who takes over from another directory prepares first: what is refused here has
/// changed nothing yet.
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    policy: Policy,
    identity: Option<Identity>,
}

impl Prepared {
    /// Reads the list of keys and the certificate.
    ///
    /// # Errors
    /// One of them cannot be used; the text says which and what to do.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        let policy = config.policy()?;
        if matches!(config.tls, Tls::SelfSigned | Tls::Offered) {
            let folder = &config.data_dir;
            std::fs::create_dir_all(folder).with_context(|| {
                format!("cannot make the data folder {}; choose another with --data-dir", folder.display())
            })?;
            // A backup that waits brings its certificate along.
            store::restore::finish(folder)?;
        }
        let identity = tls::load(&config.tls, &config.data_dir)?;
        Ok(Self { config, policy, identity })
    }
}

/// As [`start`], on sockets that listen already, which another process may have opened.
///
/// # Errors
/// As [`start`].
pub fn start_on(
    listeners: Vec<std::net::TcpListener>,
    prepared: Prepared,
    relay: Arc<dyn RelayLink>,
) -> anyhow::Result<Running> {
    let Prepared { config, policy, identity } = prepared;
    let clock = Clock::start();
    listeners.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
    let local_addrs = listeners.iter().map(std::net::TcpListener::local_addr).collect::<Result<_, _>>()?;
    let store = Store::open(&config.data_dir, clock.now().unix_seconds)?;
    let limits = Limits {
        connections_max: listener::connections_within_file_limit(config.limits.connections_max),
        ..config.limits
    };

    let mut service = Service::new(store.load()?, &limits, config.admin_token.clone());
    if let (Some(file), true) = (&config.allowlist, policy.listed.is_empty()) {
        config::puts_nobody_out(file, service.count_listed())?;
        let file = file.display();
        tracing::warn!("--allowlist {file} names no key, so it lets nobody in; write keys into it and reload");
    }
    // Nobody has been heard yet.
    let Moved { put_out, .. } = service.set_policy(Now::default(), policy);
    if put_out > 0 {
        tracing::warn!(put_out, "nodes that were on the list of keys and are on none now are out and wait");
    }
    let metrics = Arc::new(Metrics::default());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let readers = (0..cores.min(SEARCHERS_MAX)).map(|_| store.reader()).collect::<Result<_, _>>()?;
    let searchers = Searchers::start(readers).context("cannot start a thread")?;
    let checker = store.reader()?;
    let check = std::thread::Builder::new().name("index-check".into()).spawn(move || checker.check());
    check.context("cannot start a thread")?;
    let (journal, writer) =
        Journal::start(store, Arc::clone(&metrics), limits.waiting_bytes_max).context("cannot start a thread")?;
    let driver = Arc::new(Driver::new(service, Arc::clone(&journal), searchers, relay, limits, clock, metrics));

    let (stop, shutdown) = watch::channel(false);
    let doors = Arc::new(Doors {
        driver: Arc::clone(&driver),
        limits,
        exempt: config.exempt,
        identity: identity.clone(),
        tls_required: config.tls_required,
        shutdown: shutdown.clone(),
        budget: Arc::new(Budget::default()),
        guests: Arc::new(Guests::default()),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("directory")
        .worker_threads(cores.min(4))
        // They check signatures, which is pure computing: more threads than cores would not help.
        .max_blocking_threads(cores + 1)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let reactor = std::thread::Builder::new().name("directory-main".into());
    let reactor = reactor
        .spawn(move || {
            runtime.block_on(serve(doors, listeners, shutdown));
            runtime.shutdown_background();
        })
        .context("cannot start a thread")?;
    Ok(Running {
        local_addrs,
        identity,
        tls: config.tls,
        admin_token: config.admin_token,
        data_dir: config.data_dir,
        allowlist: config.allowlist,
        driver,
        journal,
        stop,
        reactor: Some(reactor),
        writer: Some(writer),
    })
}

/// Serves until shutdown, and then until the last connection has ended or [`SHUTDOWN_TIMEOUT`] is over.
async fn serve(doors: Arc<Doors>, listeners: Vec<std::net::TcpListener>, mut shutdown: watch::Receiver<bool>) {
    let (alive, mut all_ended) = mpsc::channel(1);
    for listener in listeners {
        let (doors, alive) = (Arc::clone(&doors), alive.clone());
        tokio::spawn(async move {
            if let Err(error) = doors.accept(listener, alive).await {
                tracing::error!(%error, "cannot serve a listening socket");
            }
        });
    }
    drop(alive);
    let mut ticks = tokio::time::interval(TICK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => doors.driver.tick().await,
            // The sender lives in `Running`; without it nobody wants the directory any more.
            _ = shutdown.wait_for(|shutdown| *shutdown) => break,
        }
    }
    let _: Result<Option<()>, _> = tokio::time::timeout(SHUTDOWN_TIMEOUT, all_ended.recv()).await;
}
