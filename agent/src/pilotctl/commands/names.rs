//! This node in the directory, and others: names, visibility, tags, key, registration.

use serde_json::{Value, json};
use wire::ipc::Request;
use wire::registry::names::check_hostname;

use super::{directory, number_of, text_of};
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::Session;
use crate::pilotctl::text;

/// Where a directory listens that runs on this host.
const LOCAL_REGISTRY: &str = "127.0.0.1:9000";
const LOOKUP_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) async fn find(session: &Session, screen: &mut Screen, hostname: &str) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    let named = text::harmless(hostname);
    let mut answer = daemon.resolve(hostname).await.map_err(|failure| match failure.code {
        Code::ConnectionFailed => {
            Failure::new(Code::NotFound, format!("cannot find \"{named}\": {}", failure.message))
                .hint(format!("is it spelt so? a private node shows its name to those it trusts: pilotctl handshake {named} \"reason\""))
        }
        _ => failure,
    })?;
    without_type(&mut answer);
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    screen.line(&format!("Hostname:  {}", text_of(&answer, "hostname")))?;
    screen.line(&format!("Node ID:   {}", number_of(&answer, "node_id")))?;
    screen.line(&format!("Address:   {}", text_of(&answer, "address")))?;
    Ok(screen.line(&format!("Visible:   {}", if answer["public"] == true { "public" } else { "private" }))?)
}

pub(super) async fn lookup(session: &Session, screen: &mut Screen, named: &str) -> Result<(), Failure> {
    let node = match named.parse().map(wire::NodeId) {
        // Numbers need no daemon.
        Ok(node) => node,
        Err(_) => session.connect().await?.peer(screen, named).await?.node,
    };
    let registry = session.registry.as_deref().unwrap_or(LOCAL_REGISTRY);
    let question = directory::lookup(registry, session.registry_fingerprint, node);
    let mut answer = session.within(LOOKUP_TIMEOUT, "the directory", question).await?;
    if let Some(answer) = answer.as_object_mut() {
        // Where a host is, is between it and whom it trusts; existing tools leave this out, too.
        answer.remove("real_addr");
    }
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    let shown = |field: &str| match &answer[field] {
        Value::Null => "–".to_owned(),
        Value::String(text) if text.is_empty() => "–".to_owned(),
        Value::String(text) => text::harmless(text).into_owned(),
        Value::Array(items) => {
            let items = items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
            text::harmless(&items.collect::<Vec<_>>().join(", ")).into_owned()
        }
        other => other.to_string(),
    };
    let rows = [
        ("Node ID", "node_id"),
        ("Hostname", "hostname"),
        ("Address", "address"),
        ("Public", "public"),
        ("Networks", "networks"),
        ("Tags", "tags"),
        ("Key", "public_key"),
        ("Version", "version"),
    ];
    for (title, field) in rows.into_iter().filter(|(_, field)| !answer[field].is_null()) {
        screen.line(&format!("{:<11}{}", format!("{title}:"), shown(field)))?;
    }
    Ok(())
}

pub(super) async fn set_hostname(session: &Session, screen: &mut Screen, hostname: &str) -> Result<(), Failure> {
    check_hostname(hostname).map_err(|error| {
        Failure::usage(format!("\"{}\" cannot be a hostname: {error}", text::harmless(hostname)))
            .hint("lower-case letters, digits and hyphens, such as specialist-papers")
    })?;
    let answer = request_hostname(session, hostname).await.map_err(|failure| match failure.code {
        Code::ConnectionFailed => {
            failure.while_("set-hostname").hint("choose another name, or see who has it: pilotctl find NAME")
        }
        _ => failure,
    })?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    Ok(screen.line(&format!("hostname set: {}", text_of(&answer, "hostname")))?)
}

pub(super) async fn clear_hostname(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    request_hostname(session, "").await.map_err(|failure| failure.while_("clear-hostname"))?;
    if screen.is_json() {
        return Ok(screen.data(json!({"hostname": ""}))?);
    }
    Ok(screen.line("hostname cleared")?)
}

async fn request_hostname(session: &Session, hostname: &str) -> Result<Value, Failure> {
    let mut answer = session.connect().await?.ask(Request::SetHostname(hostname)).await?;
    without_type(&mut answer);
    Ok(answer)
}

pub(super) async fn set_visibility(session: &Session, screen: &mut Screen, public: bool) -> Result<(), Failure> {
    let answer = session.connect().await?.ask(Request::SetVisibility { public }).await?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    Ok(screen.line(if public {
        "this node is public: any node may connect"
    } else {
        "this node is private: only trusted nodes may connect"
    })?)
}

pub(super) async fn set_tags(session: &Session, screen: &mut Screen, tags: &[String]) -> Result<(), Failure> {
    let mut answer = request_tags(session, tags).await.map_err(|failure| failure.while_("set-tags"))?;
    without_type(&mut answer);
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    let tags = answer["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    let tags: Vec<_> = tags.iter().filter_map(Value::as_str).map(|tag| format!("#{}", text::harmless(tag))).collect();
    Ok(screen.line(&format!("tags set: {}", tags.join(" ")))?)
}

pub(super) async fn clear_tags(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    request_tags(session, &[]).await.map_err(|failure| failure.while_("clear-tags"))?;
    if screen.is_json() {
        return Ok(screen.data(json!({"tags": []}))?);
    }
    Ok(screen.line("tags cleared")?)
}

async fn request_tags(session: &Session, tags: &[String]) -> Result<Value, Failure> {
    session.connect().await?.ask(Request::SetTags(&json!(tags).to_string())).await
}

pub(super) async fn rotate_key(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let answer =
        session.connect().await?.ask(Request::RotateKey).await.map_err(|failure| failure.while_("rotate-key"))?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    screen.line(&format!("new key: {}", text_of(&answer, "public_key")))?;
    Ok(screen.line(&format!("still node {} · {}", number_of(&answer, "node_id"), text_of(&answer, "address")))?)
}

/// The daemon registers by itself; what is left is to say whether it has.
pub(super) async fn register(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let info = session.connect().await?.ask(Request::Info).await?;
    if number_of(&info, "node_id") == 0 {
        return Err(Failure::new(
            Code::ConnectionFailed,
            "register: the daemon is not registered yet; it keeps trying",
        )
        .hint("is the directory reachable? see the daemon's log"));
    }
    if screen.is_json() {
        let fields =
            ["node_id", "address", "hostname", "public_key"].map(|field| (field.to_owned(), info[field].clone()));
        return Ok(screen.data(Value::Object(fields.into_iter().collect()))?);
    }
    let address = text_of(&info, "address");
    Ok(screen.line(&format!(
        "registered: node {} · {address} · {}",
        number_of(&info, "node_id"),
        text_of(&info, "hostname")
    ))?)
}

pub(super) async fn deregister(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let answer =
        session.connect().await?.ask(Request::Deregister).await.map_err(|failure| failure.while_("deregister"))?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    screen.line("this node is no longer in the directory")?;
    screen.talk("to come back, start the daemon again: pilotctl daemon stop; pilotctl daemon start");
    Ok(())
}

/// The directory's word for the kind of its answer means nothing to users.
fn without_type(answer: &mut Value) {
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("type");
    }
}
