//! What this node offers, who offers what is wanted, and what changes there. Records of others are verified here, for all
//! clients: what fails is told, and never shown as an answer.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use wire::NodeId;
use wire::registry::answer::Hit;
use wire::registry::capability::Record;
use wire::registry::names::normalise_tags;
use wire::registry::request::{CHANGES_WAIT_SECONDS_MAX, QUERY_BYTES_MAX, QUERY_LIMIT, QUERY_LIMIT_MAX, Query};
use wire::registry::{Answer, Operation};

use super::Context;
use super::client::Outcome;
use super::groups::network_of;
use super::requests::{Work, done, failed, node_id, put};
use crate::capability::publication::Status;
use crate::capability::{Offer, Publication, Rejection};
use crate::node::StreamId;

/// How long a client waits for the directory's word on its record.
const PUBLISH_WAIT: Duration = Duration::from_secs(10);
/// For a client that does not say how long.
const CHANGES_WAIT_SECONDS: u64 = 30;

pub(super) fn publish(context: Rc<Context>, request: &Value) -> Work {
    let offer = Offer::from_value(request["offer"].clone()).and_then(Offer::checked);
    match offer {
        Ok(offer) => settle(context, move |publication, now| publication.offer(now, offer).map_err(|e| e.to_string())),
        Err(error) => failed(&format!("publish: {error}")),
    }
}

pub(super) fn withdraw(context: Rc<Context>) -> Work {
    settle(context, |publication, now| {
        publication.withdraw(now);
        Ok(())
    })
}

/// Changes what is offered, and waits until the directory has taken or refused it.
fn settle(
    context: Rc<Context>,
    change: impl FnOnce(&mut Publication, crate::Time) -> Result<(), String> + 'static,
) -> Work {
    Box::pin(async move {
        let changed = context.core.act(|node, now| node.with_publication(now, |it| change(it, now)));
        if let Err(text) = changed {
            return Outcome::Failed(text);
        }
        let settled = async {
            loop {
                let changed = context.core.capability_changed();
                if !context.core.look(|node| matches!(node.publication().status(), Status::Pending(_))) {
                    return;
                }
                changed.await;
            }
        };
        let _ = timeout(PUBLISH_WAIT, settled).await;
        Outcome::Json(state(&context))
    })
}

pub(super) fn own(context: &Context) -> Work {
    done(state(context))
}

fn state(context: &Context) -> Value {
    context.core.look(|node| {
        let publication = node.publication();
        let mut state = match publication.status() {
            Status::Nothing => json!({ "state": "none" }),
            Status::Pending(reason) => json!({ "state": "pending", "reason": reason }),
            Status::Published(serial) => json!({ "state": "published", "serial": serial }),
            Status::Refused(reason) => json!({ "state": "refused", "reason": reason }),
        };
        if let Some(node) = node.id() {
            state["node_id"] = json!(node);
        } else if state["reason"].is_null() && state["state"] == "pending" {
            state["reason"] = json!(format!("this node is not registered yet: {}", node.registration()));
        }
        if let Some(offer) = publication.offered() {
            state["offer"] = json!(offer);
        }
        if let Some((record, _)) = publication.made() {
            state["record"] = json!(record);
        }
        state
    })
}

pub(super) fn of_peer(context: Rc<Context>, request: &Value) -> Work {
    let Some(node_id) = node_id(request) else {
        return failed("capability: \"node_id\" must be a node's number; leave it out for this node");
    };
    let query = Query { node_id: Some(node_id), offline: true, limit: 1, ..Query::default() };
    Box::pin(async move { ask(&context, query).await })
}

pub(super) fn query(context: Rc<Context>, request: &Value) -> Work {
    let (query, group) = match read(request) {
        Ok(read) => read,
        Err(text) => return failed(&format!("query: {text}")),
    };
    Box::pin(async move {
        let network_id = match network_of(&context, &group).await {
            Ok(network) => network.filter(|network| *network != 0),
            Err(text) => return Outcome::Failed(format!("query: {text}")),
        };
        ask(&context, Query { network_id, ..query }).await
    })
}

fn read(request: &Value) -> Result<(Query, Value), String> {
    let text = match &request["text"] {
        Value::Null => String::new(),
        Value::String(text) if text.len() <= QUERY_BYTES_MAX => text.clone(),
        Value::String(_) => return Err(format!("\"text\" is too long: at most {QUERY_BYTES_MAX} bytes")),
        _ => return Err("\"text\" must be a text".to_owned()),
    };
    let tags: Vec<String> = match &request["tags"] {
        Value::Null => Vec::new(),
        tags => serde_json::from_value(tags.clone()).map_err(|_| "\"tags\" must be a list of texts")?,
    };
    let tags = normalise_tags(&tags).map_err(|error| error.to_string())?;
    let limit = match &request["limit"] {
        Value::Null => 0,
        limit => limit
            .as_u64()
            .and_then(|limit| u16::try_from(limit).ok())
            .filter(|limit| *limit <= QUERY_LIMIT_MAX)
            .ok_or_else(|| format!("\"limit\" must be a number up to {QUERY_LIMIT_MAX}"))?,
    };
    let node_id = match &request["node_id"] {
        Value::Null => None,
        _ => Some(node_id(request).ok_or("\"node_id\" must be a node's number")?),
    };
    let offline = request["offline"] == true;
    let query = Query { text, tags, node_id, offline, limit, ..Query::default() };
    Ok((query, request["group"].clone()))
}

async fn ask(context: &Context, query: Query) -> Outcome {
    let requester_id = context.core.look(|node| node.id());
    let limit = usize::from(if query.limit == 0 { QUERY_LIMIT } else { query.limit });
    match put(context, Operation::Query(Query { requester_id, ..query })).await {
        // Each signature costs time, and nobody has asked for more.
        Ok(Answer::Query { hits }) => Outcome::Json(verified(context, &hits[..hits.len().min(limit)])),
        Ok(_) => Outcome::Failed("query: the directory gave another answer".to_owned()),
        Err(text) => Outcome::Failed(format!("query: {text}")),
    }
}

/// The hits whose records are what their nodes have signed, and why the others are not among them.
fn verified(context: &Context, hits: &[Hit]) -> Value {
    let mut verifier = context.verifier.borrow_mut();
    let (mut good, mut rejected) = (Vec::new(), Vec::new());
    for hit in hits {
        let known = context.core.look(|node| node.known_key(hit.node_id));
        match verifier.check(hit, known) {
            Ok(record) => good.push(shown(hit, record.as_ref())),
            Err(rejection) => rejected.push((hit.node_id, rejection)),
        }
    }
    if let Some((node, rejection)) = rejected.first() {
        let (count, reason) = (rejected.len(), rejection.reason());
        tracing::warn!(count, first_node = %node, reason, "capability records are not believed");
    }
    let rejected: Vec<_> = rejected.iter().map(|(node, rejection)| refused(*node, rejection)).collect();
    json!({ "hits": good, "rejected": rejected })
}

fn shown(hit: &Hit, record: Option<&Record>) -> Value {
    json!({
        "node_id": hit.node_id,
        "address": hit.address.to_string(),
        "hostname": hit.hostname,
        "score": hit.score,
        "online": hit.online,
        "last_seen": hit.last_seen,
        "tags": record.map_or(&hit.tags, |record| &record.tags),
        "directory_tags": hit.tags,
        "public_key": hit.public_key,
        "title": record.map(|record| &record.title),
        "record": record,
    })
}

fn refused(node: NodeId, rejection: &Rejection) -> Value {
    json!({ "node_id": node, "reason": rejection.reason(), "detail": rejection.to_string() })
}

pub(super) fn changes(context: Rc<Context>, request: &Value) -> Work {
    let wait = match &request["wait_seconds"] {
        Value::Null => CHANGES_WAIT_SECONDS,
        wait => match wait.as_u64() {
            Some(wait) => wait.min(CHANGES_WAIT_SECONDS_MAX.into()),
            None => return failed("changes: \"wait_seconds\" must be a number"),
        },
    };
    let (after, group) = (request["after"].as_u64().unwrap_or(0), request["group"].clone());
    Box::pin(async move {
        let network = match network_of(&context, &group).await {
            Ok(network) => network.filter(|network| *network != 0),
            Err(text) => return Outcome::Failed(format!("changes: {text}")),
        };
        match context.feeds.news(network, after, Duration::from_secs(wait)).await {
            Ok(news) => {
                let own = context.core.look(|node| node.id());
                if news.changes.iter().any(|change| Some(change.node_id) == own && change.network_id.is_some()) {
                    context.refresh().await;
                }
                let mut answer = json!({ "cursor": news.cursor, "reset": news.reset, "changes": news.changes });
                if let Some(away) = news.away {
                    answer["away"] = json!(away);
                }
                Outcome::Json(answer)
            }
            Err(error) => Outcome::Failed(format!("changes: {error}")),
        }
    })
}

pub(super) fn tunnel_key(context: &Context, request: &Value) -> Work {
    let Some(node) = node_id(request) else { return failed("tunnel_key: \"node_id\" must be a node's number") };
    let stream = match &request["connection"] {
        Value::Null => None,
        number => match number.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(number) => Some(StreamId(number)),
            None => return failed("tunnel_key: \"connection\" must be a stream's number"),
        },
    };
    let key = context.core.look(|own| match stream {
        None => own.tunnel_key(node),
        Some(stream) => own.stream_key(stream).filter(|key| own.tunnel_key(node) == Some(*key)),
    });
    done(json!({ "node_id": node, "public_key": key }))
}
