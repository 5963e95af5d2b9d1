//! `capability`: what this node offers, and what another does.

use std::path::Path;

use serde_json::{Value, json};

use super::query::{fitted, shown_rejections, shown_tags};
use super::{number_of, text_of};
use crate::capability::Offer;
use crate::pilotctl::arguments::{Capability, CapabilitySet};
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::Session;
use crate::pilotctl::{text, width};

/// A file is at most so long.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Columns of a title, and of ten tags.
const COLUMNS_MAX: usize = 160;
const TAGS_COLUMNS_MAX: usize = 360;

pub(super) async fn run(session: &Session, screen: &mut Screen, command: Capability) -> Result<(), Failure> {
    match command {
        Capability::Set(what) => set(session, screen, *what).await,
        Capability::Show { peer: None } => {
            let state = session.connect().await?.extension(&json!({"op": "capability"})).await?;
            show_own(screen, state)
        }
        Capability::Show { peer: Some(peer) } => show_peer(session, screen, &peer).await,
        Capability::Withdraw => {
            let state = session.connect().await?.extension(&json!({"op": "withdraw"})).await?;
            settled(screen, state, "withdrawn")
        }
    }
}

async fn set(session: &Session, screen: &mut Screen, what: CapabilitySet) -> Result<(), Failure> {
    let of_file = what.file.as_deref().map(read).transpose()?.unwrap_or_default();
    let offer = Offer {
        title: what.title.unwrap_or_default(),
        text: what.text.unwrap_or_default(),
        tags: what.tag,
        input: json_of("--input-json", what.input_json)?,
        output: json_of("--output-json", what.output_json)?,
        price: json_of("--price-json", what.price_json)?,
        limits: json_of("--limits-json", what.limits_json)?,
        version: what.release.unwrap_or_default(),
    };
    let offer = offer.or(of_file).checked().map_err(|error| {
        Failure::usage(format!("this cannot be offered: {error}")).hint("see: pilotctl capability set --help")
    })?;
    let state = session.connect().await?.extension(&json!({"op": "publish", "offer": offer})).await?;
    settled(screen, state, "published")
}

fn read(path: &Path) -> Result<Offer, Failure> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(Code::NotFound, format!("file not found: {shown}")),
        _ => Failure::new(Code::Internal, format!("cannot read {shown}: {error}")),
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{shown} is far too long for a capability")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Offer::parse(&text).map_err(|error| Failure::usage(format!("{shown}: {error}")))
}

fn json_of(flag: &str, text: Option<String>) -> Result<Option<Value>, Failure> {
    let Some(text) = text else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Failure::usage(format!("{flag} is not JSON: {error}")).hint("a text needs quotes of its own: '\"text\"'")
    })
}

/// What became of a change.
fn settled(screen: &mut Screen, state: Value, done: &str) -> Result<(), Failure> {
    let reason = text_of(&state, "reason").into_owned();
    if state["state"] == "refused" {
        return Err(Failure::new(Code::ConnectionFailed, format!("the directory refuses it: {reason}"))
            .hint("what it says has to change, or an older directory does not know capabilities"));
    }
    if screen.is_json() {
        return Ok(screen.data(state)?);
    }
    if state["state"] == "published" {
        let mark = screen.good("✓");
        return Ok(screen.line(&format!("{mark} {done} · serial {}", number_of(&state, "serial")))?);
    }
    screen.line("kept; it will be told to the directory as soon as that answers")?;
    if !reason.is_empty() {
        screen.talk(&reason);
    }
    Ok(())
}

fn show_own(screen: &mut Screen, state: Value) -> Result<(), Failure> {
    if screen.is_json() {
        return Ok(screen.data(state)?);
    }
    let shown = text_of(&state, "state").into_owned();
    if state["offer"].is_null() {
        screen.line(if shown == "none" {
            "this node offers nothing"
        } else {
            "what this node offered is withdrawn"
        })?;
        screen.talk("offer something: pilotctl capability set --title TEXT");
        return Ok(());
    }
    let reason = text_of(&state, "reason").into_owned();
    let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
    screen.line(&format!("{:<10}{shown}{reason}", "State:"))?;
    show_offer(screen, &state["offer"])
}

async fn show_peer(session: &Session, screen: &mut Screen, named: &str) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let node = daemon.peer(screen, named).await?.node;
    let answer = daemon.extension(&json!({"op": "capability", "node_id": node})).await?;
    if screen.is_json() {
        screen.data(answer.clone())?;
    }
    shown_rejections(screen, &answer);
    let offers = answer["hits"].get(0).filter(|hit| hit["record"].is_object());
    match offers {
        None if screen.is_json() => Err(Failure::told(Code::NotFound)),
        None => Err(Failure::new(Code::NotFound, format!("node {node} offers nothing that this node may see"))
            .hint("who offers what: pilotctl query WORDS")),
        Some(_) if screen.is_json() => Ok(()),
        Some(hit) => {
            screen.line(&format!("{:<10}{} · node {node}", "Node:", text_of(hit, "address")))?;
            if hit["hostname"].is_string() {
                screen.line(&format!("{:<10}{}", "Hostname:", text_of(hit, "hostname")))?;
            }
            show_offer(screen, &hit["record"])
        }
    }
}

fn show_offer(screen: &mut Screen, offer: &Value) -> Result<(), Failure> {
    for (title, field) in [("Title:", "title"), ("Version:", "version")] {
        let value = fitted(&offer[field], COLUMNS_MAX);
        if offer[field].as_str().is_some_and(|value| !value.is_empty()) {
            screen.line(&format!("{title:<10}{value}"))?;
        }
    }
    let tags = shown_tags(&offer["tags"]);
    if !tags.is_empty() {
        screen.line(&format!("{:<10}{}", "Tags:", width::fitted(&tags, TAGS_COLUMNS_MAX)))?;
    }
    for (title, field) in [("Takes:", "input"), ("Gives:", "output"), ("Price:", "price"), ("Limits:", "limits")] {
        if !offer[field].is_null() {
            screen.line(&format!("{title:<10}{}", text::harmless(&offer[field].to_string())))?;
        }
    }
    if let Some(long) = offer["text"].as_str().filter(|long| !long.is_empty()) {
        screen.line("")?;
        screen.line(&text::harmless_lines(long))?;
    }
    Ok(())
}
