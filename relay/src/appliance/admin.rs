//! Health, metrics and counters over HTTP, on a thread of its own: `/healthz`, `/metrics` (Prometheus text), `/counters`
//! (JSON).

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use relay::metrics::{Counter, Counters, DropReason, Gauge, prometheus_text};
use relay::runtime::Relay;
use serde_json::{Map, Value};

/// What is shown.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The relay.
    pub relay: Arc<Relay>,
    /// The embedded directory, if any.
    pub directory: Option<Arc<directory::Running>>,
}

/// The admin address at work; dropping it ends it.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Admin {
    /// Listens on `address`.
    ///
    /// # Errors
    /// The address cannot be used; the text names `--http`.
    pub fn start(address: SocketAddr, sources: Sources) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .with_context(|| format!("cannot listen on TCP {address}; choose another address with --http, or `off`"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("admin").enable_all().build()?;
        let routes = axum::Router::new()
            .route("/healthz", get(health))
            .route("/metrics", get(metrics))
            .route("/counters", get(counters))
            .with_state(sources);
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        runtime.spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the admin address has ended");
            }
        });
        Ok(Self { address, _runtime: runtime })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn health() -> impl IntoResponse {
    (StatusCode::OK, "ok\n")
}

async fn metrics(State(sources): State<Sources>) -> impl IntoResponse {
    let mut text = prometheus_text(&sources.relay.counters());
    if let Some(directory) = &sources.directory {
        text.push_str(&directory.metrics());
    }
    text.push_str(&telemetry::process_metrics::text("pilot-relay", env!("CARGO_PKG_VERSION")));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
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
