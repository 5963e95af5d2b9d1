//! `info` and `health`: this node and its daemon.

use serde_json::Value;
use wire::ipc::Request;

use super::{number_of, text_of};
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::Session;
use crate::pilotctl::{duration, text};

/// Characters of a key that tell nodes apart at a glance.
const KEY_CHARACTERS: usize = 8;

pub(super) async fn info(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let mut info = session.connect().await?.ask(Request::Info).await?;
    if screen.is_json() {
        hide_endpoints(&mut info);
        return Ok(screen.data(info)?);
    }
    let uptime = duration::span(number_of(&info, "uptime_secs"));
    screen.line(&format!(
        "{} {} {} · up {uptime}",
        screen.good("●"),
        screen.bold("daemon"),
        text_of(&info, "version")
    ))?;
    screen.line("")?;
    screen.line(&format!("  identity   {}", identity_of(&info)))?;
    let key = text_of(&info, "public_key").into_owned();
    let mut identity = format!("Ed25519 {}", text::shortened(&key, KEY_CHARACTERS));
    if info["identity"] == true {
        identity.push_str(" · kept across restarts");
    }
    for owner in
        ["email", "owner"].map(|field| text_of(&info, field)).into_iter().filter(|owner| !owner.is_empty()).take(1)
    {
        identity.push_str(&format!(" · {owner}"));
    }
    screen.line(&format!("             {identity}"))?;
    screen.line(&format!("  network    {}", peers_line(&info)))?;
    let connections = text::count(number_of(&info, "connections"), "connection");
    let ports = text::count(number_of(&info, "ports"), "port");
    screen.line(&format!("             relay {} · {connections} · {ports}", relay_of(&info)))?;
    screen.line(&format!(
        "  traffic    ↑ {} ({} packets) · ↓ {} ({} packets)",
        text::size(number_of(&info, "bytes_sent")),
        number_of(&info, "pkts_sent"),
        text::size(number_of(&info, "bytes_recv")),
        number_of(&info, "pkts_recv"),
    ))?;
    Ok(())
}

/// Who the node is, on one line.
pub(super) fn identity_of(info: &Value) -> String {
    let name = Some(text_of(info, "hostname")).filter(|name| !name.is_empty()).unwrap_or("no hostname".into());
    match number_of(info, "node_id") {
        0 => format!("{name} · not registered yet: the directory has not answered"),
        node => format!("{name} · {} · node {node}", text_of(info, "address")),
    }
}

pub(super) async fn health(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let health = session.connect().await?.ask(Request::Health).await?;
    let well = health["status"] == "ok";
    if screen.is_json() {
        screen.data(health)?;
    } else {
        let mark = if well { screen.good("●") } else { screen.bad("●") };
        screen.line(&format!("{mark} {} {}", screen.bold("daemon"), text_of(&health, "status")))?;
        screen.line(&format!(
            "  uptime     {} · {}",
            duration::span(number_of(&health, "uptime_seconds")),
            text::count(number_of(&health, "connections"), "connection"),
        ))?;
        screen.line(&format!("  peers      {}", peers_line(&health)))?;
        screen.line(&format!("  relay      {}", relay_of(&health)))?;
        screen.line(&format!(
            "  traffic    ↑ {} · ↓ {}",
            text::size(number_of(&health, "bytes_sent")),
            text::size(number_of(&health, "bytes_recv")),
        ))?;
    }
    if well { Ok(()) } else { Err(Failure::told(Code::ConnectionFailed)) }
}

/// Peers, and how they are reached.
pub(super) fn peers_line(info: &Value) -> String {
    let (peers, relayed) = (number_of(info, "peers"), number_of(info, "relay_peer_count"));
    let encrypted = number_of(info, "encrypted_peers");
    let direct = encrypted.saturating_sub(relayed);
    format!("{} ({encrypted} encrypted · {direct} direct · {relayed} through the relay)", text::count(peers, "peer"))
}

/// The relay in use.
pub(super) fn relay_of(info: &Value) -> String {
    Some(text_of(info, "beacon_addr")).filter(|relay| !relay.is_empty()).unwrap_or("none yet".into()).into_owned()
}

/// What scripts pass on should not tell where hosts are; existing tools leave this out, too.
pub(super) fn hide_endpoints(info: &mut Value) {
    if let Some(info) = info.as_object_mut() {
        info.remove("endpoint");
        for peer in info.get_mut("peer_list").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(peer) = peer.as_object_mut() {
                peer.remove("endpoint");
            }
        }
    }
}
