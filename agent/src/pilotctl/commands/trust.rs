//! Whom this node trusts, and who trusts it.

use std::time::Duration;

use serde_json::{Value, json};
use wire::ipc::{HandshakeRequest, Request};

use super::{number_of, text_of};
use crate::pilotctl::arguments::{Handshake, Reject, Trust};
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::{Session, timed_out};
use crate::pilotctl::table::Table;
use crate::pilotctl::{clock, duration, text};

/// Over the waiting time itself, for the daemon to say that it is over.
const WAIT_SLACK: Duration = Duration::from_secs(5);

pub(super) async fn handshake(session: &Session, screen: &mut Screen, what: &Handshake) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, &what.peer).await?;
    let node = peer.node;
    let request = Request::Handshake(HandshakeRequest::Send { node, justification: &what.justification });
    let sending = async { Ok(daemon.client.ask(request).await?) };
    let usual = Duration::from_secs(60);
    let answer = session.within(usual, "handshake", sending).await.map_err(|failure| failure.while_("handshake"))?;
    if let Some(wait) = what.wait {
        let timeout_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let request = Request::Handshake(HandshakeRequest::WaitForTrust { node, timeout_ms });
        let waiting = tokio::time::timeout(wait + WAIT_SLACK, daemon.client.ask(request)).await;
        let answer = waiting.map_err(|_| timed_out("handshake", wait))??;
        if answer["trusted"] != true {
            return Err(Failure::new(Code::Timeout, format!("node {node} has not approved within {wait:?}"))
                .hint("they approve on their side: pilotctl pending; pilotctl approve ID"));
        }
    }
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    if what.wait.is_some() {
        return Ok(screen.line(&format!("{} node {node} trusts this node", screen.good("✓")))?);
    }
    screen.line(&format!("handshake request sent to node {node}"))?;
    screen.talk("they must approve on their side · see: pilotctl trust · it can take a minute");
    Ok(())
}

pub(super) async fn approve(session: &Session, screen: &mut Screen, named: &str) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let node = daemon.peer(screen, named).await?.node;
    let answer = daemon.ask(Request::Handshake(HandshakeRequest::Approve { node })).await;
    let answer = answer.map_err(|failure| failure.while_("approve"))?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    screen.line(&format!("node {node} is trusted"))?;
    screen.talk(&format!("say hello: pilotctl send-message {node} --data hello"));
    Ok(())
}

pub(super) async fn reject(session: &Session, screen: &mut Screen, what: &Reject) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let node = daemon.peer(screen, &what.peer).await?.node;
    let answer = daemon.ask(Request::Handshake(HandshakeRequest::Reject { node, reason: &what.reason })).await;
    let answer = answer.map_err(|failure| failure.while_("reject"))?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    Ok(screen.line(&format!("request of node {node} rejected"))?)
}

pub(super) async fn untrust(session: &Session, screen: &mut Screen, named: &str) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let node = daemon.peer(screen, named).await?.node;
    let answer = daemon.ask(Request::Handshake(HandshakeRequest::Revoke { node })).await;
    let answer = answer.map_err(|failure| match failure.code {
        Code::ConnectionFailed => failure.while_("untrust").hint("see who is trusted: pilotctl trust"),
        _ => failure,
    })?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    screen.line(&format!("node {node} is no longer trusted"))?;
    screen.talk(&format!("to trust it again: pilotctl handshake {node}"));
    Ok(())
}

pub(super) async fn pending(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let answer = session.connect().await?.ask(Request::Handshake(HandshakeRequest::Pending)).await?;
    let pending = answer["pending"].as_array().cloned().unwrap_or_default();
    if screen.is_json() {
        return Ok(screen.data(json!({"pending": pending}))?);
    }
    if pending.is_empty() {
        screen.line("nobody asks for trust")?;
        return Ok(());
    }
    let now = clock::unix_seconds();
    for request in &pending {
        let node = number_of(request, "node_id");
        let age = duration::span(now.saturating_sub(number_of(request, "received_at")));
        screen.line(&format!("{} · {age} ago", screen.bold(&format!("node {node}"))))?;
        let reason = text_of(request, "justification");
        screen.line(&format!("  {}", if reason.is_empty() { "gives no reason" } else { &*reason }))?;
        screen.line(&format!("  key {}", text_of(request, "public_key")))?;
        screen.line(&format!("  pilotctl approve {node}  ·  pilotctl reject {node} \"reason\""))?;
    }
    Ok(())
}

pub(super) async fn trusted(session: &Session, screen: &mut Screen, what: &Trust) -> Result<(), Failure> {
    let answer = session.connect().await?.ask(Request::Handshake(HandshakeRequest::Trusted)).await?;
    let all = answer["trusted"].as_array().map(Vec::as_slice).unwrap_or_default();
    let wanted = |peer: &&Value| match &what.search {
        None => true,
        Some(search) => {
            let key = peer["public_key"].as_str().unwrap_or_default();
            number_of(peer, "node_id").to_string().contains(search) || key.contains(search.as_str())
        }
    };
    let chosen: Vec<Value> = all.iter().filter(wanted).cloned().collect();
    let total = chosen.len();
    let limit = if what.limit == 0 { total } else { what.limit };
    let chosen = &chosen[..limit.min(total)];
    if screen.is_json() {
        return Ok(screen.data(json!({"total": total, "trusted": chosen}))?);
    }
    if chosen.is_empty() {
        screen.line("no trusted peers")?;
        screen.talk("ask for trust: pilotctl handshake PEER \"reason\"");
        return Ok(());
    }
    let mut table = Table::new(&["NODE", "APPROVED", "DIRECTION", "NETWORK", "KEY"]);
    for peer in chosen {
        let approved = text::timestamp(number_of(peer, "approved_at"));
        table.row([
            number_of(peer, "node_id").to_string(),
            approved.get(..16).unwrap_or_default().replace('T', " "),
            if peer["mutual"] == true { "both ways" } else { "one way" }.to_owned(),
            number_of(peer, "network").to_string(),
            peer["public_key"].as_str().unwrap_or("–").to_owned(),
        ]);
    }
    Ok(table.show(screen)?)
}
