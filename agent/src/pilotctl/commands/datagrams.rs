//! `dgram`, `listen`, `broadcast`: datagrams.

use std::time::Duration;

use serde_json::json;
use wire::address::SocketAddress;
use wire::ipc::Request;

use super::streams::{Enough, until_enough};
use crate::pilotctl::arguments::{Broadcast, Dgram, Listen};
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::{Session, timed_out};
use crate::pilotctl::text;

/// The daemon may have to exchange keys first.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn send(session: &Session, screen: &mut Screen, what: &Dgram) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, &what.peer).await?;
    let (address, port, data) = (peer.address, what.port, what.data.as_bytes());
    let sending = async { Ok(daemon.client.send_datagram(SocketAddress { address, port }, data).await?) };
    let confirmed = session.within(SEND_TIMEOUT, "dgram", sending).await.map_err(|failure| failure.while_("dgram"))?;
    if screen.is_json() {
        let target = address.to_string();
        return Ok(screen.data(json!({"target": target, "port": port, "bytes": data.len(), "confirmed": confirmed}))?);
    }
    let bytes = text::count(data.len() as u64, "byte");
    screen.line(&format!("sent {bytes} to {address} port {port}"))?;
    screen.talk("whether a datagram arrives nobody says");
    Ok(())
}

pub(super) async fn listen(session: &Session, screen: &mut Screen, what: &Listen) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let mut datagrams = daemon.client.datagrams(what.port);
    // An answer proves that the daemon shows its datagrams to this connection.
    daemon.ask(Request::Info).await?;
    screen.talk(&format!("waiting for datagrams on port {}", what.port));
    let count = what.count.unwrap_or(0);
    let mut messages = Vec::new();
    let mut seen = 0_u64;
    let receiving = async {
        while count == 0 || seen < count {
            let datagram = datagrams.receive().await?;
            let SocketAddress { address, port } = datagram.source;
            if screen.is_json() {
                let data = String::from_utf8_lossy(&datagram.data);
                let message = json!({
                    "src_addr": address.to_string(), "src_port": port, "bytes": datagram.data.len(), "data": data,
                });
                // With an end in sight one answer, as existing scripts have it; else one line each.
                if count == 0 { screen.object(&message)? } else { messages.push(message) }
            } else {
                screen.line(&format!("[{address}:{port}] {}", text::harmless_bytes(&datagram.data)))?;
            }
            seen += 1;
        }
        Ok(())
    };
    let outcome = until_enough(session, receiving).await?;
    if screen.is_json() {
        if count > 0 {
            let out_of_time = matches!(outcome, Enough::OutOfTime(_));
            screen.data(json!({"messages": messages, "timeout": out_of_time}))?;
        }
        return Ok(());
    }
    match outcome {
        Enough::OutOfTime(limit) if count > 0 => Err(timed_out("datagrams", limit).hint("wait longer with --timeout")),
        _ => Ok(()),
    }
}

pub(super) async fn broadcast(session: &Session, screen: &mut Screen, what: &Broadcast) -> Result<(), Failure> {
    let token = session.places.admin_token().ok_or_else(|| {
        Failure::new(Code::AuthRequired, "admin token required for this operation")
            .hint("set PILOT_ADMIN_TOKEN env var or admin_token in ~/.pilot/config.json")
    })?;
    if token.len() > usize::from(u16::MAX) {
        return Err(Failure::usage("the admin token is too long"));
    }
    let daemon = session.connect().await?;
    let network = what.group.parse().map_err(|_| {
        Failure::usage(format!("a datagram goes to a network's number, not to \"{}\"", text::harmless(&what.group)))
            .hint("for a message to a group by its name: pilotctl broadcast GROUP --data TEXT")
    })?;
    let message = what.message.as_deref().unwrap_or_default();
    let (port, data) = (what.port, message.as_bytes());
    let answer = daemon.ask(Request::Broadcast { network, port, token: &token, data }).await;
    let answer = answer.map_err(|failure| failure.while_("broadcast"))?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    let bytes = text::count(data.len() as u64, "byte");
    Ok(screen.line(&format!("sent {bytes} to network {network} port {port}"))?)
}
