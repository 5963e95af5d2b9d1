//! The admin address (HTTP), on a thread of its own: `/healthz`, `/metrics` (Prometheus text), `/counters` (JSON), for the
//! administrator `/events` and `/events/{node}` (JSON), and with an embedded directory its status page `/`, operator
//! view `/operator`, and who belongs, `/nodes` (JSON); without one `/` says what is served.

mod events;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use directory::RelaySource;
use directory::http::Server;
use relay::metrics::{Counter, Counters, DropReason, Gauge, prometheus_text};
use relay::runtime::Relay;
use serde_json::{Map, Value};
use telemetry::prometheus::{Kind, Text};

pub use self::events::Events;
use super::phase::{CurrentPhase, Phase};
use super::spans::SpanCounts;

/// What a relay without a directory says at `/`.
const SERVED: &str = "pilot-relay, without a directory of its own (--registry off), so there is no status page here.

/healthz        200 while it serves, 503 while it starts or is drained
/metrics        counters, for Prometheus
/counters       counters of each shard, as JSON
/events         the latest control events, as JSON; for the administrator
/events/NODE    what is known of one node, by its number or address; for the administrator
";

/// What is shown.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The relay.
    pub relay: Arc<Relay>,
    /// The embedded directory, if any.
    pub directory: Option<Arc<directory::Running>>,
    /// The control events.
    pub events: Events,
    /// How far the appliance has come.
    pub phase: Arc<CurrentPhase>,
}

/// The admin address at work; dropping it ends it.
#[derive(Debug)]
pub struct Admin(Server);

impl Admin {
    /// Serves on `listener`.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(listener: TcpListener, sources: Sources) -> anyhow::Result<Self> {
        let figures: Arc<dyn RelaySource> = sources.events.source.clone();
        // The pages show what a directory knows; without one there are none.
        let site = sources.directory.as_ref().map(|directory| directory.site(Some(figures)));
        let guard = site.clone();
        Server::start_on_listener(listener, site, |address| {
            let mut routes = Router::new()
                .route("/healthz", get(health))
                .route("/metrics", get(metrics))
                .route("/counters", get(counters));
            if guard.is_none() {
                routes = routes.route("/", get(async || SERVED));
            }
            let nodes = match (&sources.directory, &guard) {
                (Some(directory), Some(site)) => directory.node_routes(site),
                _ => Router::new(),
            };
            let events = events::routes(sources.events.clone(), guard, address);
            routes.with_state(sources).merge(events).merge(nodes)
        })
        .map(Self)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

/// Load balancers stop sending anybody here on anything but 200.
async fn health(State(sources): State<Sources>) -> impl IntoResponse {
    let phase = sources.phase.get();
    let status = if phase == Phase::Serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", phase.text()))
}

async fn metrics(State(sources): State<Sources>) -> impl IntoResponse {
    let mut text = prometheus_text(&sources.relay.counters());
    if let Some(directory) = &sources.directory {
        text.push_str(&directory.metrics());
    }
    text.push_str(&span_metrics(sources.events.source.spans()));
    text.push_str(&telemetry::process_metrics::text("pilot-relay", env!("CARGO_PKG_VERSION")));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

fn span_metrics(spans: SpanCounts) -> String {
    let mut text = Text::new("pilot_relay_");
    let help = "Spans, by outcome: taken by a collector, failed to reach one, or lost because there were too many.";
    text.family("spans_total", Kind::Counter, help);
    for (outcome, count) in [("exported", spans.exported), ("failed", spans.failed), ("lost", spans.lost)] {
        text.sample("spans_total", &[("outcome", outcome)], count);
    }
    text.finish()
}

async fn counters(State(sources): State<Sources>) -> Json<Value> {
    let shards = sources.relay.counters();
    let mut total = Counters::default();
    shards.iter().for_each(|counters| total.merge(counters));
    Json(serde_json::json!({
        "total": to_json(&total),
        "shards": shards.iter().map(to_json).collect::<Vec<_>>(),
    }))
}

fn to_json(counters: &Counters) -> Value {
    let mut object: Map<String, Value> =
        Counter::ALL.iter().map(|counter| (counter.label().to_owned(), counters.get(*counter).into())).collect();
    object.extend(Gauge::ALL.iter().map(|gauge| (gauge.label().to_owned(), counters.gauge(*gauge).into())));
    let drops = DropReason::ALL.iter().map(|reason| (reason.label().to_owned(), counters.dropped(*reason).into()));
    object.insert("dropped".to_owned(), Value::Object(drops.collect()));
    Value::Object(object)
}
