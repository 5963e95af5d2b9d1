//! `/events`: the latest control events of all nodes; `/events/{node}`: what the relay knows of one, by its number or its
//! address. They tell where nodes are, so they are for the administrator: `Authorization: Bearer` and the admin token.
//! Where there is no token, because no directory is embedded and no file is named, they are told on loopback alone.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use directory::http::Site;
use directory::http::connections::Remote;
use directory::http::gate::{self, Denied, Gate, Presented};
use directory::relay_source::NodeAtRelay;
use directory::{AdminToken, RelaySource as _};
use relay::Time;
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

/// Who is let in. Guesses are counted together with those at the operator view where there is one.
#[derive(Debug)]
struct Guard {
    by: GuardedBy,
    /// Whether only this host can ask.
    is_local: bool,
}

#[derive(Debug)]
enum GuardedBy {
    Site(Arc<Site>),
    Gate(Mutex<Gate>),
}

impl Guard {
    fn new(token: Option<AdminToken>, site: Option<Arc<Site>>, address: SocketAddr) -> Self {
        let by = site.map_or_else(|| GuardedBy::Gate(Mutex::new(Gate::new(token))), GuardedBy::Site);
        Self { by, is_local: address.ip().is_loopback() }
    }

    fn admit(&self, now: Time, ip: IpAddr, headers: &HeaderMap) -> Result<(), Denied> {
        let presented = Presented::bearer(headers);
        let admitted = match &self.by {
            GuardedBy::Site(site) => site.admit(ip, presented),
            GuardedBy::Gate(gate) => {
                let mut gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
                let admitted = gate.admit(now.since(Time::default()), ip, presented);
                gate::note(ip, admitted.err());
                admitted
            }
        };
        if admitted == Err(Denied::Unset) && self.is_local { Ok(()) } else { admitted }
    }
}

/// The routes, for an admin address bound to `address` that serves `site` too.
pub(super) fn routes(events: Events, site: Option<Arc<Site>>, address: SocketAddr) -> axum::Router {
    let guard = Arc::new(Guard::new(events.token, site, address));
    axum::Router::new()
        .route("/events", get(latest))
        .route("/events/{node}", get(of_node))
        .layer(middleware::from_fn_with_state(guard, check))
        .with_state(events.source)
}

async fn check(
    State(guard): State<Arc<Guard>>,
    ConnectInfo(remote): ConnectInfo<Remote>,
    request: Request,
    next: Next,
) -> Response {
    match guard.admit(Time::read_clock(), remote.0.ip(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(denied) => refused(denied),
    }
}

fn refused(denied: Denied) -> Response {
    let text = match denied {
        Denied::Unset => {
            "there is no admin token, so this is told on loopback alone; start pilot-relay with --admin-token-file\n"
        }
        Denied::Missing => "for the administrator: send `Authorization: Bearer` and the admin token\n",
        Denied::Wrong | Denied::WrongAgain => {
            "not the admin token; it is in the file admin-token of the data folder, or where --admin-token-file says\n"
        }
        Denied::TooMany => "too many wrong tokens from your address; try again in a minute\n",
    };
    (denied.status(), [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response()
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

    const ASKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

    fn guard(token: Option<&str>, address: &str) -> Guard {
        Guard::new(token.and_then(AdminToken::new), None, address.parse().unwrap())
    }

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn the_token_is_asked_for_and_without_one_only_loopback_is_told() {
        let (loopback, public) = ("127.0.0.1:3000", "198.51.100.1:3000");
        let token = Some("secret");
        for (token, address, headers, expected) in [
            (token, public, with("Bearer secret"), Ok(())),
            (token, loopback, with("Bearer secrets"), Err(Denied::Wrong)),
            (token, loopback, with("Basic secret"), Err(Denied::Missing)),
            (token, loopback, HeaderMap::new(), Err(Denied::Missing)),
            (None, loopback, HeaderMap::new(), Ok(())),
            (None, public, HeaderMap::new(), Err(Denied::Unset)),
            (None, public, with("Bearer "), Err(Denied::Unset)),
        ] {
            let admitted = guard(token, address).admit(Time::default(), ASKER, &headers);
            assert_eq!(admitted, expected, "{token:?} {address} {headers:?}");
        }
    }

    #[test]
    fn guesses_are_limited() {
        let guard = guard(Some("secret"), "127.0.0.1:3000");
        let guesses = [1, 2, 3, 4, 5, 6].map(|guess| {
            let guess = with(&format!("Bearer guess{guess}"));
            guard.admit(Time::default(), ASKER, &guess).unwrap_err()
        });
        assert_eq!(guesses.map(|denied| denied.status().as_u16()), [401, 401, 401, 401, 401, 429]);
        let right = with("Bearer secret");
        assert_eq!(guard.admit(Time::default(), ASKER, &right), Err(Denied::TooMany));
        assert_eq!(guard.admit(Time(60_000_000_000), ASKER, &right), Ok(()));
    }
}
