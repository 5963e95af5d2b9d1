//! `explain`: how a peer is reached, why so, and what was tried.
//!
//! Our daemon tells all of it; of others what `info` shows is told, and that it is not all. Fields that are missing are
//! left out, so that daemons and command lines of different releases get along.

use std::time::Duration;

use serde_json::{Value, json};
use wire::ipc::Request;

use super::{number_of, text_of};
use crate::client::is_unknown_command;
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::{Daemon, Peer, Session};
use crate::pilotctl::table::Table;
use crate::pilotctl::{duration, text};

pub(super) async fn explain(session: &Session, screen: &mut Screen, named: &str) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, named).await?;
    let question = json!({"op": "explain", "node_id": peer.node.0}).to_string();
    match daemon.ask(Request::Extension(&question)).await {
        Ok(explanation) if screen.is_json() => Ok(screen.data(explanation)?),
        Ok(explanation) => show(screen, &peer, &explanation),
        Err(failure) if failure.code == Code::ConnectionFailed && is_foreign(&failure.message) => {
            fall_back(&daemon, screen, &peer).await
        }
        Err(failure) => Err(failure.while_("explain")),
    }
}

/// Whether the refusal comes from a daemon that does not know the question.
fn is_foreign(message: &str) -> bool {
    is_unknown_command(message) || message.to_ascii_lowercase().contains("unknown")
}

fn show(screen: &mut Screen, peer: &Peer, explanation: &Value) -> Result<(), Failure> {
    let who = &explanation["peer"];
    let hostname = text_of(who, "hostname");
    let name = if hostname.is_empty() { peer.address.to_string() } else { format!("{hostname} · {}", peer.address) };
    let path = explanation["path"].as_str().unwrap_or("none");
    let how = match path {
        "direct" => screen.good("direct"),
        "relay" => "through the relay".to_owned(),
        "none" => screen.bad("no path yet"),
        other => text::harmless(other).into_owned(),
    };
    let round_trip = milliseconds(&explanation["rtt_ms"]).map_or(String::new(), |rtt| format!(" · round trip {rtt}"));
    let since = explanation["since_secs"].as_u64().map(duration::span);
    let since = since.map_or(String::new(), |since| format!(" · for {since}"));
    screen.line(&format!("{}  {how}{round_trip}{since}", screen.bold(&name)))?;
    let rows = [
        ("endpoint", known(explanation, "endpoint")),
        ("relay", known(explanation, "relay")),
        ("why", reason(explanation)),
    ];
    for (title, value) in rows {
        if let Some(value) = value {
            screen.line(&format!("  {title:<10} {value}"))?;
        }
    }
    for (title, nat) in [("our NAT", &explanation["own_nat"]), ("their NAT", &explanation["peer_nat"])] {
        if let Some(nat) = describe_nat(nat) {
            screen.line(&format!("  {title:<10} {nat}"))?;
        }
    }
    show_session(screen, &explanation["session"])?;
    show_candidates(screen, &explanation["candidates"])?;
    show_events(screen, &explanation["events"])?;
    if path != "direct" && path != "relay" {
        screen.talk(&format!("make one: pilotctl ping {}", peer.address));
    }
    Ok(())
}

fn known(value: &Value, field: &str) -> Option<String> {
    Some(text_of(value, field)).filter(|text| !text.is_empty()).map(std::borrow::Cow::into_owned)
}

/// The daemon's word, else what its figures say.
fn reason(explanation: &Value) -> Option<String> {
    if let Some(reason) = known(explanation, "reason").or_else(|| known(explanation, "why")) {
        return Some(reason);
    }
    let is_symmetric = |nat: &Value| {
        nat["mapping"].as_str().is_some_and(|mapping| {
            mapping.contains("symmetric") || mapping.contains("dependent") && !mapping.contains("independent")
        })
    };
    let candidates = explanation["candidates"].as_array().map(Vec::as_slice).unwrap_or_default();
    let has_state = |states: &[&str]| {
        candidates.iter().any(|candidate| candidate["state"].as_str().is_some_and(|state| states.contains(&state)))
    };
    let reason = match explanation["path"].as_str()? {
        "direct" => "a sealed packet arrived on this path, so it is used",
        "relay" if is_symmetric(&explanation["own_nat"]) && is_symmetric(&explanation["peer_nat"]) => {
            "both NATs map each destination to another port, so neither side can be found directly"
        }
        "relay" if candidates.is_empty() => "there is no other address of the peer to try",
        "relay" if has_state(&["probing", "waiting", "trying"]) => "direct paths are still being tried",
        "relay" => "no direct path answered; it is tried again from time to time",
        _ => return None,
    };
    Some(reason.to_owned())
}

fn describe_nat(nat: &Value) -> Option<String> {
    let mapping = known(nat, "mapping").map(|mapping| format!("mapping {mapping}"));
    let filtering = known(nat, "filtering").map(|filtering| format!("filtering {filtering}"));
    let mapped = known(nat, "mapped").map(|mapped| format!("seen as {mapped}"));
    let parts: Vec<String> = [mapping, filtering, mapped].into_iter().flatten().collect();
    let plain = nat.as_str().map(|nat| text::harmless(nat).into_owned());
    if parts.is_empty() { plain } else { Some(parts.join(" · ")) }
}

fn show_session(screen: &mut Screen, session: &Value) -> Result<(), Failure> {
    let Some(fields) = session.as_object() else { return Ok(()) };
    let mut parts = Vec::new();
    if let Some(age) = session["established_secs_ago"].as_u64() {
        parts.push(format!("keys agreed {} ago", duration::span(age)));
    }
    if let Some(secret) = session["forward_secrecy"].as_bool() {
        parts.push(if secret { "forward secrecy" } else { "no forward secrecy (an older daemon)" }.to_owned());
    }
    for (field, value) in
        fields.iter().filter(|(field, _)| !["established_secs_ago", "forward_secrecy"].contains(&field.as_str()))
    {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        parts.push(format!("{} {}", text::harmless(field).replace('_', " "), text::harmless(&value)));
    }
    if parts.is_empty() { Ok(()) } else { Ok(screen.line(&format!("  {:<10} {}", "session", parts.join(" · ")))?) }
}

fn show_candidates(screen: &mut Screen, candidates: &Value) -> Result<(), Failure> {
    let Some(candidates) = candidates.as_array().filter(|candidates| !candidates.is_empty()) else { return Ok(()) };
    screen.line("")?;
    screen.line("What was tried:")?;
    let mut table = Table::new(&["  ENDPOINT", "KIND", "STATE", "TRIES", "ROUND TRIP", "LAST ERROR"]);
    for candidate in candidates {
        let shown = |field: &str| candidate[field].as_str().unwrap_or("–").to_owned();
        table.row([
            format!("  {}", shown("endpoint")),
            shown("kind"),
            shown("state"),
            number_of(candidate, "tries").to_string(),
            milliseconds(&candidate["rtt_ms"]).unwrap_or("–".to_owned()),
            candidate["last_error"].as_str().unwrap_or_default().to_owned(),
        ]);
    }
    Ok(table.show(screen)?)
}

fn show_events(screen: &mut Screen, events: &Value) -> Result<(), Failure> {
    let Some(events) = events.as_array().filter(|events| !events.is_empty()) else { return Ok(()) };
    screen.line("")?;
    screen.line("What happened:")?;
    for event in events {
        let age = event["at_secs_ago"]
            .as_f64()
            .map_or("?".to_owned(), |age| if age < 10.0 { format!("{age:.1}s") } else { duration::span(age as u64) });
        screen.line(&format!("  {:>8} ago  {}", age, text_of(event, "what")))?;
    }
    Ok(())
}

fn milliseconds(value: &Value) -> Option<String> {
    let seconds = value.as_f64().filter(|ms| (0.0..1e9).contains(ms))? / 1e3;
    Some(duration::milliseconds(Duration::from_secs_f64(seconds)))
}

/// What a daemon that cannot explain says in `info`.
async fn fall_back(daemon: &Daemon, screen: &mut Screen, peer: &Peer) -> Result<(), Failure> {
    let info = daemon.ask(Request::Info).await?;
    let peers = info["peer_list"].as_array().map(Vec::as_slice).unwrap_or_default();
    let entry = peers.iter().find(|entry| entry["node_id"] == peer.node.0);
    let path = match entry.map(|entry| entry["relay"] == true) {
        Some(true) => "relay",
        Some(false) => "direct",
        None => "none",
    };
    let mut explanation = json!({
        "peer": {"node_id": peer.node.0, "address": peer.address.to_string()},
        "path": path,
        "relay": info["beacon_addr"],
        "partial": true,
    });
    if let Some(endpoint) = entry.and_then(|entry| entry["endpoint"].as_str()) {
        explanation["endpoint"] = json!(endpoint);
    }
    if screen.is_json() {
        return Ok(screen.data(explanation)?);
    }
    let how = match path {
        "relay" => "through the relay",
        "direct" => "direct",
        _ => "no tunnel yet",
    };
    screen.line(&format!("{}  {how}", screen.bold(&peer.address.to_string())))?;
    if let Some(endpoint) = known(&explanation, "endpoint") {
        screen.line(&format!("  {:<10} {endpoint}", "endpoint"))?;
    }
    if let Some(relay) = known(&explanation, "relay") {
        screen.line(&format!("  {:<10} {relay}", "relay"))?;
    }
    if let Some(entry) = entry {
        let yes = |field: &str| if entry[field] == true { "yes" } else { "no" };
        screen.line(&format!(
            "  {:<10} encrypted {} · authenticated {}",
            "session",
            yes("encrypted"),
            yes("authenticated")
        ))?;
    }
    screen.talk("this daemon cannot say why; pilot-agent can: pilotctl daemon start");
    Ok(())
}
