//! `publish`, `subscribe`: events at a node's broker.

use std::time::Duration;

use serde_json::json;

use super::streams::{Enough, until_enough};
use crate::pilotctl::arguments::{Publish, Subscribe};
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::{DIAL_TIMEOUT, Session, close, timed_out};
use crate::pilotctl::text;
use crate::services::events;

const PORT: u16 = 1002;
/// Time for the broker to take the event before the stream goes.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn publish(session: &Session, screen: &mut Screen, what: &Publish) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, &what.peer).await?;
    let publishing = async {
        let mut stream = daemon.dial(&peer, PORT).await?;
        events::publish(&mut stream, &what.topic, what.data.as_bytes()).await.map_err(failed)?;
        close(stream).await;
        Ok(())
    };
    session.within(PUBLISH_TIMEOUT, "publish", publishing).await?;
    if screen.is_json() {
        let target = peer.address.to_string();
        return Ok(screen.data(json!({"target": target, "topic": what.topic, "bytes": what.data.len()}))?);
    }
    let bytes = text::count(what.data.len() as u64, "byte");
    Ok(screen.line(&format!("published {bytes} under \"{}\" at {}", text::harmless(&what.topic), peer.address))?)
}

pub(super) async fn subscribe(session: &Session, screen: &mut Screen, what: &Subscribe) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let peer = daemon.peer(screen, &what.peer).await?;
    let opening = async {
        let stream = daemon.dial(&peer, PORT).await?;
        events::subscribe(stream, &what.topic).await.map_err(failed)
    };
    let mut subscription = session.within(DIAL_TIMEOUT, "subscribe", opening).await?;
    screen.talk(&format!("subscribed to \"{}\" at {}", text::harmless(&what.topic), peer.address));
    let mut seen = 0_u64;
    let mut collected = Vec::new();
    let receiving = async {
        while what.count == 0 || seen < what.count {
            let Some((topic, payload)) = subscription.next().await.map_err(failed)? else {
                return Err(Failure::new(Code::ConnectionFailed, "the broker closed the subscription")
                    .hint("subscribe again; is its daemon still running? pilotctl ping PEER"));
            };
            if screen.is_json() {
                let data = String::from_utf8_lossy(&payload);
                let event = json!({"topic": topic, "bytes": payload.len(), "data": data});
                // With an end in sight one answer, as existing scripts have it; else one line each.
                if what.count == 0 { screen.object(&event)? } else { collected.push(event) }
            } else {
                let payload = text::harmless_bytes(&payload);
                screen.line(&format!("[{}] {payload}", screen.bold(&text::harmless(&topic))))?;
            }
            seen += 1;
        }
        Ok(())
    };
    let outcome = until_enough(session, receiving).await?;
    let out_of_time = matches!(outcome, Enough::OutOfTime(_));
    if screen.is_json() {
        return if what.count == 0 {
            Ok(())
        } else {
            Ok(screen.data(json!({"events": collected, "timeout": out_of_time}))?)
        };
    }
    match outcome {
        Enough::OutOfTime(limit) if what.count > 0 => {
            Err(timed_out("events", limit).hint("wait longer with --timeout"))
        }
        _ => Ok(()),
    }
}

fn failed(error: events::Error) -> Failure {
    match error {
        events::Error::NotSendable(error) => Failure::usage(format!("this cannot be published: {error}")),
        other => Failure::new(Code::ConnectionFailed, text::harmless(&other.to_string()))
            .hint("is the broker's node reachable? pilotctl ping PEER"),
    }
}
