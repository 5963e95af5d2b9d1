//! The operator view: everything with names, behind the admin token. A browser logs in with a form and holds a session in a
//! cookie; programs send `Authorization: Bearer TOKEN`.
//!
//! The cookie is `SameSite=Strict`, and whatever changes something is refused when the browser says that another site
//! asks, so no foreign page can act in an operator's name.

use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Redirect, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::connections::Remote;
use super::gate::{Denied, Presented, SESSION_LIFETIME};
use super::why_relayed::{Asked, Reason, why_relayed};
use super::{Site, gate, render};
use crate::relay_source::NodeAtRelay;
use crate::service::overview::NodeView;

const PAGE: &str = include_str!("assets/operator.html");
const COOKIE: &str = "pilot_operator";
/// A form with a token.
const FORM_BYTES_MAX: usize = 4096;
/// Nodes found at most; a search that finds more is to be narrowed.
const FOUND_MAX: usize = 20;
/// A longer text is in no name, address or tag.
const SEARCH_BYTES_MAX: usize = 256;

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/operator", get(page))
        .route("/operator/login", post(log_in))
        .route("/operator/logout", post(log_out))
        .route("/operator/status.json", get(status))
        .route("/operator/nodes.json", get(nodes))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
}

#[derive(Deserialize)]
struct Login {
    token: String,
}

#[derive(Deserialize)]
struct Search {
    q: String,
}

/// A node, what the relay says of it, and why it may be relayed.
#[derive(Serialize)]
struct Found {
    node: NodeView,
    relay: Option<NodeAtRelay>,
    why: Vec<Reason>,
}

async fn page(State(site): State<Arc<Site>>, ConnectInfo(remote): ConnectInfo<Remote>, headers: HeaderMap) -> Response {
    match admit(&site, remote, &headers) {
        Ok(()) => Html(PAGE).into_response(),
        // Nothing was asked for but the form.
        Err(denied @ (Denied::Missing | Denied::Unset)) => Html(form(denied)).into_response(),
        Err(denied) => (denied.status(), Html(form(denied))).into_response(),
    }
}

async fn log_in(
    State(site): State<Arc<Site>>,
    ConnectInfo(remote): ConnectInfo<Remote>,
    headers: HeaderMap,
    Form(login): Form<Login>,
) -> Response {
    if is_foreign(&headers) {
        return foreign();
    }
    let mut chance = [0; 32];
    if let Err(error) = draw(&mut chance) {
        tracing::error!(%error, "the kernel gives no random numbers");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let now = site.source.now().monotonic;
    let session = site.gate().log_in(now, remote.0.ip(), &login.token, chance);
    match session {
        Ok(session) => {
            let cookie = cookie(&headers, &session, SESSION_LIFETIME.as_secs());
            ([(header::SET_COOKIE, cookie)], Redirect::to("/operator")).into_response()
        }
        Err(denied) => {
            gate::note(remote.0.ip(), Some(denied));
            (denied.status(), Html(form(denied))).into_response()
        }
    }
}

async fn log_out(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    if is_foreign(&headers) {
        return foreign();
    }
    if let Some(session) = session(&headers) {
        site.gate().log_out(session);
    }
    ([(header::SET_COOKIE, cookie(&headers, "", 0))], Redirect::to("/operator")).into_response()
}

async fn status(
    State(site): State<Arc<Site>>,
    ConnectInfo(remote): ConnectInfo<Remote>,
    headers: HeaderMap,
) -> Response {
    if let Err(denied) = admit(&site, remote, &headers) {
        return refused(denied);
    }
    let overview = site.source.overview();
    let (relay, drops) = {
        let history = site.history();
        (history.rates().cloned(), history.rates().map(|rates| rates.drops.clone()))
    };
    Json(json!({
        "at": site.source.now().unix_seconds, "overview": overview, "relay": relay, "drops": drops,
        "viewers": site.feed.receiver_count(),
    }))
    .into_response()
}

async fn nodes(
    State(site): State<Arc<Site>>,
    ConnectInfo(remote): ConnectInfo<Remote>,
    headers: HeaderMap,
    Query(search): Query<Search>,
) -> Response {
    if let Err(denied) = admit(&site, remote, &headers) {
        return refused(denied);
    }
    let text = search.q.trim();
    if text.is_empty() || text.len() > SEARCH_BYTES_MAX {
        let error = format!("search for a number, address, hostname or tag of at most {SEARCH_BYTES_MAX} bytes");
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    }
    let text = text.to_owned();
    let Ok(answer) = spawn_blocking(move || find(&site, &text)).await else {
        // It has panicked, and said so.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    answer.into_response()
}

fn find(site: &Site, text: &str) -> Json<Value> {
    let mut nodes = site.source.find_nodes(text, FOUND_MAX + 1);
    let more = nodes.len() > FOUND_MAX;
    nodes.truncate(FOUND_MAX);
    let found: Vec<Found> = nodes.into_iter().map(|node| found(site, node)).collect();
    Json(json!({ "found": found, "more": more, "now": site.source.now().unix_seconds }))
}

fn found(site: &Site, node: NodeView) -> Found {
    let relay = site.relay.as_ref().map(|relay| relay.node(node.node_id));
    let asked = relay.as_ref().map_or(Asked::NoRelay, |answer| Asked::Answered(answer.as_ref()));
    let why = why_relayed(&node, asked);
    Found { node, relay: relay.flatten(), why }
}

fn admit(site: &Site, remote: Remote, headers: &HeaderMap) -> Result<(), Denied> {
    site.admit(remote.0.ip(), Presented { session: session(headers), ..Presented::bearer(headers) })
}

fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// `Secure` where a proxy says that it speaks TLS; the pages themselves are served without.
fn cookie(headers: &HeaderMap, session: &str, seconds: u64) -> String {
    let is_https = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let secure = if is_https { "; Secure" } else { "" };
    format!("{COOKIE}={session}; Path=/operator; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// Whether the browser says that another site asks. Programs say nothing.
fn is_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let origin_host = origin.map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    origin_host.is_some_and(|origin| Some(origin) != host)
}

fn foreign() -> Response {
    (StatusCode::FORBIDDEN, "another site has sent this request; open /operator itself\n").into_response()
}

const fn words(denied: Denied) -> &'static str {
    match denied {
        Denied::Unset => {
            "No admin token is set, so there is no operator view. Start pilot-directory with --admin-token-file FILE; \
             pilot-relay makes a token by itself, in admin-token in its data folder."
        }
        Denied::Missing => "",
        Denied::Wrong | Denied::WrongAgain => "That is not the token.",
        Denied::TooMany => "Too many wrong tokens from your address. Try again in a minute.",
    }
}

fn form(denied: Denied) -> String {
    render::login(words(denied), denied != Denied::Unset)
}

fn refused(denied: Denied) -> Response {
    let error = match denied {
        Denied::Missing => "log in at /operator, or send the admin token: Authorization: Bearer TOKEN",
        denied => words(denied),
    };
    let mut response = (denied.status(), Json(json!({ "error": error }))).into_response();
    if denied.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[expect(clippy::disallowed_methods, reason = "session ids are drawn here and nowhere else")]
fn draw(chance: &mut [u8; 32]) -> Result<(), getrandom::Error> {
    getrandom::fill(chance)
}
