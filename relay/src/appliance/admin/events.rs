//! `/events`: the latest control events of all nodes; `/events/{node}`: what the relay knows of one, by its number or its
//! address. They tell where nodes are, so they are for the administrator: `Authorization: Bearer` and the admin token.
//! Where there is no token, because no directory is embedded and no file is named, they are told on loopback alone.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use directory::relay_source::NodeAtRelay;
use directory::{AdminToken, RelaySource as _};
use serde_json::Value;
use wire::NodeId;
use wire::address::Address;

use crate::appliance::relay_source::Source;

/// What is told, and to whom.
#[derive(Clone, Debug)]
pub struct Events {
    /// What the relay knows.
    pub source: Arc<Source>,
    /// What the administrator shows.
    pub token: Option<AdminToken>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NoToken,
    TokenMissing,
    TokenWrong,
}

/// The routes, for an admin address bound to `address`.
pub(super) fn routes(events: Events, address: SocketAddr) -> axum::Router {
    let token = events.token.clone();
    let guard = middleware::from_fn(move |request: Request, next: Next| {
        let admitted = admit(token.as_ref(), address, request.headers());
        async move {
            match admitted {
                Ok(()) => next.run(request).await,
                Err(refusal) => refusal.into_response(),
            }
        }
    });
    axum::Router::new()
        .route("/events", get(latest))
        .route("/events/{node}", get(of_node))
        .layer(guard)
        .with_state(events.source)
}

fn admit(token: Option<&AdminToken>, address: SocketAddr, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(token) = token else {
        return if address.ip().is_loopback() { Ok(()) } else { Err(Refusal::NoToken) };
    };
    let presented = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match presented.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(presented) if token.matches(presented.trim()) => Ok(()),
        Some(_) => Err(Refusal::TokenWrong),
        None => Err(Refusal::TokenMissing),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NoToken => (
                StatusCode::FORBIDDEN,
                "there is no admin token, so this is told on loopback alone; start pilot-relay with --admin-token-file\n",
            ),
            Self::TokenMissing => {
                (StatusCode::UNAUTHORIZED, "for the administrator: send `Authorization: Bearer` and the admin token\n")
            }
            Self::TokenWrong => {
                (StatusCode::UNAUTHORIZED, "not the admin token; it is in the file admin-token of the data folder\n")
            }
        };
        (status, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response()
    }
}

async fn latest(State(source): State<Arc<Source>>) -> Json<Vec<Value>> {
    let event = |(node, event): (NodeId, _)| {
        let mut value = serde_json::to_value(event).unwrap_or_default();
        value["node"] = node.0.into();
        value
    };
    Json(source.latest().into_iter().map(event).collect())
}

async fn of_node(State(source): State<Arc<Source>>, Path(node): Path<String>) -> Result<Json<NodeAtRelay>, Response> {
    let number = node.parse().map(NodeId).ok();
    let Some(node) = number.or_else(|| node.parse().ok().map(|address: Address| address.node)) else {
        return Err(
            (StatusCode::BAD_REQUEST, "write a node's number, as 5, or address, as 0:0000.0000.0005\n").into_response()
        );
    };
    let unknown = || (StatusCode::NOT_FOUND, "no session of this node, and no memory of it\n").into_response();
    source.node(node).map(Json).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_asked_for_and_without_one_only_loopback_is_told() {
        let [loopback, public] = ["127.0.0.1:3000", "198.51.100.1:3000"].map(|text| text.parse().unwrap());
        let token = AdminToken::new("secret");
        let with = |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        for (token, address, headers, expected) in [
            (token.as_ref(), public, with("Bearer secret"), Ok(())),
            (token.as_ref(), loopback, with("Bearer secrets"), Err(Refusal::TokenWrong)),
            (token.as_ref(), loopback, with("Basic secret"), Err(Refusal::TokenMissing)),
            (token.as_ref(), loopback, HeaderMap::new(), Err(Refusal::TokenMissing)),
            (None, loopback, HeaderMap::new(), Ok(())),
            (None, public, HeaderMap::new(), Err(Refusal::NoToken)),
            (None, public, with("Bearer "), Err(Refusal::NoToken)),
        ] {
            assert_eq!(admit(token, address, &headers), expected, "{token:?} {address} {headers:?}");
        }
    }
}
