//! `peers`, `connections`, `disconnect`, `prefer-direct`: tunnels and streams of this node.

use std::time::Duration;

use serde_json::{Value, json};
use wire::ipc::Request;

use super::number_of;
use crate::client::RequestError;
use crate::pilotctl::arguments::Peers;
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::Session;
use crate::pilotctl::table::Table;
use crate::pilotctl::text;

/// Existing daemons close a stream without a word.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn peers(session: &Session, screen: &mut Screen, what: &Peers) -> Result<(), Failure> {
    let info = session.connect().await?.ask(Request::Info).await?;
    let all = info["peer_list"].as_array().map(Vec::as_slice).unwrap_or_default();
    let wanted = |peer: &&Value| match &what.search {
        None => true,
        Some(search) => {
            let endpoint = peer["endpoint"].as_str().unwrap_or_default();
            number_of(peer, "node_id").to_string().contains(search) || endpoint.contains(search.as_str())
        }
    };
    let peers: Vec<&Value> = all.iter().filter(wanted).collect();
    let encrypted = peers.iter().filter(|peer| peer["encrypted"] == true).count();
    if screen.is_json() {
        let peers: Vec<Value> = peers.into_iter().map(without_endpoint).collect();
        return Ok(screen.data(json!({"encrypted": encrypted, "total": peers.len(), "peers": peers}))?);
    }
    if peers.is_empty() {
        screen.line("no peers")?;
        screen.talk("a tunnel is built when there is something to say: pilotctl ping PEER");
        return Ok(());
    }
    let relayed = peers.iter().filter(|peer| peer["relay"] == true).count();
    let total = peers.len();
    let count = text::count(total as u64, "peer");
    screen
        .line(&format!("{count}: {encrypted} encrypted · {} direct · {relayed} through the relay", total - relayed))?;
    screen.line("")?;
    let mut table = Table::new(&["NODE", "PATH", "ENDPOINT", "ENCRYPTED", "AUTHENTICATED", "ROUND TRIP"]);
    for peer in peers {
        let yes = |field: &str| if peer[field] == true { "yes" } else { "no" }.to_owned();
        let round_trip = peer["rtt_ms"].as_f64().map_or("–".to_owned(), |ms| {
            crate::pilotctl::duration::milliseconds(Duration::from_secs_f64(ms.max(0.0) / 1e3))
        });
        table.row([
            number_of(peer, "node_id").to_string(),
            if peer["relay"] == true { "relay" } else { "direct" }.to_owned(),
            peer["endpoint"].as_str().unwrap_or("–").to_owned(),
            yes("encrypted"),
            yes("authenticated"),
            round_trip,
        ]);
    }
    Ok(table.show(screen)?)
}

fn without_endpoint(peer: &Value) -> Value {
    let mut peer = peer.clone();
    if let Some(peer) = peer.as_object_mut() {
        peer.remove("endpoint");
    }
    peer
}

pub(super) async fn connections(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let info = session.connect().await?.ask(Request::Info).await?;
    let connections = info["conn_list"].as_array().cloned().unwrap_or_default();
    if screen.is_json() {
        return Ok(screen.data(json!({"total": connections.len(), "connections": connections}))?);
    }
    if connections.is_empty() {
        return Ok(screen.line("no connections")?);
    }
    let mut table = Table::new(&[
        "ID",
        "PORT",
        "REMOTE",
        "STATE",
        "SENT",
        "RECEIVED",
        "IN FLIGHT",
        "WINDOW",
        "ROUND TRIP",
        "RETRANSMITTED",
    ]);
    for connection in &connections {
        let size = |field: &str| text::size(number_of(connection, field));
        let remote = connection["remote_addr"].as_str().unwrap_or("?");
        table.row([
            number_of(connection, "id").to_string(),
            number_of(connection, "local_port").to_string(),
            format!("{remote}:{}", number_of(connection, "remote_port")),
            connection["state"].as_str().unwrap_or("?").to_owned(),
            size("bytes_sent"),
            size("bytes_recv"),
            size("in_flight"),
            size("cong_win"),
            connection["srtt_ms"].as_f64().map_or("–".to_owned(), |ms| format!("{ms:.0}ms")),
            number_of(connection, "retransmits").to_string(),
        ]);
    }
    Ok(table.show(screen)?)
}

pub(super) async fn disconnect(session: &Session, screen: &mut Screen, connection: u32) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let asked = daemon.client.request(Request::Close { connection });
    match tokio::time::timeout(CLOSE_TIMEOUT, asked).await {
        Ok(Err(RequestError::Refused(reason))) => {
            let message = format!("disconnect: {reason}");
            return Err(Failure::new(Code::ConnectionFailed, message).hint("see their numbers: pilotctl connections"));
        }
        Ok(Err(error)) => return Err(error.into()),
        Ok(Ok(_)) | Err(_) => daemon.client.flushed().await,
    }
    if screen.is_json() {
        return Ok(screen.data(json!({"conn_id": connection}))?);
    }
    Ok(screen.line(&format!("connection {connection} closed"))?)
}

pub(super) async fn prefer_direct(session: &Session, screen: &mut Screen, named: &str) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, named).await?;
    let answer = daemon.ask(Request::PreferDirect { node: peer.node }).await?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    screen.line(&format!("looking for a direct path to node {}", peer.node))?;
    let before = match (answer["had_tunnel"] == true, answer["was_relay_active"] == true) {
        (false, _) => "there was no tunnel; the next connection tries",
        (true, true) => "it was reached through the relay, and is until the direct path has proven itself",
        (true, false) => "it was reached directly",
    };
    screen.line(&format!("  {before}"))?;
    if let Some(error) = answer["resolve_error"].as_str().filter(|error| !error.is_empty()) {
        screen.line(&format!("  the directory says: {}", text::harmless(error)))?;
    }
    screen.talk(&format!("see what comes of it: pilotctl explain {}", peer.address));
    Ok(())
}
