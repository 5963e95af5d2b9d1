//! The thread that posts spans. The SDK's own batch processor tells nobody what it has lost, so the queue is ours; the
//! encoding, HTTP and retries are the SDK's.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::options::shown;
use super::{Counts, Options, convert};
use crate::span::Span;

/// Spans posted at once.
const BATCH_MAX: usize = 512;
/// How long a collector may take to answer, retries included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what is queued may hold up the end of the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1800);
/// What the end waits beyond that for a thread that hangs in the kernel.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(200);

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Collectors are spoken to in plain HTTP.
    #[error(
        "spans cannot be sent to {0}: give a URL that begins with http://, such as http://127.0.0.1:4318 of an OpenTelemetry collector on this host, which may go on by TLS"
    )]
    Scheme(String),
    /// No such URL, or headers that are none.
    #[error("spans cannot be sent to {0}: {1}")]
    Endpoint(String, String),
    /// No thread.
    #[error("cannot start the thread that sends spans: {0}")]
    Thread(io::Error),
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub struct Queue(mpsc::Sender<Span>);

impl Queue {
    /// Whether there was room for `span`.
    pub fn push(&self, span: Span) -> bool {
        self.0.try_send(span).is_ok()
    }
}

/// Keeps the thread at work. Dropping it delivers what is queued, for at most two seconds.
#[derive(Debug)]
pub struct Guard {
    end: watch::Sender<bool>,
    ended: std_mpsc::Receiver<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end.send_replace(true);
        // The sender is never used: it is dropped when the thread ends.
        let _ = self.ended.recv_timeout(SHUTDOWN_TIMEOUT + SHUTDOWN_GRACE);
    }
}

/// Starts the thread.
pub fn start(options: Options, counts: Arc<Counts>) -> Result<(Queue, Guard), StartError> {
    if !options.traces_url.starts_with("http://") {
        return Err(StartError::Scheme(shown(&options.traces_url)));
    }
    let (queue, spans) = mpsc::channel(options.queue_max.max(1));
    let (end, ending) = watch::channel(false);
    let (alive, ended) = std_mpsc::channel();
    let (report, started) = std_mpsc::channel();
    let run = move || {
        let _alive = alive;
        // The client needs a runtime, and must not be made inside the caller's.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(report.send(Err(StartError::Thread(error)))),
        };
        let inside = runtime.enter();
        let exporter = exporter(&options);
        drop(inside);
        match exporter {
            Ok(exporter) => {
                let _ = report.send(Ok(()));
                let sender = Sender { spans, exporter, counts, url: shown(&options.traces_url), is_away: false };
                runtime.block_on(sender.run(options.batch_delay, ending));
            }
            Err(error) => drop(report.send(Err(error))),
        }
        // A name server that does not answer must not hold up the end.
        runtime.shutdown_background();
    };
    thread::Builder::new().name("otlp".to_owned()).spawn(run).map_err(StartError::Thread)?;
    let thread_died = |_| StartError::Thread(io::Error::other("it ended at once"));
    started.recv().map_err(thread_died)??;
    Ok((Queue(queue), Guard { end, ended }))
}

fn exporter(options: &Options) -> Result<SpanExporter, StartError> {
    let builder = SpanExporter::builder().with_http().with_endpoint(&options.traces_url).with_timeout(ANSWER_TIMEOUT);
    let refused = |error: opentelemetry_otlp::ExporterBuildError| {
        StartError::Endpoint(shown(&options.traces_url), error.to_string())
    };
    let mut exporter = builder.build().map_err(refused)?;
    exporter.set_resource(&convert::resource(options));
    Ok(exporter)
}

struct Sender {
    spans: mpsc::Receiver<Span>,
    exporter: SpanExporter,
    counts: Arc<Counts>,
    url: String,
    is_away: bool,
}

impl Sender {
    async fn run(mut self, batch_delay: Duration, mut ending: watch::Receiver<bool>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut until_end = ending.clone();
        let mut last_moment = Box::pin(async move {
            let _ = until_end.wait_for(|end| *end).await;
            sleep(SHUTDOWN_TIMEOUT).await;
        });
        while self.gather(&mut batch, batch_delay, &mut ending).await {
            if !self.deliver(&mut batch, last_moment.as_mut()).await {
                break;
            }
        }
        self.spans.close();
        while self.spans.try_recv().is_ok() {
            self.counts.lost.fetch_add(1, Relaxed);
        }
    }

    /// Fills `batch` with what comes within the delay of the first span. False when the end has come and nothing is left.
    async fn gather(
        &mut self,
        batch: &mut Vec<Span>,
        batch_delay: Duration,
        ending: &mut watch::Receiver<bool>,
    ) -> bool {
        tokio::select! {
            // The end comes last, so that what was handed over before it still leaves.
            biased;
            received = self.spans.recv_many(batch, BATCH_MAX) => if received == 0 { return false },
            _ = ending.wait_for(|end| *end) => return false,
        }
        let fill = async {
            while batch.len() < BATCH_MAX && self.spans.recv_many(batch, BATCH_MAX - batch.len()).await > 0 {}
        };
        tokio::select! {
            biased;
            _ = timeout(batch_delay, fill) => {}
            _ = ending.wait_for(|end| *end) => {}
        }
        true
    }

    /// Posts and empties `batch`. False when the last moment has come.
    async fn deliver(&mut self, batch: &mut Vec<Span>, last_moment: Pin<&mut impl Future<Output = ()>>) -> bool {
        let count = batch.len() as u64;
        let scope = InstrumentationScope::builder("pilot").build();
        let spans = batch.drain(..).map(|span| convert::span_data(span, &scope)).collect();
        let result = tokio::select! {
            result = self.exporter.export(spans) => result,
            () = last_moment => {
                self.counts.failed.fetch_add(count, Relaxed);
                return false;
            }
        };
        match result {
            Ok(()) => {
                self.counts.exported.fetch_add(count, Relaxed);
                if std::mem::take(&mut self.is_away) {
                    let failed = self.counts.failed.load(Relaxed);
                    tracing::info!(url = self.url, failed, "the collector takes spans again");
                }
            }
            Err(error) => {
                self.counts.failed.fetch_add(count, Relaxed);
                if !std::mem::replace(&mut self.is_away, true) {
                    tracing::warn!(url = self.url, %error, "the collector takes no spans; silent until it does again");
                }
            }
        }
        true
    }
}
