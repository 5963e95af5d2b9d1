//! A receiver of OTLP over HTTP on loopback, for tests: keeps the spans it is sent, lets a test await them, and draws a
//! trace as a tree. It decodes what OpenTelemetry's own definitions say, not what our exporter happens to send.

mod http;
mod tree;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
pub use opentelemetry_proto::tonic::trace::v1::Span as ProtoSpan;
use prost::Message as _;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Spans kept; more are refused, so that a test that forgets to end stays small.
const SPANS_MAX: usize = 100_000;

/// A span with what is true of its process.
#[derive(Clone, Debug)]
pub struct CollectedSpan {
    /// Attributes of the process.
    pub resource: BTreeMap<String, String>,
    /// The span as it was sent.
    pub span: ProtoSpan,
}

impl CollectedSpan {
    /// `service.name` of the process.
    #[must_use]
    pub fn service(&self) -> &str {
        self.resource.get("service.name").map_or("?", String::as_str)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.span.name
    }

    /// An attribute, as text.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<String> {
        attributes(&self.span.attributes).remove(key)
    }
}

/// Attributes as texts by their keys.
#[must_use]
pub fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    list.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn text(pair: &KeyValue) -> String {
    match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(flag)) => flag.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

#[derive(Debug)]
struct Kept {
    spans: Vec<CollectedSpan>,
    /// The last request as it came.
    last_body: Vec<u8>,
    /// Requests, refused ones included.
    requests: usize,
    /// What requests are answered with.
    status: u16,
}

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    arrived: Condvar,
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what `body` holds; the status to answer with.
    fn take(&self, path: &str, body: Vec<u8>) -> u16 {
        let decoded = ExportTraceServiceRequest::decode(body.as_slice());
        let mut kept = self.kept();
        kept.requests += 1;
        self.arrived.notify_all();
        let Ok(request) = decoded else { return 400 };
        if path != "/v1/traces" {
            return 404;
        }
        if kept.status != 200 {
            return kept.status;
        }
        if kept.spans.len() > SPANS_MAX {
            return 413;
        }
        for of_process in request.resource_spans {
            let resource = attributes(&of_process.resource.unwrap_or_default().attributes);
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.spans.extend(spans.map(|span| CollectedSpan { resource: resource.clone(), span }));
        }
        kept.last_body = body;
        200
    }
}

/// The receiver; it listens as long as the process lives.
#[derive(Clone, Debug)]
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Collector {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port, or no thread.
    pub fn start() -> io::Result<Self> {
        Self::on("127.0.0.1:0".parse().map_err(io::Error::other)?)
    }

    /// Listens on `address`.
    ///
    /// # Errors
    /// The address cannot be had, or no thread.
    pub fn on(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let kept = Kept { spans: Vec::new(), last_body: Vec::new(), requests: 0, status: 200 };
        let shared = Arc::new(Shared { kept: Mutex::new(kept), arrived: Condvar::new() });
        let this = Self { address: listener.local_addr()?, shared: Arc::clone(&shared) };
        let accept = move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                let serve = move || http::serve(stream, |path, body| shared.take(path, body));
                // A connection that gets no thread is closed, and its spans are sent again.
                let _ = thread::Builder::new().name("collector".to_owned()).spawn(serve);
            }
        };
        thread::Builder::new().name("collector".to_owned()).spawn(accept)?;
        Ok(this)
    }

    /// What to give to exporters, as `http://127.0.0.1:4318`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on requests are answered with `status`; other than 200 nothing is kept.
    pub fn answer_with(&self, status: u16) {
        self.shared.kept().status = status;
    }

    /// Every span so far, as they came.
    #[must_use]
    pub fn spans(&self) -> Vec<CollectedSpan> {
        self.shared.kept().spans.clone()
    }

    /// The last request that was kept, in protobuf.
    #[must_use]
    pub fn last_body(&self) -> Vec<u8> {
        self.shared.kept().last_body.clone()
    }

    /// Waits until `enough` of the spans; all of them then.
    ///
    /// # Panics
    /// After 20 seconds, with the spans there are.
    #[must_use]
    #[track_caller]
    pub fn wait_for(&self, what: &str, enough: impl Fn(&[CollectedSpan]) -> bool) -> Vec<CollectedSpan> {
        let kept = self.wait(|kept| enough(&kept.spans));
        assert!(enough(&kept.spans), "no {what} within {PATIENCE:?} among\n{}", tree::render_all(&kept.spans));
        kept.spans.clone()
    }

    /// Waits until there have been `count` requests, refused ones included.
    ///
    /// # Panics
    /// After 20 seconds.
    #[track_caller]
    pub fn wait_for_requests(&self, count: usize) {
        let requests = self.wait(|kept| kept.requests >= count).requests;
        assert!(requests >= count, "{requests} requests instead of {count} within {PATIENCE:?}");
    }

    /// The trace as an indented tree, children below their parents in the order they began: service, name, offset from
    /// the beginning, duration, attributes, events, error.
    #[must_use]
    pub fn render_trace(&self, trace_id: [u8; 16]) -> String {
        tree::render(&self.shared.kept().spans, &trace_id)
    }

    fn wait(&self, enough: impl Fn(&Kept) -> bool) -> MutexGuard<'_, Kept> {
        let waited = self.shared.arrived.wait_timeout_while(self.shared.kept(), PATIENCE, |kept| !enough(kept));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
