//! Health and figures over HTTP, where the operator wants them: `/healthz` and `/metrics`.

use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use super::ipc::Context;
use super::metrics;
use super::observe::Observer;

/// Questions that wait at a time; more are told to come later.
const QUESTIONS_MAX: usize = 16;

/// What is asked of the daemon's thread.
enum Question {
    Healthy(oneshot::Sender<bool>),
    Metrics(oneshot::Sender<String>),
}

type Asker = mpsc::Sender<Question>;

/// An address that is bound.
pub struct Http {
    listener: TcpListener,
}

impl Http {
    /// Binds `address`.
    ///
    /// # Errors
    /// It cannot be used; the text names `--http`.
    pub async fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await;
        let listener =
            listener.with_context(|| format!("cannot listen on TCP {address}; choose another with --http"))?;
        Ok(Self { listener })
    }

    /// Answers until it is dropped.
    pub async fn serve(self, context: Rc<Context>, observer: Rc<Observer>) {
        let (asker, mut questions) = mpsc::channel(QUESTIONS_MAX);
        let routes =
            axum::Router::new().route("/healthz", get(healthy)).route("/metrics", get(figures)).with_state(asker);
        let answering = async {
            while let Some(question) = questions.recv().await {
                // Whoever asked may be gone.
                match question {
                    Question::Healthy(answer) => drop(answer.send(context.core.look(|node| node.id().is_some()))),
                    Question::Metrics(answer) => drop(answer.send(metrics::text(&context, &observer))),
                }
            }
        };
        let serving = spawn_local(async move {
            if let Err(error) = axum::serve(self.listener, routes).await {
                tracing::error!(%error, "the address of --http has ended");
            }
        });
        let _ended_with_this = super::Task::of(&serving);
        answering.await;
    }
}

/// 200 once the directory has given the node its id, 503 before.
async fn healthy(State(asker): State<Asker>) -> Response {
    match ask(&asker, Question::Healthy).await {
        Some(true) => (StatusCode::OK, "ok\n").into_response(),
        Some(false) => (StatusCode::SERVICE_UNAVAILABLE, "not registered\n").into_response(),
        None => busy(),
    }
}

async fn figures(State(asker): State<Asker>) -> Response {
    match ask(&asker, Question::Metrics).await {
        Some(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        None => busy(),
    }
}

async fn ask<T>(asker: &Asker, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    asker.try_send(question(answer)).ok()?;
    answered.await.ok()
}

fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "busy\n").into_response()
}
