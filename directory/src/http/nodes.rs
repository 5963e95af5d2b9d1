//! Who belongs, for programs: `pilot-relay nodes` speaks this. JSON, behind the admin token, which has to be sent with each
//! request: a browser's session opens nothing here, so no foreign page can act in an operator's name.
//!
//! | request | does |
//! |---|---|
//! | `GET /nodes?state=S&after=N&limit=L` | lists nodes; `next_after` leads to the next page |
//! | `GET /nodes/{node}` | shows one |
//! | `POST /nodes/{node}/approve`, `unban`, `remove` | does it |
//! | `POST /nodes/{node}/ban` `{"reason": "…"}` | bans it |
//! | `POST /nodes/{node}/quota` `{"packets_per_second": N, "bytes_per_second": N}` | what it may send; `null` is the default |
//!
//! A node is named by number, address, hostname or public key. Errors are `{"error": "…"}`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use wire::NodeId;

use super::Site;
use super::connections::Remote;
use super::gate::{Denied, Presented};
use crate::driver::{AdminError, Driver, Member};
use crate::enrolment::Standing;
use crate::relay_source::{NodeAtRelay, Usage};
use crate::service::enrolment::{Act, ActError, MemberView, Subject};

/// Nodes on one page, unless the question says otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;
/// The body of a request.
const BODY_BYTES_MAX: usize = 4096;

#[derive(Clone)]
struct Desk {
    driver: Arc<Driver>,
    site: Arc<Site>,
}

/// A node, and what the relay says of it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    member: MemberView,
    relay: Option<NodeAtRelay>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Listing {
    state: Option<String>,
    after: Option<u32>,
    limit: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rates {
    #[serde(default, deserialize_with = "given")]
    packets_per_second: Option<Option<u64>>,
    #[serde(default, deserialize_with = "given")]
    bytes_per_second: Option<Option<u64>>,
}

/// What is there, `null` included, apart from what is not.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// The routes over `driver`, guarded by `site`.
pub fn routes(driver: Arc<Driver>, site: Arc<Site>) -> Router {
    let desk = Desk { driver, site };
    Router::new()
        .route("/nodes", get(list))
        .route("/nodes/{node}", get(show))
        .route("/nodes/{node}/{act}", post(act))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(desk.clone(), check))
        .with_state(desk)
}

async fn check(
    State(desk): State<Desk>,
    ConnectInfo(remote): ConnectInfo<Remote>,
    request: Request,
    next: Next,
) -> Response {
    let denied = match desk.site.admit(remote.0.ip(), Presented::bearer(request.headers())) {
        Ok(()) => return next.run(request).await,
        Err(denied) => denied,
    };
    let text = match denied {
        Denied::Unset => "this directory has no admin token; start it with --admin-token-file",
        Denied::Missing => "for the administrator: send `Authorization: Bearer` and the admin token",
        Denied::Wrong | Denied::WrongAgain => {
            "not the admin token; it is in the file admin-token of the data folder, or where --admin-token-file says"
        }
        Denied::TooMany => "too many wrong tokens from your address; try again in a minute",
    };
    let mut response = error(denied.status(), text);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

async fn list(State(desk): State<Desk>, Query(listing): Query<Listing>) -> Response {
    let state = listing.state.filter(|state| !state.is_empty() && state != "all");
    let wanted = match state.as_deref().map(Standing::named) {
        Some(None) => return error(StatusCode::BAD_REQUEST, "state is approved, pending, banned or all"),
        Some(wanted) => wanted,
        None => None,
    };
    let after = NodeId(listing.after.unwrap_or(0));
    let limit = listing.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let found = spawn_blocking(move || {
        let (members, next) = desk.driver.members(wanted, after, limit);
        let nodes: Vec<Shown> = members.into_iter().map(|member| shown(&desk.site, member)).collect();
        // Few, and told once.
        let mut keys = if after == NodeId(0) { desk.driver.key_rules() } else { Vec::new() };
        keys.retain(|key| wanted.is_none_or(|wanted| wanted == key.standing));
        json!({ "nodes": nodes, "next_after": next, "keys": keys, "now": desk.site.source.now().unix_seconds })
    });
    found.await.map_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response(), |found| Json(found).into_response())
}

async fn show(State(desk): State<Desk>, Path(node): Path<String>) -> Response {
    match described(&desk, &node) {
        Ok(value) => Json(value).into_response(),
        Err(refused) => refusal(&refused),
    }
}

async fn act(State(desk): State<Desk>, Path((node, act)): Path<(String, String)>, body: Bytes) -> Response {
    let act = match act.as_str() {
        "approve" => Act::Approve,
        "unban" => Act::Unban,
        "remove" => Act::Remove,
        "ban" if body.is_empty() => Act::Ban { reason: String::new() },
        "ban" => match serde_json::from_slice::<Ban>(&body) {
            Ok(Ban { reason }) => Act::Ban { reason },
            Err(_) => return error(StatusCode::BAD_REQUEST, r#"expected {"reason": "…"}"#),
        },
        "quota" => match serde_json::from_slice::<Rates>(&body) {
            Ok(Rates { packets_per_second, bytes_per_second }) => {
                Act::SetQuota { packets_per_second, bytes_per_second }
            }
            Err(_) => {
                let expected = r#"expected {"packets_per_second": N, "bytes_per_second": N}; null is the default"#;
                return error(StatusCode::BAD_REQUEST, expected);
            }
        },
        _ => return error(StatusCode::NOT_FOUND, "one of approve, ban, unban, remove, quota"),
    };
    match desk.driver.administer(&node, &act).await {
        Ok((subject, changed)) => {
            tracing::info!(%node, ?act, changed, "the administrator has spoken");
            // By its number or key: it may have lost its name.
            let name = match subject {
                Subject::Node(id) => id.to_string(),
                Subject::Key(key) => key.to_string(),
            };
            let now = described(&desk, &name).unwrap_or(Value::Null);
            Json(json!({ "changed": changed, "node": now })).into_response()
        }
        Err(AdminError::Refused(refused)) => refusal(&refused),
        Err(not_stored @ AdminError::NotStored) => error(StatusCode::SERVICE_UNAVAILABLE, &not_stored.to_string()),
    }
}

fn described(desk: &Desk, node: &str) -> Result<Value, ActError> {
    let value = match desk.driver.member(node)? {
        Member::Node(member) => serde_json::to_value(shown(&desk.site, *member)),
        Member::Key(key) => serde_json::to_value(key),
    };
    Ok(value.unwrap_or_default())
}

fn shown(site: &Site, member: MemberView) -> Shown {
    let (node, relay) = (member.node.node_id, site.relay.as_ref());
    Shown { relay: relay.and_then(|relay| relay.node(node)), usage: relay.and_then(|relay| relay.usage(node)), member }
}

fn refusal(refused: &ActError) -> Response {
    let status = match refused {
        ActError::Unknown(_) | ActError::Gone(_) => StatusCode::NOT_FOUND,
        ActError::Banned(_) | ActError::NotRegistered | ActError::TooManyKeys => StatusCode::CONFLICT,
        ActError::ReasonTooLong | ActError::QuotaTooLarge | ActError::KeyInvalid => StatusCode::BAD_REQUEST,
    };
    error(status, &refused.to_string())
}

fn error(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}
