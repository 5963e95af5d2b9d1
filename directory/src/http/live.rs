//! One stream of figures for all viewers (server-sent events). A viewer that is late misses figures, not order: it is
//! given the newest when it has taken the last. One that takes nothing is disconnected (`connections`).

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_core::Stream;
use tokio::sync::watch;

use super::Site;
use super::connections::Remote;
use super::places::Place;
use super::status::Status;

/// The figures of one step, written out once for all who look at them.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The figures.
    pub status: Status,
    /// As JSON.
    pub json: Bytes,
    /// As an event.
    event: Bytes,
    /// The past up to here, written out when somebody asks.
    history: OnceLock<Bytes>,
}

impl Snapshot {
    /// Writes `status` out.
    #[must_use]
    pub fn new(status: Status) -> Self {
        // Numbers and strings alone: there is nothing that could fail.
        let json: Bytes = serde_json::to_vec(&status).unwrap_or_default().into();
        let event = [b"event: status\ndata: ", &json[..], b"\n\n"].concat().into();
        Self { status, json, event, history: OnceLock::new() }
    }

    /// The past, written out by `write` at the first call.
    pub fn history(&self, write: impl FnOnce() -> Bytes) -> Bytes {
        self.history.get_or_init(write).clone()
    }
}

/// The newest figures at once, and then whenever there are others.
pub(super) async fn events(State(site): State<Arc<Site>>, ConnectInfo(remote): ConnectInfo<Remote>) -> Response {
    let Some(seat) = site.seats.enter(remote.0.ip()) else {
        let retry = [(header::RETRY_AFTER, "30")];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, "all places for live viewers are taken; ask /status.json\n")
            .into_response();
    };
    let mut feed = site.feed.subscribe();
    feed.mark_changed();
    let stream = Events { next: next(feed), _seat: seat };
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response()
}

type Feed = watch::Receiver<Arc<Snapshot>>;
type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Feed)>> + Send>>;

struct Events {
    next: Next,
    _seat: Place,
}

fn next(mut feed: Feed) -> Next {
    Box::pin(async move {
        feed.changed().await.ok()?;
        let event = feed.borrow_and_update().event.clone();
        Some((event, feed))
    })
}

impl Stream for Events {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some((event, feed)) = ready!(self.next.as_mut().poll(context)) else { return Poll::Ready(None) };
        self.next = next(feed);
        Poll::Ready(Some(Ok(event)))
    }
}
