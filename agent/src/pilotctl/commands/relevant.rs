//! `--most-relevant`: whoever does it best gets it; where that fails, the next.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use wire::address::Address;
use wire::services::exchange::Tag;

use super::delivery::{self, Confirmed, Delivery, Limits, deliver};
use super::exchange::{await_reply, message_id};
use super::number_of;
use super::query::{fitted, shown_rejections};
use crate::pilotctl::arguments::Relevant;
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::{Daemon, Session};
use crate::pilotctl::{clock, text};
use crate::services::exchange::sender::Message;
use crate::services::exchange::transfer;
use crate::services::files::Threads;

/// Nodes that are tried.
const CANDIDATES_MAX: u16 = 10;
/// What each may take to confirm a message, or to open a stream for a file; `--timeout` says otherwise.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// Of that, what opening the stream may take while others remain to be tried: a live node answers within one second.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const NAME_COLUMNS: usize = 40;

/// One that has not got it, or may have.
struct Passed {
    node: u64,
    hostname: Value,
    why: String,
    is_uncertain: bool,
}

/// Who has got it, and who was passed over.
pub(super) struct Outcome {
    hit: Value,
    id: String,
    confirmed: Confirmed,
    passed: Vec<Passed>,
    rejected: Value,
    since: u64,
}

pub(super) async fn message(
    session: &Session,
    screen: &mut Screen,
    daemon: &Daemon,
    relevant: &Relevant,
    message: Message<'_>,
    reply_to: Option<&str>,
) -> Result<Outcome, Failure> {
    let (id, since) = (message_id()?, clock::unix_seconds());
    let is_trace_wanted = screen.is_json();
    // The id stays the same, so that a receiver, or whoever reads both inboxes, can tell that it is one message.
    let attempt = async |daemon: &Daemon, to: Address, key: &Value, limits: Limits| {
        let tag = Tag { message_id: Some(&id), reply_to };
        deliver(daemon, to, Some(key), message, tag, limits, is_trace_wanted).await
    };
    let (hit, confirmed, passed, rejected) = to_best(session, screen, daemon, relevant, attempt).await?;
    Ok(Outcome { hit, id, confirmed, passed, rejected, since })
}

/// What each may take; `--timeout` says it for every part.
fn limits(session: &Session, others_remain: bool) -> Limits {
    let whole = session.limit(ATTEMPT_TIMEOUT).unwrap_or(Duration::MAX);
    let is_shortened = others_remain && session.timeout.is_none();
    Limits { dial: if is_shortened { DIAL_TIMEOUT } else { whole }, whole }
}

/// Tries one after the other, the best first.
async fn to_best(
    session: &Session,
    screen: &mut Screen,
    daemon: &Daemon,
    relevant: &Relevant,
    attempt: impl AsyncFn(&Daemon, Address, &Value, Limits) -> Delivery,
) -> Result<(Value, Confirmed, Vec<Passed>, Value), Failure> {
    let words = relevant.most_relevant.as_deref().unwrap_or_default();
    let question = json!({"op": "query", "text": words, "group": relevant.group, "limit": CANDIDATES_MAX});
    let own = number_of(&daemon.extension(&json!({"op": "capability"})).await?, "node_id");
    let answer = daemon.extension(&question).await?;
    shown_rejections(screen, &answer);
    let rejected = answer["rejected"].clone();
    let mut passed = Vec::new();
    for rejection in rejected.as_array().into_iter().flatten() {
        let why = text::harmless(rejection["detail"].as_str().unwrap_or_default()).into_owned();
        passed.push(Passed { node: number_of(rejection, "node_id"), hostname: Value::Null, why, is_uncertain: false });
    }
    let hits = answer["hits"].as_array().map(Vec::as_slice).unwrap_or_default();
    let others = hits.iter().filter(|hit| number_of(hit, "node_id") != own);
    let addressed = others.filter_map(|hit| Some((hit, hit["address"].as_str()?.parse().ok()?)));
    let mut candidates = addressed.take(CANDIDATES_MAX.into()).peekable();
    while let Some((hit, address)) = candidates.next() {
        let node = number_of(hit, "node_id");
        // A connection each: what was given up may still be under way on the one before.
        let daemon = session.connect().await?;
        let limits = limits(session, candidates.peek().is_some());
        let (why, is_uncertain) = match attempt(&daemon, address, &hit["public_key"], limits).await {
            Delivery::Done(confirmed) => return Ok((hit.clone(), confirmed, passed, rejected)),
            Delivery::Failed(why) => (why, false),
            Delivery::Uncertain(why) => (why, true),
        };
        let hostname = fitted(&hit["hostname"], NAME_COLUMNS);
        let stops = is_uncertain && relevant.at_most_once;
        let what = match (is_uncertain, stops) {
            (false, _) => "has not got it",
            (true, true) => "may have got it",
            (true, false) => "may have got it; the next gets it as well",
        };
        screen.talk(&format!("node {node} ({hostname}) {what}: {why}"));
        passed.push(Passed { node, hostname: hit["hostname"].clone(), why, is_uncertain });
        if stops {
            return Err(Failure::new(Code::ConnectionFailed, format!("uncertain: {}", listed(&passed)))
                .hint("ask the receiver; without --at-most-once the next would get it"));
        }
    }
    if passed.is_empty() {
        let named = text::harmless(words).into_owned();
        return Err(Failure::new(Code::NotFound, format!("nobody who is online offers \"{named}\""))
            .hint("see who offers what: pilotctl query --offline"));
    }
    Err(Failure::new(Code::ConnectionFailed, format!("nobody has confirmed it: {}", listed(&passed)))
        .hint("see the path to one of them: pilotctl explain PEER"))
}

fn listed(passed: &[Passed]) -> String {
    let each = passed.iter().map(|one| {
        let doubt = if one.is_uncertain { "may have it: " } else { "" };
        format!("node {}: {doubt}{}", one.node, one.why)
    });
    each.collect::<Vec<_>>().join("; ")
}

fn put_trace(sent: &mut Value, confirmed: &Confirmed) {
    if let Some(trace_id) = &confirmed.trace_id {
        sent["trace_id"] = json!(trace_id);
    }
}

fn passed_over(passed: &[Passed]) -> Vec<Value> {
    let each = |one: &Passed| json!({"node_id": one.node, "hostname": one.hostname, "reason": one.why, "uncertain": one.is_uncertain});
    passed.iter().map(each).collect()
}

/// Says who has got a message, and shows the answer where one is awaited.
pub(super) async fn report(
    session: &Session,
    screen: &mut Screen,
    outcome: &Outcome,
    kind: &str,
    bytes: usize,
    wait: Option<Duration>,
) -> Result<(), Failure> {
    let Outcome { hit, id, confirmed, passed, rejected, since } = outcome;
    let address = text::harmless(hit["address"].as_str().unwrap_or_default()).into_owned();
    if screen.is_json() {
        let mut sent = json!({
            "target": address, "to": address, "node_id": hit["node_id"], "hostname": hit["hostname"],
            "score": hit["score"], "type": kind, "bytes": bytes, "ack": confirmed.text, "message_id": id,
            "passed_over": passed_over(passed), "rejected": rejected,
        });
        put_trace(&mut sent, confirmed);
        if let Some(wait) = wait {
            sent["reply"] = json!(await_reply(session, id, wait, *since).await?);
        }
        return Ok(screen.data(sent)?);
    }
    let (mark, size) = (screen.good("✓"), text::size(bytes as u64));
    let hostname = fitted(&hit["hostname"], NAME_COLUMNS);
    screen.line(&format!("{mark} delivered to {hostname} · {address} · {kind} · {size} · message id {id}"))?;
    if let Some(wait) = wait {
        let reply = await_reply(session, id, wait, *since).await?;
        screen.line(&text::harmless_bytes(&reply.body()))?;
    }
    Ok(())
}

pub(super) async fn send_file(
    session: &Session,
    screen: &mut Screen,
    daemon: &Daemon,
    relevant: &Relevant,
    path: &Path,
    name: &str,
) -> Result<(), Failure> {
    let is_trace_wanted = screen.is_json();
    let attempt = async |daemon: &Daemon, to: Address, key: &Value, limits: Limits| {
        // The first stream has to open within the limit; a file then takes as long as it takes.
        let first = match delivery::dial_within(daemon, to, Some(key), limits.dial).await {
            Ok(stream) => stream,
            Err(reason) => return Delivery::Failed(reason),
        };
        let trace_id = if is_trace_wanted { daemon.trace_of(&first).await } else { None };
        let mut first = Some(first);
        let dial = async || match first.take() {
            Some(stream) => Ok(stream),
            None => delivery::dial(daemon, to, Some(key)).await.map_err(io::Error::other),
        };
        match transfer::send_file(&Threads, path, name, dial, |_| ()).await {
            Ok(sent) => Delivery::Done(Confirmed { text: format!("{} bytes", sent.bytes), trace_id }),
            Err(error) => delivery::outcome(&error),
        }
    };
    let (hit, confirmed, passed, rejected) = to_best(session, screen, daemon, relevant, attempt).await?;
    let address = text::harmless(hit["address"].as_str().unwrap_or_default()).into_owned();
    if screen.is_json() {
        let mut sent = json!({
            "destination": address, "node_id": hit["node_id"], "hostname": hit["hostname"], "filename": name,
            "ack": confirmed.text, "passed_over": passed_over(&passed), "rejected": rejected,
        });
        put_trace(&mut sent, &confirmed);
        return Ok(screen.data(sent)?);
    }
    let (mark, hostname) = (screen.good("✓"), fitted(&hit["hostname"], NAME_COLUMNS));
    let taken = &confirmed.text;
    Ok(screen.line(&format!("{mark} {} sent to {hostname} · {address} · {taken}", text::harmless(name)))?)
}
