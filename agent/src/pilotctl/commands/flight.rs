//! `events`: the flight recorder, what has happened with a peer besides the traffic itself. And traces: to which one dials
//! belong.
//!
//! Only our daemon keeps these; others refuse.

use serde_json::{Value, json};
use wire::ipc::Request;

use super::text_of;
use crate::pilotctl::arguments::Events;
use crate::pilotctl::clock;
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::Session;
use crate::rfc3339;

/// Digits of a trace's id that a person is shown: enough to tell traces apart.
const TRACE_DIGITS: usize = 8;

pub(super) async fn events(session: &Session, screen: &mut Screen, what: &Events) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let mut question = json!({"op": "events"});
    if let Some(named) = &what.peer {
        question["node_id"] = json!(daemon.peer(screen, named).await?.node);
    }
    let mut answer = daemon.ask(Request::Extension(&question.to_string())).await.map_err(foreign)?;
    if let (Some(count), Some(events)) = (what.count, answer["events"].as_array_mut()) {
        events.drain(..events.len().saturating_sub(count));
    }
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    let events = answer["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(first) = events.first() else {
        screen.talk("nothing has happened with this peer since the daemon started; try: pilotctl ping");
        return Ok(());
    };
    // From the first of those shown on, so that what belongs together can be seen to.
    let begin_ms = first["unix_ms"].as_u64().unwrap_or_default();
    let today = clock::unix_seconds() / 86_400;
    for event in events {
        screen.line(&line(event, begin_ms, today, what.peer.is_none()))?;
    }
    Ok(())
}

/// `14:03:22.120  +0.034s  0:0000.0000.0002  what  [trace]`
fn line(event: &Value, begin_ms: u64, today: u64, has_peers: bool) -> String {
    let unix_ms = event["unix_ms"].as_u64().unwrap_or_default();
    let utc = rfc3339::format(unix_ms / 1000);
    let (date, time) = utc.trim_end_matches('Z').split_once('T').unwrap_or_default();
    let date = if unix_ms / 86_400_000 == today { String::new() } else { format!("{date} ") };
    let offset_ms = unix_ms.saturating_sub(begin_ms);
    let offset = format!("+{}.{:03}s", offset_ms / 1000, offset_ms % 1000);
    let peer = if has_peers { format!("{}  ", text_of(event, "address")) } else { String::new() };
    let trace: String = text_of(event, "trace_id").chars().take(TRACE_DIGITS).collect();
    let trace = if trace.is_empty() { String::new() } else { format!("  [{trace}]") };
    let what = text_of(event, "what");
    format!("{date}{time}.{:03}Z {offset:>10}  {peer}{what}{trace}", unix_ms % 1000)
}

fn foreign(failure: Failure) -> Failure {
    match failure.code {
        Code::ConnectionFailed
            if failure.message.to_ascii_lowercase().contains("unknown")
                || failure.message.contains("does not know") =>
        {
            Failure::new(Code::ConnectionFailed, "this daemon keeps no flight recorder")
                .hint("pilot-agent does: pilotctl daemon stop; pilotctl daemon start")
        }
        _ => failure.while_("events"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_time_offset_peer_and_no_terminal_commands() {
        let event = json!({
            "unix_ms": 1_769_860_800_120_u64, "address": "0:0000.0000.0002", "what": "no \u{1b}[2Jsuch node",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        });
        let shown = line(&event, 1_769_860_799_086, 1_769_860_800 / 86_400, true);
        assert_eq!(shown, "12:00:00.120Z    +1.034s  0:0000.0000.0002  no \\x1b[2Jsuch node  [4bf92f35]");
        assert!(line(&event, 0, 0, false).starts_with("2026-01-31 12:00:00.120Z"));
    }
}
