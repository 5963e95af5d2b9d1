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
        Ok(explanation) => show(screen, named, &peer, &explanation),
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

fn show(screen: &mut Screen, named: &str, peer: &Peer, explanation: &Value) -> Result<(), Failure> {
    let address = peer.address.to_string();
    let is_name = named.contains(|character: char| !matches!(character, '0'..='9' | 'a'..='f' | 'A'..='F' | ':' | '.'));
    let name = if is_name { format!("{} · {address}", text::harmless(named)) } else { address };
    let path = explanation["path"].as_str().unwrap_or("none");
    let how = match path {
        "direct" => screen.good("direct"),
        "relay" => "through the relay".to_owned(),
        "none" => screen.bad("no path yet"),
        other => text::harmless(other).into_owned(),
    };
    let round_trip = milliseconds(&explanation["rtt_ms"]).map_or(String::new(), |rtt| format!(" · round trip {rtt}"));
    let since = seconds(&explanation["since_secs"]);
    let since = since.map_or(String::new(), |since| format!(" · for {since}"));
    screen.line(&format!("{}  {how}{round_trip}{since}", screen.bold(&name)))?;
    let rows = [
        ("endpoint", known(explanation, "endpoint")),
        ("relay", known(explanation, "relay")),
        ("why", known(explanation, "why")),
        ("our NAT", describe_nat(&explanation["own_nat"])),
        ("their NAT", describe_nat(&explanation["peer_nat"])),
        ("keys", describe_session(&explanation["session"])),
        ("sent", describe_sent(explanation)),
    ];
    for (title, value) in rows {
        if let Some(value) = value {
            screen.line(&format!("  {title:<10} {value}"))?;
        }
    }
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

fn describe_nat(nat: &Value) -> Option<String> {
    let mapped = known(nat, "mapped").map(|mapped| format!("seen as {mapped}"));
    let parts: Vec<String> = [known(nat, "summary"), mapped].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" · "))
}

fn describe_session(session: &Value) -> Option<String> {
    if session["established"] != true {
        return session.is_object().then(|| "none yet".to_owned());
    }
    let established = seconds(&session["established_secs_ago"]).map(|age| format!("agreed {age} ago"));
    let rekeyed = match number_of(session, "rekeyings") {
        0 => None,
        count => seconds(&session["rekeyed_secs_ago"])
            .map(|age| format!("renewed {}, last {age} ago", text::count(count, "time"))),
    };
    let secrecy = session["forward_secrecy"].as_bool().map(|has| match has {
        true => "forward secrecy".to_owned(),
        false => "no forward secrecy".to_owned(),
    });
    let parts: Vec<String> = [established, rekeyed, secrecy].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" · "))
}

fn describe_sent(explanation: &Value) -> Option<String> {
    let (direct, relayed) = (explanation["sent_direct"].as_u64()?, explanation["sent_relayed"].as_u64()?);
    Some(format!("{} direct, {relayed} through the relay", text::count(direct, "datagram")))
}

fn show_candidates(screen: &mut Screen, candidates: &Value) -> Result<(), Failure> {
    let Some(candidates) = candidates.as_array().filter(|candidates| !candidates.is_empty()) else { return Ok(()) };
    screen.line("")?;
    screen.line("What was tried:")?;
    let mut table = Table::new(&["  ENDPOINT", "KIND", "STATE", "TRIES", "ROUND TRIP"]);
    for candidate in candidates {
        let shown = |field: &str| candidate[field].as_str().unwrap_or("–").to_owned();
        table.row([
            format!("  {}", shown("endpoint")),
            shown("kind"),
            shown("state"),
            number_of(candidate, "tries").to_string(),
            milliseconds(&candidate["rtt_ms"]).unwrap_or("–".to_owned()),
        ]);
    }
    Ok(table.show(screen)?)
}

fn show_events(screen: &mut Screen, events: &Value) -> Result<(), Failure> {
    let Some(events) = events.as_array().filter(|events| !events.is_empty()) else { return Ok(()) };
    screen.line("")?;
    screen.line("What happened:")?;
    for event in events {
        let age = seconds(&event["at_secs_ago"]).unwrap_or("?".to_owned());
        screen.line(&format!("  {:>8} ago  {}", age, text_of(event, "what")))?;
    }
    Ok(())
}

/// A span of time; tenths of a second where it is short.
fn seconds(value: &Value) -> Option<String> {
    let seconds = value.as_f64().filter(|seconds| (0.0..1e12).contains(seconds))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "just checked")]
    Some(if seconds < 10.0 { format!("{seconds:.1}s") } else { duration::span(seconds as u64) })
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
