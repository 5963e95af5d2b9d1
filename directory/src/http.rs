//! The status page and the operator view: the network at a glance for everyone, one node in detail behind the admin token.
//!
//! | part | does |
//! |---|---|
//! | [`source`] | what the pages are made of; the directory is one |
//! | [`status`] | which figures anyone may see |
//! | [`render`] | the page as it is without scripts |
//! | [`live`] | one stream of figures for all viewers |
//! | [`gate`] | who is an operator |
//! | [`operator`] | search, drops, groups, behind the gate |
//! | [`nodes`] | who belongs: list, approve, ban, for programs |
//! | [`why_relayed`] | what speaks against a direct path |
//! | [`growth_file`] | what outlives a restart |
//! | [`connections`] | deadlines of the connections |
//! | [`places`] | how many there are at once, in all and from one address |
//!
//! The figures are read once every [`STEP`], however many look at them. A viewer costs a connection, a
//! task and no copy of the figures; [`Bounds`] says how many are served at once.

pub mod assets;
pub mod connections;
pub mod gate;
pub mod growth_file;
pub mod live;
pub mod nodes;
pub mod operator;
pub mod places;
pub mod render;
pub mod source;
pub mod status;
pub mod why_relayed;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::config::AdminToken;
use crate::history::{History, Reading, STEP};
use crate::relay_source::RelaySource;
use connections::Patience;
use gate::{Denied, Gate, Presented};
use growth_file::GrowthFile;
use live::Snapshot;
use places::{Bounds, Places};
use source::Source;
use status::Status;

/// Nothing from elsewhere, nothing inline, no frames, no forms to elsewhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What a site is told.
pub struct Settings {
    /// The relay whose figures are shown.
    pub relay: Option<Arc<dyn RelaySource>>,
    /// What operators present; without one there is no operator view.
    pub admin_token: Option<AdminToken>,
    /// Where growth is kept; without a file it begins anew with the process.
    pub growth_file: Option<PathBuf>,
    /// Live viewers at once.
    pub viewers: Bounds,
}

impl Default for Settings {
    fn default() -> Self {
        Self { relay: None, admin_token: None, growth_file: None, viewers: Bounds::viewers() }
    }
}

/// The pages, and what they remember.
pub struct Site {
    source: Arc<dyn Source>,
    relay: Option<Arc<dyn RelaySource>>,
    gate: Mutex<Gate>,
    history: Mutex<History>,
    growth_file: Option<GrowthFile>,
    feed: watch::Sender<Arc<Snapshot>>,
    seats: Places,
    assets: assets::Assets,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").finish_non_exhaustive()
    }
}

impl Site {
    /// The pages of `source`. A growth file that cannot be used is warned of and does without.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, settings: Settings) -> Arc<Self> {
        let (growth_file, growth) = settings.growth_file.map(GrowthFile::open).unzip();
        let site = Arc::new(Self {
            source,
            relay: settings.relay,
            gate: Mutex::new(Gate::new(settings.admin_token)),
            history: Mutex::new(History::new(growth.unwrap_or_default())),
            growth_file,
            feed: watch::Sender::new(Arc::new(Snapshot::default())),
            seats: Places::new(settings.viewers),
            assets: assets::Assets::new(),
        });
        site.sample();
        site
    }

    /// Reads the figures, remembers them and shows them to all viewers. To be done every [`STEP`].
    pub fn sample(&self) {
        let (now, overview) = (self.source.now(), self.source.overview());
        let relay = self.relay.as_ref().map(|relay| relay.snapshot());
        let reading =
            Reading { registered: overview.nodes as u64, online: overview.online as u64, relay: relay.as_ref() };
        let (ended, status) = {
            let mut history = self.history();
            let ended = history.record(now, reading);
            (ended, Status::new(now, &overview, history.rates()))
        };
        if let (Some(hour), Some(file)) = (ended, &self.growth_file) {
            file.append(&hour);
        }
        self.feed.send_replace(Arc::new(Snapshot::new(status)));
    }

    /// The routes: `/`, `/status.json`, `/status/…`, `/operator…`, `/assets/…`.
    pub fn routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/status.json", get(status_json))
            .route("/status/history.json", get(history_json))
            .route("/status/events", get(live::events))
            .merge(assets::routes())
            .merge(operator::routes())
            .layer(axum::middleware::map_response(with_headers))
            .with_state(Arc::clone(self))
    }

    /// `/healthz` and `/metrics` (Prometheus text) of a directory that runs alone.
    pub fn probes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/metrics", get(metrics))
            .with_state(Arc::clone(self))
    }

    /// Lets an operator in who asks from `ip`, and notes one who shows a wrong token. For routes beside the site's own
    /// that are behind the same token.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, ip: IpAddr, presented: Presented<'_>) -> Result<(), Denied> {
        let admitted = self.gate().admit(self.source.now().monotonic, ip, presented);
        gate::note(ip, admitted.err());
        admitted
    }

    fn latest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.feed.borrow())
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The hour that is not over: the next start goes on with it.
        if let (Some(file), Some(hour)) = (&self.growth_file, self.history().growth().current().copied()) {
            file.append(&hour);
        }
    }
}

/// An address at work on a thread of its own; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    /// Serves `site`, if any, and `others` on `address`, and has the site read its figures. `others` is told the address,
    /// with the port that was picked.
    ///
    /// # Errors
    /// The address cannot be used; the text names `--http`.
    pub fn start(
        address: SocketAddr,
        site: Option<Arc<Site>>,
        others: impl FnOnce(SocketAddr) -> Router,
    ) -> anyhow::Result<Self> {
        Self::start_with(address, site, others, STEP, Bounds::connections(), Patience::default())
    }

    /// The same with another step, other bounds of the connections and other deadlines.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with(
        address: SocketAddr,
        site: Option<Arc<Site>>,
        others: impl FnOnce(SocketAddr) -> Router,
        step: Duration,
        bounds: Bounds,
        patience: Patience,
    ) -> anyhow::Result<Self> {
        Self::start_on(Self::bind(address)?, site, others, step, bounds, patience)
    }

    /// Opens the socket to listen on.
    ///
    /// # Errors
    /// The address cannot be used; the text names `--http`.
    pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
        TcpListener::bind(address)
            .with_context(|| format!("cannot listen on TCP {address}; choose another address with --http, or `off`"))
    }

    /// As [`Server::start`], on a socket that listens already, which another process may have opened.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start_on_listener(
        listener: TcpListener,
        site: Option<Arc<Site>>,
        others: impl FnOnce(SocketAddr) -> Router,
    ) -> anyhow::Result<Self> {
        Self::start_on(listener, site, others, STEP, Bounds::connections(), Patience::default())
    }

    fn start_on(
        listener: TcpListener,
        site: Option<Arc<Site>>,
        others: impl FnOnce(SocketAddr) -> Router,
        step: Duration,
        bounds: Bounds,
        patience: Patience,
    ) -> anyhow::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("admin").enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let routes = site.as_ref().map_or(Router::new(), Site::routes).merge(others(address));
        runtime.spawn(connections::serve(listener, routes, bounds, patience));
        if let Some(site) = site {
            runtime.spawn(async move {
                let mut steps = tokio::time::interval(step);
                // After a suspended laptop or a stopped process there is nothing to catch up with.
                steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                steps.tick().await;
                loop {
                    steps.tick().await;
                    site.sample();
                }
            });
        }
        Ok(Self { address, runtime: Some(runtime) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Viewers stay for ever if they can; nobody waits for them.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

async fn page(State(site): State<Arc<Site>>) -> impl IntoResponse {
    Html(render::page(&site.latest().status))
}

async fn status_json(State(site): State<Arc<Site>>) -> impl IntoResponse {
    json(site.latest().json.clone())
}

async fn history_json(State(site): State<Arc<Site>>) -> impl IntoResponse {
    json(site.latest().history(|| status::history_json(site.source.now(), &site.history())))
}

async fn metrics(State(site): State<Arc<Site>>) -> impl IntoResponse {
    let mut text = site.source.metrics();
    text.push_str(&telemetry::process_metrics::text("pilot-directory", env!("CARGO_PKG_VERSION")));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

fn json(body: Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], body)
}

async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`: browsers would then hide the origin of our own forms from us.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
